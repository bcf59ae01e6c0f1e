"""Times wavconformer beside `transformers`, and writes the table of docs/performance.md.

    python -m benchmarks [CASE ...] [--runs 5] [--threads 2] [--seconds 2 10 30 60] [--no-write]

Both have the same weights and inputs and run in turn in one process; a ratio is theirs / ours, the median over the
pairs. Without a case all are run. Results go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import torch
import transformers

from benchmarks.cases import CASES, memory
from benchmarks.timing import Comparison, gemm_peak

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "performance.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join([*CASES, 'memory'])}; all by default")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=int, nargs="+", default=[2, 10, 30, 60], help="lengths of the case forward")
    parser.add_argument("--no-write", action="store_true", help="print alone")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - {*CASES, "memory"}:
        parser.error(f"there is no case {', '.join(sorted(unknown))}")
    torch.set_num_threads(arguments.threads)
    RESULTS.mkdir(exist_ok=True)
    machine = {
        "threads": arguments.threads,
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "gemm_gflops": round(gemm_peak() / 1e9),
    }
    print(machine)
    for name in arguments.cases or [*CASES, "memory"]:
        if name == "memory":
            content = {"machine": machine, "memory": memory(arguments.threads)}
            print(content["memory"])
        else:
            found: list[Comparison] = []
            options = {"lengths": tuple(arguments.seconds)} if name == "forward" else {}
            for comparison in CASES[name](arguments.runs, **options):
                print(row(comparison.as_dict()), flush=True)
                found.append(comparison)
            content = {"machine": machine, "comparisons": [comparison.as_dict() for comparison in found]}
        if not arguments.no_write:
            (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
            PAGE.write_text(page())


def row(values: dict[str, float]) -> str:
    share = f"{values['gemm_share']:.0%}" if values["gemm_share"] is not None else "–"
    return f"| {values['case']} | {values['theirs']:.3f} | {values['ours']:.3f} | {values['ratio']:.2f} | {share} |"


def page() -> str:
    """docs/performance.md, of the results that are there."""
    paths = {name: RESULTS / f"{name}.json" for name in [*CASES, "memory"]}
    results = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    machine = next(iter(results.values()))["machine"]
    lines = [
        "# Performance",
        "",
        f"Beside `transformers` {machine['transformers']} with its fused attention (sdpa), on {machine['threads']} CPU "
        f"threads, float32, torch {machine['torch']}. Same weights, same inputs, in turn in one process; the ratio is "
        "theirs / ours, the median over the pairs (above 1: ours is faster). `make bench` runs it again and rewrites "
        "this page. Share: the arithmetic of the forward pass over the time, against a 2048³ matrix product measured "
        f"between the runs (about {machine['gemm_gflops']} GFLOP/s).",
        "",
        "| case | theirs, s | ours, s | ratio | share of the GEMM peak |",
        "|---|---|---|---|---|",
    ]
    for name in CASES:
        lines += [row(values) for values in results.get(name, {}).get("comparisons", [])]
    if "memory" in results:
        figures = results["memory"]["memory"]
        extra = {who: (figures[who] - figures["without"]) / 2**20 for who in ("theirs", "ours")}
        lines += [
            "",
            "Peak memory of a 60 s forward pass, large × 6 layers, relative, weights aside: theirs "
            f"{extra['theirs']:,.0f} MiB, ours {extra['ours']:,.0f} MiB.",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
