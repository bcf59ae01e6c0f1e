"""From command to text: the time of `wavconformer transcribe` on a 3 s recording, beside that of importing torch.

    python -m benchmarks.startup [--runs 7]

Whole processes, in turn, after one warm-up each; the medians are printed. The aim: at most 1.5 × the import + 1.5 s.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from statistics import median

from wavconformer.files import ASSETS

COMMANDS = {
    "import torch": ["-c", "import torch"],
    "import wavconformer": ["-c", "import wavconformer"],
    "transcribe 3 s": ["-m", "wavconformer", "transcribe", str(ASSETS / "samples" / "timer.flac")],
}


def seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for run in range(runs + 1):
        for name, arguments in COMMANDS.items():
            taken = seconds(arguments)
            if run:
                times[name].append(taken)
    for name, taken in times.items():
        print(f"{name:20} {median(taken):.2f} s")
    limits = [1.5 * base + 1.5 for base in times["import torch"]]
    shares = [taken / limit for taken, limit in zip(times["transcribe 3 s"], limits, strict=True)]
    print(f"transcribe takes {median(shares):.0%} of 1.5 × import torch + 1.5 s")


if __name__ == "__main__":
    main()
