"""An encoder-decoder of transformers with an objective in the place of `lm_head` and its loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForSeq2SeqLM, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.utils import can_return_tuple

from labelembed.integrations.transformers import language_models, objective_module
from labelembed.integrations.transformers.configuration import ObjectiveConfig


class ObjectiveForSeq2SeqLM(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """An encoder-decoder and an objective over the target's vocabulary; see `ObjectiveForCausalLM`.

    Labels are the target's tokens; what the decoder reads is made of them by shifting, and -100 takes no part.

    Args:
        config: What it is made of; see `from_language_model` for the usual way.

    Raises:
        ValueError: The configuration is of another model, or the objective cannot stand there.
    """

    config_class = ObjectiveConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__(config)
        self.model = AutoModel.from_config(config.required_backbone())
        text = config.backbone.get_text_config()
        self.objective = objective_module.objective_of(config, hidden_size=text.hidden_size, num_labels=text.vocab_size)
        language_models.refuse_unfit(config, self.objective)
        self.told_of_epochs = False
        self._tied_weights_keys = language_models.tied_weights(self, self.model.get_input_embeddings())
        self.post_init()

    @classmethod
    def from_language_model(
        cls,
        language_model: Any,
        *,
        objective: str = "one_hot",
        objective_arguments: Mapping[str, Any] | None = None,
    ) -> Self:
        """Puts an objective in the place of a model's `lm_head`; see `ObjectiveForCausalLM.from_language_model`.

        Args:
            language_model: An encoder-decoder with a head, or what `AutoModelForSeq2SeqLM.from_pretrained` takes.
            objective: Name of the objective.
            objective_arguments: Its hyper-parameters.

        Raises:
            ValueError: An argument is out of its range, or the model scales, caps or transforms on its way to logits.
        """
        if not isinstance(language_model, nn.Module):
            language_model = AutoModelForSeq2SeqLM.from_pretrained(language_model)
        backbone = language_models.backbone_of(language_model)
        config = language_models.described(language_model, backbone, objective, objective_arguments)
        built = language_models.objective_from_head(language_model, objective, objective_arguments)
        with torch.device("meta"):  # the parts are there already
            model = cls(config)
        model.model, model.objective = backbone, built
        model.generation_config = language_model.generation_config
        tokens = torch.arange(4, device=language_model.device)[None]
        language_models.require_same_outputs(language_model, model, {"input_ids": tokens, "decoder_input_ids": tokens})
        return model

    @classmethod
    def from_pretrained(cls, folder: Any, *arguments: Any, **named: Any) -> Any:
        """Loads what `save_pretrained` wrote; see transformers' `from_pretrained`.

        Raises:
            ValueError: The folder holds another kind of model; wrap that with `from_language_model`.
        """
        wants_info = named.pop("output_loading_info", False)
        model, info = super().from_pretrained(folder, *arguments, output_loading_info=True, **named)
        objective_module.refuse_missing(info["missing_keys"], folder)
        objective_module.settle(model.objective)
        return (model, info) if wants_info else model

    def _init_weights(self, module: nn.Module) -> None:
        """Leaves the objective as it begins by itself; the network has its own way."""

    def get_output_embeddings(self) -> nn.Module:
        """Returns the objective's output layer."""
        return self.objective.output

    def get_encoder(self, modality: str | None = None) -> Any:
        """Returns the encoder, which generation runs once."""
        return self.model.get_encoder()

    def resize_token_embeddings(self, *arguments: Any, **named: Any) -> Any:
        """Refuses: an objective is built for its labels.

        Raises:
            ValueError: Always.
        """
        raise ValueError("the objective is built for its vocabulary: resize the model before you wrap it")

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

    def hidden_rows(self, **inputs: Any) -> tuple[Tensor, Any]:
        """Returns the decoder's hidden rows [B, T, H] as the objective reads them, and the outputs."""
        outputs = self.model(**{name: value for name, value in inputs.items() if value is not None})
        hidden = outputs.last_hidden_state
        return hidden if self.config.hidden_scale == 1 else hidden * self.config.hidden_scale, outputs

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
        hidden, outputs = self.hidden_rows(
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
        if labels is not None:
            if self.training:
                objective_module.require_epochs(self.objective, self.told_of_epochs)
            loss = objective_module.loss_of(self.objective(hidden, labels), labels, num_items_in_batch)
        if skip_logits is None:
            skip_logits = self.training and labels is not None
        return Seq2SeqLMOutput(
            loss=loss,
            logits=None if skip_logits else self.objective.logits(hidden),
            past_key_values=outputs.get("past_key_values"),
            decoder_hidden_states=outputs.get("decoder_hidden_states"),
            decoder_attentions=outputs.get("decoder_attentions"),
            cross_attentions=outputs.get("cross_attentions"),
            encoder_last_hidden_state=outputs.get("encoder_last_hidden_state"),
            encoder_hidden_states=outputs.get("encoder_hidden_states"),
            encoder_attentions=outputs.get("encoder_attentions"),
        )
