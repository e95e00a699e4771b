"""A text classifier: any encoder of transformers, any objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from torch import Tensor, nn
from transformers import AutoModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import can_return_tuple

from labelembed.errors import ArgumentFaults
from labelembed.geometry import LabelGeometry
from labelembed.integrations.objective_building import build_objective
from labelembed.integrations.transformers import objective_module
from labelembed.integrations.transformers.configuration import ObjectiveConfig
from labelembed.integrations.transformers.pooling import POOLINGS, pooled, pooling_for
from labelembed.integrations.transformers.wrapped_model import WrappedModel


class ObjectiveForSequenceClassification(WrappedModel):
    """An encoder, one row a text, and an objective in the place of the classification head and its loss.

    It trains in `Trainer` as it is: the objective's parameters are the model's, `save_pretrained` and
    `from_pretrained` carry them and its name and arguments, and losses are means over the rows of the whole optimiser
    step, also under gradient accumulation. What an objective couples across the rows of a batch (the centroids of
    `AdaptiveLabels`, the rows that E of `LabelEmbedding` learns from) it couples within a micro-batch. In training
    there are no logits beside the loss. In evaluation the loss of `distillation` is the cross entropy, for its teacher
    has said nothing of other rows.

    Args:
        config: What it is made of; see `from_encoder` for the usual way.

    Raises:
        ValueError: The configuration is of another model, or an argument of the objective is wrong.
    """

    def __init__(self, config: ObjectiveConfig) -> None:
        faults = ArgumentFaults()
        faults.choice("pooling", config.pooling, POOLINGS)
        faults.require(0 <= config.dropout < 1, "dropout", config.dropout, "must be in [0, 1)")
        faults.raise_if_any()
        super().__init__(config, num_labels=config.num_labels)
        self.dropout = nn.Dropout(config.dropout)
        self._keys_to_ignore_on_save = ["objective.teacher_logits"]
        self.post_init()

    @classmethod
    def from_encoder(
        cls,
        encoder: Any,
        *,
        num_labels: int | None = None,
        id2label: Mapping[int, str] | Sequence[str] | None = None,
        objective: str = "one_hot",
        objective_arguments: Mapping[str, Any] | None = None,
        pooling: str = "auto",
        dropout: float = 0.1,
    ) -> Self:
        """Puts an objective on an encoder, which becomes part of the model.

        Args:
            encoder: A model of transformers (of one with a head its base), or what `AutoModel.from_pretrained` takes.
            num_labels: C; None: as many as `id2label` has.
            id2label: The labels' names, in the order of their numbers.
            objective: Name of the objective.
            objective_arguments: Its hyper-parameters; `retrospection` needs `num_examples`, `distillation` a table
                `teacher_logits` [R, C], and both a column `indices` in the data.
            pooling: `pooler` (the encoder's own), `first`, `last` or `mean`; `auto`: what the encoder has or is made
                for.
            dropout: Of the pooled hidden state.

        Raises:
            ValueError: An argument is out of its range.
        """
        if isinstance(id2label, Sequence):
            id2label = dict(enumerate(id2label))
        if num_labels is None and id2label is None:
            raise ValueError("`num_labels` must be given, or the labels' names as `id2label`")
        count = len(id2label) if id2label is not None else num_labels
        if num_labels is not None and num_labels != count:
            raise ValueError(f"`num_labels` must be {count}, as many as `id2label` has, got {num_labels}")
        if not isinstance(encoder, nn.Module):
            encoder = AutoModel.from_pretrained(encoder)
        encoder = encoder.base_model
        names = dict(id2label) if id2label is not None else {number: f"LABEL_{number}" for number in range(count or 0)}
        config = ObjectiveConfig(
            backbone=encoder.config,
            objective=objective,
            objective_arguments=objective_module.as_json(objective_arguments),
            pooling=pooling_for(encoder) if pooling == "auto" else pooling,
            dropout=dropout,
            id2label=names,
            label2id={name: number for number, name in names.items()},
        )
        width = encoder.config.get_text_config().hidden_size
        built = build_objective(objective, objective_arguments, hidden_size=width, num_labels=len(names))
        return cls.of_parts(config, encoder, built.to(device=encoder.device, dtype=encoder.dtype))

    def hidden_states_of(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **inputs: Any
    ) -> tuple[Tensor, Any]:
        """Returns one hidden state [B, H] a text, and the encoder's outputs."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask, **inputs}
        outputs = self.model(**{name: value for name, value in given.items() if value is not None})
        mask = attention_mask
        padding = self.config.pad_token_id
        if mask is None and input_ids is not None and padding is not None and self.config.pooling == "last":
            mask = input_ids != padding
        return self.dropout(pooled(outputs, mask, self.config.pooling)), outputs

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        indices: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        skip_logits: bool | None = None,
        **inputs: Any,
    ) -> SequenceClassifierOutput:
        """Returns the loss where there are labels, and logits [B, C].

        Args:
            input_ids: [B, T], or what else the encoder reads.
            attention_mask: [B, T].
            token_type_ids: [B, T], for encoders that have them.
            position_ids: [B, T].
            inputs_embeds: [B, T, H] in the place of `input_ids`.
            labels: [B], int64; -100: the text takes no part.
            indices: [B] positions of the texts in the training set, for objectives that remember them.
            num_items_in_batch: Texts that count in the whole optimiser step; Trainer gives it.
            skip_logits: Leave the logits out; None: in training, where there are labels.
            inputs: Whatever else the encoder takes.
        """
        hidden, outputs = self.hidden_states_of(
            input_ids,
            attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            **inputs,
        )
        loss = None
        if labels is not None and self.loss_is_wanted(labels):
            loss = self.objective_loss(hidden, labels, num_items_in_batch, indices)
        return SequenceClassifierOutput(
            loss=loss,
            logits=None if self.skips_logits(skip_logits, labels) else self.objective.logits(hidden),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def label_geometry(self) -> LabelGeometry:
        """Returns what the objective has learned about the labels, by the names of `config.id2label`."""
        names = [self.config.id2label[number] for number in range(self.config.num_labels)]
        return self.objective.label_geometry(names)
