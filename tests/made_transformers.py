"""Tiny models of transformers with random weights, and what Trainer needs; nothing is fetched."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
# Another framework's warnings are not of these tests.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import transformers

from labelembed.seeds import generator, seeded

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


PLAIN = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "max_position_embeddings": 32}


def bert(*, dropout=0.0, labels=3, vocabulary=40, seed=0, kind=None, **more):
    """Returns a BERT that classifies texts, or another kind of model on it."""
    given = PLAIN | {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    config = transformers.BertConfig(vocab_size=vocabulary, num_labels=labels, **given, **TINY, **more)
    with seeded(seed, "bert"):
        return (kind or transformers.BertForSequenceClassification)(config)


def roberta():
    """Returns a RoBERTa that classifies texts; its last layer is a part of its head."""
    config = transformers.RobertaConfig(vocab_size=40, num_labels=3, **PLAIN, **TINY)
    with seeded(0, "roberta"):
        return transformers.RobertaForSequenceClassification(config)


def distilbert():
    """Returns a DistilBERT that classifies texts."""
    config = transformers.DistilBertConfig(
        vocab_size=40, num_labels=3, dim=16, n_layers=1, n_heads=2, hidden_dim=16, dropout=0.0, attention_dropout=0.0,
        seq_classif_dropout=0.0,
    )  # fmt: skip
    with seeded(0, "distilbert"):
        return transformers.DistilBertForSequenceClassification(config)


def llama_classifier():
    """Returns a Llama that classifies texts: its layer reads every token, and then the last one is taken."""
    config = transformers.LlamaConfig(vocab_size=40, num_labels=3, pad_token_id=0, eos_token_id=2, **TINY)
    with seeded(0, "llama"):
        return transformers.LlamaForSequenceClassification(config)


def t5_classifier():
    """Returns a T5 that classifies texts."""
    config = transformers.T5Config(
        vocab_size=40, num_labels=3, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, dropout_rate=0.0,
        classifier_dropout=0.0, decoder_start_token_id=0,
    )  # fmt: skip
    with seeded(0, "t5"):
        return transformers.T5ForSequenceClassification(config)


def vit():
    """Returns a vision transformer that classifies pictures."""
    more = {name: PLAIN[name] for name in ("hidden_dropout_prob", "attention_probs_dropout_prob")}
    config = transformers.ViTConfig(image_size=8, patch_size=4, num_labels=3, **more, **TINY)
    with seeded(0, "vit"):
        return transformers.ViTForImageClassification(config)


def llama(*, tied=False, vocabulary=40, seed=0):
    """Returns a causal language model."""
    config = transformers.LlamaConfig(
        vocab_size=vocabulary, tie_word_embeddings=tied, pad_token_id=0, bos_token_id=1, eos_token_id=2, **TINY
    )
    with seeded(seed, "llama"):
        return transformers.LlamaForCausalLM(config)


def gpt2(*, vocabulary=40, seed=0):
    """Returns a causal language model whose word embeddings are its output layer."""
    config = transformers.GPT2Config(
        vocab_size=vocabulary,
        n_embd=16,
        n_layer=1,
        n_head=2,
        n_positions=32,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    with seeded(seed, "gpt2"):
        return transformers.GPT2LMHeadModel(config)


def t5(*, tied=True, vocabulary=40, seed=0):
    """Returns an encoder-decoder whose parts stand beside its head."""
    config = transformers.T5Config(
        vocab_size=vocabulary,
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        dropout_rate=0.0,
        tie_word_embeddings=tied,
        decoder_start_token_id=0,
    )
    with seeded(seed, "t5"):
        return transformers.T5ForConditionalGeneration(config)


def bart(*, vocabulary=40, seed=0):
    """Returns an encoder-decoder with a base model below its head."""
    config = transformers.BartConfig(
        vocab_size=vocabulary,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=32,
        dropout=0.0,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=None,
    )
    with seeded(seed, "bart"):
        return transformers.BartForConditionalGeneration(config)


def tokens(rows, length, *, vocabulary=40, seed=0):
    """Returns token numbers [rows, length] that are none of the special ones."""
    return torch.randint(3, vocabulary, (rows, length), generator=generator(seed, "tokens"))


def texts(number=24, *, labels=3, ignored=(), numbered=False, seed=0):
    """Returns made texts of five tokens and an end as Trainer reads them; the first token says the label."""
    inputs = tokens(number, 5, seed=seed)
    found = []
    for index, each in enumerate(inputs):
        label = -100 if index in ignored else int(each[0]) % labels
        each = torch.cat([each, torch.tensor([1])])  # where T5 classifies
        example = {"input_ids": each, "attention_mask": torch.ones_like(each), "labels": torch.tensor(label)}
        found.append(example | ({"indices": torch.tensor(index)} if numbered else {}))
    return found


def pictures(number=24):
    """Returns made pictures whose brightest channel is the label."""
    found = []
    for index, each in enumerate(torch.randn(number, 3, 8, 8, generator=generator(0, "pictures"))):
        each[index % 3] += 2
        found.append({"pixel_values": each, "labels": torch.tensor(index % 3)})
    return found


def sentences(number=24, length=7):
    """Returns sentences of different lengths, padded, each token the one before plus one."""
    found = []
    for index in range(number):
        start, size = 3 + index % 11, 3 + index % (length - 2)
        known = torch.arange(start, start + size)
        inputs = torch.cat([known, torch.zeros(length - size, dtype=torch.int64)])
        mask = torch.arange(length) < size
        found.append({"input_ids": inputs, "attention_mask": mask.long(), "labels": inputs.where(mask, -100)})
    return found


def pairs(number=24):
    """Returns sources and targets: the target is the source."""
    return [{"input_ids": each["input_ids"], "labels": each["labels"]} for each in sentences(number)]


def tagged(number=24):
    """Returns sentences with a label for each token: its number modulo 3."""
    found = sentences(number)
    return [each | {"labels": (each["labels"] % 3).where(each["labels"] >= 0, -100)} for each in found]


#: A model of each family, its examples, and whether its labels are tokens.
FAMILIES = {
    "bert": (bert, texts),
    "roberta": (roberta, texts),
    "distilbert": (distilbert, texts),
    "llama, texts": (llama_classifier, texts),
    "t5, texts": (t5_classifier, texts),
    "vit": (vit, pictures),
    "bert, tokens": (lambda: bert(kind=transformers.BertForTokenClassification), tagged),
    "llama": (llama, sentences),
    "llama, tied": (lambda: llama(tied=True), sentences),
    "gpt2": (gpt2, sentences),
    "t5": (t5, pairs),
    "bart": (bart, pairs),
}


def batch(examples):
    """Returns examples as one batch."""
    return {name: torch.stack([each[name] for each in examples]) for name in examples[0]}


def trainer(model, folder, rows, **settings):
    """Returns a Trainer that draws nothing from outside and prints nothing."""
    callbacks = settings.pop("callbacks", None)
    evaluated = settings.pop("eval_dataset", None)
    optimizers = settings.pop("optimizers", (None, None))
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
    made = transformers.Trainer(
        model,
        transformers.TrainingArguments(output_dir=str(folder), **given),
        train_dataset=rows,
        eval_dataset=evaluated,
        callbacks=callbacks,
        optimizers=optimizers,
    )
    made.remove_callback(transformers.PrinterCallback)
    return made


def state(model):
    """Returns a copy of all that `save_pretrained` would write."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
