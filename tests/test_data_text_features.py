"""Fixed features of texts: equal to their naive form, computed once, and gone on with where they were cut short."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from labelembed.errors import DataError
from labelembed.lab.data import Texts
from labelembed.lab.data import text_encoder as module
from labelembed.lab.data.text_encoder import TextFeatures, TextTokens, tokens_of
from labelembed.lab.pretrained_text import length_groups, load_encoder, load_tokenizer
from tests.made_text_encoder import WORDS, tokenizer, write_encoder
from tests.made_texts import reviews
from tests.made_transformers import bert, gpt2, t5
from tests.naive.text_features import naive_text_features

torch.set_num_threads(1)

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
    monkeypatch.setitem(module._TOKENS_AT_ONCE, "cpu", 24)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.mark.usefixtures("small_steps")
def test_features_equal_their_naive_form(encoder):
    found = text_features(TEXTS, folder=encoder, maximum_tokens=10)
    model, cut = bert(vocabulary=len(WORDS)).base_model, tokenizer()
    expected = [naive_text_features(text, cut, model, maximum_tokens=10) for text in TEXTS]
    assert found.dtype == np.float32
    # float32 against float64
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("make", [gpt2, t5])
@pytest.mark.usefixtures("small_steps")
def test_decoders_and_encoder_decoders_give_features_too(tmp_path, make):
    model = make(vocabulary=len(WORDS))
    folder = write_encoder(tmp_path / "model", model, marks=False, padded=False)
    found = text_features([*TEXTS[:6], TEXTS[20]], folder=folder, maximum_tokens=10)
    body = model.get_encoder() if make is t5 else model.transformer
    expected = [naive_text_features(text, tokenizer(marks=False), body, maximum_tokens=10) for text in TEXTS[:6]]
    np.testing.assert_allclose(found[:6], expected, rtol=0, atol=2e-6)


def test_text_in_which_the_tokenizer_finds_nothing_has_features(tmp_path):
    folder = write_encoder(tmp_path / "model", marks=False)
    found = text_features(["", "film"], folder=folder)
    assert np.isfinite(found).all()
    assert not np.array_equal(found[0], found[1])


def test_features_are_computed_once(encoder, tmp_path, monkeypatch):
    first = text_features(TEXTS, folder=encoder)
    moved = tmp_path / "elsewhere"
    shutil.copytree(encoder, moved)
    monkeypatch.setattr(module, "load_encoder", lambda folder: pytest.fail("loaded again"))
    assert np.array_equal(text_features(TEXTS, folder=moved), first)


@pytest.mark.parametrize("change", ["text", "order", "border", "maximum_tokens", "weights"])
def test_what_changes_the_features_computes_them_anew(encoder, tmp_path, change):
    texts = ["film", "music", "a plot", "scenes of actors and music"]
    text_features(texts, folder=encoder)
    asked = {"folder": encoder}
    if change == "weights":
        asked["folder"] = write_encoder(tmp_path / "other", seed=1)
    elif change == "maximum_tokens":
        asked["maximum_tokens"] = 4
    else:
        texts = {"text": [*texts[:3], "dull"], "order": texts[::-1], "border": ["filmm", "usic", *texts[2:]]}[change]
    files = len(list((tmp_path / "cache").glob("*.npy")))
    found = text_features(texts, folder=asked["folder"], **{key: asked[key] for key in asked if key != "folder"})
    assert len(list((tmp_path / "cache").glob("*.npy"))) > files
    cut, model = load_tokenizer(asked["folder"]), load_encoder(asked["folder"])
    limit = asked.get("maximum_tokens", 20)
    expected = [naive_text_features(text, cut, model, maximum_tokens=limit) for text in texts]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


@pytest.mark.usefixtures("small_steps")
def test_progress_is_told_text_by_text(encoder):
    shown = []
    text_features(TEXTS, folder=encoder, progress=lambda done, total: shown.append((done, total)))
    assert shown == sorted(shown)
    assert len(shown) > 5
    assert shown[-1] == (24, 24)


def test_batches_hold_no_more_than_their_tokens():
    lengths = [1, 1, 2, 3, 3, 9, 30]
    assert [lengths[group] for group in length_groups(lengths, 9)] == [[1, 1, 2], [3, 3], [9], [30]]


def test_truncated_texts_are_counted_and_the_same_from_the_cache(encoder, monkeypatch):
    texts = Texts(["film", "a plot of the film with music in it by its actors", ""])
    rows, truncated = TextTokens(str(encoder), 9).transform(texts)
    assert truncated == 1
    assert [int((row > 0).sum()) for row in rows] == [3, 9, 2]
    monkeypatch.setattr(module, "tokens_of", lambda *args, **more: pytest.fail("read again"))
    again = TextTokens(str(encoder), 9).transform(texts)
    assert (again.inputs.tolist(), again.truncated) == (rows.tolist(), 1)
    monkeypatch.undo()
    tokens, truncated = tokens_of(["film a film", "film a film a"], tokenizer(marks=False), maximum_tokens=3)
    assert (truncated, (tokens > 0).sum(axis=1).tolist()) == (1, [3, 3])  # a text that fills its row has no more


def test_more_tokens_than_the_encoder_reads_are_refused(encoder):
    with pytest.raises(DataError, match=r"reads 32 tokens of a text at most, and data.maximum_tokens is 33; set it to"):
        text_features(["film"], folder=encoder, maximum_tokens=33)


def test_missing_tokenizer_is_named(encoder, tmp_path):
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(encoder / name, folder)
    with pytest.raises(DataError, match=r"bare: has no tokenizer \(none of tokenizer\.json, .*save_pretrained"):
        text_features(TEXTS, folder=folder)


def test_pickled_weights_are_refused_and_not_run(encoder, tmp_path):
    folder = shutil.copytree(encoder, tmp_path / "old")
    (folder / "model.safetensors").unlink()
    touched = tmp_path / "touched"

    class Evil:
        def __reduce__(self):
            return (open, (str(touched), "w"))

    torch.save(Evil(), folder / "pytorch_model.bin")
    with pytest.raises(
        DataError, match=r"there is none; pytorch_model\.bin is not read, for it .*unpickled.*save_pretr"
    ):
        load_encoder(folder)
    assert not touched.exists()


def test_weights_of_another_architecture_are_refused(encoder, tmp_path):
    folder = shutil.copytree(encoder, tmp_path / "mixed")
    gpt2(vocabulary=len(WORDS)).save_pretrained(tmp_path / "gpt2")
    shutil.copy(tmp_path / "gpt2" / "model.safetensors", folder)
    with pytest.raises(
        DataError, match=r"weights of another architecture than config\.json names, a BertModel: .* and"
    ):
        load_encoder(folder)
    bert(vocabulary=7).save_pretrained(tmp_path / "small")
    shutil.copy(tmp_path / "small" / "model.safetensors", folder)
    with pytest.raises(DataError, match=r"mixed: cannot be read as a transformers model"):
        load_encoder(folder)


def test_code_in_a_folder_is_not_run(encoder, tmp_path):
    folder = shutil.copytree(encoder, tmp_path / "code")
    (folder / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoModel": "m.M", "AutoConfig": "m.C"}}')
    (folder / "m.py").write_text(f"open({str(tmp_path / 'touched')!r}, 'w')")
    with pytest.raises(DataError, match="code: cannot be read as a transformers model"):
        load_encoder(folder)
    assert not (tmp_path / "touched").exists()
