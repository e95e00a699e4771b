"""An encoder-decoder of transformers with an objective in the place of `lm_head` and its loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import AutoModelForSeq2SeqLM
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.utils import can_return_tuple

from labelembed.integrations.transformers.language_models import LanguageModel


class ObjectiveForSeq2SeqLM(LanguageModel):
    """An encoder-decoder and an objective over the target's vocabulary; see `ObjectiveForCausalLM`.

    Labels are the target's tokens; what the decoder reads is made of them by shifting, and -100 takes no part.

    Args:
        config: What it is made of; see `from_language_model` for the usual way.

    Raises:
        ValueError: The configuration is of another model, or the objective cannot stand there.
    """

    auto_class = AutoModelForSeq2SeqLM
    tried_inputs = ("input_ids", "decoder_input_ids")

    def get_encoder(self, modality: str | None = None) -> Any:
        """Returns the encoder, which generation runs once."""
        return self.model.get_encoder()

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Returns what the decoder reads [B, T]: the labels, one place to the right, behind the start token.

        Raises:
            ValueError: The configuration has no start token, or no token to pad with.
        """
        start, padding = self.config.decoder_start_token_id, self.config.pad_token_id
        if start is None or padding is None:
            raise ValueError("`config.decoder_start_token_id` and `config.pad_token_id` must be set to shift labels")
        shifted = labels.new_full(labels.shape, start)
        shifted[:, 1:] = labels[:, :-1]
        return shifted.masked_fill(shifted == -100, padding)

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        skip_logits: bool | None = None,
        **inputs: Any,
    ) -> Seq2SeqLMOutput:
        """Returns the loss where there are labels, and logits [B, T, V].

        Args:
            input_ids: [B, S], the source.
            attention_mask: [B, S].
            decoder_input_ids: [B, T]; None: the labels, shifted.
            decoder_attention_mask: [B, T].
            encoder_outputs: Of the source, where it has been read already.
            past_key_values: What was said of the tokens before.
            inputs_embeds: [B, S, H] in the place of `input_ids`.
            decoder_inputs_embeds: [B, T, H] in the place of `decoder_input_ids`.
            labels: [B, T], the target's tokens; -100: no part.
            use_cache: Whether to return `past_key_values`.
            num_items_in_batch: Tokens that count in the whole optimiser step; Trainer gives it.
            skip_logits: Leave the logits out; None: in training, where there are labels.
            inputs: Whatever else the network takes.
        """
        if labels is not None and decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        hidden, outputs = self.hidden_states_of(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            **inputs,
        )
        loss = None
        if labels is not None and self.loss_is_wanted(labels):
            loss = self.objective_loss(hidden, labels, num_items_in_batch)
        return Seq2SeqLMOutput(
            loss=loss,
            logits=None if self.skips_logits(skip_logits, labels) else self.objective.logits(hidden),
            past_key_values=outputs.get("past_key_values"),
            decoder_hidden_states=outputs.get("decoder_hidden_states"),
            decoder_attentions=outputs.get("decoder_attentions"),
            cross_attentions=outputs.get("cross_attentions"),
            encoder_last_hidden_state=outputs.get("encoder_last_hidden_state"),
            encoder_hidden_states=outputs.get("encoder_hidden_states"),
            encoder_attentions=outputs.get("encoder_attentions"),
        )
