"""The configuration of a wrapped model: that of the network inside, and the objective by name."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PreTrainedConfig

# What generation, Trainer and collators ask a model's own configuration for.
SHARED = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "is_encoder_decoder")


class ObjectiveConfig(PreTrainedConfig):  # type: ignore[misc]
    """Configuration of the `ObjectiveFor...` models, saved as JSON; nothing in it is code.

    Args:
        backbone: Configuration of the network that makes hidden rows, or it as a dictionary.
        objective: Name of the objective.
        objective_arguments: Its hyper-parameters. A label geometry that was given stands as its shape: its numbers are
            among the weights.
        pooling: For classification, which hidden row stands for the text: `pooler`, `first`, `last`, `mean`.
        dropout: For classification, of the pooled row.
        hidden_scale: For language models, a factor on the hidden rows, as T5 has one.
        kwargs: What every configuration of transformers takes, as `id2label`.

    Raises:
        ValueError: There is no network inside: the folder is of another kind of model.
    """

    model_type = "labelembed"
    sub_configs = {"backbone": AutoConfig}  # noqa: RUF012 - transformers' own form
    keys_to_ignore_at_inference = ["past_key_values", "encoder_last_hidden_state"]  # noqa: RUF012

    def __init__(
        self,
        backbone: Any = None,
        objective: str = "one_hot",
        objective_arguments: dict[str, Any] | None = None,
        pooling: str = "first",
        dropout: float = 0.1,
        hidden_scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        if isinstance(backbone, dict):
            backbone = AutoConfig.for_model(**backbone)
        self.backbone = backbone
        self.objective = objective
        self.objective_arguments = objective_arguments or {}
        self.pooling = pooling
        self.dropout = dropout
        self.hidden_scale = hidden_scale
        if backbone is not None:
            for name in SHARED:
                kwargs.setdefault(name, getattr(backbone, name, None))
            kwargs["is_encoder_decoder"] = bool(kwargs["is_encoder_decoder"])
        super().__init__(**kwargs)

    def required_backbone(self) -> Any:
        """Returns the configuration of the network inside.

        Raises:
            ValueError: There is none.
        """
        if self.backbone is None:
            raise ValueError(
                "this configuration names no network inside, so it is not one of labelembed's models; wrap a model of "
                "transformers with `from_encoder` or `from_language_model`, and load what `save_pretrained` then wrote"
            )
        return self.backbone

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Any:
        """Returns the configuration of the part that reads or writes text: that of the network inside."""
        if self.backbone is None:
            return self
        return self.backbone.get_text_config(decoder=decoder, encoder=encoder)
