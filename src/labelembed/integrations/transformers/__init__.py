"""Any model of transformers with an objective in the place of its last linear layer and its loss.

`attach` changes a model in place; `Trainer`, `generate`, `save_pretrained` and a loop of your own work as before.
"""

from labelembed.integrations.transformers.attaching import attach, load
from labelembed.integrations.transformers.attachment import Attachment

__all__ = ["Attachment", "attach", "load"]
