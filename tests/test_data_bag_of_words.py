"""Bags of words: as the loops of the naive form, learned from the training rows only, kept as plain text."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelembed.errors import DataError
from labelembed.lab.data import Split, TextReader, Texts, prepare
from labelembed.lab.data import bag_of_words as module
from labelembed.lab.data.bag_of_words import BagOfWordsEncoder, words_of
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
    features=st.integers(1, 30),
    words=st.integers(1, 10),
)
def test_vocabulary_and_rows_are_those_of_the_naive_form(train, new, ngrams, minimum_texts, features, words):
    how = {"ngrams": ngrams, "minimum_texts": minimum_texts}
    wanted = naive_vocabulary(train, **how, maximum_features=features, maximum_words=words)
    bags, sizes = BagOfWordsEncoder(**how), {"ngrams": ngrams, "maximum_words": words}
    with mock.patch.multiple(module, MAXIMUM_FEATURES=features, MAXIMUM_WORDS=words):
        if not wanted:
            with pytest.raises(DataError, match="no word occurs in"):
                bags.fit_transform(Texts(train))
            return
        learned = bags.fit_transform(Texts(train))
        assert list(bags.vocabulary) == wanted
        assert rows_of(bags, train) == [naive_row(text, wanted, **sizes) for text in train]
        assert rows_of(bags, new) == [naive_row(text, wanted, **sizes) for text in new]
        assert torch.equal(learned.inputs.padded(), bags.transform(train).inputs.padded())


@given(st.text(max_size=60).filter(lambda text: max(text, default="") < "\u2e80" and not module._UNSPACED.search(text)))
def test_words_are_those_of_the_naive_form(text):
    text = text.replace("_", " ").replace("\u2019", "'")
    assert words_of(text) == naive_words(text, 100)


def test_marks_belong_to_their_letters():
    words = ["नमस्ते", "தமிழ்", "বাংলা", "السَّلامُ", "ශ්\u200dරී", "été"]
    assert words_of(" ".join(words).replace("é", "e\u0301") + " \u0301") == words
    assert words_of("ดีมาก ๒๕๖๗ ខ្មែរ 好が") == ["ดี", "ม", "า", "ก", "๒๕๖๗", "ខ្", "មែ", "រ", "好", "が"]


def test_vocabulary_knows_the_training_rows_only(tmp_path):
    rows = [(f"{text} only{n}", label) for n, (text, label) in enumerate(reviews(60))]
    raw = TextReader(path=str(write_csv(tmp_path / "r.csv", rows, "text", "label")), minimum_texts=1, ngrams=1).read()
    data = prepare(raw, validation={"fraction": 0.25}, train_examples=20)
    texts = {name: [data.texts(name, row) for row in range(len(split))] for name, split in data.splits.items()}
    own = {name: {text.split()[-1] for text in found} for name, found in texts.items()}
    assert {name: len(words) for name, words in own.items()} == {"train": 20, "validation": 12, "test": 12}
    assert set(data.encoder.vocabulary) >= own["train"]
    assert set(data.encoder.vocabulary).isdisjoint(own["validation"] | own["test"])
    assert data.input_range == (0.0, float(len(data.encoder.vocabulary)))
    for name, split in data.splits.items():
        assert torch.equal(split.inputs.padded(), data.encoder.transform(texts[name]).inputs.padded())


def test_long_texts_take_the_memory_of_their_own_words_alone(monkeypatch):
    monkeypatch.setattr(module, "MAXIMUM_WORDS", 100_000)
    words = [f"word{number}" for number in range(100_000)]
    bags = BagOfWordsEncoder(ngrams=1, minimum_texts=1)
    texts = [" ".join(words), *["word1 word2"] * 20_000]
    inputs = bags.fit_transform(Texts(texts)).inputs
    split = Split(inputs, torch.zeros(len(texts)).long())
    assert inputs.nbytes < 2_000_000  # of 20,001 x 100,000 ids
    batch = next(split.batches(1_000))
    assert batch.inputs.nbytes < 1_000_000
    hidden = BagOfWords(input_shape=inputs.shape[1:], vocabulary_size=inputs.width, embedding_size=2)(batch.inputs)
    assert hidden.shape == (1_000, 2)
