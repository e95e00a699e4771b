"""A causal language model of transformers with an objective in the place of `lm_head` and its loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import can_return_tuple

from labelembed.integrations.transformers import language_models, objective_module
from labelembed.integrations.transformers.configuration import ObjectiveConfig


class ObjectiveForCausalLM(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """A decoder and an objective over its vocabulary, trained in `Trainer` as it is and generated from.

    Labels are the input tokens, shifted here; -100 takes no part. In training with labels the logits of all tokens are
    never made, as the objective makes its loss a chunk at a time where the vocabulary is large. Tied word embeddings
    stay tied. See `ObjectiveForSequenceClassification` for what holds under gradient accumulation.

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
        """Puts an objective in the place of a model's `lm_head`, with its weights; the model's parts are shared.

        Args:
            language_model: A causal language model, or what `AutoModelForCausalLM.from_pretrained` takes.
            objective: Name of the objective.
            objective_arguments: Its hyper-parameters. A `label_embedding` of a whole vocabulary should be
                `compressed`: a full one has as many rows and columns as there are tokens.

        Raises:
            ValueError: An argument is out of its range, or the model scales, caps or transforms on its way to logits.
        """
        if not isinstance(language_model, nn.Module):
            language_model = AutoModelForCausalLM.from_pretrained(language_model)
        backbone = language_models.backbone_of(language_model)
        config = language_models.described(language_model, backbone, objective, objective_arguments)
        built = language_models.objective_from_head(language_model, objective, objective_arguments)
        with torch.device("meta"):  # the parts are there already
            model = cls(config)
        model.model, model.objective = backbone, built
        model.generation_config = language_model.generation_config
        tokens = torch.arange(4, device=language_model.device)[None]
        language_models.require_same_outputs(language_model, model, {"input_ids": tokens})
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
        """Leaves the objective as it begins by itself; the decoder has its own way."""

    def get_output_embeddings(self) -> nn.Module:
        """Returns the objective's output layer."""
        return self.objective.output

    def resize_token_embeddings(self, *arguments: Any, **named: Any) -> Any:
        """Refuses: an objective is built for its labels.

        Raises:
            ValueError: Always.
        """
        raise ValueError("the objective is built for its vocabulary: resize the model before you wrap it")

    def hidden_rows(self, input_ids: Tensor | None = None, **inputs: Any) -> tuple[Tensor, Any]:
        """Returns hidden rows [B, T, H] as the objective reads them, and the decoder's outputs."""
        given = {name: value for name, value in inputs.items() if value is not None}
        outputs = self.model(input_ids=input_ids, **given)
        hidden = outputs.last_hidden_state
        return hidden if self.config.hidden_scale == 1 else hidden * self.config.hidden_scale, outputs

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
        hidden, outputs = self.hidden_rows(
            input_ids,
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
        if shift_labels is not None:
            if self.training:
                objective_module.require_epochs(self.objective, self.told_of_epochs)
            terms = self.objective(hidden, shift_labels.to(hidden.device))
            loss = objective_module.loss_of(terms, shift_labels, num_items_in_batch)
        if skip_logits is None:
            skip_logits = self.training and shift_labels is not None
        logits = None
        if not skip_logits:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self.objective.logits(hidden[:, kept])
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.get("past_key_values"),
            hidden_states=outputs.get("hidden_states"),
            attentions=outputs.get("attentions"),
        )
