"""Pictures of CIFAR's size: step times of two networks, what augmentation and reading cost, and decoding."""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from benchmarks.timing import interleaved, print_ratios
from labelembed.lab.data import ImageReader, Split, prepare
from labelembed.lab.models import Augmentation, InputScaling, PaperResNet, SmallResNet
from labelembed.objectives import LabelEmbedding, OneHot

SHAPE, LABELS = (3, 32, 32), 10
PAPER_BATCH, SMALL_BATCH = 32, 128
ROUNDS, EPOCH_ROWS = 6, 10_240
MADE_ROWS, ALL_ROWS = 6_000, 60_000


def made_split(rows: int) -> Split:
    random = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (rows, *SHAPE), dtype=torch.uint8, generator=random)
    return Split(inputs, torch.arange(rows) % LABELS)


def scaled() -> InputScaling:
    return InputScaling(offset=[125.3, 123.0, 113.9], scale=[63.0, 62.1, 66.7])


def training_step(make: Callable[[], nn.Module], objective: type, batch: int) -> Callable[[], None]:
    """Returns a function that makes one whole step: rows gathered, scaled, augmented, forward, back, optimiser."""
    torch.manual_seed(0)
    encoder = make()
    head = objective(encoder.hidden_size, LABELS)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], fused=True)
    prepared = batches(batch)

    def step() -> None:
        pictures, labels = next(prepared)
        loss = head(encoder(pictures), labels).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def batches(
    batch: int, *, augmentation: Literal["flip", "crop_flip"] = "crop_flip"
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Gives batches as a run makes them, without end; `cifar10-small` flips, the papers' recipes also move."""
    split, scaling, changed = made_split(EPOCH_ROWS), scaled(), Augmentation(augmentation, input_shape=SHAPE)
    while True:
        for rows in split.batches(batch, order=torch.randperm(len(split))):
            yield changed(scaling(rows.inputs)), rows.labels


def small() -> nn.Module:
    """Returns the network of `cifar10-small`."""
    return SmallResNet(input_shape=SHAPE, channels=(16, 48, 96))


def step_ratios() -> None:
    def paper() -> nn.Module:
        return PaperResNet(input_shape=SHAPE, depth=8)

    for name, make, batch, calls, goal in (
        ("ResNet-8, paper's widths", paper, PAPER_BATCH, 1, 1.01),
        ("small_resnet", small, SMALL_BATCH, 4, 1.03),
    ):
        print(f" {name}, batch {batch}, one thread")
        variants = {
            "one-hot": training_step(make, OneHot, batch),
            "label embedding": training_step(make, LabelEmbedding, batch),
        }
        print_ratios(
            interleaved(variants, rounds=ROUNDS, calls=calls), baseline="one-hot", goals={"label embedding": goal}
        )


def augmentation_share() -> None:
    prepared = batches(SMALL_BATCH, augmentation="flip")
    variants = {"reading": lambda: next(prepared), "step": training_step(small, OneHot, SMALL_BATCH)}
    times = interleaved(variants, rounds=ROUNDS, calls=8)
    shares = [reading / step for reading, step in zip(times["reading"], times["step"], strict=True)]
    print(
        f"  gathering, scaling, augmentation   {statistics.median(shares):.1%} ± {statistics.stdev(shares):.1%} of a "
        f"step of cifar10-small, n = {ROUNDS}  (goal < 5 %)"
    )


class PillowPictures(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """The pictures as torchvision's own data sets give them, one by one."""

    def __init__(self, split: Split, change: Callable[[object], torch.Tensor]) -> None:
        self.pictures = split.inputs.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = split.labels.tolist()
        self.change = change

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        return self.change(Image.fromarray(self.pictures[row])), self.labels[row]


def against_torchvision() -> None:
    try:
        from torchvision import transforms
    except (ImportError, RuntimeError) as error:
        print(f"  against torchvision: left out, it is not there ({str(error).splitlines()[0]})")
        return
    change = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
        ]
    )
    loader = torch.utils.data.DataLoader(
        PillowPictures(made_split(EPOCH_ROWS), change),
        batch_size=SMALL_BATCH,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,
    )
    prepared = batches(SMALL_BATCH)
    variants: dict[str, Callable[[], object]] = {
        "torchvision": lambda: [None for _ in loader],
        "labelembed": lambda: [next(prepared) for _ in range(EPOCH_ROWS // SMALL_BATCH)],
    }
    times = interleaved(variants, rounds=ROUNDS, calls=1)
    ratios = [theirs / ours for theirs, ours in zip(times["torchvision"], times["labelembed"], strict=True)]
    for name, values in times.items():
        print(f"  {name:<14} {EPOCH_ROWS / statistics.median(values):12,.0f} pictures a second, n = {ROUNDS}")
    print(
        f"  ratio          {statistics.median(ratios):.1f} ± {statistics.stdev(ratios):.1f}, one thread to "
        "a loader with 2 workers  (goal at least 10)"
    )


def write_pictures(folder: Path) -> None:
    """Writes pictures as the hub has CIFAR-10's, PNG in parquet."""
    import pyarrow
    import pyarrow.parquet
    from PIL import Image

    pictures = made_split(MADE_ROWS).inputs.permute(0, 2, 3, 1).numpy()
    for split, rows in (("train", slice(0, -MADE_ROWS // 6)), ("test", slice(-MADE_ROWS // 6, None))):
        encoded = []
        for pixels in pictures[rows]:
            stream = io.BytesIO()
            # as smooth as a photograph: noise takes longer to decode
            Image.fromarray(pixels // 16 + np.arange(32, dtype=np.uint8)[:, None] * 4).save(stream, "PNG")
            encoded.append({"bytes": stream.getvalue(), "path": None})
        table = pyarrow.table({"img": encoded, "label": [row % LABELS for row in range(len(encoded))]})
        pyarrow.parquet.write_table(table, folder / f"{split}-00000-of-00001.parquet")


def decoding() -> None:
    given = os.environ.get("LABELEMBED_DATA")
    before = os.environ.get("LABELEMBED_CACHE")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(given) / "cifar10" if given else Path(made) / "data"
        if not folder.is_dir():
            folder = Path(made) / "data"
            folder.mkdir()
            try:
                write_pictures(folder)
            except ImportError:
                print("  decoding: left out, pyarrow is not there: pip install 'labelembed[hub]'")
                return
        os.environ["LABELEMBED_CACHE"] = f"{made}/cache"
        try:
            seconds = []
            for _ in range(4):
                began = time.perf_counter()
                data = prepare(ImageReader(path=str(folder)).read(), validation=None)
                seconds.append(time.perf_counter() - began)
        finally:
            if before is None:
                del os.environ["LABELEMBED_CACHE"]
            else:
                os.environ["LABELEMBED_CACHE"] = before
    rows = len(data.train) + (0 if data.test is None else len(data.test))
    first, again = seconds[0] * ALL_ROWS / rows, statistics.median(seconds[1:]) * ALL_ROWS / rows
    what = "CIFAR-10" if rows == ALL_ROWS else f"{rows:,} made pictures, times {ALL_ROWS / rows:.0f}"
    print(f"  decoding {what}: once {first:.1f} s, n = 1  (goal < 60 on 2 cores)")
    print(f"  from the cache: {again:.2f} s, n = 3  (goal < 2)")


def run() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        step_ratios()
        augmentation_share()
        against_torchvision()
    finally:
        torch.set_num_threads(threads)
    decoding()
