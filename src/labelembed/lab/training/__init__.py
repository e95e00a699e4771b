"""The training loop, evaluation, checkpoints, and the files of a run folder."""
