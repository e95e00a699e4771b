"""Damage and malice for files: bytes flipped, cut and spliced, headers that lie; and runs to be damaged."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import struct
from pathlib import Path
from typing import Any

from labelembed.lab.training.run_folder import RunFolder
from tests.made_runs import forget_checksums
from tests.made_training import small_recipe, stop_after, train

# Stands for so many lists within one another, which nothing here could hold.
_DEEP = "lists within lists: "
#: Values that stand where another belongs.
STRANGE: list[Any] = [
    None, True, 0, -1, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "../../outside",
    "/etc/passwd", "\ud800", "\0", "<script>alert(1)</script>", "x" * 5000, [], {}, [None], [[]], {"": []}, [1, 2, 3],
    list(range(700)), [2**62, 4], [8, 0], "F4", "BF16", "1e5", "step-9999999999", f"{_DEEP}200", f"{_DEEP}20000",
]  # fmt: skip


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> Any:
        return Path.touch, (self.sentinel,)


def pickle_bomb(sentinel: Path) -> bytes:
    """Returns a pickle that makes a file when it is loaded."""
    return pickle.dumps(Bomb(sentinel))


def mutated_bytes(content: bytes, chance: random.Random) -> bytes:
    """Returns bytes with one to four of: a bit flipped, cut off, a piece repeated or put in, another length."""
    damaged = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        place = chance.randrange(len(damaged) + 1)
        other = place + chance.choice((1, 2, 4, 8, 64))
        match chance.randrange(6):
            case 0 if place < len(damaged):
                damaged[place] ^= 1 << chance.randrange(8)
            case 1:
                del damaged[place:]
            case 2:
                damaged[place:other] = damaged[place:other] * chance.choice((0, 2, 50))
            case 3:
                damaged[place:place] = chance.randbytes(chance.choice((1, 4, 100)))
            case 4:
                form = chance.choice(("<I", ">I", "<Q", ">Q", "<H"))
                value = chance.choice((0, 1, 255, 2**15, 2**31 - 1, 2**31, 2**40, 2**63, 2**64 - 1))
                width = struct.calcsize(form)
                damaged[place : place + width] = struct.pack(form, value % 2 ** (8 * width))
            case _:
                second = chance.randrange(len(content) + 1)
                damaged[place:place] = content[second : second + 40]
    return bytes(damaged)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value[:20]) if isinstance(value, list) else ()
    return [path, *(place for key, part in inner for place in _places(part, (*path, key)))]


def mutated_value(value: Any, chance: random.Random) -> Any:
    """Returns a JSON value in which one to three parts are others, missing, repeated or renamed."""
    whole = [json.loads(json.dumps(value))]
    for _ in range(chance.choice((1, 1, 2, 3))):
        block, key = whole, 0
        for part in chance.choice(_places(whole[0])):
            block, key = block[key], part
        here, strange = block[key], chance.choice(STRANGE)
        match chance.randrange(5):
            case 0 if block is not whole:
                del block[key]
            case 1 if isinstance(block, dict):
                block[str(strange)[:50]] = block.pop(key)
            case 2 if isinstance(here, list):
                block[key] = here * chance.choice((0, 2, 30))
            case 3 if type(here) in (int, float):
                block[key] = chance.choice((-here, here + 1, here * 1e9, str(here), [here]))
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
    return (str(value) if type(value) is int else json.dumps(value)).encode()


def mutated_json(content: bytes, chance: random.Random) -> bytes:
    """Returns a JSON file with other values, or with other bytes."""
    if chance.random() < 0.3:
        return mutated_bytes(content, chance)
    return json_text(mutated_value(json.loads(content), chance))


def mutated_lines(content: bytes, chance: random.Random) -> bytes:
    """Returns JSON lines of which one or more are others, missing, or repeated."""
    lines = mutated_value([json.loads(line) for line in content.splitlines()], chance)
    return b"".join(json_text(line) + b"\n" for line in (lines if isinstance(lines, list) else [lines]))


def mutated_tensors(content: bytes, chance: random.Random) -> bytes:
    """Returns a safetensors file with another header: lengths, types, shapes, offsets and names that lie."""
    size = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    match chance.randrange(4):
        case 0:
            return mutated_bytes(content, chance)
        case 1:
            length = chance.choice((0, 1, size - 1, size + 1, len(content), 100_000_001, 2**63, 2**64 - 1))
            return struct.pack("<Q", length) + content[8:]
        case 2:  # other numbers in place of the right ones, which no header gives away
            place = 4 * chance.randrange(len(data) // 4 or 1)
            wrong = chance.choice((b"\0\0\xc0\x7f", b"\0\0\x80\xff", b"\xff" * 4, bytes(4)))
            data = data[:place] + wrong + data[place + 4 :]
        case _:
            header = mutated_value(header, chance)
    text = json_text(header)
    return struct.pack("<Q", len(text)) + text + data


def mutated_file(name: str, content: bytes, chance: random.Random, bomb: bytes) -> bytes:
    """Returns a file damaged as its kind can be; one in twenty is a pickle, empty, or zeros."""
    if chance.random() < 0.05:
        return chance.choice((bomb, b"", bytes(len(content)), b"\x80\x04.", b"[" * 100_000))
    kinds = {".safetensors": mutated_tensors, ".json": mutated_json, ".jsonl": mutated_lines}
    return kinds.get(Path(name).suffix, mutated_bytes)(content, chance)


RECIPES = {
    "label embedding": small_recipe(),
    "retrospection": small_recipe(objective={"name": "retrospection", "store_every": 1}),
}


def read_everything(folder: RunFolder) -> None:
    folder.state()
    folder.recipe()
    folder.environment()
    folder.history()
    folder.result()
    folder.read("diagnostics/errors.json")
    folder.examples()


def write_runs(place: Path) -> Path:
    """Writes a stopped and a finished run of each recipe, `half` and `done`."""
    for name, recipe in RECIPES.items():
        stop_after(recipe, place / name / "half", 7)
        train(recipe, place / name / "done")
        shutil.rmtree(place / name / "done" / "checkpoints")
        forget_checksums(place / name / "done")  # whoever means harm would write those that fit
    return place
