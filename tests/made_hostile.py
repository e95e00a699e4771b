"""Damage and malice for files: bytes flipped, cut and spliced, JSON and safetensors headers that lie."""

from __future__ import annotations

import json
import pickle
import random
import struct
from pathlib import Path
from typing import Any

#: Values that stand where another belongs.
STRANGE: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "",
    "x", "../../outside", "/etc/passwd", "\ud800", "\0", "<script>alert(1)</script>", "x" * 5000, [], {}, [None], [[]],
    {"": []}, {"a": {"a": {"a": 1}}}, [1, 2, 3], list(range(700)), "1e5", "NaN", "{}", "step-9999999999",
]  # fmt: skip
_DTYPES = ["F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "F4", "X", "", None, 3]


# Stands for so many lists within one another, which nothing here could hold.
_DEEP = "lists within lists: "


class Bomb:
    """Its pickle makes a file when it is loaded."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self):
        return (Path.touch, (self.sentinel,))


def pickle_bomb(sentinel: Path) -> bytes:
    return pickle.dumps(Bomb(sentinel))


def mutated_bytes(content: bytes, chance: random.Random) -> bytes:
    """Returns bytes with one to four of: a bit flipped, a byte replaced, cut off, a piece repeated, removed, put in."""
    found = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        size = len(found)
        place = chance.randrange(size + 1)
        other = min(size, place + chance.choice((1, 2, 4, 8, 64)))
        match chance.randrange(8):
            case 0 if place < size:
                found[place] ^= 1 << chance.randrange(8)
            case 1 if place < size:
                found[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
            case 2:
                del found[place:]
            case 3:
                found[place:place] = found[place:other] * chance.choice((1, 3, 50))
            case 4:
                del found[place:other]
            case 5:
                found[place:place] = chance.randbytes(chance.choice((1, 4, 100)))
            case 6 if size >= 8:  # what may be a length
                place = chance.randrange(size - 7)
                form = chance.choice(("<I", ">I", "<Q", ">Q", "<H"))
                value = chance.choice(
                    (0, 1, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1)
                )
                width = struct.calcsize(form)
                found[place : place + width] = struct.pack(form, value % 2 ** (8 * width))
            case _:
                second = chance.randrange(size + 1)
                found[place:place] = content[min(second, place) : min(second, place) + 40]
    return bytes(found)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value[:20]) if isinstance(value, list) else ()
    return [path, *(place for key, part in inner for place in _places(part, (*path, key)))]


def mutated_value(value: Any, chance: random.Random) -> Any:
    """Returns a JSON value in which one to three parts are others, missing, doubled or renamed."""
    whole = [json.loads(json.dumps(value))]
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        path = chance.choice(_places(whole[0]))
        block: Any = whole
        key: Any = 0
        for part in path:
            block, key = block[key], part
        strange = chance.choice(STRANGE)
        match chance.randrange(6):
            case 0 if path:
                del block[key]
            case 1 if isinstance(block, dict):
                block[str(strange)[:50]] = block.pop(key)
            case 2 if isinstance(block[key], list):
                block[key] = block[key] * chance.choice((0, 2, 30))
            case 3 if isinstance(block[key], (int, float)) and not isinstance(block[key], bool):
                block[key] = chance.choice(
                    (-block[key], block[key] + 1, block[key] * 1e9, str(block[key]), [block[key]])
                )
            case 4:
                block[key] = f"{_DEEP}{chance.choice((3, 200, 20_000))}"
            case _:
                block[key] = strange
    return whole[0]


def json_text(value: Any) -> bytes:
    """Returns JSON of any value, nested as deep as it may be, with NaN and half characters where they stand."""
    if isinstance(value, str) and value.startswith(_DEEP):
        depth = int(value.removeprefix(_DEEP))
        return b"[" * depth + b"1" + b"]" * depth
    if isinstance(value, dict):
        return b"{" + b", ".join(json_text(str(key)) + b": " + json_text(part) for key, part in value.items()) + b"}"
    if isinstance(value, list):
        return b"[" + b", ".join(map(json_text, value)) + b"]"
    return (str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**64
            else json.dumps(value)).encode()  # fmt: skip


def mutated_json(content: bytes, chance: random.Random) -> bytes:
    """Returns a JSON file with other values, or with other bytes."""
    if chance.random() < 0.3:
        return mutated_bytes(content, chance)
    return json_text(mutated_value(json.loads(content), chance))


def mutated_lines(content: bytes, chance: random.Random) -> bytes:
    """Returns JSON lines of which one is another, missing, or doubled."""
    lines = content.splitlines(keepends=True)
    place = chance.randrange(len(lines))
    match chance.randrange(4):
        case 0:
            return mutated_bytes(content, chance)
        case 1:
            del lines[place]
        case 2:
            lines.insert(chance.randrange(len(lines)), lines[place])
        case _:
            lines[place] = mutated_json(lines[place], chance).replace(b"\n", b" ") + b"\n"
    return b"".join(lines)


def mutated_tensors(content: bytes, chance: random.Random) -> bytes:
    """Returns a safetensors file with another header: lengths, types, shapes, offsets and names that lie."""
    size = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    match chance.randrange(7):
        case 0:
            return mutated_bytes(content, chance)
        case 1:
            length = chance.choice((0, 1, size - 1, size + 1, len(content), 100_000_001, 2**63, 2**64 - 1))
            return struct.pack("<Q", length) + content[8:]
        case 2:
            entry = chance.choice([one for name, one in header.items() if name != "__metadata__"])
            entry["dtype"] = chance.choice(_DTYPES)
        case 3:
            entry = chance.choice([one for name, one in header.items() if name != "__metadata__"])
            shape = entry["shape"]
            others = ([], [0], [2**62, 4], [-1], [1, *shape], shape[::-1], [0, 2**40], shape[:-1], [2**63], "x", [1.5])
            entry["shape"] = chance.choice(others)
        case 4:
            entry = chance.choice([one for name, one in header.items() if name != "__metadata__"])
            begin, end = entry["data_offsets"]
            entry["data_offsets"] = chance.choice(
                ([end, begin], [0, len(data)], [begin, 2**63], [-1, end], [begin], [begin + 4, end + 4], [begin, begin])
            )
        case 5:  # other numbers in place of the right ones, which no header gives away
            place = 4 * chance.randrange(len(data) // 4 or 1)
            data = (
                data[:place]
                + chance.choice((b"\0\0\xc0\x7f", b"\0\0\x80\xff", b"\xff" * 4, bytes(4)))
                + data[place + 4 :]
            )
        case _:
            header = mutated_value(header, chance)
    text = json_text(header)
    return struct.pack("<Q", len(text)) + text + data


def mutated_file(name: str, content: bytes, chance: random.Random, bomb: bytes) -> bytes:
    """Returns a file damaged as its kind can be; one in twenty is a pickle, empty, or zeros."""
    if chance.random() < 0.05:
        return chance.choice((bomb, b"", bytes(len(content)), b"\x80\x04.", b"[" * 100_000))
    if name.endswith(".safetensors"):
        return mutated_tensors(content, chance)
    if name.endswith(".json"):
        return mutated_json(content, chance)
    return mutated_lines(content, chance) if name.endswith(".jsonl") else mutated_bytes(content, chance)
