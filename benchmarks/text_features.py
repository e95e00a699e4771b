"""Features of texts through the packaged encoder, against the plain transformers loop over length-sorted batches.

`LABELEMBED_DATA=FOLDER` with `imdb` in it takes its reviews; otherwise texts are made that are as long.
"""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

import torch

from benchmarks.timing import interleaved, print_ratios
from labelembed.errors import DataError

TEXTS, ROUNDS, BATCH, TOKENS = 192, 5, 32, 256
_WORDS = ["the", "film", "was", "a", "story", "of", "two", "people", "and", "music", "that", "nobody", "would", "like"]


def texts() -> list[str]:
    """Returns some of the reviews, or made texts of like lengths."""
    given = os.environ.get("LABELEMBED_DATA")
    if given and (Path(given) / "imdb").is_dir():
        from labelembed.lab.data import TextReader

        found = TextReader(path=f"{given}/imdb").read().train.inputs
        return [found[row] for row in range(0, len(found), len(found) // TEXTS)][:TEXTS]
    draw = random.Random(0)
    return [" ".join(draw.choices(_WORDS, k=int(draw.lognormvariate(5.2, 0.6)))) for _ in range(TEXTS)]


def plain(sample: list[str], folder: Path) -> torch.Tensor:
    """Returns the features as the library's own examples compute them, sorted by length first."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    model = AutoModel.from_pretrained(str(folder)).eval()
    order = sorted(range(len(sample)), key=lambda row: len(sample[row]))
    features = torch.empty(len(sample), model.config.hidden_size)
    with torch.inference_mode():
        for begin in range(0, len(order), BATCH):
            rows = order[begin : begin + BATCH]
            chunk = [sample[row] for row in rows]
            tokens = tokenizer(chunk, padding=True, truncation=True, max_length=TOKENS, return_tensors="pt")
            mask = tokens["attention_mask"][..., None]
            features[rows] = (model(**tokens).last_hidden_state * mask).sum(1) / mask.sum(1)
    return features


def run() -> None:
    try:
        from transformers.utils import logging

        from labelembed.lab.data import TextFeatures, Texts
        from labelembed.lab.pretrained_text import packaged_model

        folder = packaged_model()
    except (ImportError, DataError) as error:
        print(f"  left out: {error}")
        return
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    threads, before, sample = torch.get_num_threads(), os.environ.get("LABELEMBED_CACHE"), texts()
    torch.set_num_threads(1)

    def ours() -> torch.Tensor:
        with tempfile.TemporaryDirectory() as nothing_kept:
            os.environ["LABELEMBED_CACHE"] = nothing_kept
            return TextFeatures(str(folder), TOKENS).transform(Texts(sample)).inputs

    try:
        print(
            f" {len(sample)} texts, up to {TOKENS} tokens, all-MiniLM-L6-v2, one thread; loading and keeping included"
        )
        torch.testing.assert_close(ours(), plain(sample, folder), rtol=0, atol=1e-5)
        variants = {
            "plain transformers": lambda: plain(sample, folder),
            "labelembed": ours,
        }
        times = interleaved(variants, rounds=ROUNDS, calls=1)
        print_ratios(times, baseline="plain transformers", goals={"labelembed": 1.10})
    finally:
        torch.set_num_threads(threads)
        if before is None:
            os.environ.pop("LABELEMBED_CACHE", None)
        else:
            os.environ["LABELEMBED_CACHE"] = before
