"""A causal language model of transformers with an objective in the place of `lm_head` and its loss."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import can_return_tuple

from labelembed.integrations.transformers.language_models import LanguageModel


class ObjectiveForCausalLM(LanguageModel):
    """A decoder and an objective over its vocabulary, trained in `Trainer` as it is and generated from.

    Labels are the input tokens, shifted here; -100 takes no part. In training with labels the logits of all tokens are
    never made, as the objective makes its loss a chunk at a time where the vocabulary is large. Tied word embeddings
    stay tied. See `ObjectiveForSequenceClassification` for what holds under gradient accumulation.

    Args:
        config: What it is made of; see `from_language_model` for the usual way.

    Raises:
        ValueError: The configuration is of another model, or the objective cannot stand there.
    """

    auto_class = AutoModelForCausalLM
    tried_inputs = ("input_ids",)

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: Tensor | int | None = None,
        skip_logits: bool | None = None,
        **inputs: Any,
    ) -> CausalLMOutputWithPast:
        """Returns the loss where there are labels, and logits [B, T, V].

        Args:
            input_ids: [B, T].
            attention_mask: [B, T].
            position_ids: [B, T].
            past_key_values: What was said of the tokens before.
            inputs_embeds: [B, T, H] in the place of `input_ids`.
            labels: [B, T], the input tokens themselves; -100: no part.
            use_cache: Whether to return `past_key_values`.
            logits_to_keep: Logits of so many last tokens only, or of these positions; 0: of all.
            num_items_in_batch: Tokens that count in the whole optimiser step; Trainer gives it.
            skip_logits: Leave the logits out; None: in training, where there are labels.
            inputs: Whatever else the decoder takes; also `shift_labels` [B, T], labels that are shifted already.
        """
        # Not an argument of its own: Trainer would wait for it in every batch, as for all whose name says label.
        shift_labels = inputs.pop("shift_labels", None)
        hidden, outputs = self.hidden_states_of(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **inputs,
        )
        if shift_labels is None and labels is not None:
            shift_labels = F.pad(labels[..., 1:], (0, 1), value=-100)
        loss = None
        if self.loss_is_wanted(shift_labels):
            loss = self.objective_loss(hidden, shift_labels.to(hidden.device), num_items_in_batch)
        logits = None
        if not self.skips_logits(skip_logits, shift_labels):
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self.objective.logits(hidden[:, kept])
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.get("past_key_values"),
            hidden_states=outputs.get("hidden_states"),
            attentions=outputs.get("attentions"),
        )
