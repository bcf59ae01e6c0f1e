"""What is measured of a whole process: its peak of memory, and the time of an import."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

FORWARD = """
import torch
from benchmarks.cases import our_model, settings, their_model
torch.set_num_threads({threads})
model = {who}_model(settings("relative", {layers}))
audio = torch.randn(1, 16_000 * {seconds})
with torch.inference_mode():
    model(audio[:, :16_000])
    from benchmarks.processes import peak, start
    start()
    before = peak()
    model(audio)
print(before, peak())
"""
IMPORTS = {
    "theirs": "from transformers import Wav2Vec2ConformerForCTC",
    "ours": "from wavconformer import Wav2Vec2ConformerForCTC",
}


@dataclass(frozen=True)
class Memory:
    """Bytes: of the process with its model loaded, and at the peak of one forward pass after that."""

    case: str
    who: str
    loaded: int
    peak: int

    def as_dict(self) -> dict[str, str | int]:
        return asdict(self)


def start() -> None:
    """Counts the peak of this process's memory from now on (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Bytes of memory that this process held at most since `start`."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def forward_memory(who: str, layers: int, seconds: int, threads: int) -> Memory:
    """The peak of a forward pass with relative positions, weights and all, in a process of its own."""
    code = FORWARD.format(who={"theirs": "their", "ours": "our"}[who], layers=layers, seconds=seconds, threads=threads)
    before, most = (int(number) for number in _run(code).split()[-2:])
    name = f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
    return Memory(f"large × {layers} layers, relative, {name}", who, before, most)


def import_times(runs: int) -> dict[str, float]:
    """Median seconds of a process that imports the CTC class, theirs and ours in turn."""
    times: dict[str, list[float]] = {who: [] for who in IMPORTS}
    for run in range(runs + 1):
        for who, code in IMPORTS.items():
            begun = time.perf_counter()
            _run(code)
            if run:  # the first only warms the disk's cache
                times[who].append(time.perf_counter() - begun)
    ratios = [other / own for other, own in zip(times["theirs"], times["ours"], strict=True)]
    return {**{who: median(taken) for who, taken in times.items()}, "ratio": median(ratios)}


def _run(code: str) -> str:
    folder = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder, env=os.environ
    )
    return done.stdout
