"""R9: pages and cards of run and comparison folders made to harm: our own error or a page without their markup."""

from __future__ import annotations

import json
import os
import random
import shutil
import traceback
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from tests.made_cli import call
from tests.made_evidence import leave_errors, leave_sentences
from tests.made_hostile import json_text, mutated_file, pickle_bomb
from tests.made_hostile_runs import files_of, write_runs
from tests.made_runs import embedding_geometry, fail_run, history_lines, make_comparison, make_run, run_path
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
    errors = {"one_hot": {0: 0.2, 1: 0.25, 2: 0.2}, "label_embedding": {0: 0.1, 1: 0.15}}
    geometry = {"label_embedding": {seed: embedding_geometry(LABELS, seed=seed) for seed in (0, 1)}}
    make_comparison(path, errors, geometry=geometry)
    fail_run(run_path(path, "label_embedding", 2), "diverged: the loss is nan", seed=2)
    for name in errors:
        for seed in (0, 1):
            leave_errors(run_path(path, name, seed), [(0, 1, 3), (2, 3, 1)], labels=4)
    about = json.loads((path / "comparison.json").read_text())
    tuned = {"name": "label_embedding", "space": {"objective.tau": "0.1 to 4"}, "trials": 8, "without_score": 1}
    tuned |= {"arguments": {"objective.tau": 2.0}, "first_score": 0.2, "score": 0.1}
    about["published"] = [{"objective": "one_hot", "metric": "test error", "value": 0.19, "source": "a paper"}]
    about["tuning"] = {"format": 1, "metric": "validation error", "variants": [tuned]}
    (path / "comparison.json").write_text(json.dumps(about))
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A comparison, and single runs: one that was trained, and one of translations."""
    place = tmp_path_factory.mktemp("folders")
    test = {"error": 0.4, "nll": 2.0, "bleu": 0.2}
    made = {"test": test, "validation": test, "history": history_lines([0.6, 0.4])}
    translation = make_run(place / "translation", **made, calibrated={"temperature": 1.5, "test": test}).path
    leave_sentences(translation, [("one output", 0.2), ("another", 0.9)])
    return write_comparison(place), [write_runs(place / "runs") / "label embedding" / "done", translation]


def marked(value: Any, chance: random.Random) -> Any:
    """Returns a value in which one text of three, and one key of thirty, is markup."""
    if isinstance(value, dict):
        return {(MARK if chance.random() < 1 / 30 else key): marked(part, chance) for key, part in value.items()}
    if isinstance(value, list):
        return [marked(part, chance) for part in value]
    return MARK if isinstance(value, str) and chance.random() < 1 / 3 else value


def marked_file(file: Path, chance: random.Random) -> bytes:
    content = file.read_bytes()
    if file.suffix in (".json", ".jsonl"):
        lines = content.splitlines() if file.suffix == ".jsonl" else [content]
        return b"".join(json_text(marked(json.loads(line), chance)) + b"\n" for line in lines)
    if file.suffix == ".yaml":
        return yaml.safe_dump(marked(yaml.safe_load(content), chance)).encode()
    return content.replace(b"cat", b"<b>")  # a name of a label, in a header of the same length


def damaged(folder: Path, to: Path, chance: random.Random, bomb: bytes) -> str:
    """Copies a folder with a file or two damaged, or full of markup."""
    shutil.copytree(folder, to)
    files = chance.sample(files_of(to), chance.choice((1, 1, 2)))
    if (to / "comparison.json").exists() and chance.random() < 0.3:
        files[0] = Path("comparison.json")
    for name in dict.fromkeys(files):
        content = (to / name).read_bytes() or b" "
        is_marked = chance.random() < 0.4
        changed = marked_file(to / name, chance) if is_marked else mutated_file(name.name, content, chance, bomb)
        (to / name).write_bytes(changed)
    return ", ".join(map(str, files))


class _Markup(HTMLParser):
    """Collects what in a page could run, or fetch something."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.wrong: list[str] = []
        self.scripts = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            runs = name.startswith("on") or (value or "").startswith("javascript:")
            fetches = name == "src" and not (value or "data:").startswith("data:")
            self.wrong += [f"{tag} {name}"] if runs or fetches else []
        self.scripts += tag == "script" and dict(attrs).get("type") != "application/json"


def markup_in(text: str, verb: str) -> list[str]:
    """What of the folder's markup came through as such; a page has one script of its own, a card none."""
    if verb == "card":  # behind its header, which is YAML; HTML in Markdown stays as it is
        text = MarkdownIt("commonmark").render(text.split("\n---\n", 1)[-1])
    markup = _Markup(text)
    return markup.wrong + (["a script"] if markup.scripts != (verb == "report") else [])


def written_or_refused(verb: str, folder: Path, out: Path) -> list[str]:
    words = ["report", folder] if verb == "report" else ["export", folder, "--format", "card"]
    called = call(*words, "-o", out)
    if called.code == 0:
        return markup_in(out.read_text(encoding="utf-8"), verb)
    is_ours = called.code == 2 and "Traceback" not in called.err and len(called.err) < 3000 and not out.exists()
    return [] if is_ours else [called.err[-3000:]]


@pytest.mark.parametrize(("verb", "what"), [("report", "comparison"), ("report", "run"), ("card", "run")])
def test_damaged_folders_give_a_page_or_our_own_error(verb, what, folders, tmp_path, figure):
    cases = CARDS if verb == "card" else PAGES
    outside, out, folder = tmp_path / "outside", tmp_path / "out" / "page", tmp_path / "copy"
    outside.mkdir()
    out.parent.mkdir()
    bomb, cache = pickle_bomb(outside / "sentinel"), Path(os.environ["LABELEMBED_CACHE"])
    kinds = [folders[0]] if what == "comparison" else folders[1]
    with memory_taken() as whole:
        for one in kinds:
            assert written_or_refused(verb, one, out) == []
    limit = whole[0] + _MEMORY
    pages, wrong, most = 0, [], 0
    for number in range(cases):
        chance = random.Random(f"{verb} {what} {number}")
        files = damaged(chance.choice(kinds), folder, chance, bomb)
        out.unlink(missing_ok=True)
        with watched(folder, out.parent, cache) as told, memory_taken() as taken:
            try:
                told += written_or_refused(verb, folder, out)
            except BaseException:
                told.append(traceback.format_exc(limit=-6))
        pages += out.exists()
        most = max(most, taken[0])
        shutil.rmtree(folder)
        told += map(str, outside.iterdir())
        wrong += ["\n".join([f"{number}: {files}", *told])] if told else []
    print("\n\n".join(wrong[:12]))
    figure.count(f"damaged folders that gave a {verb} or our own error", cases - len(wrong), cases)
    figure.at_most("bytes for a page of a damaged folder, of the limit", round(most / limit, 2), 1.0)
    assert pages > 0
    assert pages < cases or cases < 50


def test_markup_of_a_folder_would_be_seen(folders):
    page = "<p><script>1</script></p>"
    assert markup_in(page, "report") == []
    assert markup_in(page + MARK, "report")
    assert markup_in("---\na: b\n---\n" + MARK, "card")
    text = json.dumps(marked(json.loads((folders[0] / "comparison.json").read_text()), random.Random(1)))
    assert "onerror" in text
