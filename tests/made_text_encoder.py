"""Folders of tiny text encoders with random weights, as `save_pretrained` writes them; nothing is fetched."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers", reason="text encoders need transformers: the extra `text`")

import tokenizers
import transformers

from tests.made_texts import BAD, GOOD, PLAIN
from tests.made_transformers import bert

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *GOOD, *BAD, *PLAIN]


def tokenizer(*, marks=True):
    """Returns a tokenizer that cuts at spaces; `marks`: texts begin with [CLS] and end with [SEP]."""
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: n for n, word in enumerate(WORDS)}, "[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    if marks:
        made.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]"}
    special |= {"sep_token": "[SEP]", "cls_token": "[CLS]"} if marks else {}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, **special)


def write_encoder(folder, model=None, *, marks=True, **settings):
    """Writes config.json, model.safetensors and a tokenizer; returns the folder."""
    model = bert(vocabulary=len(WORDS), **settings).base_model if model is None else model
    model.save_pretrained(folder)
    tokenizer(marks=marks).save_pretrained(folder)
    return folder
