"""Inside other tools, one thread: a step of transformers' Trainer, and a fit of scikit-learn on the digits."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.timing import interleaved, print_ratios

BATCH, LENGTH = 16, 64


def training_step(model: Any, batches: list[dict[str, torch.Tensor]], folder: str) -> Callable[[], None]:
    """Returns a function that makes one step as Trainer does: loss, back, clipping, AdamW."""
    import transformers

    settings = transformers.TrainingArguments(
        output_dir=folder, report_to="none", use_cpu=True, dataloader_pin_memory=False, max_steps=1_000_000
    )
    trainer = transformers.Trainer(model, settings)
    trainer.create_optimizer_and_scheduler(settings.max_steps)
    trainer.current_gradient_accumulation_steps = 1
    position = 0

    def step() -> None:
        nonlocal position
        position = (position + 1) % len(batches)
        inputs = dict(batches[position])
        count = trainer._get_num_items_in_batch([inputs], settings.device)
        trainer.training_step(model, inputs, count)
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
        model.zero_grad()

    return step


def variants_of(
    model: Any, batches: list[dict[str, torch.Tensor]], folder: str, more: dict[str, dict[str, Any]]
) -> dict[str, Callable[[], None]]:
    """Returns the steps of a model as it is and with objectives attached."""
    from labelembed.integrations.transformers import attach

    variants = {type(model).__name__: training_step(copy.deepcopy(model), batches, folder)}
    for name, arguments in ({"one_hot": {}, "label_smoothing": {}} | more).items():
        attached = attach(copy.deepcopy(model), name, **arguments)
        variants[f"attached, {name}"] = training_step(attached.model, batches, folder)
    return variants


def classification(folder: str) -> dict[str, Callable[[], None]]:
    """Returns the steps of a small BERT with ten labels."""
    import transformers

    config = transformers.BertConfig(
        vocab_size=5_000,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=512,
        num_labels=10,
    )
    torch.manual_seed(0)
    theirs = transformers.BertForSequenceClassification(config)
    batches = [
        {
            "input_ids": torch.randint(5, 5_000, (BATCH, LENGTH)),
            "attention_mask": torch.ones(BATCH, LENGTH, dtype=torch.int64),
            "labels": torch.randint(10, (BATCH,)),
        }
        for _ in range(8)
    ]
    return variants_of(theirs, batches, folder, {"label_embedding": {}})


def language_model(folder: str) -> dict[str, Callable[[], None]]:
    """Returns the steps of a small Llama with 5,000 tokens."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=5_000,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=344,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    theirs = transformers.LlamaForCausalLM(config)
    batches = []
    for _ in range(8):
        tokens = torch.randint(5, 5_000, (BATCH // 2, LENGTH))
        batches.append({"input_ids": tokens, "labels": tokens})
    return variants_of(theirs, batches, folder, {"label_embedding": {"embedding": "compressed", "rank": 64}})


def scikit_learn() -> None:
    """Prints the time of `ObjectiveClassifier` as a ratio of `MLPClassifier`'s, with the test errors."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    from labelembed.integrations.sklearn import ObjectiveClassifier

    inputs, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(inputs / 16, labels, stratify=labels, random_state=0)
    same = {"hidden_layer_sizes": (100,), "batch_size": 200, "max_iter": 100, "random_state": 0}
    models: dict[str, Any] = {"MLPClassifier": MLPClassifier(n_iter_no_change=1_000, **same)}
    for name in ("one_hot", "label_smoothing", "online_label_smoothing", "label_embedding"):
        models[name] = ObjectiveClassifier(name, **same)
    print(" scikit-learn, the digits, 100 epochs of batches of 200, one hidden layer of 100")
    with warnings.catch_warnings(action="ignore"):  # of MLPClassifier, that it has not converged
        times = interleaved(
            {name: partial(model.fit, train_x, train_y) for name, model in models.items()}, rounds=5, calls=1
        )
    print_ratios(times, baseline="MLPClassifier", goals=dict.fromkeys([*models][1:], 1.5))
    errors = {name: f"{100 * (1 - model.score(test_x, test_y)):.2f} %" for name, model in models.items()}
    print(f"  test errors: {errors}")


def run() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        scikit_learn()
    finally:
        torch.set_num_threads(threads)
    try:
        import transformers
    except ImportError:
        print("  transformers is not installed: pip install 'labelembed[transformers]'")
        return
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            print(f" classification, {BATCH} texts of {LENGTH} tokens, 10 labels")
            times = interleaved(classification(folder), rounds=10, calls=5)
            print_ratios(times, baseline="BertForSequenceClassification", goals={"attached, one_hot": 1.03})
            print(f" causal language model, {BATCH // 2} texts of {LENGTH} tokens, 5,000 tokens in the vocabulary")
            times = interleaved(language_model(folder), rounds=10, calls=3)
            print_ratios(times, baseline="LlamaForCausalLM", goals={})
    finally:
        torch.set_num_threads(threads)
