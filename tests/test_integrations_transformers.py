"""The classifier for transformers: the same as its own head, trained, saved, found and resumed by Trainer."""

from __future__ import annotations

import copy
import json

import pytest

pytest.importorskip("transformers", reason="the extra `transformers` is not installed")

import torch
import transformers
from torch import nn

from labelembed.integrations.transformers import (
    ObjectiveCallback,
    ObjectiveForSequenceClassification,
    parameter_groups,
)
from labelembed.integrations.transformers.pooling import pooled, pooling_for
from labelembed.objectives import OBJECTIVES
from tests.made_objectives import label_vectors, teacher_logits
from tests.made_transformers import TINY, bert, llama, state, texts, tokens, trainer

NEEDED = {
    "retrospection": {"num_examples": 24, "store_every": 1},
    "static_labels": {"embedding": label_vectors(3)},
    "distillation": {"teacher_logits": teacher_logits(3)},
}


def wrapped(objective="label_embedding", *, arguments=None, dropout=0.0, seed=0, **more):
    torch.manual_seed(seed)
    return ObjectiveForSequenceClassification.from_encoder(
        bert(dropout=dropout, seed=seed),
        num_labels=3,
        objective=objective,
        objective_arguments=NEEDED.get(objective, {}) | (arguments or {}),
        dropout=dropout,
        **more,
    )


def batch(rows):
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def test_one_hot_is_the_head_of_transformers():
    config = copy.deepcopy(bert().config)
    config.num_labels = 3
    theirs = transformers.BertForSequenceClassification(config)
    ours = ObjectiveForSequenceClassification.from_encoder(copy.deepcopy(theirs.bert), num_labels=3, dropout=0.0)
    ours.objective.output.load_state_dict(theirs.classifier.state_dict())
    given = batch(texts())
    for mode in (False, True):
        expected = theirs.train(mode)(**given)
        expected.loss.backward()
        found = ours.train(mode)(**given)
        found.loss.backward()
        torch.testing.assert_close(found.loss, expected.loss)
        assert found.logits is None if mode else torch.allclose(found.logits, expected.logits, atol=1e-6)
    gradients = {name: parameter.grad for name, parameter in ours.model.named_parameters()}
    for name, parameter in theirs.bert.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, msg=name)
    torch.testing.assert_close(ours.objective.output.weight.grad, theirs.classifier.weight.grad)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_trainer_trains_saves_and_finds_every_objective(name, tmp_path):
    model = wrapped(name)
    before = state(model)
    run = trainer(model, tmp_path / "run", texts(numbered=True), callbacks=[ObjectiveCallback()])
    run.train()
    after = state(model)
    # Every parameter of the objective is optimised: its layers, and what it learns of labels.
    for parameter, _ in model.objective.named_parameters(prefix="objective"):
        assert not torch.equal(before[parameter], after[parameter]), parameter
    run.save_model(str(tmp_path / "saved"))
    files = {file.name for file in (tmp_path / "saved").iterdir()} - {"training_args.bin"}  # which is of Trainer
    assert files == {"config.json", "model.safetensors"}
    found = ObjectiveForSequenceClassification.from_pretrained(tmp_path / "saved")
    auto = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    given = batch(texts(seed=1))
    with torch.no_grad():
        expected = model.eval()(**given).logits
        for each in (found, auto):
            assert type(each.objective) is OBJECTIVES[name]
            assert torch.equal(each.eval()(**given).logits, expected)
    for buffer, value in model.objective.named_buffers():
        if buffer != "teacher_logits":
            assert torch.equal(dict(found.objective.named_buffers())[buffer], value), buffer


@pytest.mark.parametrize("name", ["label_embedding", "adaptive_labels", "retrospection"])
def test_resumed_by_trainer_it_ends_with_the_same_numbers(name, tmp_path):
    def run(folder, **settings):
        model = wrapped(name, dropout=0.1, arguments={"target_warmup_steps": 0.5} if "embedding" in name else None)
        made = trainer(
            model,
            folder,
            texts(numbered=True),
            callbacks=[ObjectiveCallback()],
            num_train_epochs=4,
            save_strategy="steps",
            save_steps=6,
            **settings,
        )
        return model, made

    whole, uninterrupted = run(tmp_path / "run")
    uninterrupted.train()
    again, resumed = run(tmp_path / "run")
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-6"))
    assert resumed.state.global_step == uninterrupted.state.global_step == 12
    expected = state(whole)
    for parameter, value in state(again).items():
        assert torch.equal(value, expected[parameter]), parameter


@pytest.mark.parametrize("objective", ["one_hot", "label_smoothing"])
def test_accumulated_gradients_are_those_of_the_whole_step(objective, tmp_path):
    rows = texts(ignored=(0, 1, 2, 5, 17))  # so that micro-batches have different numbers of rows that count
    found = []
    for size, steps in ((8, 1), (2, 4)):
        model = wrapped(objective)
        settings = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps, "optim": "sgd"}
        trainer(model, tmp_path / str(size), rows, **settings).train()
        found.append(state(model))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], atol=1e-6, rtol=1e-5, msg=name)


def test_distillation_is_evaluated_by_the_labels(tmp_path):
    model = wrapped("distillation").eval()
    with torch.no_grad():
        found = model(**batch(texts(ignored=(3,))))
    labels = batch(texts(ignored=(3,)))["labels"]
    torch.testing.assert_close(found.loss, nn.functional.cross_entropy(found.logits, labels))


def test_evaluated_by_trainer(tmp_path):
    model = wrapped("label_smoothing")
    rows = texts()
    run = trainer(model, tmp_path, rows, num_train_epochs=15, eval_dataset=rows, per_device_eval_batch_size=7)
    run.train()
    predicted = run.predict(rows)
    assert predicted.predictions.shape == (24, 3)
    assert (predicted.predictions.argmax(axis=1) == predicted.label_ids).mean() == 1
    with torch.no_grad():
        expected = model.eval()(**batch(rows)).loss.item()
    # Trainer means over batches of 7, 7, 7 and 3, each as often as it has rows.
    assert run.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


def naive_row(hidden, mask, pooling):
    counted = [row for row, counts in zip(hidden, mask, strict=True) if counts]
    if pooling == "mean":
        return [sum(values) / len(counted) for values in zip(*counted, strict=True)]
    return counted[0] if pooling == "first" else counted[-1]


@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
def test_pooled_rows_are_those_of_a_loop(pooling):
    hidden = torch.randn(4, 5, 3, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 0, 1, 0]])
    outputs = transformers.modeling_outputs.BaseModelOutput(last_hidden_state=hidden)
    expected = [naive_row(*each, pooling) for each in zip(hidden.tolist(), mask.tolist(), strict=True)]
    torch.testing.assert_close(pooled(outputs, mask, pooling), torch.tensor(expected, dtype=torch.float64))
    whole = [naive_row(each, [1] * 5, pooling) for each in hidden.tolist()]
    torch.testing.assert_close(pooled(outputs, None, pooling), torch.tensor(whole, dtype=torch.float64))


def test_pooling_follows_the_encoder():
    assert pooling_for(bert()) == "pooler"
    assert pooling_for(llama().model) == "last"
    plain = transformers.BertModel(bert().config, add_pooling_layer=False)
    assert pooling_for(plain) == "first"
    # A causal model with padding on the right, found by its token where there is no mask.
    model = ObjectiveForSequenceClassification.from_encoder(llama(), num_labels=3).eval()
    assert model.config.pooling == "last"
    inputs = tokens(2, 6)
    padded = torch.cat([inputs, torch.zeros(2, 2, dtype=torch.int64)], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=padded).logits, model(input_ids=inputs).logits)


def test_counters_go_on_in_a_model_that_was_loaded(tmp_path):
    model, given = wrapped("adaptive_labels", arguments={"warmup_steps": 4}).train(), batch(texts())
    for _ in range(2):
        model(**given)
    model.save_pretrained(tmp_path)
    found = ObjectiveForSequenceClassification.from_pretrained(tmp_path).train()
    start = model.objective.centroids.clone()
    for _ in range(3):  # the third is the first after the warm-up
        assert torch.equal(found.objective.centroids, start)
        model(**given), found(**given)
    assert not torch.equal(found.objective.centroids, start)
    assert torch.equal(found.objective.centroids, model.objective.centroids)


def test_geometry_has_the_names_of_the_labels():
    model = ObjectiveForSequenceClassification.from_encoder(
        bert(), id2label=["cat", "dog", "car"], objective="label_embedding"
    )
    assert model.config.label2id == {"cat": 0, "dog": 1, "car": 2}
    assert {each.name for each in model.label_geometry().neighbours("cat")} == {"dog", "car"}


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")
def test_gradient_checkpointing_changes_nothing():
    given = batch(texts())
    losses = []
    for on in (False, True):
        model = wrapped().train()
        if on:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        loss = model(**given).loss
        loss.backward()
        losses.append((loss.detach(), model.model.embeddings.word_embeddings.weight.grad))
    torch.testing.assert_close(losses[0], losses[1])


def test_the_optimiser_leaves_label_embeddings_undecayed(tmp_path):
    model = wrapped("label_embedding", arguments={"embedding_learning_rate": 3.0})
    groups = parameter_groups(model, learning_rate=0.1, weight_decay=0.5)
    found = {id(each): group for group in groups for each in group["params"]}
    names = dict(model.named_parameters())
    assert len(found) == len(names)
    assert found[id(names["objective.embedding.weight"])]["weight_decay"] == 0
    assert found[id(names["objective.embedding.weight"])]["lr"] == pytest.approx(0.3)
    assert found[id(names["objective.output.weight"])]["weight_decay"] == 0.5
    assert found[id(names["model.embeddings.word_embeddings.weight"])]["weight_decay"] == 0.5
    assert found[id(names["model.embeddings.LayerNorm.weight"])]["weight_decay"] == 0
    run = trainer(model, tmp_path, texts(), weight_decay=0.1, callbacks=[ObjectiveCallback()])
    with pytest.warns(UserWarning, match="weight decay reaches the label embedding"):
        run.train()
    optimizer = torch.optim.AdamW(parameter_groups(model, learning_rate=1e-3, weight_decay=0.1))
    trainer(model, tmp_path, texts(), callbacks=[ObjectiveCallback()], optimizers=(optimizer, None)).train()


def test_objectives_that_need_epochs_say_so(tmp_path):
    for name, arguments in (
        ("retrospection", None),
        ("online_label_smoothing", {"preset": "published"}),
        ("adaptive_labels", {"update": "epoch"}),
    ):
        model = wrapped(name, arguments=arguments)
        with pytest.raises(ValueError, match=r"must be told of epochs: give Trainer callbacks=\[ObjectiveCallback"):
            trainer(model, tmp_path, texts(numbered=True)).train()
    stored = wrapped("retrospection", arguments={"store_every": 1})
    trainer(stored, tmp_path, texts(numbered=True), callbacks=[ObjectiveCallback()]).train()
    assert bool((stored.objective.store.classes >= 0).all())  # the pass has shown every row


def test_saved_output_bias_that_the_objective_has_not_is_refused(tmp_path):
    wrapped("adaptive_labels", arguments={"bias": True}).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["objective_arguments"]["bias"]  # as in a model of before, when a bias was what nobody spoke of
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r'has an output bias.* write "bias": true into the "objective_arguments"'):
        ObjectiveForSequenceClassification.from_pretrained(tmp_path)
    config["objective_arguments"]["bias"] = True
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert ObjectiveForSequenceClassification.from_pretrained(tmp_path).objective.output.bias is not None


def test_means_over_the_training_set_predict(tmp_path):
    model = wrapped("adaptive_labels")
    rows = texts()
    trainer(model, tmp_path, rows, callbacks=[ObjectiveCallback()]).train()
    given = batch(rows)
    labels = given.pop("labels")
    with torch.no_grad():
        outputs = model.eval().objective.output(model.hidden_states_of(**given)[0])
    expected = torch.stack([outputs[labels == label].mean(dim=0) for label in range(3)])
    torch.testing.assert_close(model.objective.prediction_centroids, expected, atol=1e-6, rtol=1e-5)


def test_wrong_settings_are_refused(tmp_path):
    run = trainer(wrapped(), tmp_path, texts(), callbacks=[ObjectiveCallback()], label_smoothing_factor=0.1)
    with pytest.raises(ValueError, match=r"`label_smoothing_factor` must be 0, got 0\.1"):
        run.train()
    with pytest.raises(ValueError, match=r"unknown objective 'one_hut'"):
        wrapped("one_hut")
    with pytest.raises(ValueError, match="`temperature` must be > 0, got -1"):
        wrapped(arguments={"temperature": -1.0})
    with pytest.raises(ValueError, match="`pooling` must be one of 'pooler', 'first', 'last', 'mean', got 'max'"):
        wrapped(pooling="max")
    with pytest.raises(ValueError, match="`num_labels` must be given"):
        ObjectiveForSequenceClassification.from_encoder(bert())
    with pytest.raises(ValueError, match="`num_labels` must be 2"):
        ObjectiveForSequenceClassification.from_encoder(bert(), num_labels=3, id2label=["a", "b"])
    bert().save_pretrained(tmp_path / "foreign")
    with pytest.raises(ValueError, match="names no network inside"):
        ObjectiveForSequenceClassification.from_pretrained(tmp_path / "foreign")


def test_an_encoder_from_a_folder(tmp_path):
    encoder = bert()
    encoder.save_pretrained(tmp_path / "encoder")
    model = ObjectiveForSequenceClassification.from_encoder(str(tmp_path / "encoder"), num_labels=2)
    given = tokens(2, 5)
    with torch.no_grad():
        expected = encoder.eval()(given).pooler_output
        torch.testing.assert_close(model.eval().hidden_states_of(given)[0], expected)
    assert isinstance(model.dropout, nn.Dropout)
    assert model.config.backbone.hidden_size == TINY["hidden_size"]
