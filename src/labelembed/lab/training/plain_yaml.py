"""YAML from people: plain values, no key twice, and no references, which could unfold to far more than was written."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.constructor import ConstructorError

MAXIMUM_BYTES = 100_000  # a second and a half of reading, where it is all brackets and commas


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses more and says where."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise ConstructorError(None, None, "references are not allowed; write the value out", mark)
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        given = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in given:
                    line = key.start_mark.line + 1
                    raise ValueError(f"line {line}: the key {key.value[:40]!r} occurs twice; keep one")
                given.add(key.value)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception as error:  # a month of 13, `!!bool maybe`, a number of 5,000 digits: each raises its own
            text = str(node.value)
            text = text if len(text) <= 40 else f"{text[:37]}..."
            raise ConstructorError(None, None, f"{text!r} is no value", node.start_mark) from error

    def construct_undefined(self, node: yaml.Node) -> Any:
        raise ConstructorError(None, None, f"the tag {node.tag!r} is not allowed", node.start_mark)


_PlainLoader.add_constructor(None, _PlainLoader.construct_undefined)


def plain_values(text: str) -> Any:
    """Returns what a YAML document holds; nothing in it is executed.

    Args:
        text: One document, or none.

    Raises:
        ValueError: It is no YAML, gives a key twice, has references or is nested too deeply; one line.
    """
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = (getattr(error, "problem", None) or str(error).splitlines()[0]).removeprefix("but ")
        raise ValueError(f"{where}no valid YAML ({problem})") from error
    except RecursionError:
        raise ValueError("nested too deeply") from None
