"""Networks that return hidden rows [N, H]; the output layer belongs to the objective."""

from typing import Protocol

from torch import Tensor, nn

from labelembed.models.attention_lstm import AttentionLSTM
from labelembed.models.augmentation import Augmentation
from labelembed.models.backbones import Backbone
from labelembed.models.bag_of_words import BagOfWords
from labelembed.models.beam_search import BeamSearch, Hypothesis
from labelembed.models.cnn import CNN
from labelembed.models.mixing import Mixing
from labelembed.models.mlp import MLP
from labelembed.models.paper_resnet import PaperResNet
from labelembed.models.resnet import ResNet
from labelembed.models.scaling import InputScaling
from labelembed.models.sequence_transformer import TransformerSeq2Seq
from labelembed.models.small_resnet import SmallResNet
from labelembed.models.text_transformer import TextTransformer


class Encoder(Protocol):
    """What every network here offers."""

    hidden_size: int
    output_std: float | None

    def __call__(self, inputs: Tensor) -> Tensor:
        """Returns hidden rows [N, hidden_size]."""
        ...


MODELS: dict[str, type[nn.Module]] = {
    "mlp": MLP,
    "cnn": CNN,
    "small_resnet": SmallResNet,
    "resnet": ResNet,
    "paper_resnet": PaperResNet,
    "timm": Backbone,
    "bag_of_words": BagOfWords,
    "text_transformer": TextTransformer,
}

# Networks from (source, target) to hidden rows [B, T, H], for BeamSearch as well.
SEQUENCE_MODELS: dict[str, type[nn.Module]] = {
    "attention_lstm": AttentionLSTM,
    "sequence_transformer": TransformerSeq2Seq,
}

__all__ = [
    "CNN",
    "MLP",
    "MODELS",
    "SEQUENCE_MODELS",
    "AttentionLSTM",
    "Augmentation",
    "Backbone",
    "BagOfWords",
    "BeamSearch",
    "Encoder",
    "Hypothesis",
    "InputScaling",
    "Mixing",
    "PaperResNet",
    "ResNet",
    "SmallResNet",
    "TextTransformer",
    "TransformerSeq2Seq",
]
