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


def bert(*, dropout=0.0, vocabulary=40, seed=0):
    """Returns a BERT encoder with its pooler."""
    config = transformers.BertConfig(
        vocab_size=vocabulary,
        max_position_embeddings=32,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        **TINY,
    )
    with seeded(seed, "bert"):
        return transformers.BertModel(config)


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


def texts(rows=24, *, labels=3, ignored=(), numbered=False, seed=0):
    """Returns made texts of five tokens as Trainer reads them; the first token says the label."""
    inputs = tokens(rows, 5, seed=seed)
    found = []
    for row, each in enumerate(inputs):
        label = -100 if row in ignored else int(each[0]) % labels
        example = {"input_ids": each, "attention_mask": torch.ones_like(each), "labels": torch.tensor(label)}
        found.append(example | ({"indices": torch.tensor(row)} if numbered else {}))
    return found


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
