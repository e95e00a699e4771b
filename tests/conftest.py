"""What every test starts from."""

import os
import tempfile

import torch

# One thread: the tests' matrices are small, and several test processes would fight over the cores.
torch.set_num_threads(1)

# What tests decode stays out of the cache of whoever runs them; the folder goes with the process.
_CACHE = tempfile.TemporaryDirectory(prefix="labelembed-tests-")
os.environ["LABELEMBED_CACHE"] = _CACHE.name
