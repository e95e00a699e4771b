"""Small labelled texts for the tests, and files that hold them."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

GOOD = ["fine", "lovely", "great", "moving", "clever", "warm", "honest", "bright"]
BAD = ["dull", "awful", "clumsy", "boring", "stale", "noisy", "vulgar", "endless"]
PLAIN = ["the", "film", "a", "plot", "of", "actors", "with", "scenes", "and", "music", "was", "in", "it", "by", "its"]


def reviews(count, *, seed=0, labels=("pos", "neg")):
    """Returns `count` (text, label) in turn; words of praise or blame among plain ones say the label."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        telling = (GOOD, BAD)[number % 2]
        words = [
            draw.choice(telling) if draw.random() < 0.4 else draw.choice(PLAIN) for _ in range(draw.randint(6, 14))
        ]
        rows.append((" ".join(words), labels[number % 2]))
    return rows


def write_csv(file: Path, rows, *heading, delimiter=",", encoding="utf-8"):
    """Writes rows with a heading, quoted where it must be."""
    with file.open("w", newline="", encoding=encoding) as stream:
        csv.writer(stream, delimiter=delimiter).writerows([heading, *rows] if heading else rows)
    return file


def write_json_lines(file: Path, rows, *heading):
    """Writes an object a line."""
    file.write_text("".join(json.dumps(dict(zip(heading, row, strict=True))) + "\n" for row in rows))
    return file


def write_columns(file: Path, columns, *, label_names=None):
    """Writes a parquet file; `label_names` by column as the hub's metadata have them."""
    import pyarrow
    import pyarrow.parquet

    features = {name: {"names": list(names), "_type": "ClassLabel"} for name, names in (label_names or {}).items()}
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    pyarrow.parquet.write_table(pyarrow.table(columns).replace_schema_metadata(about), file)
    return file
