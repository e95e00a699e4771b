"""R9: pages and cards of run and comparison folders made to harm: our own error or a page without their markup."""

from __future__ import annotations

import json
import os
import random
import shutil
import traceback
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import call
from tests.made_evidence import leave_errors, leave_sentences
from tests.made_hostile import json_text, mutated_file, pickle_bomb
from tests.made_hostile_runs import files_of, write_runs
from tests.made_runs import embedding_geometry, fail_run, history_lines, make_comparison, make_run, metrics, run_path
from tests.made_training import no_flush, one_thread  # noqa: F401
from tests.made_watching import memory_taken, watched
from tests.reliability.figures import sized

#: A page takes a second or two, a card thirty milliseconds.
PAGES = sized(short=6, full=200)
CARDS = sized(short=60, full=2_000)
#: What a file of JSON may take (docs/security.md), over what the page of an undamaged folder takes.
_MEMORY = 512 * 2**20
MARK = '`"><img src=x onerror=alert(1)></script><script>alert(1)</script>'
LABELS = ("cat", "dog", "car", "ship")


def write_comparison(place: Path) -> Path:
    """Writes a comparison in which everything stands that a page shows."""
    path = place / "comparison"
    names = ("one_hot", "label_embedding")
    make_comparison(
        path,
        {"one_hot": {0: 0.2, 1: 0.25, 2: 0.2}, "label_embedding": {0: 0.1, 1: 0.15}},
        geometry={"label_embedding": {seed: embedding_geometry(LABELS, seed=seed) for seed in (0, 1)}},
    )
    fail_run(run_path(path, "label_embedding", 2), "diverged: the loss is nan", seed=2)
    for name in names:
        for seed in (0, 1):
            leave_errors(run_path(path, name, seed), [(0, 1, 3), (2, 3, 1)], labels=4)
    about = json.loads((path / "comparison.json").read_text())
    tuned = {
        "name": "label_embedding", "space": {"objective.tau": "0.1 to 4"}, "trials": 8, "without_score": 1,
        "arguments": {"objective.tau": 2.0}, "first_score": 0.2, "score": 0.1,
    }  # fmt: skip
    about |= {
        "published": [{"objective": "one_hot", "metric": "test error", "value": 0.19, "source": "a paper"}],
        "tuning": {"format": 1, "metric": "validation error", "variants": [tuned]},
        "failed": [{"variant": "label_embedding", "seed": 2, "message": "killed by signal 9"}],
    }
    (path / "comparison.json").write_text(json.dumps(about))
    (path / "runs.csv").write_text("variant,seed,error\none_hot,0,0.2\n")
    return path


def write_translation(place: Path) -> Path:
    run = make_run(
        place / "translation",
        test={"error": 0.4, "nll": 2.0, "bleu": 0.2},
        validation={"error": 0.4, "nll": 2.0, "bleu": 0.2},
        history=history_lines([0.6, 0.4]),
        calibrated={"temperature": 1.5, "test": metrics(0.4), "validation": metrics(0.4)},
    )
    leave_sentences(run.path, [("one output", 0.2), ("another", 0.9)])
    return run.path


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A comparison, and single runs: two that were trained, and one of translations."""
    place = tmp_path_factory.mktemp("folders")
    runs = [path / "done" for path in write_runs(place / "runs").iterdir()]
    return write_comparison(place), [*sorted(runs), write_translation(place)]


def marked(value: Any, chance: random.Random) -> Any:
    """Returns a value in which one text of three, and one key of thirty, is markup."""
    if isinstance(value, dict):
        return {(MARK if chance.random() < 1 / 30 else key): marked(part, chance) for key, part in value.items()}
    if isinstance(value, list):
        return [marked(part, chance) for part in value]
    return MARK if isinstance(value, str) and chance.random() < 1 / 3 else value


def marked_file(file: Path, chance: random.Random) -> bytes:
    match file.suffix:
        case ".json":
            return json_text(marked(json.loads(file.read_bytes()), chance))
        case ".yaml":
            return yaml.safe_dump(marked(yaml.safe_load(file.read_bytes()), chance)).encode()
        case ".jsonl":
            return b"".join(
                json_text(marked(json.loads(line), chance)) + b"\n" for line in file.read_bytes().splitlines()
            )
    return file.read_bytes().replace(b"cat", b"<b>")  # a name of a label, in a header of the same length


def damaged(folder: Path, to: Path, chance: random.Random, bomb: bytes) -> str:
    """Copies a folder with a file or two damaged, or full of markup."""
    shutil.copytree(folder, to)
    files = chance.sample(files_of(to), chance.choice((1, 1, 2)))
    if (to / "comparison.json").exists() and chance.random() < 0.3:
        files[0] = Path("comparison.json")
    for name in dict.fromkeys(files):
        content = (to / name).read_bytes()
        marked = chance.random() < 0.4
        (to / name).write_bytes(
            marked_file(to / name, chance) if marked else mutated_file(name.name, content or b" ", chance, bomb)
        )
    return ", ".join(map(str, files))


class _Markup(HTMLParser):
    """Collects what in a page could run, or fetch something."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.own = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.found += [f"{tag} {name}" for name in values if name.startswith("on")]
        if not (values.get("src") or "data:").startswith("data:"):
            self.found.append(f"{tag} of {values['src']}")
        self.found += [f"{tag} javascript" for value in values.values() if (value or "").startswith("javascript:")]
        if tag == "script" and values.get("type") != "application/json":
            self.own += 1


def errors_of_page(text: str) -> list[str]:
    """What of the folder's markup came through as such; the page has one script, its own."""
    markup = _Markup()
    markup.feed(text)
    markup.close()
    return [*markup.found, *(["a script of the folder's"] if markup.own != 1 else [])]


def errors_of_card(text: str) -> list[str]:
    body = text.split("\n---\n", 1)[-1]  # behind its header, which is YAML
    markup = _Markup()
    markup.feed(MarkdownIt("commonmark").render(body))  # which leaves HTML in it as it is
    markup.close()
    return [*markup.found, *(["a script"] if markup.own else [])]


def written_or_refused(verb: str, folder: Path, out: Path) -> list[str]:
    words = ["report", folder] if verb == "report" else ["export", folder, "--format", "card"]
    called = call(*words, "-o", out)
    errors = [] if called.code in (0, 2) else [f"exit code {called.code}"]
    if called.code == 0:
        text = out.read_text(encoding="utf-8")
        errors += errors_of_page(text) if verb == "report" else errors_of_card(text)
    else:
        errors += ["a traceback"] if "Traceback" in called.err else []
        errors += ["a long message"] if len(called.err.splitlines()) > 10 or len(called.err) > 3000 else []
        errors += ["a page in spite of the error"] if out.exists() else []
    return [*errors, called.err[-3000:]] if errors else []


# What the full form has found, so that the short form looks for it too.
FOUND = {("report", "comparison"): [176], ("report", "run"): [29], ("card", "run"): [25, 62, 154]}


@pytest.mark.parametrize(("verb", "what", "cases"), [
    ("report", "comparison", PAGES), ("report", "run", PAGES // 2), ("card", "run", CARDS),
])  # fmt: skip
def test_damaged_folders_give_a_page_or_our_own_error(verb, what, cases, folders, tmp_path, figure):
    outside = tmp_path / "outside"
    outside.mkdir()
    bomb = pickle_bomb(outside / "sentinel")
    kinds = [folders[0]] if what == "comparison" else folders[1]
    cache, out = Path(os.environ["LABELEMBED_CACHE"]), tmp_path / "out" / "page"
    out.parent.mkdir()
    with memory_taken() as whole:
        for folder in kinds:
            assert written_or_refused(verb, folder, out) == []
    limit = whole[0] + _MEMORY
    seen: Counter[bool] = Counter()
    errors, most = [], 0
    for number in [*FOUND.get((verb, what), []), *range(cases)]:
        chance = random.Random(f"{verb} {what} {number}")
        folder = tmp_path / "copy"
        files = damaged(chance.choice(kinds), folder, chance, bomb)
        out.unlink(missing_ok=True)
        with watched(folder, out.parent, cache) as told, memory_taken() as taken:
            try:
                told += written_or_refused(verb, folder, out)
            except BaseException:
                told.append(traceback.format_exc(limit=-6))
        seen[out.exists()] += 1
        most = max(most, taken[0])
        shutil.rmtree(folder)
        told += map(str, outside.iterdir())
        if told:
            errors.append("\n".join([f"{number}: {files}", *told]))
    print("\n\n".join(errors[:12]))
    figure.count(f"damaged folders that gave a {verb} or our own error", seen.total() - len(errors), seen.total())
    figure.at_most("bytes for a page of a damaged folder, of the limit", round(most / limit, 2), 1.0)
    assert seen[True] > 0
    assert seen[False] > 0 or cases < 50


def test_markup_of_a_folder_would_be_seen(folders, tmp_path):
    page = "<p><script>1</script></p>"
    assert errors_of_page(page) == []
    assert errors_of_page(page + MARK)
    assert errors_of_card("---\na: b\n---\n" + MARK)
    text = json.dumps(marked(json.loads((folders[0] / "comparison.json").read_text()), random.Random(1)))
    assert "onerror" in text
    assert RunFolder(folders[1][-1]).evidence("sentences")


@pytest.mark.parametrize("place", [("test", "error"), ("validation", "nll"), ("seconds",), ("temperature",)])
def test_number_of_hundreds_of_digits_is_no_measure(place, tmp_path, figure):
    run = write_translation(tmp_path)
    result = json.loads((run / "result.json").read_text())
    block = result
    for key in place[:-1]:
        block = block[key]
    block[place[-1]] = 10**400
    (run / "result.json").write_text(json.dumps(result))
    for verb in ("report", "card"):
        assert written_or_refused(verb, run, tmp_path / "page") == []
        (tmp_path / "page").unlink(missing_ok=True)
    figure.count("numbers too large for a metric told or left out", 1, 1)
