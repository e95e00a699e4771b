"""The old name of `labelembed.metrics`, for one more version."""

import sys
import warnings

from labelembed import metrics

warnings.warn("labelembed.measures is labelembed.metrics now", DeprecationWarning, stacklevel=2)
sys.modules[__name__] = metrics
