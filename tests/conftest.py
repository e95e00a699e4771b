"""What every test starts from."""

import torch

# One thread: the tests' matrices are small, and several test processes would fight over the cores.
torch.set_num_threads(1)
