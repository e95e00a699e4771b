"""Imported by the fork server and nowhere else: what every run needs, once for all processes."""

import gc

import filelock  # noqa: F401
import sklearn.datasets  # noqa: F401
import torch._dynamo  # noqa: F401 - what an optimiser imports first

import labelembed.lab.runs.run  # noqa: F401

gc.freeze()  # the processes share this memory for as long as no collection writes to it
