"""Texts that are longer than what is read of them: counted, told as a note, kept with the run."""

from __future__ import annotations

import dataclasses
import json

import pytest

from labelembed.lab.data import TextReader, prepare
from labelembed.lab.data.encoder import CutTexts
from tests.made_cli import succeed
from tests.made_texts import write_csv

LONG, SHORT = "the film was lovely and great", "a dull plot"  # 6 and 3 words


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABELEMBED_CACHE", str(tmp_path / "cache"))


def write_parts(folder, *, long=(8, 2, 1), rows=(20, 4, 16)):
    """Writes train, dev and test files of so many rows, of which so many are long."""
    for name, count, number in zip(("train", "dev", "test"), rows, long, strict=True):
        texts = [(LONG if row < number else SHORT, ("pos", "neg")[row % 2]) for row in range(count)]
        write_csv(folder / f"{name}.csv", texts, "text", "label")
    return folder


@pytest.mark.parametrize(
    ("count", "of", "share"),
    [(9512, 25000, "38"), (1, 25000, "less than 0.1"), (3, 40, "7.5"), (40, 40, "100")],
)
def test_note_names_share_limit_and_the_way_out(count, of, share):
    cut = CutTexts(count=count, of=of, setting="maximum_tokens", limit=128, most=512)
    assert cut.note == (
        f"{share} % of the texts ({count:,} of {of:,}) are longer than 128 tokens and are cut there; "
        "--set data.maximum_tokens=256 keeps more"
    )
    assert dataclasses.replace(cut, limit=300).note.endswith("; --set data.maximum_tokens=512 keeps more")
    assert dataclasses.replace(cut, limit=300, most=None).note.endswith("; --set data.maximum_tokens=600 keeps more")
    assert dataclasses.replace(cut, limit=512).note.endswith(
        "512 tokens, the most that the encoder reads, and are cut there"
    )


@pytest.mark.parametrize(("words", "count"), [(2, 40), (3, 11), (5, 11), (6, 0)])
def test_bags_count_the_texts_of_all_parts(tmp_path, words, count):
    raw = TextReader(path=str(write_parts(tmp_path)), maximum_words=words).read()
    data = prepare(raw, validation=None)
    if count == 0:
        assert data.cut is None
        assert not any("cut there" in note for note in data.notes)
    else:
        assert data.cut == CutTexts(count=count, of=40, setting="maximum_words", limit=words)
        assert data.notes[-1] == data.cut.note


def test_run_folder_and_card_keep_the_count(tmp_path):
    (tmp_path / "data").mkdir()
    write_parts(tmp_path / "data")
    told = succeed(
        "train", "text-bag", "--data", "data", "--out", "run", "--set", "data.maximum_words=5", "--set", "epochs=1",
        "--set", "batch_size=10",
    )  # fmt: skip
    note = (
        "28 % of the texts (11 of 40) are longer than 5 words and are cut there; --set data.maximum_words=10 keeps more"
    )
    assert told.err.count(f"data: {note}") == 1
    about = json.loads((tmp_path / "run" / "environment.json").read_text())["data"]
    assert about["cut_texts"] == {"count": 11, "of": 40, "maximum_words": 5}
    assert about["notes"].count(note) == 1
    succeed("export", "run", "--format", "card")
    assert "28 % of the texts (11 of 40) are longer than 5 words" in (tmp_path / "run" / "README.md").read_text()


ENCODED = ("text-features", "text-finetune")


@pytest.mark.parametrize("name", ENCODED)
def test_encoders_count_their_tokens_and_say_the_same_from_the_cache(name, tmp_path, monkeypatch):
    from labelembed.lab.data import text_encoder as text_features
    from tests.made_text_encoder import write_encoder

    write_encoder(tmp_path / "encoder")
    (tmp_path / "data").mkdir()
    write_parts(tmp_path / "data")
    words = ["check", name, "--data", "data", "--json", "--set", "data.encoder=encoder", "--set", "batch_size=10"]

    def notes(limit):
        return [n for n in succeed(*words, "--set", f"data.maximum_tokens={limit}").json["notes"] if "longer" in n]

    note = "28 % of the texts (11 of 40) are longer than 7 tokens and are cut there; --set data.maximum_tokens=14 keeps"
    first = notes(7)  # six words, and two tokens that begin and end them
    assert first == [f"{note} more"]
    assert notes(8) == []
    assert notes(4) == [
        "100 % of the texts (40 of 40) are longer than 4 tokens and are cut there; --set data.maximum_tokens=8 "
        "keeps more"
    ]

    def again(*args, **kwargs):
        pytest.fail("the texts were cut into tokens again")

    monkeypatch.setattr(text_features, "tokens_of", again)
    assert notes(7) == first


def test_a_tokenizer_that_does_not_say_what_it_cut_off_is_asked_again():
    from labelembed.lab.data.encoders.text_features import tokens_of

    asked = []

    class Read(dict):
        encodings = None

    class Slow:
        eos_token_id = sep_token_id = unk_token_id = None

        def __call__(self, texts, *, truncation, max_length=None, **_):
            asked.append(texts)
            if truncation:
                return Read(input_ids=[list(map(ord, text[:max_length])) for text in texts])
            return Read(input_ids=list(map(ord, texts)))

    tokens, is_cut = tokens_of(["abc", "abcd", "ab", ""], Slow(), maximum_tokens=3)
    assert [len(each) for each in tokens] == [3, 3, 2, 1]
    assert is_cut.tolist() == [False, True, False, False]
    assert asked[1:] == ["abc", "abcd"]  # those alone that fill their row
