"""What a causal and a sequence-to-sequence model share: the objective in the place of `lm_head` and its loss."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from transformers import AutoModel, GenerationMixin

from labelembed.integrations.objective_building import checked_arguments
from labelembed.integrations.transformers import objective_module
from labelembed.integrations.transformers.configuration import ObjectiveConfig
from labelembed.integrations.transformers.wrapped_model import WrappedModel
from labelembed.objectives import OBJECTIVES, Objective


class LanguageModel(WrappedModel, GenerationMixin):  # type: ignore[misc]
    """A language model with an objective over its vocabulary; see `ObjectiveForCausalLM`."""

    #: transformers' class that loads a language model from a folder, and the inputs that it is tried with.
    auto_class: ClassVar[Any]
    tried_inputs: ClassVar[tuple[str, ...]]

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__(config, num_labels=config.required_backbone().get_text_config().vocab_size)
        refuse_unfit(config, self.objective)
        self._tied_weights_keys = tied_weights(self, self.model.get_input_embeddings())
        self.post_init()

    @classmethod
    def from_language_model(
        cls, language_model: Any, *, objective: str = "one_hot", objective_arguments: Mapping[str, Any] | None = None
    ) -> Self:
        """Puts an objective in the place of a model's `lm_head`, with its weights; the model's parts are shared.

        Args:
            language_model: A language model with a head, or what its Auto class' `from_pretrained` takes.
            objective: Name of the objective.
            objective_arguments: Its hyper-parameters. A `label_embedding` of a whole vocabulary should be
                `compressed`: a full one has as many rows and columns as there are tokens.

        Raises:
            ValueError: An argument is out of its range, or the model scales, caps or transforms on its way to logits.
        """
        if not isinstance(language_model, nn.Module):
            language_model = cls.auto_class.from_pretrained(language_model)
        network = backbone_of(language_model)
        config = described(language_model, network, objective, objective_arguments)
        model = cls.of_parts(config, network, objective_from_head(language_model, objective, objective_arguments))
        model.generation_config = language_model.generation_config
        tokens = torch.arange(4, device=language_model.device)[None]
        require_same_outputs(language_model, model, dict.fromkeys(cls.tried_inputs, tokens))
        return model

    def get_output_embeddings(self) -> nn.Module:
        """Returns the objective's output layer."""
        return self.objective.output

    def resize_token_embeddings(self, *arguments: Any, **named: Any) -> Any:
        """Refuses: an objective is built for its labels.

        Raises:
            ValueError: Always.
        """
        raise ValueError("the objective is built for its vocabulary: resize the model before you wrap it")

    def hidden_states_of(self, **inputs: Any) -> tuple[Tensor, Any]:
        """Returns hidden rows [B, T, H] as the objective reads them, and the network's outputs."""
        outputs = self.model(**{name: value for name, value in inputs.items() if value is not None})
        hidden = outputs.last_hidden_state
        return hidden if self.config.hidden_scale == 1 else hidden * self.config.hidden_scale, outputs


def refuse_unfit(config: ObjectiveConfig, objective: Objective) -> None:
    """Raises ValueError where an objective cannot stand in the place of `lm_head`."""
    if objective_module.is_remembering(objective):
        raise ValueError(f"`objective`: {config.objective!r} remembers every training row, and tokens have no numbers")
    if config.tie_word_embeddings and objective.output_size != objective.num_labels:
        raise ValueError(
            f"`objective`: {config.objective!r} has {objective.output_size} outputs for {objective.num_labels} tokens, "
            "so its weights cannot be those of the word embeddings; set tie_word_embeddings to False"
        )


def tied_weights(model: nn.Module, embedding: nn.Module | None) -> dict[str, str]:
    """Returns which weight of the objective is which of the word embeddings, as transformers ties them."""
    name = next(name for name, module in model.named_modules() if module is embedding)
    return {"objective.output.weight": f"{name}.weight"}


def scale_of(language_model: Any) -> float:
    """Returns the factor between hidden rows and `lm_head`, which T5 has where its weights are tied."""
    config = language_model.config
    return float(config.d_model**-0.5) if getattr(config, "scale_decoder_outputs", False) else 1.0


def backbone_of(language_model: Any) -> nn.Module:
    """Returns the model below `lm_head`, its modules shared.

    Raises:
        ValueError: It cannot be found.
    """
    base: nn.Module = language_model.base_model
    if base is not language_model:
        return base
    # T5 keeps its parts beside the head, not in a base model.
    with torch.device("meta"):
        base = AutoModel.from_config(copy.deepcopy(language_model.config))
    for name, _ in list(base.named_children()):
        part = getattr(language_model, name, None)
        if not isinstance(part, nn.Module):
            raise ValueError(f"{type(language_model).__name__} has no part {name!r} as its base model has")
        setattr(base, name, part)
    return base


def described(
    language_model: Any, backbone: Any, objective: str, arguments: Mapping[str, Any] | None, **more: Any
) -> ObjectiveConfig:
    """Returns the configuration of a language model with an objective in the place of its `lm_head`."""
    head = language_model.get_output_embeddings()
    said = objective_module.as_json(arguments) | {"bias": getattr(head, "bias", None) is not None}
    return ObjectiveConfig(
        backbone=backbone.config,
        objective=objective,
        objective_arguments=said,
        hidden_scale=scale_of(language_model),
        tie_word_embeddings=bool(getattr(language_model.config, "tie_word_embeddings", False)),
        **more,
    )


def objective_from_head(language_model: Any, objective: str, arguments: Mapping[str, Any] | None) -> Objective:
    """Returns the objective that takes over a language model's `lm_head` with its weights."""
    found = checked_arguments(objective, arguments)
    return OBJECTIVES[objective].from_linear(language_model.get_output_embeddings(), **found)


@torch.no_grad()
def require_same_outputs(language_model: Any, wrapped: Any, inputs: Mapping[str, Tensor]) -> None:
    """Raises ValueError where the logits are more than one linear layer of the hidden rows.

    Some models scale or cap their logits, or transform the rows first; an objective would leave that out unseen.

    Args:
        language_model: As it was.
        wrapped: With the objective in the place of `lm_head`.
        inputs: A few tokens.
    """
    modes = language_model.training, wrapped.training
    before = language_model.eval()(**inputs).logits
    after = wrapped.objective.output(wrapped.eval().hidden_states_of(**inputs)[0])
    language_model.train(modes[0])
    wrapped.train(modes[1])
    # The same layers on the same rows; the rest is rounding, in bfloat16 too.
    if not torch.allclose(before, after, rtol=1e-2, atol=1e-2 * float(before.abs().max())):
        raise ValueError(
            f"{type(language_model).__name__} does more than one linear layer between its hidden rows and its logits "
            "(a scale, a cap, a transformation), which an objective in the place of that layer would leave out"
        )
