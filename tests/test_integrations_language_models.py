"""Language models with an objective for `lm_head` and loss: the same numbers, Trainer, generate, no table of logits."""

from __future__ import annotations

import copy
import math

import pytest

pytest.importorskip("transformers", reason="the extra `transformers` is not installed")

import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode

from labelembed.integrations.transformers import ObjectiveForCausalLM, ObjectiveForSeq2SeqLM
from tests.made_transformers import TINY, bart, gpt2, llama, state, t5, tokens, trainer

CAUSAL = {"llama": llama, "llama, tied": lambda: llama(tied=True), "gpt2": gpt2}
PAIRS = {"t5": t5, "bart": bart}


def naive_shifted_loss(logits, labels):
    """The mean of minus the log probability of the next token, over the next tokens that count."""
    total, count = 0.0, 0
    for sentence, targets in zip(logits.double().tolist(), labels.tolist(), strict=True):
        for scores, target in zip(sentence[:-1], targets[1:], strict=True):
            if target != -100:
                top = max(scores)
                total += top + math.log(sum(math.exp(score - top) for score in scores)) - scores[target]
                count += 1
    return total / count


@pytest.mark.parametrize("name", sorted(CAUSAL))
def test_one_hot_is_the_head_of_the_causal_model(name):
    theirs = CAUSAL[name]()
    ours = ObjectiveForCausalLM.from_language_model(copy.deepcopy(theirs))
    inputs = tokens(3, 7)
    labels = inputs.clone()
    labels[0, :4] = -100
    labels[2, -1] = -100
    expected, found = theirs.eval()(inputs, labels=labels), ours.eval()(inputs, labels=labels)
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.loss, expected.loss)
    assert found.loss.item() == pytest.approx(naive_shifted_loss(expected.logits.detach(), labels), rel=1e-5)
    theirs.train()(inputs, labels=labels).loss.backward()
    trained = ours.train()(inputs, labels=labels)
    assert trained.logits is None
    trained.loss.backward()
    assert ours.train()(inputs, labels=labels, skip_logits=False).logits.shape == (3, 7, 40)
    gradients = dict(ours.model.named_parameters())
    for parameter, value in theirs.base_model.named_parameters():
        torch.testing.assert_close(gradients[parameter].grad, value.grad, msg=parameter)
    torch.testing.assert_close(ours.objective.output.weight.grad, theirs.get_output_embeddings().weight.grad)


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_one_hot_is_the_head_of_the_pair_model(name):
    theirs = PAIRS[name]()
    ours = ObjectiveForSeq2SeqLM.from_language_model(copy.deepcopy(theirs))
    source, labels = tokens(3, 6), tokens(3, 5, seed=1)
    labels[1, 3:] = -100
    mask = torch.ones_like(source)
    mask[2, 4:] = 0
    given = {"input_ids": source, "attention_mask": mask, "labels": labels}
    expected, found = theirs.eval()(**given), ours.eval()(**given)
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.loss, expected.loss)
    theirs.train()(**given).loss.backward()
    ours.train()(**given).loss.backward()
    torch.testing.assert_close(ours.objective.output.weight.grad, theirs.get_output_embeddings().weight.grad)
    # What DataCollatorForSeq2Seq asks a model for.
    read = ours.prepare_decoder_input_ids_from_labels(labels)
    torch.testing.assert_close(read, theirs.prepare_decoder_input_ids_from_labels(labels))


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", [*sorted(CAUSAL), *sorted(PAIRS)])
def test_generates_what_the_model_did(name, beams):
    kind = ObjectiveForCausalLM if name in CAUSAL else ObjectiveForSeq2SeqLM
    theirs = (CAUSAL | PAIRS)[name]().eval()
    ours = kind.from_language_model(copy.deepcopy(theirs)).eval()
    inputs = tokens(2, 4)
    given = {"attention_mask": torch.ones_like(inputs), "max_new_tokens": 6, "do_sample": False, "num_beams": beams}
    assert torch.equal(ours.generate(inputs, **given), theirs.generate(inputs, **given))


def sentences(rows=24, length=7, *, vocabulary=40):
    """Returns sentences of different lengths, padded, each token the one before plus one."""
    found = []
    for row in range(rows):
        start, size = 3 + row % 11, 3 + row % (length - 2)
        known = torch.arange(start, start + size)
        inputs = torch.cat([known, torch.zeros(length - size, dtype=torch.int64)])
        mask = torch.arange(length) < size
        found.append({"input_ids": inputs, "attention_mask": mask.long(), "labels": inputs.where(mask, -100)})
    return found


def pairs(rows=24):
    """Returns sources and targets: the target is the source."""
    return [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in sentences(rows)]


MODELS = {
    "causal": (ObjectiveForCausalLM, lambda: llama(tied=True), sentences, transformers.AutoModelForCausalLM),
    "causal, untied": (ObjectiveForCausalLM, llama, sentences, transformers.AutoModelForCausalLM),
    "pairs": (ObjectiveForSeq2SeqLM, t5, pairs, transformers.AutoModelForSeq2SeqLM),
}


@torch.no_grad()
def negative_log_likelihood(model, given):
    """Returns the mean over the tokens that count, whatever the objective's own terms are."""
    logits, labels = model.eval()(**given).logits, given["labels"]
    if isinstance(model, ObjectiveForCausalLM):
        logits, labels = logits[:, :-1], labels[:, 1:]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).item()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_trained_saved_found_and_generated_from(name, tmp_path):
    kind, make, rows, auto = MODELS[name]
    torch.manual_seed(0)
    arguments = {"embedding": "compressed", "rank": 4, "preset": "mixture"}
    model = kind.from_language_model(make(), objective="label_embedding", objective_arguments=arguments)
    embedding = model.get_input_embeddings()
    tied = model.objective.output.weight is embedding.weight
    assert tied == (name != "causal, untied")
    before = state(model)
    run = trainer(model, tmp_path / "run", rows(), num_train_epochs=12, eval_dataset=rows())
    given = {key: torch.stack([row[key] for row in rows()]) for key in rows()[0]}
    started = negative_log_likelihood(model, given)
    run.train()
    # The decoder of pairs starts far from anything and has seen 36 steps.
    assert negative_log_likelihood(model, given) < started * (0.98 if kind is ObjectiveForSeq2SeqLM else 0.6)
    with torch.no_grad():
        assert run.evaluate()["eval_loss"] == pytest.approx(model.eval()(**given).loss.item(), rel=0.1)
    after = state(model)
    for parameter, _ in model.objective.named_parameters(prefix="objective"):
        assert not torch.equal(before[parameter], after[parameter]), parameter
    run.save_model(str(tmp_path / "saved"))
    with torch.no_grad():
        expected = model.eval()(**given)
        for cls in (kind, auto):
            found = cls.from_pretrained(tmp_path / "saved").eval()
            assert isinstance(found, kind)
            assert (found.objective.output.weight is found.get_input_embeddings().weight) == tied
            said = found(**given)
            assert torch.equal(said.logits, expected.logits)
            assert torch.equal(said.loss, expected.loss)
        start = torch.tensor([[5, 6]])
        written = found.generate(start, attention_mask=torch.ones_like(start), max_new_tokens=3, do_sample=False)
    assert torch.equal(
        written, model.generate(start, attention_mask=torch.ones_like(start), max_new_tokens=3, do_sample=False)
    )
    if kind is ObjectiveForCausalLM:
        assert written[0, 2] == 7  # it has learned to count


@pytest.mark.parametrize("name", ["causal", "pairs"])
def test_accumulated_gradients_are_those_of_the_whole_step(name, tmp_path):
    kind, make, rows, _ = MODELS[name]
    found = []
    for size, steps in ((8, 1), (2, 4)):
        model = kind.from_language_model(make(), objective="label_smoothing", objective_arguments={"smoothing": 0.2})
        settings = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps, "optim": "sgd"}
        trainer(model, tmp_path / str(size), rows(), **settings).train()
        found.append(state(model))
    for parameter, value in found[0].items():
        torch.testing.assert_close(value, found[1][parameter], atol=1e-6, rtol=1e-5, msg=parameter)


def test_resumed_by_trainer_it_ends_with_the_same_numbers(tmp_path):
    found = []
    for checkpoint in (None, str(tmp_path / "checkpoint-4")):
        torch.manual_seed(0)
        arguments = {"embedding": "compressed", "rank": 4, "target_warmup_steps": 3}
        model = ObjectiveForCausalLM.from_language_model(
            llama(tied=True), objective="label_embedding", objective_arguments=arguments
        )
        run = trainer(model, tmp_path, sentences(), save_strategy="steps", save_steps=4)
        run.train(resume_from_checkpoint=checkpoint)
        assert model.objective.progress == 6_000_000
        found.append(state(model))
    for parameter, value in found[0].items():
        assert torch.equal(value, found[1][parameter]), parameter


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
    model = ObjectiveForCausalLM.from_language_model(llama(tied=True, vocabulary=vocabulary)).train()
    inputs = tokens(8, length, vocabulary=vocabulary)
    with LargestTable(vocabulary) as seen:
        model(inputs, labels=inputs).loss.backward()
    # The chunks are of some hundred rows; of the weight [V, H] none is as wide as V but its own transposes of H rows.
    assert TINY["hidden_size"] <= seen.rows < 8 * length / 2
    with LargestTable(vocabulary) as seen, torch.no_grad():
        model.eval()(inputs, labels=inputs)
    assert seen.rows >= 8 * length


def test_labels_that_are_shifted_already():
    model = ObjectiveForCausalLM.from_language_model(llama()).eval()
    inputs = tokens(2, 5)
    shifted = torch.cat([inputs[:, 1:], torch.full((2, 1), -100)], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(model(inputs, shift_labels=shifted).loss, model(inputs, labels=inputs).loss)
        assert model(inputs, logits_to_keep=2).logits.shape == (2, 2, 40)


def test_models_that_do_more_than_a_linear_layer_are_refused():
    config = transformers.Gemma2Config(
        vocab_size=40, head_dim=8, num_key_value_heads=2, final_logit_softcapping=0.05, pad_token_id=0, **TINY
    )
    with pytest.raises(ValueError, match="does more than one linear layer between its hidden rows and its logits"):
        ObjectiveForCausalLM.from_language_model(transformers.Gemma2ForCausalLM(config))


def test_what_cannot_stand_for_the_head_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'retrospection' remembers every training row"):
        ObjectiveForCausalLM.from_language_model(llama(), objective="retrospection")
    with pytest.raises(ValueError, match="unknown objective"):
        ObjectiveForSeq2SeqLM.from_language_model(t5(), objective="lable_embedding")
    model = ObjectiveForCausalLM.from_language_model(llama())
    with pytest.raises(ValueError, match="built for its vocabulary: resize the model before you wrap it"):
        model.resize_token_embeddings(50)
    llama().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="names no network inside"):
        ObjectiveForCausalLM.from_pretrained(tmp_path)
    loaded = ObjectiveForCausalLM.from_language_model(str(tmp_path), objective="confidence_penalty")
    assert loaded.config.objective == "confidence_penalty"
