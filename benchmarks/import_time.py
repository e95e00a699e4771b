"""What `import labelembed`, with its names, adds to torch's own import; and the answer to --help."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 5


def _seconds(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - began


def run() -> None:
    codes = (
        "import torch",
        "import torch, labelembed; labelembed.LabelEmbedding; labelembed.LabelGeometry; labelembed.OneHot",
        "import sys; sys.argv = ['labelembed', '--help']; from labelembed.lab.cli import main; main()",
    )
    rounds = [[_seconds(code) for code in codes] for _ in range(ROUNDS + 1)]
    torch_only, with_labelembed, help_only = zip(*rounds[1:], strict=True)  # the first reads the disk
    added = [total - alone for total, alone in zip(with_labelembed, torch_only, strict=True)]
    print(f"  import torch                {statistics.median(torch_only):.2f} s, n = {ROUNDS}")
    print(
        f"  import labelembed adds      {statistics.median(added):.2f} ± {statistics.stdev(added):.2f} s  "
        "(goal at most 0.10)"
    )
    print(f"  labelembed --help           {statistics.median(help_only):.2f} s  (goal at most 0.25)")
