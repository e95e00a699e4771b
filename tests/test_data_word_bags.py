"""Bags of words: as the loops of the naive form, learned from the training rows only, kept as plain text."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelembed.errors import DataError
from labelembed.lab.data import Split, TextReader, Texts, ValidationSplit, prepare
from labelembed.lab.data.bag_of_words import SETTINGS_FILE, VOCABULARY_FILE, BagOfWordsEncoder, words_of
from labelembed.lab.data.encoder import Truncation
from labelembed.lab.models import BagOfWords
from tests.made_texts import reviews, write_csv
from tests.naive.bag_of_words import naive_row, naive_vocabulary, naive_words

TEXTS = st.lists(st.lists(st.sampled_from(["a", "b", "c", "d's", "!", "É"]), max_size=9).map(" ".join), max_size=12)


def rows_of(bags, texts):
    return [[number for number in row if number] for row in bags.transform(texts).inputs.padded().tolist()]


@settings(max_examples=150, deadline=None)
@given(
    train=TEXTS,
    new=TEXTS,
    ngrams=st.integers(1, 4),
    minimum_texts=st.integers(1, 3),
    maximum_features=st.integers(1, 30),
    maximum_words=st.integers(1, 10),
)
def test_vocabulary_and_rows_are_those_of_the_naive_form(train, new, **how):
    wanted = naive_vocabulary(train, **how)
    bags = BagOfWordsEncoder(**how)
    if not wanted:
        with pytest.raises(DataError, match="no word occurs in"):
            bags.fit_transform(Texts(train))
        return
    learned = bags.fit_transform(Texts(train))
    assert list(bags.vocabulary) == wanted
    sizes = {"ngrams": how["ngrams"], "maximum_words": how["maximum_words"]}
    assert rows_of(bags, train) == [naive_row(text, wanted, **sizes) for text in train]
    assert rows_of(bags, new) == [naive_row(text, wanted, **sizes) for text in new]
    assert torch.equal(learned.inputs.padded(), bags.transform(train).inputs.padded())
    assert learned.truncated == sum(len(naive_words(text, 100)) > how["maximum_words"] for text in train)


@given(st.text(max_size=60).filter(lambda text: all(ord(letter) < 0x2E80 for letter in text)))
def test_words_are_those_of_the_naive_form(text):
    assert words_of(text.replace("_", " ").replace("\u2019", "'")) == naive_words(
        text.replace("_", " ").replace("\u2019", "'"), 100
    )


def test_letters_of_scripts_without_spaces_are_words():
    assert words_of("很好ok的") == ["很", "好", "ok", "的"]
    assert words_of("don\u2019t") == ["don't"]


def test_vocabulary_knows_the_training_rows_only(tmp_path):
    rows = [(f"{text} only{n}", label) for n, (text, label) in enumerate(reviews(60))]
    raw = TextReader(path=str(write_csv(tmp_path / "r.csv", rows, "text", "label")), minimum_texts=1, ngrams=1).read()
    data = prepare(raw, validation=ValidationSplit(fraction=0.25), train_examples=20)
    numbers = {name: {f"only{n}" for n in range(60) if _has(data, name, f"only{n}")} for name in data.splits}
    assert {name: len(found) for name, found in numbers.items()} == {"train": 20, "validation": 12, "test": 12}
    assert set(data.encoder.vocabulary) >= numbers["train"]
    assert set(data.encoder.vocabulary).isdisjoint(numbers["validation"] | numbers["test"])
    assert data.input_range == (0.0, float(len(data.encoder.vocabulary)))
    for name, split in data.splits.items():
        assert split.inputs.dtype == torch.int32
        again = data.encoder.transform([data.texts(name, row) for row in range(len(split))]).inputs
        assert torch.equal(split.inputs.padded(), again.padded())


def _has(data, split, word):
    return any(word in data.texts(split, row).split() for row in range(len(data.splits[split])))


def test_what_was_learned_is_kept_and_read_again(tmp_path):
    bags = BagOfWordsEncoder(ngrams=3, minimum_texts=2, maximum_features=50, maximum_words=9)
    bags.fit_transform(Texts([text for text, _ in reviews(30)]))
    for name, kept in bags.files().items():
        (tmp_path / name).write_bytes(kept)
    again = BagOfWordsEncoder.load(tmp_path)
    new = [text for text, _ in reviews(20, seed=1)]
    assert torch.equal(again.transform(new).inputs.padded(), bags.transform(new).inputs.padded())
    assert again.files() == bags.files()
    assert (tmp_path / VOCABULARY_FILE).read_text().splitlines() == list(bags.vocabulary)


@pytest.mark.parametrize(
    ("vocabulary", "about", "message"),
    [
        (None, {}, "words.txt: cannot be read (No such file or directory)"),
        ("a\n\nb\n", {}, "words.txt: damaged, a line is empty or occurs twice"),
        ("a\nb\na\n", {}, "words.txt: damaged, a line is empty or occurs twice"),
        ("a\n", {"maximum_words": 0}, "words.json: damaged, maximum_words: Input should be greater than 0"),
        ("a\n", {"maximum_words": True}, "words.json: damaged, maximum_words: Input should be a valid integer"),
        ("a\n", None, "words.json: damaged"),
    ],
)
def test_damaged_vocabulary_is_refused(tmp_path, vocabulary, about, message):
    if vocabulary is not None:
        (tmp_path / VOCABULARY_FILE).write_text(vocabulary)
    settings = {"maximum_words": 5}
    (tmp_path / SETTINGS_FILE).write_text("{" if about is None else json.dumps(settings | about))
    with pytest.raises(DataError) as caught:
        BagOfWordsEncoder.load(tmp_path)
    assert message in str(caught.value)


def test_texts_are_chosen_by_position():
    texts = Texts(["a b", "", "c", "a c b"])
    bags = BagOfWordsEncoder(ngrams=1, minimum_texts=1, maximum_features=9, maximum_words=9)
    assert bags.fit_transform(texts.select(torch.tensor([0, 2]))).inputs.padded().tolist() == [[1, 2], [3, 0]]
    assert bags.vocabulary == ("a", "b", "c")
    chosen = texts.select(torch.tensor([3, 1, 0, 3]))
    found = bags.transform(chosen).inputs
    assert found.padded().tolist() == [[1, 2, 3], [0, 0, 0], [1, 2, 0], [1, 2, 3]]
    assert (found.shape, bags.transform([]).inputs.shape) == ((4, 4), (0, 4))


def test_long_texts_take_the_memory_of_their_own_words_alone():
    words = [f"word{number}" for number in range(100_000)]
    bags = BagOfWordsEncoder(ngrams=1, minimum_texts=1, maximum_words=len(words))
    texts = [" ".join(words), *["word1 word2"] * 20_000]
    inputs = bags.fit_transform(Texts(texts)).inputs
    split = Split(inputs, torch.zeros(len(texts)).long())
    assert inputs.nbytes < 2_000_000  # of 20,001 x 100,000 ids
    batch = next(split.batches(1_000))
    assert batch.inputs.nbytes < 1_000_000
    hidden = BagOfWords(input_shape=inputs.shape[1:], vocabulary_size=inputs.width, embedding_size=2)(batch.inputs)
    assert hidden.shape == (1_000, 2)


LONG, SHORT = "the film was lovely and great", "a dull plot"  # 6 and 3 words


def write_parts(folder):
    """Writes 20, 4 and 16 texts, of which 8, 2 and 1 are long."""
    for name, count, number in zip(("train", "dev", "test"), (20, 4, 16), (8, 2, 1), strict=True):
        texts = [(LONG if row < number else SHORT, ("pos", "neg")[row % 2]) for row in range(count)]
        write_csv(folder / f"{name}.csv", texts, "text", "label")
    return folder


def test_the_note_on_truncated_texts_names_share_limit_and_the_way_out():
    truncation = Truncation(count=3, of=40, setting="maximum_tokens", limit=128, most=512)
    assert truncation.note == (
        "3 of 40 texts (7.5%) are longer than 128 tokens and truncated there; --set data.maximum_tokens=256 keeps more"
    )
    assert replace(truncation, limit=300).note.endswith("; --set data.maximum_tokens=512 keeps more")
    assert replace(truncation, limit=512).note.endswith("truncated there, the most that the encoder reads")


@pytest.mark.parametrize(("words", "count"), [(2, 40), (3, 11), (5, 11), (6, 0)])
def test_bags_count_the_truncated_texts_of_all_splits(tmp_path, words, count):
    data = prepare(TextReader(path=str(write_parts(tmp_path)), maximum_words=words).read(), validation=None)
    wanted = Truncation(count=count, of=40, setting="maximum_words", limit=words) if count else None
    assert data.truncation == wanted
    assert (data.notes[-1] == wanted.note) if wanted else not any("truncated" in note for note in data.notes)
