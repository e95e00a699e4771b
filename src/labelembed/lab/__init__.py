"""The lab: from a recipe to a page; what the command `labelembed` does on top of the library."""

from importlib.util import find_spec

# By the names that they are imported with.
_NEEDED = "PIL accelerate filelock jinja2 matplotlib optuna pandas pydantic rich sklearn typer yaml"
_missing = [name for name in _NEEDED.split() if find_spec(name) is None]
if _missing:
    raise ImportError(f"labelembed.lab needs {', '.join(_missing)}: pip install 'labelembed[lab]'")
