"""Two ways of doing the same, timed in turn in one process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch


@dataclass(frozen=True)
class Comparison:
    """Seconds of both, the median of the ratios theirs / ours pair by pair, and how far the results differ."""

    case: str
    theirs: float
    ours: float
    ratio: float
    runs: int
    difference: float | None = None
    gemm_share: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(
    case: str, theirs: Callable[[], Any], ours: Callable[[], Any], *, runs: int, flops: float | None = None
) -> Comparison:
    """Runs the two alternately, after one warm-up of each.

    flops: of ours; its share of what a large matrix product reaches, measured between the runs, is then given.
    """
    first, second = theirs(), ours()
    difference = None
    if isinstance(first, torch.Tensor):
        difference = float((first - second).detach().abs().max())
    times: list[tuple[float, float]] = []
    peaks = []
    for _ in range(runs):
        times.append((seconds(theirs), seconds(ours)))
        if flops is not None:
            peaks.append(gemm_peak())
    mine = median(own for _, own in times)
    return Comparison(
        case,
        theirs=median(other for other, _ in times),
        ours=mine,
        ratio=median(other / own for other, own in times),
        runs=runs,
        difference=difference,
        gemm_share=None if flops is None else flops / mine / median(peaks),
    )


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def gemm_peak(size: int = 2048) -> float:
    """Floating-point operations a second of a square matrix product, PyTorch's own, the best of three."""
    one, other = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / min(seconds(lambda: one @ other) for _ in range(3))
