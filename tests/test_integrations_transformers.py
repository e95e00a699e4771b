"""Objectives attached to models of transformers: the model's own numbers, Trainer, generate, saved and loaded."""

from __future__ import annotations

import copy
import math
import os
import warnings

import pytest

pytest.importorskip("transformers", reason="the extra `transformers` is not installed")

import torch
import transformers
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from labelembed.integrations.transformers import attach, load
from labelembed.objectives import OBJECTIVES
from tests.made_objectives import label_vectors, teacher_logits
from tests.made_training import fork_server
from tests.made_transformers import (
    FAMILIES,
    TINY,
    batch,
    bert,
    gpt2,
    llama,
    state,
    texts,
    tokens,
    trainer,
)

NEEDED = {
    "retrospection": {"num_examples": 24, "store_every": 1},
    "static_labels": {"embedding": label_vectors(3)},
    "distillation": {"teacher_logits": teacher_logits(3)},
}
# Each puts something else between the layer and the loss: nothing, the last token's choice, a shift, a decoder.
KINDS = ("bert", "llama, texts", "llama, tied", "t5")
OF_TOKENS = ("llama", "llama, tied", "gpt2", "t5", "bart")


def attached_to(family, objective="label_embedding", **arguments):
    """Returns a model of a family with an objective attached, and its examples."""
    make, examples = FAMILIES[family]
    if objective == "label_embedding" and family in OF_TOKENS:
        arguments = {"embedding": "compressed", "rank": 4, "preset": "mixture"} | arguments
    torch.manual_seed(0)
    return attach(make(), objective, **NEEDED.get(objective, {}) | arguments), examples()


def without_labels(model, given):
    """Returns what a model reads of a batch where there are no labels to make a decoder's inputs of."""
    inputs = {name: value for name, value in given.items() if name != "labels"}
    if hasattr(model, "prepare_decoder_input_ids_from_labels"):
        inputs["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(given["labels"])
    return inputs


@pytest.mark.parametrize("family", FAMILIES)
def test_one_hot_is_the_models_own_head_and_loss(family, tmp_path):
    make, examples = FAMILIES[family]
    theirs = make()
    ours = copy.deepcopy(theirs)
    attach(ours, "one_hot")
    given = batch(examples())
    given["labels"][0] = -100
    for mode in (False, True):
        expected = theirs.train(mode)(**given)
        expected.loss.backward()
        found = ours.train(mode)(**given)
        found.loss.backward()
        torch.testing.assert_close(found.loss, expected.loss)
        assert found.logits is None if mode else torch.allclose(found.logits, expected.logits, atol=1e-6)
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, msg=name)
    # Without labels logits come out, in training too; and what is saved is the plain model.
    inputs = without_labels(ours, given)
    torch.testing.assert_close(ours.train()(**inputs).logits, expected.logits)
    ours.save_pretrained(tmp_path)
    for model in (load(tmp_path).model, type(theirs).from_pretrained(tmp_path)):
        torch.testing.assert_close(model.eval()(**inputs).logits, ours.eval()(**inputs).logits, rtol=0, atol=0)


@pytest.mark.parametrize("family", ["vit", "bert, tokens", "gpt2", *KINDS])
def test_trained_by_trainer_saved_and_loaded(family, tmp_path):
    attached, examples = attached_to(family)
    model = attached.model
    embedding = model.get_input_embeddings().weight if family != "vit" else None
    tied = attached.head.weight is embedding
    assert tied == (family in ("llama, tied", "gpt2", "t5", "bart"))
    given = batch(examples)
    before = {name: value.clone() for name, value in attached.objective.named_parameters()}
    started = nll_of(attached, given)
    run = trainer(model, tmp_path / "run", examples, callbacks=[attached], num_train_epochs=8, eval_dataset=examples)
    run.train()
    assert nll_of(attached, given) < 0.98 * started
    for name, value in attached.objective.named_parameters():
        assert not torch.equal(before[name], value), name
    predicted = run.predict(examples).predictions
    predicted = predicted[0] if isinstance(predicted, tuple) else predicted  # T5 has its encoder's states beside them
    assert predicted.shape == (*given["labels"].shape, attached.objective.num_labels)
    with torch.no_grad():
        expected = model.eval()(**given)
    torch.testing.assert_close(torch.from_numpy(predicted), expected.logits, atol=1e-5, rtol=1e-4)
    # Trainer means over batches of 8, each as often as it has examples.
    assert run.evaluate()["eval_loss"] == pytest.approx(expected.loss.item(), rel=0.1)
    run.save_model(str(tmp_path / "saved"))
    again = load(tmp_path / "saved")
    assert type(again.model) is type(model)
    if embedding is not None:
        assert (again.head.weight is again.model.get_input_embeddings().weight) == tied
    with torch.no_grad():
        found = again.model.eval()(**given)
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.loss, expected.loss)


@torch.no_grad()
def nll_of(attached, given):
    """Returns the mean negative log-likelihood of the labels that count, whatever the objective's own terms are."""
    logits, labels = attached.model.eval()(**given).logits, given["labels"]
    if attached.head.shifts:
        logits, labels = logits[:, :-1], labels[:, 1:]
    return nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten()).item()


@pytest.mark.filterwarnings("ignore:weight decay reaches")
@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_objective_is_trained_saved_and_loaded(name, tmp_path):
    attached, _ = attached_to("bert", name)
    before = state(attached.model)
    settings = {"remove_unused_columns": False, "callbacks": [attached]}  # `indices` is no argument of BERT's
    run = trainer(attached.model, tmp_path / "run", texts(numbered=True), **settings)
    run.train()
    for parameter, _ in attached.head.named_parameters(prefix="classifier"):
        assert not torch.equal(before[parameter], state(attached.model)[parameter]), parameter
    run.save_model(str(tmp_path / "saved"))
    found = load(tmp_path / "saved")
    assert type(found.objective) is OBJECTIVES[name]
    given = batch(texts(seed=1))
    with torch.no_grad():
        expected = attached.model.eval()(**given).logits
        assert torch.equal(found.model.eval()(**given).logits, expected)
    buffers = dict(found.objective.named_buffers())
    for buffer, value in attached.objective.named_buffers():
        if buffer != "teacher_logits":
            assert torch.equal(buffers[buffer], value), buffer


@pytest.mark.parametrize("family", KINDS)
def test_resumed_by_trainer_it_ends_with_the_same_numbers(family, tmp_path):
    found = []
    for checkpoint in (None, str(tmp_path / "checkpoint-4")):
        attached, examples = attached_to(family, target_warmup_steps=0.5)
        run = trainer(attached.model, tmp_path, examples, callbacks=[attached], save_strategy="steps", save_steps=4)
        run.train(resume_from_checkpoint=checkpoint)
        assert run.state.global_step == 6
        assert attached.objective.progress == pytest.approx(6_000_000, abs=10)
        found.append(state(attached.model))
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name


@pytest.mark.parametrize("family", KINDS)
def test_accumulated_gradients_are_those_of_the_whole_step(family, tmp_path):
    found = []
    for size, steps in ((8, 1), (2, 4)):
        attached, examples = attached_to(family, "label_smoothing", smoothing=0.2)
        for index in (0, 1, 2, 5, 17):  # so that micro-batches have different numbers of labels that count
            examples[index]["labels"] = torch.full_like(examples[index]["labels"], -100)
        settings = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps, "optim": "sgd"}
        trainer(attached.model, tmp_path / str(size), examples, **settings).train()
        found.append(state(attached.model))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], atol=1e-6, rtol=1e-5, msg=name)


def train_as_one_of(rank, world, folder):
    """Trains a model by Trainer in one of several processes and keeps its weights."""
    torch.set_num_threads(1)
    if world > 1:
        meeting = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 0}
        os.environ |= {name: str(value) for name, value in meeting.items()}
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world
        )
    warnings.simplefilter("ignore")
    attached, examples = attached_to("llama, tied", "online_label_smoothing")
    settings = {f"per_device_{part}_batch_size": 8 // world for part in ("train", "eval")}
    settings |= {"optim": "sgd", "eval_dataset": examples}
    run = trainer(attached.model, folder, examples, callbacks=[attached], **settings)
    run.train()
    found = {"state": state(attached.model), "eval_loss": run.evaluate()["eval_loss"]}
    torch.save(found, f"{folder}/{world}-{rank}.pt")


def test_two_processes_train_what_one_trains(tmp_path):
    context = fork_server()
    processes = [context.Process(target=train_as_one_of, args=(rank, 2, str(tmp_path))) for rank in range(2)]
    for process in processes:
        process.start()
    train_as_one_of(0, 1, str(tmp_path))
    for process in processes:
        process.join(120)
    expected, *found = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    for each in found:
        assert each["eval_loss"] == pytest.approx(expected["eval_loss"], rel=1e-4)
        for name, value in expected["state"].items():
            torch.testing.assert_close(each["state"][name], value, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize(("family", "beams"), [*((family, 1) for family in OF_TOKENS), ("llama, tied", 3), ("t5", 3)])
def test_generates_what_the_model_did(family, beams):
    theirs = FAMILIES[family][0]().eval()
    ours = copy.deepcopy(theirs)
    attach(ours, "label_embedding", embedding="compressed", rank=4)
    inputs = tokens(2, 4)
    given = {"attention_mask": torch.ones_like(inputs), "max_new_tokens": 6, "do_sample": False, "num_beams": beams}
    assert torch.equal(ours.generate(inputs, **given), theirs.generate(inputs, **given))


class LargestTable(TorchDispatchMode):
    """Notes the most rows of any tensor that is as wide as the vocabulary and is no weight."""

    def __init__(self, vocabulary):
        super().__init__()
        self.vocabulary, self.rows = vocabulary, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for each in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(each, torch.Tensor) and each.ndim and each.shape[-1] == self.vocabulary:
                self.rows = max(self.rows, each.numel() // self.vocabulary)
        return out


def test_training_never_makes_the_logits_of_all_tokens():
    vocabulary, length = 5_000, 250
    model = attach(llama(tied=True, vocabulary=vocabulary), "one_hot").model.train()
    inputs = tokens(8, length, vocabulary=vocabulary)
    with LargestTable(vocabulary) as seen:
        model(inputs, labels=inputs).loss.backward()
    # The chunks are of some hundred rows; of the weight [V, H] none is as wide as V but its own transposes of H rows.
    assert TINY["hidden_size"] <= seen.rows < 8 * length / 2
    with LargestTable(vocabulary) as seen, torch.no_grad():
        model.eval()(inputs, labels=inputs)
    assert seen.rows >= 8 * length


def test_the_output_layer_has_the_precision_of_mixed_training():
    AcceleratorState._reset_state(True)  # of the trainers before
    attached, examples = attached_to("bert", "label_embedding")
    seen = []
    attached.objective.auxiliary.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    model = Accelerator(cpu=True, mixed_precision="bf16").prepare(attached.model)
    loss = model.train()(**batch(examples)).loss
    assert seen == [torch.bfloat16]
    assert loss.dtype == torch.float32
    AcceleratorState._reset_state(True)


def test_labels_that_are_shifted_already_tuples_and_copies():
    attached, _ = attached_to("llama", "one_hot")
    model, inputs = attached.model.eval(), tokens(2, 5)
    shifted = torch.cat([inputs[:, 1:], torch.full((2, 1), -100)], dim=1)
    with torch.no_grad():
        expected = model(inputs, labels=inputs)
        torch.testing.assert_close(model(inputs, shift_labels=shifted).loss, expected.loss)
        loss, logits, *_ = model(inputs, labels=inputs, return_dict=False)
        assert torch.equal(loss, expected.loss)
        assert torch.equal(logits, expected.logits)
        copied = copy.deepcopy(model)
        copied.lm_head.weight.zero_()
        assert copied(inputs, labels=inputs).loss.item() == pytest.approx(math.log(40))
        assert torch.equal(model(inputs, labels=inputs).loss, expected.loss)


def test_means_over_the_training_set_predict(tmp_path):
    attached, examples = attached_to("bert", "adaptive_labels")
    trainer(attached.model, tmp_path, examples, callbacks=[attached]).train()
    given = batch(examples)
    with torch.no_grad():
        outputs = attached.objective.output(attached.hidden_states(given)[0])
    expected = torch.stack([outputs[given["labels"] == label].mean(dim=0) for label in range(3)])
    torch.testing.assert_close(attached.objective.prediction_centroids, expected, atol=1e-6, rtol=1e-5)


def test_distillation_is_evaluated_by_the_labels():
    attached, _ = attached_to("bert", "distillation")
    given = batch(texts(ignored=(3,)))
    with torch.no_grad():
        found = attached.model.eval()(**given)
    torch.testing.assert_close(found.loss, nn.functional.cross_entropy(found.logits, given["labels"]))


def test_geometry_has_the_names_of_the_labels():
    names = {"id2label": {0: "cat", 1: "dog", 2: "car"}, "label2id": {"cat": 0, "dog": 1, "car": 2}}
    attached = attach(bert(**names), "label_embedding")
    assert {each.name for each in attached.label_geometry().neighbours("cat")} == {"dog", "car"}
    assert attach(gpt2(), "label_embedding", rank=4).label_geometry().names[:2] == ("0", "1")


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")
def test_gradient_checkpointing_changes_nothing():
    given, losses = batch(texts()), []
    for on in (False, True):
        model = attached_to("bert")[0].model.train()
        if on:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        loss = model(**given).loss
        loss.backward()
        losses.append((loss.detach(), model.bert.embeddings.word_embeddings.weight.grad))
    torch.testing.assert_close(losses[0], losses[1])


def test_the_optimiser_leaves_label_embeddings_undecayed(tmp_path):
    attached, examples = attached_to("bert", embedding_learning_rate=3.0)
    model = attached.model
    groups = attached.parameter_groups(learning_rate=0.1, weight_decay=0.5)
    found = {id(each): group for group in groups for each in group["params"]}
    names = dict(model.named_parameters())
    assert len(found) == len(names)
    assert found[id(names["classifier.objective.embedding.weight"])]["weight_decay"] == 0
    assert found[id(names["classifier.objective.embedding.weight"])]["lr"] == pytest.approx(0.3)
    assert found[id(names["classifier.weight"])]["weight_decay"] == 0.5
    assert found[id(names["bert.embeddings.word_embeddings.weight"])]["weight_decay"] == 0.5
    assert found[id(names["bert.embeddings.LayerNorm.weight"])]["weight_decay"] == 0
    run = trainer(model, tmp_path, examples, weight_decay=0.1, callbacks=[attached])
    with pytest.warns(UserWarning, match="weight decay reaches the label embedding"):
        run.train()
    optimizer = torch.optim.AdamW(attached.parameter_groups(learning_rate=1e-3, weight_decay=0.1))
    trainer(model, tmp_path, examples, callbacks=[attached], optimizers=(optimizer, None)).train()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("retrospection", {}),
        ("online_label_smoothing", {"preset": "published"}),
        ("adaptive_labels", {"update": "epoch"}),
        ("label_embedding", {"target_warmup_steps": 0.5}),
    ],
)
def test_objectives_that_need_epochs_say_so(name, arguments, tmp_path):
    attached, _ = attached_to("bert", name, **arguments)
    with pytest.raises(RuntimeError, match="start_epoch"):
        trainer(attached.model, tmp_path, texts(numbered=True)).train()


def test_the_result_is_exported(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    model = attached_to("bert", "adaptive_labels", label_dimension=7)[0].model.eval()
    inputs = tokens(2, 6)
    free = {0: torch.export.Dim("batch")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (inputs,), tmp_path / "m.onnx", dynamo=True, dynamic_shapes={"input_ids": free}, verbose=False
        )
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    others = tokens(5, 6, seed=1)
    found = session.run(None, {session.get_inputs()[0].name: others.numpy()})[0]
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), model(others).logits, atol=1e-5, rtol=1e-5)


def gemma():
    config = transformers.Gemma2Config(
        vocab_size=40, head_dim=8, num_key_value_heads=2, final_logit_softcapping=0.05, pad_token_id=0, **TINY
    )
    return transformers.Gemma2ForCausalLM(config)


def marian():
    model = FAMILIES["bart"][0]()
    model.final_logits_bias += 1.0
    return model


@pytest.mark.parametrize(
    ("make", "objective", "arguments", "message"),
    [
        (gemma, "one_hot", {}, "does more than one linear layer between its hidden states and its logits"),
        (marian, "one_hot", {}, "does more than one linear layer"),
        (bert, "one_hut", {}, r"unknown objective 'one_hut' \(did you mean 'one_hot'"),
        (bert, "label_embedding", {"temperature": -1.0}, "`temperature` must be > 0, got -1"),
        (bert, "one_hot", {"layer": "bert"}, "`layer` must name an nn.Linear, got 'bert'; its last linear layers are"),
        (bert, "one_hot", {"layer": "bert.pooler.dense"}, "does more than one linear layer"),
        (lambda: bert(kind=transformers.BertModel, labels=5), "one_hot", {}, "no linear layer with num_labels = 5"),
        (lambda: llama(tied=True), "adaptive_labels", {"label_dimension": 9}, "set tie_word_embeddings to False"),
        (lambda: attach(bert(), "one_hot").model, "one_hot", {}, "has an objective already, OneHot"),
    ],
)
def test_what_cannot_be_attached_is_refused(make, objective, arguments, message):
    with pytest.raises(ValueError, match=message):
        attach(make(), objective, **arguments)


def test_what_cannot_be_trained_or_loaded_is_refused(tmp_path):
    attached, examples = attached_to("bert")
    run = trainer(attached.model, tmp_path, examples, callbacks=[attached], label_smoothing_factor=0.1)
    with pytest.raises(ValueError, match="leave out `label_smoothing_factor`"):
        run.train()
    attached, examples = attached_to("llama", "one_hot")
    attached.model.resize_token_embeddings(50)
    with pytest.raises(RuntimeError, match="was replaced after `attach`"):
        attached.model(**batch(examples))
    bert().save_pretrained(tmp_path / "plain")
    with pytest.raises(ValueError, match="names no objective"):
        load(tmp_path / "plain")
    attached, _ = attached_to("bert")
    attached.model.save_pretrained(tmp_path / "part", state_dict=bert().state_dict())
    with pytest.raises(ValueError, match=r"has no weights objective\.auxiliary\.bias, "):
        load(tmp_path / "part")
