"""Features and tokens of texts: equal to their naive form, computed once; models that cannot be read are refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from labelembed.errors import DataError
from labelembed.lab import pretrained_text
from labelembed.lab.data import TextFeatures, Texts, TextTokens
from labelembed.lab.data import text_encoder as module
from labelembed.lab.pretrained_text import load_encoder, load_tokenizer, tokens_of
from tests.made_hostile import Bomb
from tests.made_text_encoder import WORDS, tokenizer, write_encoder
from tests.made_texts import reviews
from tests.made_transformers import bert, gpt2
from tests.naive.text_features import naive_text_features

TEXTS = [*(text for text, _ in reviews(20)), "film", "", "a word nobody knows", "film"]


def text_features(texts, *, folder, maximum_tokens=20, progress=None):
    encoder = TextFeatures(str(folder), maximum_tokens)
    encoder.progress = progress
    return encoder.transform(Texts(texts)).inputs.numpy()


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELEMBED_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def small_steps(monkeypatch):
    monkeypatch.setitem(pretrained_text.TOKENS_AT_ONCE, "cpu", 24)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.mark.usefixtures("small_steps")
def test_features_equal_their_naive_form_and_tell_their_progress(encoder):
    shown = []
    found = text_features(TEXTS, folder=encoder, maximum_tokens=10, progress=lambda *done: shown.append(done))
    model, cut = bert(vocabulary=len(WORDS)).base_model, tokenizer()
    expected = [naive_text_features(text, cut, model, maximum_tokens=10) for text in TEXTS]
    assert found.dtype == np.float32
    # float32 against float64
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
    assert shown == sorted(shown)
    assert len(shown) > 5
    assert shown[-1] == (24, 24)


@pytest.mark.parametrize("change", ["text", "order", "border", "maximum_tokens", "weights", "the folder's place"])
def test_features_are_computed_once_and_anew_where_anything_changes(encoder, tmp_path, change):
    texts = ["film", "music", "a plot", "scenes of actors and music"]
    first = text_features(texts, folder=encoder)
    limit, folder, files = 20, encoder, len(list((tmp_path / "cache").glob("*.npy")))
    if change == "the folder's place":
        assert np.array_equal(text_features(texts, folder=shutil.copytree(encoder, tmp_path / "moved")), first)
        assert len(list((tmp_path / "cache").glob("*.npy"))) == files
        return
    if change == "weights":
        folder = write_encoder(tmp_path / "other", seed=1)
    elif change == "maximum_tokens":
        limit = 4
    else:
        texts = {"text": [*texts[:3], "dull"], "order": texts[::-1], "border": ["filmm", "usic", *texts[2:]]}[change]
    found = text_features(texts, folder=folder, maximum_tokens=limit)
    assert len(list((tmp_path / "cache").glob("*.npy"))) > files
    cut, model = load_tokenizer(folder), load_encoder(folder, maximum_tokens=limit)
    expected = [naive_text_features(text, cut, model, maximum_tokens=limit) for text in texts]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_truncated_texts_are_counted_and_the_same_from_the_cache(encoder, monkeypatch):
    texts = Texts(["film", "a plot of the film with music in it by its actors", ""])
    tokens, truncated = TextTokens(str(encoder), 9).transform(texts)
    assert truncated == 1
    assert tokens.tolist()[0] == [3, WORDS.index("film") + 1, 4, 0, 0, 0, 0, 0, 0]
    assert [int((row > 0).sum()) for row in tokens] == [3, 9, 2]
    features = TextFeatures(str(encoder), 9).transform(texts)
    monkeypatch.setattr(module, "tokens_of", lambda *args, **more: pytest.fail("read again"))
    again = TextFeatures(str(encoder), 9).transform(texts)
    assert torch.equal(again.inputs, features.inputs)
    assert again.truncated == 1
    tokens, truncated = tokens_of(["film a film", "film a film a"], tokenizer(marks=False), maximum_tokens=3)
    assert (truncated, (tokens > 0).sum(axis=1).tolist()) == (1, [3, 3])  # a text that fills its row has no more


def test_more_tokens_than_the_encoder_reads_are_refused(encoder):
    with pytest.raises(DataError, match=r"reads 32 tokens .* data.maximum_tokens"):
        text_features(["film " * 40], folder=encoder, maximum_tokens=33)


def without_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def of_another_architecture(folder):
    gpt2(vocabulary=len(WORDS)).save_pretrained(folder.parent / "gpt2")
    shutil.copy(folder.parent / "gpt2" / "model.safetensors", folder)


def of_another_size(folder):
    bert(vocabulary=7).save_pretrained(folder.parent / "small")
    shutil.copy(folder.parent / "small" / "model.safetensors", folder)


def pickled(folder):
    (folder / "model.safetensors").unlink()
    torch.save(Bomb(folder.parent / "touched"), folder / "pytorch_model.bin")


def with_code(folder):
    (folder / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoModel": "m.M", "AutoConfig": "m.C"}}')
    (folder / "m.py").write_text(f"open({str(folder.parent / 'touched')!r}, 'w')")


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (without_tokenizer, "cannot be read as a transformers model"),
        (of_another_architecture, "weights of another architecture"),
        (of_another_size, "cannot be read as a transformers model"),
        (pickled, "has no model.safetensors"),
        (with_code, "cannot be read as a transformers model"),
    ],
)
def test_models_that_cannot_be_read_are_refused_and_no_code_is_run(encoder, tmp_path, damage, word):
    folder = shutil.copytree(encoder, tmp_path / "damaged")
    damage(folder)
    with pytest.raises(DataError, match=f"damaged: .*{word}"):
        text_features(TEXTS, folder=folder)
    assert not (tmp_path / "touched").exists()
