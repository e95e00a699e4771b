"""Many multilayer perceptrons trained at once, as one stack of matrices: seeds and settings of one data set.

A step of a small network is mostly overhead. Here the weights of M networks are tensors [M, in, out], and one step of
all of them is three batched matrix products forward. Each network has its own examples, initial weights and soft
targets; nothing flows between them. `tests/test_benchmarks.py` holds it equal to the library's objectives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from labelembed.lab.training.optimizers import cosine

MOMENTUM = 0.99  # of the class means, for each example
WARMUP = 0.05  # share of the steps in which the learning rate rises


class Weights(NamedTuple):
    """What one network is trained on: ``(1 - a - b) onehot + a similarity + b / C``.

    Attributes:
        similarity: a.
        uniform: b.
    """

    similarity: float = 0.0
    uniform: float = 0.0


@dataclass(frozen=True)
class Examples:
    """The examples of each split of a data set; `order` [S, N] says which are used in which split.

    Attributes:
        inputs: [N, F], of the whole data set.
        labels: [N].
        train: [S, n], indices of the training examples of each split.
        num_labels: C.
    """

    inputs: Tensor
    labels: Tensor
    train: Tensor
    num_labels: int

    def scaling(self) -> tuple[Tensor, Tensor]:
        """Returns mean [S, F] and standard deviation [S, F] of each split's training examples."""
        found = [torch.var_mean(self.inputs[chosen].double(), dim=0, correction=0) for chosen in self.train]
        deviation = torch.stack([variance.sqrt() for variance, _ in found])
        deviation[deviation == 0] = 1.0
        return torch.stack([mean for _, mean in found]).float(), deviation.float()


class Stack:
    """M = S x K networks: K weights for each of S splits; the networks of a split share all but the weights.

    Args:
        sizes: Widths from the inputs to the labels, for instance 16, 128, 128, 26.
        seeds: The seed of each split: of its initial weights and of its order of examples.
        weights: The K weights.
        kind: What a network learns from beside the label: `none`, `class_means` (online label smoothing), `embedding`
            (label embedding with a second output layer), or `progressive` (retrospection's preset: each example's own
            prediction of the epoch before).
    """

    def __init__(self, sizes: Sequence[int], seeds: Sequence[int], weights: Sequence[Weights], *, kind: str) -> None:
        self.seeds, self.count = list(seeds), len(weights)
        self.similarity = torch.tensor([some.similarity for some in weights]).repeat(len(self.seeds))
        self.uniform = torch.tensor([some.uniform for some in weights]).repeat(len(self.seeds))
        self.kind, self.num_labels = kind, sizes[-1]
        self.layers = self._each([_initial_weights(sizes, seed) for seed in self.seeds])
        networks = len(self.similarity)
        identity = torch.eye(self.num_labels).repeat(networks, 1, 1)
        self.similarities = torch.full_like(identity, 1 / self.num_labels)
        self.memory = self.gathered = torch.empty(0)  # of `progressive`: [M, n, C], of the last epoch and of this one
        self.growth = 0.0
        self.second: list[Tensor] = []
        self.embedding: Tensor | None = None
        if kind == "embedding":
            own = [torch.Generator().manual_seed(1_000_003 + seed) for seed in self.seeds]
            self.second = self._each([_layer(sizes[-2], sizes[-1], generator) for generator in own])
            self.embedding = identity.requires_grad_()

    def _each(self, drawn: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Returns what was drawn for each split as parameters of each of its networks."""
        stacked = [torch.stack(some) for some in zip(*drawn, strict=True)]
        return [some.repeat_interleave(self.count, dim=0).requires_grad_() for some in stacked]

    def hidden(self, inputs: Tensor) -> Tensor:
        """Returns the hidden states [M, B, H] of inputs [M, B, F]."""
        for place in range(0, len(self.layers) - 2, 2):
            inputs = F.relu(_linear(inputs, self.layers[place : place + 2]))
        return inputs

    def logits(self, inputs: Tensor) -> Tensor:
        """Returns logits [M, B, C]."""
        return _linear(self.hidden(inputs), self.layers[-2:])

    def loss(self, inputs: Tensor, labels: Tensor, places: Tensor) -> Tensor:
        """Returns the losses [M] of a batch, and lets the class means follow it.

        Args:
            inputs: [M, B, F].
            labels: [M, B].
            places: [M, B], where the examples stand among the training examples of their split.
        """
        hidden = self.hidden(inputs)
        log_p = F.log_softmax(_linear(hidden, self.layers[-2:]), dim=2)
        output = -log_p.gather(2, labels[..., None])[..., 0].mean(1)
        uniform = -log_p.mean(dim=(1, 2))
        total = (1 - self.similarity - self.uniform) * output + self.uniform * uniform
        if self.kind == "none":
            return total
        networks = torch.arange(len(total))[:, None]
        if self.kind == "progressive":
            self.gathered[networks, places] = log_p.detach().exp()
            weight = self.similarity * self.growth
            soft, one_hot = self.memory[networks, places], F.one_hot(labels, self.num_labels).float()
            soft = torch.where(soft.sum(2, keepdim=True) == 0, one_hot, soft)
            return (1 - weight) * output + weight * _soft(soft, log_p)
        if self.kind == "class_means":
            total = total + self.similarity * _soft(self.similarities[networks, labels], log_p)
            self._follow(log_p.detach(), labels)
            return total
        assert self.embedding is not None
        # Sun et al. 2017 with the mean hinge, equations 8, 11, 12 and 13.
        log_e = F.log_softmax(self.embedding[networks, labels], dim=2)
        total = total + self.similarity * _soft(log_e.detach().exp(), log_p)
        second = _linear(hidden.detach(), self.second)
        log_p2 = F.log_softmax(second, dim=2).gather(2, labels[..., None])[..., 0]
        total = total - log_p2.mean(1) + F.relu(log_p2.exp() - 0.9).mean(1)
        right = (second.argmax(2) == labels).float()
        taught = -(F.softmax(second.detach() / 2.0, dim=2) * log_e).sum(2)
        return total + (taught * right).sum(1) / right.sum(1).clamp_min(1e-30)

    @torch.no_grad()
    def _follow(self, log_p: Tensor, labels: Tensor) -> None:
        """Moves each network's class means towards its predictions of the examples it gets right."""
        right = (log_p.argmax(2) == labels).float()[..., None]
        weighted = torch.cat([log_p.exp() * right, right], dim=2)
        sums = weighted.new_zeros(len(log_p), self.num_labels, self.num_labels + 1)
        sums.scatter_add_(1, labels[..., None].expand_as(weighted), weighted)
        number = sums[..., -1:]
        keep = MOMENTUM**number
        self.similarities.mul_(keep).add_(sums[..., :-1] * ((1 - keep) / number.clamp_min(1)))

    def learned(self, network: int) -> Tensor | None:
        """Returns the similarities [C, C] that a network learned, as logits; None where it learned none."""
        if self.kind == "class_means":
            return self.similarities[network].clamp_min(1e-12).log()
        return self.embedding[network].detach() if self.embedding is not None else None

    def train(
        self, examples: Examples, *, steps: int, batch_size: int, learning_rate: float, weight_decay: float
    ) -> None:
        """Trains every network with AdamW for so many steps, the learning rate along a cosine after a linear rise."""
        decayed = [*self.layers, *self.second]
        groups = [{"params": decayed, "weight_decay": weight_decay}]
        if self.embedding is not None:
            groups.append({"params": [self.embedding], "weight_decay": 0.0})
        optimizer = torch.optim.AdamW(groups, lr=learning_rate, fused=True)
        factor = cosine(warmup_fraction=WARMUP)
        scheduler = LambdaLR(optimizer, lambda number: factor(number, steps, steps))
        mean, deviation = examples.scaling()
        count = examples.train.shape[1]
        generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        order, position, epoch, epochs = torch.empty(0), count, -1, math.ceil(steps / (count // batch_size))
        if self.kind == "progressive":
            self.memory = torch.zeros(len(self.similarity), count, self.num_labels)
            self.gathered = self.memory.clone()
        for _ in range(steps):
            if position + batch_size > count:  # the last, smaller batch of an epoch is left out
                epoch += 1
                self.growth = epoch / epochs
                self.memory, self.gathered = self.gathered, self.gathered.clone()
                order = torch.stack([torch.randperm(count, generator=generator) for generator in generators])
                position = 0
            places = order[:, position : position + batch_size]
            position += batch_size
            chosen = examples.train.gather(1, places)
            inputs = (examples.inputs[chosen] - mean[:, None]) / deviation[:, None]
            batch = (inputs, examples.labels[chosen], places)
            self.loss(*(part.repeat_interleave(self.count, dim=0) for part in batch)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()

    @torch.no_grad()
    def predict(self, examples: Examples, chosen: Tensor) -> Tensor:
        """Returns logits [S, K, n, C] of the examples [S, n] of each split."""
        mean, deviation = examples.scaling()
        found = []
        for some in torch.split(chosen, 1_000, dim=1):
            inputs = (examples.inputs[some] - mean[:, None]) / deviation[:, None]
            found.append(self.logits(inputs.repeat_interleave(self.count, dim=0)))
        logits = torch.cat(found, dim=1)
        return logits.view(len(self.seeds), self.count, *logits.shape[1:])


def _linear(inputs: Tensor, layer: Sequence[Tensor]) -> Tensor:
    """Returns the outputs [M, B, out] of a layer of each network, for inputs [M, B, in]."""
    weight, bias = layer
    return torch.baddbmm(bias, inputs, weight)


def _soft(targets: Tensor, log_p: Tensor) -> Tensor:
    """Returns the mean cross entropy [M] with soft targets [M, B, C]."""
    return -(targets * log_p).sum(2).mean(1)


def _initial_weights(sizes: Sequence[int], seed: int) -> list[Tensor]:
    """Returns weight and bias of each layer, drawn as `nn.Linear` draws them."""
    generator = torch.Generator().manual_seed(seed)
    layers = [_layer(*pair, generator) for pair in pairwise(sizes)]
    return [tensor for layer in layers for tensor in layer]


def _layer(inputs: int, outputs: int, generator: torch.Generator) -> list[Tensor]:
    limit = 1 / math.sqrt(inputs)
    weight = torch.empty(inputs, outputs).uniform_(-limit, limit, generator=generator)
    return [weight, torch.empty(1, outputs).uniform_(-limit, limit, generator=generator)]
