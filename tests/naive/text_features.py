"""Mean-pooled features of a text, one text at a time, without padding."""

from __future__ import annotations

import torch


def naive_text_features(text, tokenizer, model, *, maximum_tokens):
    """Returns the mean of the last hidden states over the tokens of one text, as floats, computed in float64."""
    numbers = tokenizer(text, truncation=True, max_length=maximum_tokens)["input_ids"]
    with torch.no_grad():
        states = model.double().eval()(input_ids=torch.tensor([numbers])).last_hidden_state[0]
    width = len(states[0])
    return [sum(float(state[place]) for state in states) / len(states) for place in range(width)]
