"""Fine-tuned encoders: rows equal to those of each text alone, which layers move, and at which learning rate."""

from __future__ import annotations

import pytest
import torch

from labelembed.lab import pretrained_text
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
    return TextTransformer(**({"input_shape": (LENGTH,), "encoder_folder": folder} | arguments))


def inputs_of(texts, *, marks=True):
    return torch.from_numpy(pretrained_text.tokens_of(texts, tokenizer(marks=marks), maximum_tokens=LENGTH)[0])


@pytest.mark.parametrize("make", [bert, gpt2, t5])
@pytest.mark.parametrize("learning", [True, False])
def test_rows_are_those_of_each_text_alone(tmp_path, make, learning, monkeypatch):
    monkeypatch.setitem(pretrained_text.TOKENS_AT_ONCE, "cpu", 30)
    whole, marks = make(vocabulary=len(WORDS)), make is bert
    model = built(write_encoder(tmp_path, whole.base_model if marks else whole, marks=marks), dropout=0.0)
    with torch.set_grad_enabled(learning):
        found = model(inputs_of(TEXTS, marks=marks))
    body = {bert: lambda: whole.base_model, gpt2: lambda: whole.transformer, t5: whole.get_encoder}[make]()
    expected = [naive_text_features(text, tokenizer(marks=marks), body, maximum_tokens=LENGTH) for text in TEXTS]
    # float32 against float64
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=2e-6)
    assert model(inputs_of(TEXTS)[:0]).shape == (0, model.hidden_size)
    if learning:
        found.square().sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.filterwarnings("ignore")  # of the exporter and of transformers
def test_the_exported_form_gives_the_same_rows_for_any_number_of_texts(folder):
    model, inputs = built(folder).eval(), inputs_of(TEXTS)
    with torch.no_grad():
        exported = torch.export.export(model, (inputs,), dynamic_shapes=({0: torch.export.Dim("texts")},)).module()
        for rows in (inputs, inputs[:3], inputs.repeat(2, 1)):
            torch.testing.assert_close(exported(rows), model(rows), rtol=0, atol=1e-6)  # another padding


def test_the_encoder_learns_at_its_own_rate(folder):
    encoder = built(folder, learning_rate_factor=0.25)
    network = Network(torch.nn.Identity(), encoder, OneHot(encoder.hidden_size, 2))
    first, *others = parameter_groups(network, learning_rate=0.1, weight_decay=0.3)
    assert (first["lr"], first["weight_decay"]) == (0.025, 0.3)
    assert all("lr" not in group for group in others)
    network(inputs_of(TEXTS), torch.tensor([row % 2 for row in range(len(TEXTS))])).total.backward()
    assert all(parameter.grad is not None for parameter in first["params"])
