"""Networks that return hidden states [N, H]; the output layer belongs to the objective.

Each is called with a batch of inputs and has `hidden_size`, the H of what it returns, and `output_std`, the standard
deviation that the weights of an output layer start with; None: PyTorch's own way. Constructors raise a ValueError that
names every argument out of its range.
"""

from torch import nn

from labelembed.lab.models.attention_lstm import AttentionLSTM
from labelembed.lab.models.backbone import Backbone
from labelembed.lab.models.bag_of_words import BagOfWords
from labelembed.lab.models.beam_search import BeamSearch, Hypothesis
from labelembed.lab.models.cnn import CNN, PaperResNet, SmallResNet
from labelembed.lab.models.inputs import Augmentation, InputScaling, Mixing
from labelembed.lab.models.mlp import MLP
from labelembed.lab.models.text_transformer import TextTransformer

MODELS: dict[str, type[nn.Module]] = {
    "mlp": MLP,
    "cnn": CNN,
    "small_resnet": SmallResNet,
    "paper_resnet": PaperResNet,
    "timm": Backbone,
    "bag_of_words": BagOfWords,
    "text_transformer": TextTransformer,
}

# Networks from (source, target) to hidden states [B, T, H], for BeamSearch as well.
SEQUENCE_MODELS: dict[str, type[nn.Module]] = {"attention_lstm": AttentionLSTM}

__all__ = [
    "CNN", "MLP", "MODELS", "SEQUENCE_MODELS", "AttentionLSTM", "Augmentation", "Backbone", "BagOfWords", "BeamSearch",
    "Hypothesis", "InputScaling", "Mixing", "PaperResNet", "SmallResNet", "TextTransformer",
]  # fmt: skip
