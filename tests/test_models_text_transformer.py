"""Fine-tuned encoders: rows equal to those of each text alone, which layers move, and at which learning rate."""

from __future__ import annotations

import copy

import pytest
import torch

from labelembed.errors import DataError
from labelembed.lab.models import text_transformer
from labelembed.lab.models.text_transformer import TextTransformer
from labelembed.lab.training.network import Network
from labelembed.lab.training.optimizers import parameter_groups
from labelembed.objectives import OneHot
from tests.made_text_encoder import WORDS, tokenizer, write_encoder
from tests.made_texts import reviews
from tests.made_transformers import bert, gpt2, t5
from tests.naive.text_features import naive_text_features

TEXTS = ["film", *(text for text, _ in reviews(9)), "a plot"]
LENGTH = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder"))


def built(folder, **arguments):
    return TextTransformer(input_shape=(LENGTH,), encoder_folder=folder, **arguments)


def inputs_of(texts, *, marks=True):
    cut = tokenizer(marks=marks)
    rows = torch.zeros(len(texts), LENGTH, dtype=torch.int32)
    for row, text in zip(rows, texts, strict=True):
        numbers = cut(text, truncation=True, max_length=LENGTH)["input_ids"]
        row[: len(numbers)] = torch.tensor(numbers) + 1
    return rows


@pytest.mark.parametrize("learning", [True, False])
def test_rows_are_those_of_each_text_alone(folder, learning, monkeypatch):
    monkeypatch.setattr(text_transformer, "_TOKENS_AT_ONCE", 30)
    model = built(folder, dropout=0.0)
    with torch.set_grad_enabled(learning):
        found = model(inputs_of(TEXTS))
    whole = bert(vocabulary=len(WORDS)).base_model
    expected = [naive_text_features(text, tokenizer(), whole, maximum_tokens=LENGTH) for text in TEXTS]
    assert found.shape == (len(TEXTS), model.hidden_size)
    # float32 against float64
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=2e-6)
    assert model(inputs_of(TEXTS)[:0]).shape == (0, model.hidden_size)


@pytest.mark.parametrize("make", [gpt2, t5])
def test_decoders_and_encoder_decoders_can_be_trained(tmp_path, make):
    whole = make(vocabulary=len(WORDS))
    model = built(write_encoder(tmp_path, whole, marks=False), dropout=0.0)
    rows = model(inputs_of(TEXTS, marks=False))
    body = whole.get_encoder() if make is t5 else whole.transformer
    expected = [naive_text_features(text, tokenizer(marks=False), body, maximum_tokens=LENGTH) for text in TEXTS]
    torch.testing.assert_close(rows, torch.tensor(expected), rtol=0, atol=2e-6)
    rows.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.filterwarnings("ignore")  # of the exporter and of transformers
def test_the_exported_form_gives_the_same_rows_for_any_number_of_texts(folder):
    model, inputs = built(folder).eval(), inputs_of(TEXTS)
    with torch.no_grad():
        exported = torch.export.export(model, (inputs,), dynamic_shapes=({0: torch.export.Dim("texts")},)).module()
        for rows in (inputs, inputs[:3], inputs.repeat(2, 1)):
            torch.testing.assert_close(exported(rows), model(rows), rtol=0, atol=1e-6)  # another padding


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    import transformers

    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=32,
    )  # fmt: skip
    return write_encoder(tmp_path_factory.mktemp("deep"), transformers.BertModel(config))


@pytest.mark.parametrize("frozen", [0, 1, 3])
def test_frozen_layers_and_embeddings_stay_as_they_are(deep, frozen):
    model = built(deep, layers_frozen=frozen)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    layers = {int(name.split(".")[3]) for name in trained if ".encoder.layer." in name}
    assert layers == set(range(frozen, 3))
    assert any(".embeddings." in name for name in trained) == (frozen == 0)


def test_encoder_learns_at_its_own_rate_and_frozen_weights_at_none(deep):
    encoder = built(deep, layers_frozen=2, learning_rate_factor=0.25)
    network = Network(torch.nn.Identity(), encoder, OneHot(encoder.hidden_size, 2))
    first, *others = parameter_groups(network, learning_rate=0.1, weight_decay=0.3)
    assert first["lr"] == 0.025
    assert first["weight_decay"] == 0.3
    assert {id(part) for part in first["params"]} == {id(p) for p in encoder.parameters() if p.requires_grad}
    assert all("lr" not in group for group in others)
    before = copy.deepcopy(encoder.state_dict())
    optimizer = torch.optim.SGD([first, *others], lr=0.1)
    network(inputs_of(TEXTS), torch.tensor([row % 2 for row in range(len(TEXTS))])).total.backward()
    optimizer.step()
    moved = {name for name, value in encoder.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("layers.encoder.layer.2.") for name in moved)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers_frozen": -1}, "`layers_frozen` must be >= 0, got -1"),
        ({"layers_frozen": 2}, "`layers_frozen` must be at most 1, the encoder's layers, got 2"),
        ({"learning_rate_factor": 0.0}, "`learning_rate_factor` must be > 0, got 0"),
        ({"dropout": 1.0}, r"`dropout` must be in \[0, 1\), got 1"),
        ({"input_shape": (33,)}, r"`input_shape` must be at most 32 tokens \(data.maximum_tokens\), got \[33\]"),
    ],
)
def test_wrong_arguments_are_refused(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        TextTransformer(**({"input_shape": (LENGTH,), "encoder_folder": folder} | arguments))


def test_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read as a transformers model with config\.json"):
        built(tmp_path, encoder_filled=False)
