"""Test error of the recipe `text-bag` on seven small sets of short texts, beside tuned tf-idf with linear classifiers.

`python -m benchmarks.small_texts --data FOLDER` where `FOLDER` has `imdb`, `multi30k` and `iwslt15-en-vi`.

The sets are made from those: who wrote a short text, how a review ends, or which word was taken out of a sentence. The
linear classifiers are tuned by 3-fold cross-validation on the training examples; the recipe holds a tenth of them out
for validation. All have the same test examples.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import random
import re
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.runs.run import run_recipe

Example = tuple[str, str]  # text, label

SEEDS, TEST = 3, 4_000
GENRES = ("comedy", "horror", "war", "romantic", "action", "musical")
PEOPLE = ("man", "woman", "girl", "boy", "dog", "child", "men", "women", "children", "people", "person", "group")
ACTIONS = (
    *("sitting", "standing", "playing", "walking", "holding", "looking"),
    *("riding", "running", "jumping", "talking", "working", "smiling"),
)
VERBS = (
    *("steht", "sitzt", "hält", "spielt", "stehen", "sitzen", "spielen", "geht", "fährt", "trägt"),
    *("springt", "gehen", "läuft", "schaut", "rennt", "macht", "hat", "fahren", "rennen", "sehen"),
)


def _lines(file: Path) -> list[str]:
    with gzip.open(file, "rt", encoding="utf-8") as opened:
        return opened.read().splitlines()


def _reviews(folder: Path, part: str) -> list[Example]:
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "imdb" / f"{part}.parquet")
    texts, labels = table["text"].to_pylist(), table["label"].to_pylist()
    return [(text.replace("<br />", " "), ("bad", "good")[label]) for text, label in zip(texts, labels, strict=True)]


def _sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+", text)


def _without_word(texts: Iterable[str], words: Sequence[str]) -> list[Example]:
    """Returns the texts that have just one of the words, without it; it is the label."""
    wanted = set(words)
    found = []
    for text in texts:
        tokens = re.findall(r"\w+", text.lower())
        here = [token for token in tokens if token in wanted]
        if len(here) == 1 and 5 <= len(tokens) <= 40:
            found.append((" ".join(token for token in tokens if token not in wanted), here[0]))
    return found


def _endings(reviews: list[Example]) -> list[Example]:
    last = [(_sentences(text.strip())[-1], label) for text, label in reviews]
    return [(text, label) for text, label in last if 5 <= len(text.split()) <= 40]


def _short(reviews: list[Example]) -> list[Example]:
    return [(text, label) for text, label in reviews if len(text.split()) <= 120]


def _snippets(folder: Path) -> list[Example]:
    """Returns four words in a row of each line: of captions and talks in two languages each, and of reviews."""
    reviews = [sentence for text, _ in _reviews(folder, "test")[::5] for sentence in _sentences(text)[:1]]
    talks = "iwslt15-en-vi/tst201{}.{}.gz"
    sources = {
        "caption-en": _lines(folder / "multi30k/train.en.gz")[:3000],
        "caption-de": _lines(folder / "multi30k/train.de.gz")[:3000],
        "talk-en": [line for year in (2, 3) for line in _lines(folder / talks.format(year, "en"))],
        "talk-vi": [line for year in (2, 3) for line in _lines(folder / talks.format(year, "vi"))],
        "review": reviews,
    }
    draw, found = random.Random(0), []
    for label, lines in sources.items():
        for line in lines:
            words = re.findall(r"\w+", re.sub("&[a-z]+;", "", line).lower())
            if len(words) >= 4:
                begin = draw.randrange(len(words) - 3)
                found.append((" ".join(words[begin : begin + 4]), label))
    return found


def sets(folder: Path) -> dict[str, tuple[list[Example], list[Example]]]:
    """Returns the training and the test examples of each set, by its name."""
    train, test = _reviews(folder, "train"), _reviews(folder, "test")
    english, german = (_lines(folder / f"multi30k/train.{side}.gz") for side in ("en", "de"))

    def genres(reviews: list[Example]) -> list[Example]:
        return _without_word((sentence for text, _ in reviews for sentence in _sentences(text)), GENRES)

    return {
        "review endings": _drawn(9_000, _endings(train), _endings(test)),
        "short reviews": _drawn(4_000, _short(train), _short(test)),
        "genres": _drawn(5_000, genres(train), genres(test)),
        "captions": _drawn(6_000, _without_word(english, PEOPLE)),
        "German verbs": _drawn(8_000, _without_word(german, VERBS)),
        "snippets": _drawn(2_000, _snippets(folder)),
        "actions": _drawn(4_000, _without_word(english, ACTIONS)),
    }


def _drawn(size: int, train: list[Example], test: list[Example] | None = None) -> tuple[list[Example], list[Example]]:
    """Returns so many training examples, and `TEST` others at most where there is no test set."""
    random.Random(0).shuffle(train)
    if test is None:
        train, test = train[:size], train[size:]
    random.Random(1).shuffle(test)
    return train[:size], test[:TEST]


def linear_errors(train: list[Example], test: list[Example]) -> list[float]:
    """Returns the test errors, in per cent, of a linear SVC and a logistic regression on tf-idf.

    C, and whether pairs of words are features, are chosen by 3-fold cross-validation.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline
    from sklearn.svm import LinearSVC

    (texts, labels), (new, wanted) = zip(*train, strict=True), zip(*test, strict=True)
    errors = []
    for classifier, strengths in (
        (LinearSVC(), (0.03, 0.1, 0.3, 1, 3)),
        (LogisticRegression(max_iter=300), (1, 3, 10, 30, 100)),
    ):
        tfidf = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
        grid = {"tfidf__ngram_range": [(1, 1), (1, 2)], "classifier__C": strengths}
        search = GridSearchCV(Pipeline([("tfidf", tfidf), ("classifier", classifier)]), grid, cv=3)
        errors.append(100 * (1 - search.fit(texts, labels).score(new, wanted)))
    return errors


def recipe_errors(
    folder: Path, *, recipe: str, objective: str | None, settings: Sequence[str], seeds: int
) -> tuple[list[float], list[float], float]:
    """Returns validation and test error of each seed, in per cent, and the seconds of a run.

    Args:
        folder: Of `train.csv` and `test.csv`.
        recipe: Its name.
        objective: In the place of the recipe's own, None: that.
        settings: As `--set` takes them.
        seeds: How many.
    """
    validation, errors, began = [], [], time.perf_counter()
    for seed in range(seeds):
        chosen, _ = load_recipe(recipe, data=str(folder), objective=objective, settings=[*settings, f"seed={seed}"])
        with tempfile.TemporaryDirectory() as out:
            result = run_recipe(chosen, Path(out) / "run", device="cpu")
        validation.append(100 * result["validation"]["error"])
        errors.append(100 * result["test"]["error"])
    return validation, errors, (time.perf_counter() - began) / seeds


def _write(file: Path, examples: list[Example]) -> None:
    with file.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows([("text", "label"), *examples])


def run(
    folder: Path | None = None,
    *,
    recipe: str = "text-bag",
    objective: str | None = None,
    settings: Sequence[str] = (),
    seeds: int = SEEDS,
    linear: bool = True,
) -> None:
    """Prints the table.

    Args:
        folder: Of the data; None: the one that LABELEMBED_DATA names.
        recipe: See `recipe_errors`.
        objective: See `recipe_errors`.
        settings: See `recipe_errors`.
        seeds: See `recipe_errors`.
        linear: Whether the linear classifiers are trained too.
    """
    folder = folder or Path(os.environ.get("LABELEMBED_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not all((folder / name).is_dir() for name in ("imdb", "multi30k", "iwslt15-en-vi")):
        print(f"imdb, multi30k and iwslt15-en-vi are not in {folder}: name their folder in LABELEMBED_DATA")
        return
    print(f"| set | n | labels | test | LinearSVC | logistic regression | {recipe}, {seeds} seeds | ", end="")
    print("validation | seconds a run |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, (train, test) in sets(folder).items():
        with tempfile.TemporaryDirectory() as made:
            _write(Path(made) / "train.csv", train)
            _write(Path(made) / "test.csv", test)
            validation, errors, seconds = recipe_errors(
                Path(made), recipe=recipe, objective=objective, settings=settings, seeds=seeds
            )
        spread = f" ± {statistics.stdev(errors):.2f}" if seeds > 1 else ""
        ours = f"{statistics.mean(errors):.2f}{spread}"
        others = " | ".join(f"{error:.2f}" for error in linear_errors(train, test)) if linear else "|"
        labels = len({label for _, label in train})
        sizes = f"{len(train):,} | {labels} | {len(test):,}"
        held_out = f"{statistics.mean(validation):.2f}"
        print(f"| {name} | {sizes} | {others} | {ours} | {held_out} | {seconds:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with imdb, multi30k and iwslt15-en-vi")
    parser.add_argument("--recipe", default="text-bag")
    parser.add_argument("--objective", help="in the place of the recipe's own")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--no-linear", action="store_false", dest="linear", help="leave the linear classifiers out")
    given = parser.parse_args()
    run(
        given.data,
        recipe=given.recipe,
        objective=given.objective,
        settings=given.settings,
        seeds=given.seeds,
        linear=given.linear,
    )


if __name__ == "__main__":
    main()
