"""Features of CIFAR's pictures from a network trained on ImageNet, for the evidence.

    python -m benchmarks.pretrained_features FOLDER OUT.npz

reads the parquet files of CIFAR-10 or CIFAR-100, enlarges each picture to 96 x 96 pixels, and writes the 1,280 outputs
of timm's `tf_efficientnet_lite0` before its classifier, float16, with the labels: 60,000 pictures in about four
minutes on one core. Needs the extra `pictures`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

SIZE, _AT_ONCE = 96, 250


@torch.inference_mode()
def write_features(data: Path, out: Path) -> None:
    """Writes `inputs` [60,000, 1,280], `labels`, and of CIFAR-100 `groups`; the last 10,000 are the test pictures."""
    from labelembed.lab.data import ImageReader, prepare
    from labelembed.lab.pretrained_images import NETWORK, PACKAGED, FeatureNetwork

    network = FeatureNetwork(NETWORK, weights=PACKAGED, size=SIZE)
    columns = {"labels": None} if data.name == "cifar10" else {"labels": "fine_label", "groups": "coarse_label"}
    arrays: dict[str, Any] = {}
    for name, column in columns.items():
        read = prepare(ImageReader(path=str(data), label_column=column).read(), validation=None)
        splits = (read.splits["train"], read.splits["test"])
        arrays |= {name: np.concatenate([split.labels.numpy() for split in splits]), f"{name}_names": read.names}
    pictures = torch.cat([split.inputs for split in splits])
    rows = []
    for number, some in enumerate(pictures.split(_AT_ONCE)):
        # bicubic, as the network was trained
        large = interpolate(some.float(), size=(SIZE, SIZE), mode="bicubic", antialias=True).clamp(0, 255)
        rows.append(network(large).half().numpy())
        if number % 20 == 0:
            print(f"{number * _AT_ONCE:,} of {len(pictures):,} pictures", flush=True)
    np.savez(out, inputs=np.concatenate(rows), **arrays)


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_features(*map(Path, sys.argv[1:]))
