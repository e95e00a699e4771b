"""Objectives attached to models of transformers: the model's own numbers, Trainer, generate, saved and loaded."""

from __future__ import annotations

import copy
import multiprocessing
import os
import warnings

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the extra `transformers` is not installed")

import torch
import torch.nn.functional as F
import transformers
from torch.utils._python_dispatch import TorchDispatchMode

from labelembed.integrations.transformers import attach, load
from labelembed.objectives import OBJECTIVES
from tests.made_objectives import needed
from tests.made_transformers import FAMILIES, TINY, batch, bert, llama, state, texts, tokens, trainer

# Each puts something else between the layer and the loss: nothing, the last token's choice, a shift, a decoder.
KINDS = ("bert", "llama, texts", "llama, tied", "t5")
OF_TOKENS = ("llama", "llama, tied", "gpt2", "t5", "bart", "m2m100")
CLOSE = {"atol": 1e-6, "rtol": 1e-5}


def attached_to(family, objective="label_embedding", **arguments):
    """Returns a model of a family with an objective attached, and its examples."""
    make, examples = FAMILIES[family]
    if objective == "label_embedding" and family in OF_TOKENS:
        arguments = {"embedding": "compressed", "rank": 4, "preset": "mixture"} | arguments
    torch.manual_seed(0)
    return attach(make(), objective, **needed(objective, 3) | arguments), examples()


@torch.no_grad()
def evaluated(attached, given):
    """Returns the loss and the logits in evaluation mode; the loss is the cross entropy of the logits."""
    output = attached.model.eval()(**given)
    logits, labels = output.logits, given["labels"]
    if attached.head.shifts:
        logits, labels = logits[:, :-1], labels[:, 1:]
    torch.testing.assert_close(output.loss, F.cross_entropy(logits.flatten(0, -2), labels.flatten()))
    return output.loss.item(), output.logits


@pytest.mark.parametrize("family", FAMILIES)
def test_one_hot_is_the_models_own_head_and_loss(family, tmp_path):
    make, examples = FAMILIES[family]
    theirs = make()
    ours = copy.deepcopy(theirs)
    attach(ours, "one_hot")
    given = batch(examples())
    given["labels"][0] = -100
    expected, found = theirs.train()(**given), ours.train()(**given)
    expected.loss.backward()
    found.loss.backward()
    torch.testing.assert_close(found.loss, expected.loss)
    assert found.logits is None
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, msg=name)
    expected, found = theirs.eval()(**given), ours.eval()(**given)
    torch.testing.assert_close((found.loss, found.logits), (expected.loss, expected.logits), **CLOSE)
    # Without labels logits come out, in training too; and what is saved is the plain model.
    inputs = {name: value for name, value in given.items() if name != "labels"}
    if family in ("t5", "bart", "m2m100"):
        inputs["decoder_input_ids"] = F.pad(given["labels"][:, :-1], (1, 0), value=2 * (family != "t5")).clamp_min(0)
    torch.testing.assert_close(ours.train()(**inputs).logits, expected.logits, **CLOSE)
    ours.save_pretrained(tmp_path)
    for model in (load(tmp_path).model, type(theirs).from_pretrained(tmp_path)):
        assert torch.equal(model.eval()(**inputs).logits, ours.eval()(**inputs).logits)


@pytest.mark.filterwarnings("ignore:weight decay")
@pytest.mark.parametrize(
    ("family", "name"),
    [
        *(("bert", name) for name in sorted(OBJECTIVES)),
        *((family, "label_embedding") for family in FAMILIES if family != "bert"),
    ],
)
def test_trained_by_trainer_evaluated_saved_and_loaded(family, name, tmp_path):
    # The made teacher knows nothing.
    attached, examples = attached_to(family, name, **({"teacher_weight": 0.1} if name == "distillation" else {}))
    examples = texts(numbered=True) if family == "bert" else examples
    given, before = batch(examples), state(attached.head)
    started, _ = evaluated(attached, given)
    settings = {"remove_unused_columns": False, "num_train_epochs": 8}  # `indices` is no argument of BERT's
    run = trainer(attached.model, tmp_path / "run", examples, callbacks=[attached], **settings)
    run.train()
    for parameter, value in attached.head.named_parameters():
        assert not torch.equal(before[parameter], value), parameter
    loss, logits = evaluated(attached, given)
    assert loss < 0.98 * started
    assert run.evaluate(examples)["eval_loss"] == pytest.approx(loss, rel=0.05)  # over batches of 8, here over tokens
    predicted = run.predict(examples).predictions
    predicted = predicted[0] if isinstance(predicted, tuple) else predicted  # T5 has its encoder's states beside them
    near = 1e-2 if name == "adaptive_labels" else 1e-5  # a distance near 0 is the square root of a rounding
    torch.testing.assert_close(torch.from_numpy(predicted), logits, atol=near, rtol=1e-4)
    run.save_model(str(tmp_path / "saved"))
    again = load(tmp_path / "saved")
    assert type(again.objective) is OBJECTIVES[name]
    if family != "vit":
        tied = family in ("llama, tied", "gpt2", "t5", "bart", "m2m100")
        assert (again.head.weight is again.model.get_input_embeddings().weight) == tied
    assert torch.equal(evaluated(again, given)[1], logits)
    buffers = dict(again.objective.named_buffers())
    for buffer, value in attached.objective.named_buffers():
        assert buffer == "teacher_logits" or torch.equal(buffers[buffer], value), buffer


@pytest.mark.parametrize("family", KINDS)
def test_resumed_by_trainer_it_ends_with_the_same_numbers(family, tmp_path):
    states = []
    for checkpoint in (None, str(tmp_path / "checkpoint-4")):
        attached, examples = attached_to(family, target_warmup=0.5)
        run = trainer(attached.model, tmp_path, examples, callbacks=[attached], save_strategy="steps", save_steps=4)
        run.train(resume_from_checkpoint=checkpoint)
        assert run.state.global_step == 6
        states.append(state(attached.model))
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


@pytest.mark.parametrize("family", KINDS)
def test_accumulated_gradients_are_those_of_the_whole_step(family, tmp_path):
    states = []
    for size, steps in ((8, 1), (2, 4)):
        attached, examples = attached_to(family, "label_smoothing", smoothing=0.2)
        for index in (0, 1, 2, 5, 17):  # so that micro-batches have different numbers of labels that count
            examples[index]["labels"] = torch.full_like(examples[index]["labels"], -100)
        settings = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps, "optim": "sgd"}
        trainer(attached.model, tmp_path / str(size), examples, **settings).train()
        states.append(state(attached.model))
    torch.testing.assert_close(*states, **CLOSE)


def train_as_one_of(rank, world, folder):
    """Trains a model by Trainer in one of several processes and keeps its weights."""
    torch.set_num_threads(1)
    if world > 1:
        meeting = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 0}
        os.environ |= {name: str(value) for name, value in meeting.items()}
        method = f"file://{folder}/meeting"
        torch.distributed.init_process_group("gloo", init_method=method, rank=rank, world_size=world)
    warnings.simplefilter("ignore")
    attached, examples = attached_to("llama, tied", "online_label_smoothing")
    settings = {f"per_device_{part}_batch_size": 8 // world for part in ("train", "eval")}
    run = trainer(
        attached.model, folder, examples, callbacks=[attached], optim="sgd", eval_dataset=examples, **settings
    )
    run.train()
    loss = torch.tensor(run.evaluate()["eval_loss"])
    torch.save(state(attached.model) | {"eval_loss": loss}, f"{folder}/{world}-{rank}.pt")


def test_two_processes_train_what_one_trains(tmp_path):
    context = multiprocessing.get_context("forkserver")
    processes = [context.Process(target=train_as_one_of, args=(rank, 2, str(tmp_path))) for rank in range(2)]
    for process in processes:
        process.start()
    train_as_one_of(0, 1, str(tmp_path))
    for process in processes:
        process.join(120)
    expected, *others = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    for other in others:
        torch.testing.assert_close(other, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("family", "beams"), [*((family, 1) for family in OF_TOKENS), ("llama, tied", 3), ("t5", 3)])
def test_generates_what_the_model_did(family, beams):
    theirs = FAMILIES[family][0]().eval()
    ours = copy.deepcopy(theirs)
    attach(ours, "label_embedding", embedding="compressed", rank=4)
    inputs = tokens(2, 4)
    given = {"attention_mask": torch.ones_like(inputs), "max_new_tokens": 6, "do_sample": False, "num_beams": beams}
    assert torch.equal(ours.generate(inputs, **given), theirs.generate(inputs, **given))


def test_training_never_makes_the_logits_of_all_tokens():
    model = attach(llama(tied=True, vocabulary=5_000), "one_hot").model.train()
    inputs, rows = tokens(8, 250, vocabulary=5_000), []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            tensors = [each for each in (out if isinstance(out, (tuple, list)) else (out,)) if torch.is_tensor(each)]
            rows.extend(each.numel() // 5_000 for each in tensors if each.ndim and each.shape[-1] == 5_000)
            return out

    with Watch():
        model(inputs, labels=inputs).loss.backward()
        # The weight has as many rows as hidden units when transposed; a chunk has fewer than all.
        assert TINY["hidden_size"] <= max(rows) < 1_900
        model.eval()(inputs, labels=inputs)
    assert max(rows) >= 2_000


def test_attaching_keeps_frozen_parts_in_their_mode_and_takes_tuples_and_arrays(tmp_path):
    model = bert().train()
    model.bert.eval()
    model.config.return_dict = False
    attach(model, "one_hot", weight=np.array([1.0, 2.0, 1.0]))
    assert (model.training, model.bert.training) == (True, False)
    model.save_pretrained(tmp_path)
    assert load(tmp_path).objective.weight.tolist() == [1, 2, 1]


def test_copies_of_data_parallel_and_labels_without_their_name_are_refused():
    given = batch(texts())
    with pytest.raises(ValueError, match="labels=labels"):
        attach(bert(), "one_hot").model.train()(given["input_ids"], None, None, None, None, given["labels"])
    replica = attach(bert(), "online_label_smoothing").objective._replicate_for_data_parallel()
    with pytest.raises(RuntimeError, match="start with torchrun"):
        replica(torch.zeros(2, 16), torch.tensor([0, 1]))


def test_names_come_in_the_order_of_their_numbers():
    attached = attach(bert(), "online_label_smoothing")
    attached.model.config.id2label = {2: "c", 0: "a", 1: "b"}
    assert attached.label_geometry().names == ("a", "b", "c")


def test_class_weights_do_not_scale_the_loss_of_trainer(tmp_path):
    losses = []
    for weight in ([1.0, 2.0, 3.0], [10.0, 20.0, 30.0]):
        attached, examples = attached_to("bert", "one_hot", weight=weight)
        losses.append(trainer(attached.model, tmp_path, examples, callbacks=[attached]).train().training_loss)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_what_the_own_optimiser_of_trainer_does_to_label_embeddings_is_said(tmp_path):
    attached, examples = attached_to("bert", embedding_learning_rate=0.1)
    with pytest.warns(UserWarning, match="weight decay pulls"), pytest.warns(UserWarning, match="one learning rate"):
        trainer(attached.model, tmp_path, examples, callbacks=[attached], weight_decay=0.1).train()


def test_a_stream_is_one_long_epoch(tmp_path):
    attached, examples = attached_to("bert", target_warmup=0.5)
    stream = type("Stream", (torch.utils.data.IterableDataset,), {"__iter__": lambda self: iter(examples)})()
    trainer(attached.model, tmp_path, stream, callbacks=[attached], max_steps=7).train()
    assert attached.objective._target_weight_now > 0


def test_a_mixture_of_experts_keeps_the_loss_of_its_router():
    more = {"output_router_logits": True, "router_aux_loss_coef": 0.5, "num_local_experts": 2, "num_key_value_heads": 2}
    theirs = transformers.MixtralForCausalLM(transformers.MixtralConfig(vocab_size=40, **more, **TINY)).train()
    ours, given = copy.deepcopy(theirs), batch(FAMILIES["llama"][1]())
    attach(ours, "one_hot")
    assert ours(**given).loss.item() == pytest.approx(theirs(**given).loss.item())


def gemma():
    settings = {"head_dim": 8, "num_key_value_heads": 2, "final_logit_softcapping": 0.05, "pad_token_id": 0}
    return transformers.Gemma2ForCausalLM(transformers.Gemma2Config(vocab_size=40, **settings, **TINY))


def marian():
    model = FAMILIES["bart"][0]()
    model.final_logits_bias += 1.0
    return model


@pytest.mark.parametrize(
    ("make", "objective", "arguments", "message"),
    [
        (gemma, "one_hot", {}, "more than one linear layer"),
        (marian, "one_hot", {}, "more than one linear layer"),
        (bert, "one_hot", {"layer": "bert.pooler.dense"}, "more than one linear layer"),
        (bert, "one_hut", {}, "did you mean 'one_hot'"),
        (bert, "label_embedding", {"temperature": -1.0}, "`temperature` must be > 0, got -1"),
        (bert, "one_hot", {"layer": "bert"}, "`layer` must name"),
        (lambda: bert(kind=transformers.BertModel, labels=5), "one_hot", {}, "num_labels = 5"),
        (lambda: llama(tied=True), "adaptive_labels", {"label_dimension": 9}, "tie_word_embeddings"),
        (lambda: attach(bert(), "one_hot").model, "one_hot", {}, "already"),
    ],
)
def test_what_cannot_be_attached_is_refused(make, objective, arguments, message):
    with pytest.raises(ValueError, match=message):
        attach(make(), objective, **arguments)
