"""The program: how it reads what is typed, with short forms of `--set`, and errors in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from labelembed.errors import LabelEmbedError, nearest

Function = TypeVar("Function", bound=Callable[..., None])

_OF_A_RECIPE = {"--seed": "seed", "--epochs": "epochs", "--lr": "optimizer.learning_rate", "--batch-size": "batch_size"}
_OF_A_CORPUS = ("level", "vocabulary-size", "min-count", "max-length")
_OF_A_CORPUS_TOO = ("source-column", "target-column", "lowercase=true", "shared-vocabulary=true")
_OF_DECODING = ("beam", "length-penalty", "maximum-length", "replace-unknown=true")
#: What a verb takes for `--set KEY=VALUE`; those with a value need none.
SHORT_FORMS: dict[str | None, dict[str, str]] = {
    **dict.fromkeys(("train", "resume", "compare", "tune", "check"), _OF_A_RECIPE),
    "preprocess": {f"--{key.partition('=')[0]}": key.replace("-", "_") for key in _OF_A_CORPUS + _OF_A_CORPUS_TOO},
    "translate": {f"--{key.partition('=')[0]}": f"decoding.{key.replace('-', '_')}" for key in _OF_DECODING},
}
#: In the order of the program's help.
VERBS = ["train", "resume", "compare", "tune", "evaluate", "predict", "translate", "report", "figure"]
VERBS += ["labels", "export", "init", "check", "objectives", "recipes", "preprocess"]
# Typer has no public name for it.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]


class Verb(TyperCommand):
    """A verb that understands short forms of `--set KEY=VALUE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses what was typed, the short forms written out."""
        return super().parse_args(ctx, list(self._written_out(args)))

    def known(self) -> set[str]:
        """Returns the options that the verb lists, and its short forms of `--set`."""
        return {name for parameter in self.params for name in parameter.opts} | SHORT_FORMS.get(self.name, {}).keys()

    def _written_out(self, args: list[str]) -> Iterator[str]:
        short = SHORT_FORMS.get(self.name, {})
        rest = iter(args)
        for word in rest:
            name, sign, value = word.partition("=")
            if name in short:
                key = short[name]
                if "=" not in key:
                    value = value if sign else next(rest, "")
                    if not value:
                        raise LabelEmbedError(f"{name}: needs a value; it is short for --set {key}=VALUE")
                    key = f"{key}={value}"
                yield from ("--set", key)
            else:
                yield word


class Program(TyperGroup):
    """The program, which says in one line what is wrong with what was typed."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Reads the program's own options."""
        with _in_one_line():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Calls the verb."""
        with _in_one_line():
            return super().invoke(ctx)

    def list_commands(self, ctx: Any) -> list[str]:
        """Returns the verbs in the order of the help."""
        return list(VERBS)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Finds the verb; `neighbours` is another name of `labels`.

        Raises:
            LabelEmbedError: There is none of this name.
        """
        verb, *rest = args
        if not verb.startswith("-") and verb not in (*VERBS, "neighbours"):
            there_are = f"{nearest(verb, [*VERBS, 'neighbours'])}; there are: {', '.join(VERBS)}"
            raise LabelEmbedError(f"no verb {verb!r}{there_are}")
        return super().resolve_command(ctx, ["labels" if verb == "neighbours" else verb, *rest])


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    """Makes one message, with the way out, of what typer finds wrong with what was typed."""
    try:
        yield
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # `labelembed` alone shows the help
            raise
        command = error.ctx.command if error.ctx is not None else None
        option = getattr(error, "option_name", None)
        if option is not None and isinstance(command, Verb):
            message = f"no option {option}{nearest(option, sorted(command.known()))}"
        else:
            message = error.format_message().rstrip(".").replace("Value error, ", "")
            message = message[:1].lower() + message[1:]
        path = error.ctx.command_path if error.ctx is not None else "labelembed"
        raise LabelEmbedError(f"{' '.join(message.split())}; see {path} --help") from None


app = typer.Typer(
    name="labelembed",
    cls=Program,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Begin with: labelembed compare digits-mlp",
)


def verb(panel: str, *examples: str, cls: type[Verb] = Verb) -> Callable[[Function], Function]:
    """Adds a function to the program as the verb of its name.

    Args:
        panel: Below which heading the program's help lists it.
        examples: Commands that work, for the end of the verb's help.
        cls: How the verb reads what is typed.
    """
    heading = "Example" if len(examples) == 1 else "Examples"
    epilog = "\n\n".join([f"[bold]{heading}[/bold]", *examples])
    return app.command(cls=cls, epilog=epilog, rich_help_panel=panel)
