"""The attention LSTM: against its equations, step by step, padding, gradients, and what is refused."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from labelembed.models import SEQUENCE_MODELS, AttentionLSTM, BeamSearch
from labelembed.seeds import seeded
from labelembed.special_tokens import PAD
from tests.made_sequences import LENGTHS, made_pairs, stepped
from tests.naive.attention import naive_general_attention

SHAPES = [
    {"bidirectional": True, "layers": 1},
    {"bidirectional": False, "layers": 1},
    {"bidirectional": True, "layers": 2},
    {"bidirectional": False, "layers": 3},
]


def built(**arguments):
    sizes = {"source_vocabulary_size": 11, "target_vocabulary_size": 13, "embedding_size": 6, "width": 8}
    with seeded(0, "encoder"):
        return AttentionLSTM(**sizes | {"initial_range": 0.8} | arguments)


@pytest.mark.parametrize("shape", SHAPES)
def test_hidden_rows_are_those_of_the_equations(shape):
    model = built(**shape).double().eval()
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


@pytest.mark.parametrize("shape", SHAPES)
def test_target_at_once_equals_token_by_token(shape):
    model = built(**shape).eval()
    source, target = made_pairs()
    hidden = model((source, target))
    assert hidden.shape == (4, 6, model.hidden_size)
    rows, attention = stepped(model, source, target)
    torch.testing.assert_close(rows, hidden, rtol=0, atol=1e-5)
    # The weights of what is real are all there are.
    torch.testing.assert_close(attention.sum(-1), torch.ones(4, 6), rtol=0, atol=1e-6)
    padding = (source == PAD)[:, None].expand_as(attention)
    assert bool((attention[padding] == 0).all())
    assert bool((attention[~padding] > 0).all())


@pytest.mark.parametrize("shape", SHAPES)
def test_sentence_reads_the_same_alone_and_in_a_padded_batch(shape):
    model = built(**shape).eval()
    source, target = made_pairs()
    together = model((source, target))
    for row, length in enumerate(LENGTHS):
        alone = model((source[row : row + 1, :length], target[row : row + 1]))
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-5)
        wider = torch.cat([source[row : row + 1], torch.full((1, 3), PAD)], dim=1)
        torch.testing.assert_close(model((wider, target[row : row + 1]))[0], together[row], rtol=0, atol=1e-5)


def test_what_is_written_later_changes_nothing_before():
    model = built().eval()
    source, target = made_pairs()
    changed = target.clone()
    changed[:, 4:] = PAD
    before, after = model((source, target)), model((source, changed))
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.equal(before[:, 4:], after[:, 4:])


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_parameter_has_a_gradient(shape, shared):
    size = {"source_vocabulary_size": 13} if shared else {}
    model = built(**shape, **size, shared_embeddings=shared)
    model(made_pairs()).square().sum().backward()
    assert [name for name, one in model.named_parameters() if one.grad is None or not one.grad.abs().sum() > 0] == []


def test_padding_has_no_gradient():
    model = built()
    source, target = made_pairs()
    target[:, 3:] = PAD
    model((source, target))[:, :3].square().sum().backward()
    assert not model.source_embedding.weight.grad[PAD].any()
    assert not model.target_embedding.weight.grad[PAD].any()


@pytest.mark.parametrize("shape", SHAPES)
def test_empty_batch_gives_no_rows_and_gradients_of_zero(shape):
    model = built(**shape)
    for size in (1, 4):
        hidden = model((torch.zeros(0, size, dtype=torch.long), torch.zeros(0, size, dtype=torch.long)))
        assert hidden.shape == (0, size, model.hidden_size)
    hidden.sum().backward()
    assert all(not one.grad.any() for one in model.parameters())
    state = model.encode(torch.zeros(0, 3, dtype=torch.long))
    rows, state, attention = model.step(torch.zeros(0, dtype=torch.long), state)
    assert rows.shape == (0, 8)
    assert attention.shape == (0, 3)
    assert BeamSearch().search(model.step, state, batch_size=0, source_lengths=[]) == []


def test_source_of_nothing_is_read_as_one_token():
    model = built().eval()
    source, target = made_pairs([3, 1])
    source[1] = PAD
    assert bool(torch.isfinite(model((source, target))).all())


@pytest.mark.parametrize("index", [[2, 0, 1, 3], [1, 1, 3, 3, 0], [2], []])
def test_selected_rows_go_on_as_they_would_have(index):
    model = built(layers=2).eval()
    source, target = made_pairs()
    state = model.encode(source)
    _, state, _ = model.step(target[:, 0], state)
    chosen = torch.tensor(index, dtype=torch.long)
    rows, _, attention = model.step(target[:, 1], state)
    selected = state.select(chosen)
    some_rows, selected, some_attention = model.step(target[chosen, 1], selected)
    torch.testing.assert_close(some_rows, rows[chosen], rtol=0, atol=1e-6)
    torch.testing.assert_close(some_attention, attention[chosen], rtol=0, atol=1e-6)
    if index:  # a second choice among the chosen still reads the sentences it should
        last = selected.select(torch.tensor([0, 0]))
        _, once, _ = model.step(target[:, 1], state)
        expected = model.step(target[:, 2], once)[0][index[0]]
        for row in model.step(target[index[:1] * 2, 2], last)[0]:
            torch.testing.assert_close(row, expected, rtol=0, atol=1e-6)


def test_dropout_acts_in_training_only():
    model = built(dropout=0.5, layers=2)
    pairs = made_pairs()
    assert not torch.equal(model(pairs), model(pairs))
    model.eval()
    assert torch.equal(model(pairs), model(pairs))
    model = built(dropout=0.0, layers=2)
    assert torch.equal(model(pairs), model(pairs))


def test_one_layer_with_dropout_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        built(dropout=0.5, layers=1)


def test_start_is_uniform_within_the_range():
    model = AttentionLSTM(source_vocabulary_size=500, target_vocabulary_size=600)
    for name, parameter in model.state_dict().items():
        assert 0.09 < float(parameter.abs().max()) <= 0.1 * (1 + 1e-6), name  # 0.1 in float32 is a little more
        # The deviation of a uniform number; n is at least 512, five of its own deviations are 0.1 of it.
        assert float(parameter.std()) == pytest.approx(0.2 / 12**0.5, rel=0.1), name
    assert model.output_std == pytest.approx(0.1 / 3**0.5)
    own = AttentionLSTM(source_vocabulary_size=500, target_vocabulary_size=600, initial_range=None)
    assert float(own.target_embedding.weight.detach().std()) == pytest.approx(1.0, rel=0.05)
    assert own.output_std is None


def test_shared_embeddings_are_one_parameter():
    model = built(source_vocabulary_size=13, shared_embeddings=True)
    assert model.source_embedding is model.target_embedding
    assert sum(one.shape[0] == 13 for one in model.parameters()) == 1


def test_bfloat16_autocast_stays_near_float32():
    model = built(layers=2).eval()
    pairs = made_pairs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model(pairs)
        rows, _ = stepped(model, *pairs)
    # tanh keeps them within 1, where bfloat16 has steps of 2^-8; a few of them through two layers.
    torch.testing.assert_close(hidden.float(), model(pairs), rtol=0, atol=0.05)
    torch.testing.assert_close(rows.float(), model(pairs), rtol=0, atol=0.05)


def test_search_in_a_batch_equals_search_alone():
    model = built(width=12, initial_range=1.5).eval()
    layer = nn.Linear(12, 13)

    def step(tokens, state):
        hidden, state, attention = model.step(tokens, state)
        return layer(hidden).log_softmax(-1), state, attention

    source, _ = made_pairs()
    search = BeamSearch(beam=4, n_best=2)
    found = search.search(step, model.encode(source), batch_size=4, source_lengths=LENGTHS)
    assert len({one.tokens for hypotheses in found for one in hypotheses}) > 2
    for row, length in enumerate(LENGTHS):
        one = source[row : row + 1, :length]
        (alone,) = search.search(step, model.encode(one), batch_size=1, source_lengths=[length])
        assert [(one.tokens, one.attention) for one in alone] == [(one.tokens, one.attention) for one in found[row]]
        assert all(place < length for one in found[row] for place in one.attention)


def test_it_is_in_the_table():
    assert SEQUENCE_MODELS["attention_lstm"] is AttentionLSTM


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        ({"width": 7}, ["`width` must be even for a bidirectional encoder, got 7"]),
        ({"layers": 0, "dropout": 1.0}, ["`layers` must be >= 1, got 0", "`dropout` must be in [0, 1), got 1.0"]),
        (
            {"shared_embeddings": True},
            ["`target_vocabulary_size` must be the source's 11 for shared embeddings, got 13"],
        ),
        ({"initial_range": 0.0}, ["`initial_range` must be > 0, got 0.0"]),
        ({"embedding_size": 0, "source_vocabulary_size": 0}, None),
    ],
)
def test_arguments_that_make_no_network_are_all_named(arguments, lines):
    lines = lines or ["`source_vocabulary_size` must be >= 1, got 0", "`embedding_size` must be >= 1, got 0"]
    with pytest.raises(ValueError, match="got") as caught:
        built(**arguments)
    assert str(caught.value).splitlines() == lines


def test_width_may_be_odd_for_one_direction():
    assert built(width=7, bidirectional=False)(made_pairs()).shape == (4, 6, 7)
