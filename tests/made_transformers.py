"""Tiny models of transformers with random weights, and what Trainer needs; nothing is fetched."""

from __future__ import annotations

import os
from functools import partial

os.environ["HF_HUB_OFFLINE"] = "1"
# Another framework's warnings are not of these tests.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import transformers

from labelembed.seeds import generator, seeded

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
# The same under the names that other families have for it, all without dropout.
_BERT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0} | TINY
_DISTILBERT = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16, "dropout": 0.0, "attention_dropout": 0.0}
_GPT2 = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
_T5 = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}
_BART = {f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in (
    ("layers", 1), ("attention_heads", 2), ("ffn_dim", 16), ("layerdrop", 0.0)
)} | {"d_model": 16, "max_position_embeddings": 32, "dropout": 0.0, "attention_dropout": 0.0}  # fmt: skip


def _made(kind, settings, seed=0):
    """Returns a model with random weights, the same for a seed."""
    with seeded(seed, kind.__name__):
        return kind(kind.config_class(**settings))


def bert(*, labels=3, vocabulary=40, seed=0, kind=transformers.BertForSequenceClassification):
    """Returns a BERT that classifies texts, or another kind of model on it."""
    given = {"vocab_size": vocabulary, "num_labels": labels, "max_position_embeddings": 32}
    return _made(kind, _BERT | given, seed)


def llama(*, tied=False, vocabulary=40):
    """Returns a causal language model."""
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": tied}
    return _made(transformers.LlamaForCausalLM, {"vocab_size": vocabulary} | special | TINY)


def gpt2(*, vocabulary=40):
    """Returns a causal language model whose word embeddings are its output layer."""
    special = {"vocab_size": vocabulary, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "attn_pdrop": 0.0}
    return _made(transformers.GPT2LMHeadModel, special | _GPT2)


def t5(*, vocabulary=40):
    """Returns an encoder-decoder whose parts stand beside its head."""
    return _made(transformers.T5ForConditionalGeneration, {"vocab_size": vocabulary, "decoder_start_token_id": 0} | _T5)


def bart(*, kind=transformers.BartForConditionalGeneration):
    """Returns an encoder-decoder with a base model below its head; M2M100 moves labels to the right in `forward`."""
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    return _made(kind, {"vocab_size": 40, "forced_eos_token_id": None} | special | _BART)


def tokens(rows, length, *, vocabulary=40):
    """Returns token numbers [rows, length] that are none of the special ones."""
    return torch.randint(3, vocabulary, (rows, length), generator=generator(0, "tokens"))


def texts(number=24, *, numbered=False):
    """Returns made texts of five tokens and an end as Trainer reads them; the first token says the label."""
    found = []
    for index, each in enumerate(tokens(number, 5)):
        each = torch.cat([each, torch.tensor([1])])  # where T5 classifies
        example = {"input_ids": each, "attention_mask": torch.ones_like(each), "labels": each[0] % 3}
        found.append(example | ({"indices": torch.tensor(index)} if numbered else {}))
    return found


def pictures(number=24):
    """Returns made pictures whose brightest channel is the label."""
    found = []
    for index, each in enumerate(torch.randn(number, 3, 8, 8, generator=generator(0, "pictures"))):
        each[index % 3] += 2
        found.append({"pixel_values": each, "labels": torch.tensor(index % 3)})
    return found


def sentences(number=24):
    """Returns sentences of different lengths, padded, each token the one before plus one."""
    found = []
    for index in range(number):
        start, size = 3 + index % 11, 3 + index % 5
        mask = torch.arange(7) < size
        inputs = torch.arange(start, start + 7) * mask
        found.append({"input_ids": inputs, "attention_mask": mask.long(), "labels": inputs.where(mask, -100)})
    return found


def pairs(number=24):
    """Returns sources and targets: the target is the source."""
    return [{"input_ids": each["input_ids"], "labels": each["labels"]} for each in sentences(number)]


def tagged(number=24):
    """Returns sentences with a label for each token: its number modulo 3."""
    found = sentences(number)
    return [each | {"labels": (each["labels"] % 3).where(each["labels"] >= 0, -100)} for each in found]


_OF_TEXTS = {  # the last layer of a RoBERTa is a part of its head; a Llama's reads every token, then the last is taken
    "roberta": (transformers.RobertaForSequenceClassification, _BERT | {"max_position_embeddings": 32}),
    "distilbert": (transformers.DistilBertForSequenceClassification, _DISTILBERT | {"seq_classif_dropout": 0.0}),
    "llama, texts": (transformers.LlamaForSequenceClassification, TINY | {"pad_token_id": 0, "eos_token_id": 2}),
    "t5, texts": (
        transformers.T5ForSequenceClassification,
        _T5 | {"classifier_dropout": 0.0, "decoder_start_token_id": 0},
    ),
}
_VIT = _BERT | {"image_size": 8, "patch_size": 4, "num_labels": 3}
#: A model of each family, and its examples.
FAMILIES = {
    "bert": (bert, texts),
    **{
        name: (partial(_made, kind, {"vocab_size": 40, "num_labels": 3} | settings), texts)
        for name, (kind, settings) in _OF_TEXTS.items()
    },
    "vit": (partial(_made, transformers.ViTForImageClassification, _VIT), pictures),
    "bert, tokens": (partial(bert, kind=transformers.BertForTokenClassification), tagged),
    "llama": (llama, sentences),
    "llama, tied": (partial(llama, tied=True), sentences),
    "gpt2": (gpt2, sentences),
    "t5": (t5, pairs),
    "bart": (bart, pairs),
    "m2m100": (partial(bart, kind=transformers.M2M100ForConditionalGeneration), pairs),
}


def batch(examples):
    """Returns examples as one batch."""
    return {name: torch.stack([each[name] for each in examples]) for name in examples[0]}


def trainer(model, folder, rows, **settings):
    """Returns a Trainer that draws nothing from outside and prints nothing."""
    parts = {name: settings.pop(name) for name in ("callbacks", "eval_dataset", "optimizers") if name in settings}
    given = {
        "per_device_train_batch_size": 8,
        "num_train_epochs": 2,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "seed": 0,
    } | settings
    arguments = transformers.TrainingArguments(output_dir=str(folder), **given)
    made = transformers.Trainer(model, arguments, train_dataset=rows, **parts)
    made.remove_callback(transformers.PrinterCallback)
    return made


def state(model):
    """Returns a copy of all that `save_pretrained` would write."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
