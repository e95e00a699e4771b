"""Models of transformers with an objective in the place of the head and its loss, for `Trainer` and `generate`.

Importing this module tells transformers' Auto classes of them, so that `AutoModelForCausalLM.from_pretrained` and its
like find what `save_pretrained` wrote.
"""

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)

from labelembed.integrations.transformers.causal_lm import ObjectiveForCausalLM
from labelembed.integrations.transformers.configuration import ObjectiveConfig
from labelembed.integrations.transformers.seq2seq_lm import ObjectiveForSeq2SeqLM
from labelembed.integrations.transformers.sequence_classification import ObjectiveForSequenceClassification
from labelembed.integrations.transformers.training import ObjectiveCallback, parameter_groups

AutoConfig.register(ObjectiveConfig.model_type, ObjectiveConfig)
AutoModelForSequenceClassification.register(ObjectiveConfig, ObjectiveForSequenceClassification)
AutoModelForCausalLM.register(ObjectiveConfig, ObjectiveForCausalLM)
AutoModelForSeq2SeqLM.register(ObjectiveConfig, ObjectiveForSeq2SeqLM)

__all__ = [
    "ObjectiveCallback",
    "ObjectiveConfig",
    "ObjectiveForCausalLM",
    "ObjectiveForSeq2SeqLM",
    "ObjectiveForSequenceClassification",
    "parameter_groups",
]
