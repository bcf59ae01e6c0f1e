"""Times wavconformer beside `transformers`, and writes the table of docs/performance.md.

    python -m benchmarks [CASE ...] [--runs 5] [--threads 2] [--seconds 2 10 30 60] [--no-write]

Both have the same weights and inputs and run in turn in one process; a ratio is theirs / ours, the median over the
pairs. Without a case all are run, which takes about half an hour. Results go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.cases import CASES
from benchmarks.processes import forward_memory, import_times
from benchmarks.timing import gemm_peak

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "performance.md"
# Layers and seconds of the forward passes whose memory is measured, and by whom.
MEMORY = ((6, 60, ("theirs", "ours")), (2, 600, ("ours",)))
ALL = [*CASES, "memory", "import"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(ALL)}; all by default")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=int, nargs="+", default=[2, 10, 30, 60], help="lengths of the case forward")
    parser.add_argument("--no-write", action="store_true", help="print alone")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(ALL):
        parser.error(f"there is no case {', '.join(sorted(unknown))}")
    torch.set_num_threads(arguments.threads)
    RESULTS.mkdir(exist_ok=True)
    for name in arguments.cases or ALL:
        content = {"machine": machine(arguments.threads), **measure(name, arguments)}
        if not arguments.no_write:
            (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
            PAGE.write_text(page())


def machine(threads: int) -> dict[str, Any]:
    return {
        "threads": threads,
        "processor": processor(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "gemm_gflops": round(gemm_peak() / 1e9),
    }


def processor() -> str:
    """Its name and the instructions that PyTorch uses of it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()} ({torch.backends.cpu.get_cpu_capability()})"


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The case's results, printed as they come."""
    if name == "memory":
        found = [
            forward_memory(who, layers, seconds, arguments.threads).as_dict()
            for layers, seconds, parties in MEMORY
            for who in parties
        ]
        print(*found, sep="\n", flush=True)
        return {"memory": found}
    if name == "import":
        times = import_times(arguments.runs)
        print(times, flush=True)
        return {"import": times}
    options = {"lengths": tuple(arguments.seconds)} if name == "forward" else {}
    comparisons = []
    for comparison in CASES[name](arguments.runs, **options):
        comparisons.append(comparison.as_dict())
        print(row(comparisons[-1]), flush=True)
    return {"comparisons": comparisons}


def row(values: dict[str, Any]) -> str:
    share = f"{values['gemm_share']:.0%}" if values["gemm_share"] is not None else "–"
    apart = f"{values['difference']:.1e}" if values["difference"] is not None else "–"
    times = f"{values['theirs']:.3f} | {values['ours']:.3f} | {values['ratio']:.2f}"
    return f"| {values['case']} | {times} | {share} | {apart} |"


def page() -> str:
    """docs/performance.md, of the results that are there."""
    paths = {name: RESULTS / f"{name}.json" for name in ALL}
    results = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    where = next(iter(results.values()))["machine"]
    peaks = [result["machine"]["gemm_gflops"] for result in results.values()]
    lines = [
        "# Performance",
        "",
        f"Beside `transformers` {where['transformers']} with its fused attention (sdpa), on {where['threads']} threads "
        f"of an {where['processor']}, float32 unless said, torch {where['torch']}. Same weights, same inputs, in turn "
        "in one process; the ratio is theirs / ours, the median over the pairs (above 1: ours is faster). `make bench` "
        "runs it again and rewrites this page.",
        "",
        "Share: the arithmetic of our forward pass over its time, against PyTorch's own 2048³ matrix product measured "
        f"between the runs ({min(peaks)}–{max(peaks)} GFLOP/s). It can exceed 100 %: our products go through oneDNN, "
        "which on some processors is faster than PyTorch's default. Apart: the largest difference between the logits "
        "of the two.",
        "",
        "| case | theirs, s | ours, s | ratio | share | apart |",
        "|---|---|---|---|---|---|",
    ]
    for name in CASES:
        lines += [row(values) for values in results.get(name, {}).get("comparisons", [])]
    if "memory" in results:
        lines += [
            "",
            "Memory, each in a process of its own, in MiB: with the model loaded, and at the peak of one forward pass.",
            "",
            "| case | whose | loaded | peak | above loaded |",
            "|---|---|---|---|---|",
        ]
        for values in results["memory"]["memory"]:
            loaded, most = values["loaded"] / 2**20, values["peak"] / 2**20
            sizes = f"{loaded:,.0f} | {most:,.0f} | {most - loaded:,.0f}"
            lines.append(f"| {values['case']} | {values['who']} | {sizes} |")
    if "import" in results:
        times = results["import"]["import"]
        lines += [
            "",
            f"Importing the CTC class, a process each: theirs {times['theirs']:.2f} s, ours {times['ours']:.2f} s "
            f"(ratio {times['ratio']:.2f}); most of ours is `import torch`.",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
