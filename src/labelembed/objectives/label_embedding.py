"""Label Embedding Network: the labels' similarities, learned with the network (Sun et al. 2017)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelembed import heads
from labelembed.geometry import LabelGeometry
from labelembed.heads import HeadTerms
from labelembed.objectives.label_embedding_arguments import (
    AUXILIARY_TYPES,
    PRESETS,
    SAMPLE_COUPLING,
    SEARCH_SPACE,
    TEACHING_COUPLING,
    UNKNOWN_END,
    UNKNOWN_LENGTH,
    embedding_faults,
    embedding_table,
    head_settings,
    initial_embedding,
    optimizer_groups,
    require_settings,
)
from labelembed.objectives.objective import Objective

# A dense [C, C] table is 16 MB at so many labels, and grows with their square: to a gigabyte at 16,000.
DENSE_GEOMETRY_LABELS = 2_000


class LabelEmbedding(Objective):
    """Learns which labels are alike, and trains on those soft targets (Sun et al. 2017).

    With hidden rows h, two output layers ``z1 = o1(h)``, ``z2 = o2(sg(h))`` (sg: no gradient), and the label's
    embedding ``e = E[y]`` (`full`, E [C, C] starting as the identity) or ``e = relu(A[y] B)`` (`compressed`,
    eq. 16)::

        output     CE(onehot(y), z1)                       trains h and o1    (eq. 7)
        target     CE(softmax(sg(e)), z1)                  trains h and o1    (eq. 13)
        auxiliary  CE(onehot(y), z2)                       trains o2          (eq. 8)
        hinge      max(0, softmax(z2)[y] - limit) ** norm  trains o2          (eq. 12)
        embedding  CE(softmax(sg(z2) / temperature), e)    trains E, or A, B  (eq. 11)
        uniform    CE(1/C, z1)                             trains h and o1    (not in the paper)

    Every term is a mean over the rows that count; `embedding` over those rows that o2 gets right, of a micro-batch by
    itself times its share of the rows. The total is
    their weighted sum (eq. 14). With ``auxiliary="shared"`` there is no o2: E learns from sg(z1), on the rows that o1
    gets right, and `auxiliary` and `hinge` are 0 (not in the paper; a step costs little more than one-hot's).
    With a saved `LabelGeometry`, E is fixed, o2 is not built and
    ``total = output_weight output + target_weight target`` (eq. 17).

    Args:
        hidden_size: H, width of the hidden rows.
        num_labels: C, number of labels.
        embedding: `full`, `compressed`, or a saved LabelGeometry of the same number of labels (fixed).
        rank: K, the compressed embedding's size (the paper's h); 100 is the paper's example.
        auxiliary: `separate`: a second output layer teaches E (the paper); `shared`: the first does.
        auxiliary_fraction: The share of the rows that o2 and E learn from, in (0, 1], other rows in each step; 1 is the
            paper's. In evaluation mode every row counts. See `docs/heads.md`.
        auxiliary_dtype: `bfloat16`: o2's matrix products in it, softmax and sums as before; None: as the rest.
        sparse_gradients: Whether a full E's gradient holds only the rows of the batch's labels, for `SparseAdam`,
            `Adagrad` or `SGD` in a loop of your own; recipes take dense ones only.
        initial_scale: What E starts as: a number times the identity. With 1 (the paper's) softmax(E[y]) starts with
            e / (e + C - 1) on y, almost uniform over many labels: 0.23 of 10, 0.03 of 100. `log`: log C + 1.5, so that
            it is about 0.8 of any number. Compressed: ``B = A^T`` with so long rows. None: 1, and compressed at random.
        embedding_learning_rate: Factor on the optimiser's learning rate for E, A and B.
        decay_embedding: Whether weight decay reaches E, A and B; it pulls softmax(E) towards uniform.
        preset: `paper` (weights 1 and 1, hinge averaged), `published_code` (weights 0.5 and 0.5, hinge summed over
            the batch), or `mixture` (not in the paper: 0.2 of the label itself, 0.5 learned, 0.3 uniform). The weights
            of `paper` sum to 2: with SGD twice the learning rate of weights that sum to 1, and half the weight decay
            beside the loss. Its hinge slows o2 and cannot hold it at the limit: its slope in the right label's
            probability p is 1, that of the cross entropy -1 / p.
        temperature: tau, how soft the distribution is that E learns from; > 0.
        confidence_limit: alpha, the probability of the right label above which the hinge acts; in [0, 1].
        hinge_norm: p, 1 or 2: the excess over the limit, or its square.
        hinge_reduction: `mean` or `sum` over the rows; None: the preset's.
        output_weight: Weight of `output`; None: the preset's.
        target_weight: Weight of `target`; None: the preset's.
        uniform_weight: Weight of `uniform`; None: the preset's. With weights that sum to 1 the network is trained on
            ``output_weight onehot + target_weight softmax(E[y]) + uniform_weight / C``.
        target_warmup_steps: Training steps for which `target` has no weight, while E is still noise (20,000 of
            about 50,000 in the published text code). A number between 0 and 1 is that share of the run's steps, which
            `begin_training` must be told before the first.
        bias: Whether the output layers have a bias.
        ignore_index: Rows with this label take no part in any term; None: every row counts.
        output_std: Start of the output layers, see `Objective`.
        impl: `reference`: plain lines; `closed_form`: one node; `chunked`: never the logits of all rows at once, and
            gradients of the total only; `triton`: the same by kernels on a GPU; `auto`: by the number of labels.

    Raises:
        ValueError: When an argument is out of its range, or the geometry has another number of labels.

    Example:
        >>> import torch
        >>> objective = LabelEmbedding(8, 3, temperature=2.0)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]))
        >>> terms.total.backward()
        >>> objective.label_geometry(["cat", "dog", "car"]).soft_targets().shape
        torch.Size([3, 3])
    """

    presets, search_space = PRESETS, SEARCH_SPACE
    embedding: Tensor
    compressed_rows: Tensor
    compressed_columns: Tensor
    steps: Tensor
    sampling_steps: Tensor
    warmup_end: Tensor

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        embedding: Literal["full", "compressed"] | LabelGeometry = "full",
        rank: int = 100,
        auxiliary: Literal["separate", "shared"] = "separate",
        auxiliary_fraction: float = 1.0,
        auxiliary_dtype: Literal["bfloat16"] | None = None,
        sparse_gradients: bool = False,
        initial_scale: float | Literal["log"] | None = None,
        embedding_learning_rate: float = 1.0,
        decay_embedding: bool = False,
        preset: Literal["paper", "published_code", "mixture"] = "paper",
        temperature: float = 2.0,
        confidence_limit: float = 0.9,
        hinge_norm: Literal[1, 2] = 1,
        hinge_reduction: Literal["mean", "sum"] | None = None,
        output_weight: float | None = None,
        target_weight: float | None = None,
        uniform_weight: float | None = None,
        target_warmup_steps: int | float = 0,
        bias: bool = True,
        ignore_index: int | None = -100,
        output_std: float | None = None,
        impl: heads.Implementation = "auto",
    ) -> None:
        settings = head_settings(
            preset,
            output_weight=output_weight,
            target_weight=target_weight,
            uniform_weight=uniform_weight,
            hinge_reduction=hinge_reduction,
            temperature=temperature,
            confidence_limit=confidence_limit,
            hinge_norm=hinge_norm,
            shared=auxiliary == "shared" and not isinstance(embedding, LabelGeometry),
            auxiliary_fraction=auxiliary_fraction,
            auxiliary_dtype=AUXILIARY_TYPES.get(auxiliary_dtype or ""),
            sparse_gradients=sparse_gradients,
        )
        faults = embedding_faults(
            num_labels,
            embedding=embedding,
            rank=rank,
            auxiliary=auxiliary,
            initial_scale=initial_scale,
            embedding_learning_rate=embedding_learning_rate,
            sparse_gradients=sparse_gradients,
        )
        require_settings(
            faults,
            settings,
            preset=preset,
            impl=impl,
            target_warmup_steps=target_warmup_steps,
            auxiliary_dtype=auxiliary_dtype,
        )
        super().__init__(
            hidden_size,
            num_labels,
            bias=bias,
            ignore_index=ignore_index,
            output_std=output_std,
            faults=faults,
        )
        self.settings = settings
        self.impl = impl
        self.embedding_learning_rate = embedding_learning_rate
        self.decay_embedding = decay_embedding
        is_share = 0 < target_warmup_steps < 1
        self.target_warmup_steps = target_warmup_steps if is_share else int(target_warmup_steps)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        if is_share:
            self.register_buffer("warmup_end", torch.tensor(UNKNOWN_END))
            self._knows_warmup_end = False
        if auxiliary_fraction < 1:
            self.register_buffer("sampling_steps", torch.zeros((), dtype=torch.int64))
        self.fixed = isinstance(embedding, LabelGeometry)
        if isinstance(embedding, LabelGeometry):
            self.register_buffer("embedding", embedding.logits().clone())
            return
        if auxiliary == "separate":
            self.auxiliary = self.new_layer(bias=bias)
        for name, value in initial_embedding(num_labels, embedding, rank=rank, initial_scale=initial_scale).items():
            self.register_parameter(name, nn.Parameter(value))

    @classmethod
    def from_linear(cls, layer: nn.Linear, **arguments: Any) -> Self:
        """Takes over an existing output layer [H -> C] as o1; o2 starts as a copy of it.

        Args:
            layer: The layer to own from now on; device and dtype follow it.
            arguments: The objective's own keyword arguments.
        """
        objective = super().from_linear(layer, **arguments)
        if hasattr(objective, "auxiliary"):
            # It learns even where the layer is frozen: E is taught by what o2 gets right.
            objective.auxiliary = copy.deepcopy(objective.output).requires_grad_(True)
        return objective

    def embedding_rows(self, labels: Tensor) -> Tensor:
        """Returns e [n, C] for labels [n]."""
        return heads.embedding_rows(embedding_table(self), labels, sparse_gradients=self.settings.sparse_gradients)

    def forward(self, hidden: Tensor, labels: Tensor, rows: Tensor | None = None) -> HeadTerms:
        """Computes the terms; see `Objective.forward`."""
        hidden, labels = self.counted(hidden, labels)
        settings = self._settings_now()
        layers = [self.output, self.auxiliary] if hasattr(self, "auxiliary") else [self.output]
        way = heads.chosen_for(self.impl, self.num_labels, *layers)
        if way in heads.NODES:
            o1, o2 = layers[0], layers[-1] if len(layers) == 2 else None
            second, second_bias = (None, None) if o2 is None else (o2.weight, o2.bias)
            table = embedding_table(self)
            return heads.label_embedding_cross_entropy(
                hidden, o1.weight, o1.bias, second, second_bias, table, labels, settings, impl=way
            )
        z1 = self.output(hidden)
        with heads.auxiliary_precision(settings, hidden):
            z2 = self.auxiliary(hidden.detach()) if len(layers) == 2 else None
        return heads.label_embedding_terms(z1, z2, self.embedding_rows(labels), labels, settings, implementation=way)

    @property
    def row_coupling(self) -> str | None:
        """Why micro-batches are not one batch; see `Objective.row_coupling`."""
        if self.fixed:
            return None
        return SAMPLE_COUPLING if self.settings.auxiliary_fraction < 1 else TEACHING_COUPLING

    def _settings_now(self) -> heads.HeadSettings:
        """Returns the settings of this step, and counts it where something depends on its number."""
        settings = self.settings._replace(group=self.step_group)
        samples = settings.auxiliary_fraction < 1
        moves = (self.target_warmup_steps > 0 or samples) and self.moves_state()
        begins = moves and self.begins_step()
        if self.target_warmup_steps > 0:
            settings = settings._replace(target_weight=self._target_weight_now(moves, begins))
        if not samples or not self.training:
            return settings._replace(auxiliary_fraction=1.0)
        if begins:
            self.sampling_steps += 1
        return settings._replace(auxiliary_offset=heads.offset_of_step(int(self.sampling_steps) - moves))

    def _target_weight_now(self, moves: bool, begins: bool) -> Tensor:
        exact = torch.promote_types(self.output.weight.dtype, torch.float32)
        end = self._warmup_end()
        if begins:
            self.steps += 1
        made = self.steps - 1 if moves else self.steps  # without this one
        return self.settings.target_weight * (made >= end).to(exact)

    def begin_training(self, steps: int) -> None:
        """Tells of how many steps `target_warmup_steps` is a share; once a run, before its first step."""
        if hasattr(self, "warmup_end"):
            self.warmup_end.fill_(round(self.target_warmup_steps * steps))

    def _warmup_end(self) -> Tensor | int:
        """Returns the number of steps after which `target` begins."""
        if isinstance(self.target_warmup_steps, int):
            return self.target_warmup_steps
        if self.training and not self._knows_warmup_end:  # asked once: on a GPU to look costs a wait
            if int(self.warmup_end) == UNKNOWN_END:
                raise ValueError(UNKNOWN_LENGTH.format(self.target_warmup_steps))
            self._knows_warmup_end = True
        return self.warmup_end

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Returns optimiser groups in which E, A and B are not decayed, unless `decay_embedding`.

        Weight decay pulls softmax(E) towards uniform, which would be a hidden label smoothing. With
        `embedding_learning_rate` the embedding's group has a `learning_rate_factor`.

        Args:
            weight_decay: For the output layers.
        """
        rate = self.embedding_learning_rate
        decay = weight_decay * self.decay_embedding
        return optimizer_groups(self, weight_decay=weight_decay, embedding_decay=decay, learning_rate_factor=rate)

    @torch.no_grad()
    def label_geometry(self, names: Sequence[str] | None = None, *, class_means: Tensor | None = None) -> LabelGeometry:
        """Returns E as similarities; of a compressed one above 2,000 labels the rows of A as vectors, by cosine."""
        names, source = self.label_names(names), type(self).__name__
        if hasattr(self, "compressed_rows") and self.num_labels > DENSE_GEOMETRY_LABELS:
            vectors = self.compressed_rows.float().cpu().clone()
            return LabelGeometry(names, vectors=vectors, metric="cosine", source=source)
        if hasattr(self, "compressed_rows"):
            similarities = F.relu(self.compressed_rows @ self.compressed_columns).float().cpu()
        else:
            similarities = self.embedding.detach().float().cpu().clone()
        return LabelGeometry(names, similarities=similarities, source=source)
