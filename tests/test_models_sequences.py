"""The attention LSTM: against its equations, token by token, in batches and in a search."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from labelembed.lab.models import AttentionLSTM, BeamSearch
from labelembed.lab.special_tokens import BEGIN, END, PAD
from labelembed.seeds import seeded
from tests.naive.attention import naive_general_attention

LSTMS = [
    {"bidirectional": True, "layers": 1},
    {"bidirectional": False, "layers": 1},
    {"bidirectional": True, "layers": 2},
]
LENGTHS = [5, 1, 7, 2]  # of the sources, their END counted


def made_pairs(lengths=LENGTHS, target_length=6):
    generator = torch.Generator().manual_seed(0)
    source = torch.full((len(lengths), max(lengths)), PAD)
    for row, length in zip(source, lengths, strict=True):
        row[: length - 1] = torch.randint(4, 11, (length - 1,), generator=generator)
        row[length - 1] = END
    target = torch.randint(4, 13, (len(lengths), target_length), generator=generator)
    target[:, 0] = BEGIN
    return source, target


def stepped(model, source, target):
    """Returns hidden states [B, T, H] and attention [B, T, S], one token at a time."""
    state = model.encode(source)
    rows = []
    for tokens in target.unbind(1):
        hidden, state, attention = model.step(tokens, state)
        rows.append((hidden, attention))
    return [torch.stack(part, dim=1) for part in zip(*rows, strict=True)]


def lstm(**arguments):
    sizes = {"source_vocabulary_size": 11, "target_vocabulary_size": 13, "embedding_size": 6, "width": 8}
    with seeded(0, "encoder"):
        return AttentionLSTM(**sizes | {"initial_range": 0.8, "layers": 2} | arguments)


@pytest.mark.parametrize("shape", LSTMS)
def test_target_at_once_equals_token_by_token(shape):
    model = lstm(**shape, dropout=0.0)
    source, target = made_pairs()
    hidden = model((source, target))
    rows, attention = stepped(model, source, target)
    assert hidden.shape == (4, 6, model.hidden_size)
    torch.testing.assert_close(rows, hidden, rtol=0, atol=1e-5)
    # The weights of what is real are all there are.
    torch.testing.assert_close(attention.sum(-1), torch.ones(4, 6), rtol=0, atol=1e-6)
    padding = (source == PAD)[:, None].expand_as(attention)
    assert bool((attention[padding] == 0).all())
    assert bool((attention[~padding] > 0).all())


@pytest.mark.parametrize("shared", [False, True])
def test_every_parameter_has_a_gradient(shared):
    model = lstm(**({"source_vocabulary_size": 13} if shared else {}), shared_embeddings=shared)
    assert (model.source_embedding is model.target_embedding) == shared
    weights = torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(0))
    (model(made_pairs()) * weights).sum().backward()
    assert [name for name, one in model.named_parameters() if not one.grad.abs().sum() > 0] == []


def test_empty_batch_gives_no_hidden_states_and_gradients_of_zero():
    model = lstm()
    nothing = torch.zeros(0, 4, dtype=torch.long)
    hidden = model((nothing, nothing))
    assert hidden.shape == (0, 4, model.hidden_size)
    hidden.sum().backward()
    assert all(not one.grad.any() for one in model.parameters())


def test_search_in_a_batch_equals_search_alone():
    model = lstm().eval()
    with seeded(1):
        layer = nn.Linear(8, 13)

    def step(tokens, state):
        hidden, state, attention = model.step(tokens, state)
        return (6 * layer(hidden)).log_softmax(-1), state, attention

    source, _ = made_pairs()
    search = BeamSearch(beam=4, maximum_length=12)
    found = search.search(step, model.encode(source), source_lengths=torch.tensor(LENGTHS))
    assert len({one.tokens for one in found}) > 2
    for row, length in enumerate(LENGTHS):
        (alone,) = search.search(step, model.encode(source[row : row + 1, :length]), source_lengths=torch.ones(1))
        assert (alone.tokens, alone.attention) == (found[row].tokens, found[row].attention)
        assert all(place < length for place in alone.attention)


@pytest.mark.parametrize("shape", LSTMS)
def test_hidden_states_of_the_lstm_are_those_of_the_equations(shape):
    model = lstm(**shape).double().eval()
    (source, target), length = made_pairs([7]), 7
    # One LSTM over one sentence, then every position by itself.
    contexts, (hidden, cell) = model.encoder(model.source_embedding(source))
    if shape["bidirectional"]:
        hidden, cell = (
            torch.stack([torch.cat([part[2 * layer], part[2 * layer + 1]], -1) for layer in range(shape["layers"])])
            for part in (hidden, cell)
        )
    written, _ = model.decoder(model.target_embedding(target), (hidden, cell))
    matrices = model.query.weight.tolist(), model.output.weight.tolist()
    returned, weights = model((source, target)), stepped(model, source, target)[1]
    assert weights.shape == (1, 6, length)
    for place in range(6):
        rows, expected = naive_general_attention(*matrices, contexts[0].tolist(), written[0, place].tolist())
        # The attention is computed in float32.
        assert returned[0, place].tolist() == pytest.approx(rows, abs=1e-6)
        assert weights[0, place].tolist() == pytest.approx(expected, abs=1e-6)


def test_lstm_starts_uniform_within_the_range():
    model = AttentionLSTM(source_vocabulary_size=500, target_vocabulary_size=600)
    for name, parameter in model.state_dict().items():
        assert 0.09 < float(parameter.abs().max()) <= 0.1 * (1 + 1e-6), name  # 0.1 in float32 is a little more
        # The deviation of a uniform number; n is at least 512, five of its own deviations are 0.1 of it.
        assert float(parameter.std()) == pytest.approx(0.2 / 12**0.5, rel=0.1), name
    assert model.output_std == pytest.approx(0.1 / 3**0.5)
