"""Trees over labels: path lengths between leaves, and the Newick and JSON forms of a tree.

Nothing here calls itself: the tree of single linkage may be as deep as it has labels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

_PLAIN_NAME = re.compile(r"[A-Za-z0-9.+-]+")
# A quoted name ('' stands for one '), a comment, a sign, or a name without any of them.
_TOKEN = re.compile(r"'((?:[^']|'')*)'|\[[^\]]*\]|([(),:;])|([^\s()\[\]',:;]+)|(\S)")


@dataclass(eq=False)
class TreeNode:
    """A leaf (a label) or a group of other nodes.

    Attributes:
        name: The label, or what the group is called; may be empty for a group.
        children: Empty for a leaf.
        length: Of the branch to the node above; None where the tree has no lengths.
        height: Distance at which the children join, in a tree of `linkage`; else None.
    """

    name: str = ""
    children: list[TreeNode] = field(default_factory=list)
    length: float | None = None
    height: float | None = None

    def walk(self) -> Iterator[TreeNode]:
        """Yields every node, children before the node above them, in their order."""
        stack: list[tuple[TreeNode, bool]] = [(self, False)]
        while stack:
            node, opened = stack.pop()
            if opened or not node.children:
                yield node
            else:
                stack.append((node, True))
                stack.extend((child, False) for child in reversed(node.children))

    def leaves(self) -> list[TreeNode]:
        """Returns the labels' nodes, from left to right."""
        return [node for node in self.walk() if not node.children]


def path_lengths(root: TreeNode, names: Sequence[str]) -> Tensor:
    """Returns [C, C] float64, the number of edges between the leaves of these names, in their order.

    Args:
        root: A tree with a leaf for every name.
        names: Labels, in the order of their numbers.
    """
    position = {name: number for number, name in enumerate(names)}
    depths = {id(root): 0}
    stack = [root]
    while stack:
        node = stack.pop()
        for child in node.children:
            depths[id(child)] = depths[id(node)] + 1
            stack.append(child)
    depth = np.zeros(len(names))
    for leaf in root.leaves():
        if leaf.name in position:
            depth[position[leaf.name]] = depths[id(leaf)]
    table = depth[:, None] + depth[None]
    below: dict[int, list[int]] = {}
    for node in root.walk():
        if not node.children:
            below[id(node)] = [position[node.name]] if node.name in position else []
            continue
        members: list[int] = []
        for child in node.children:  # labels of different children meet here
            others = below.pop(id(child))
            if members and others:
                table[np.ix_(members, others)] -= 2 * depths[id(node)]
                table[np.ix_(others, members)] -= 2 * depths[id(node)]
            members += others
        below[id(node)] = members
    np.fill_diagonal(table, 0)
    return torch.from_numpy(table)


def newick_of(root: TreeNode) -> str:
    """Returns the tree as Newick text; names with other than letters, digits and ``.+-`` are quoted."""
    written: dict[int, str] = {}
    for node in root.walk():
        inside = ",".join(written.pop(id(child)) for child in node.children)
        # Other readers take an underscore outside quotes for a space.
        name = node.name if _PLAIN_NAME.fullmatch(node.name) else "'" + node.name.replace("'", "''") + "'"
        length = "" if node.length is None else f":{node.length:.10g}"
        written[id(node)] = (
            (f"({inside})" if node.children else "") + (name if node.name or not inside else "") + length
        )
    return written[id(root)] + ";\n"


def read_newick(text: str) -> TreeNode:
    """Returns the tree of a Newick text; names are kept as they stand, underscores among them.

    Raises:
        ValueError: When it is no Newick; the message says at which character.
    """
    root = TreeNode()
    above: list[TreeNode] = []
    node, named, ended, wants_length = root, False, False, False
    for token in _TOKEN.finditer(text):
        quoted, sign, word, odd = token.groups()
        if quoted is None and not sign and not word and not odd:  # a comment
            continue
        where = f"at character {token.start() + 1}"
        if ended:
            raise ValueError(f"text after the final ; {where}")
        if odd:
            raise ValueError(f"{odd!r} {where} is not closed or does not belong there")
        if wants_length:
            wants_length = False
            try:
                node.length = float(word or "")
                continue
            except ValueError:
                raise ValueError(f"no number after : {where}") from None
        if sign == "(":
            if named or node.children or node.length is not None:
                raise ValueError(f"( {where} follows a finished node")
            above.append(node)
            node.children.append(TreeNode())
            node, named = node.children[0], False
        elif sign in (",", ")"):
            if not above:
                raise ValueError(f"{sign} {where} without an open (")
            if sign == ",":
                above[-1].children.append(TreeNode())
                node, named = above[-1].children[-1], False
            else:
                node, named = above.pop(), False
        elif sign == ":":
            if node.length is not None:
                raise ValueError(f"a second length {where}")
            wants_length = True
        elif sign == ";":
            ended = True
        elif named or node.length is not None:
            raise ValueError(f"a second name {where}; names with spaces stand in quotes")
        else:
            node.name, named = (quoted.replace("''", "'") if quoted is not None else word), True
    if above or wants_length or not ended:
        raise ValueError("cut short: " + ("a ( is not closed" if above else "it has no final ;"))
    return root


def json_of(root: TreeNode) -> str:
    """Returns the tree as JSON: ``{"name": ...}`` for a label, ``{"name", "height", "children"}`` for a group."""
    written: dict[int, str] = {}
    for node in root.walk():
        parts = [f'"name": {json.dumps(node.name, ensure_ascii=False)}']
        if node.height is not None and node.children:
            parts.append(f'"height": {node.height!r}')
        if node.children:
            parts.append('"children": [' + ", ".join(written.pop(id(child)) for child in node.children) + "]")
        written[id(node)] = "{" + ", ".join(parts) + "}"
    return written[id(root)] + "\n"
