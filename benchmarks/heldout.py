"""Word and character error rates of a checkpoint over recordings with known texts: greedy, and as it decodes by itself.

    python -m benchmarks.heldout RECORDINGS [--model MODEL] [--quantization int8] [--recorded COLUMN]

RECORDINGS is a folder with a transcripts.tsv (columns: file, set, text, and others). They are decoded one by one,
greedily; where the checkpoint carries a language model a second line has what comes of decoding with that, as users
get it. With `--recorded` the texts of greedy decoding are also compared, one by one, with those that another
implementation gave, as recorded in that column; for this the ids are decoded by the processor's `batch_decode`, the
documented way, which keeps doubled spaces that `transcribe` doesn't.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path

import jiwer
import torch

from wavconformer import Transcriber, load_audio, load_model
from wavconformer.tasks.search import described


def documented(transcriber: Transcriber, path: Path) -> str:
    """What the documented example reads in a recording."""
    inputs = transcriber.processor(load_audio(path), sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        logits = transcriber.model(inputs.input_values).logits
    return transcriber.processor.batch_decode(logits.argmax(-1))[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--model", help="folder or Hub repository; the shipped checkpoint by default")
    parser.add_argument("--quantization", choices=["int8"], help="round the weights")
    parser.add_argument("--recorded", help="column with another implementation's texts")
    arguments = parser.parse_args()

    transcriber = load_model(arguments.model, device="cpu", quantization=arguments.quantization)
    greedy = Transcriber(transcriber.model, transcriber.processor, transcriber.name)
    ways = {described(one.decoder): one for one in (greedy, transcriber)}
    said, heard, differing = defaultdict(list), defaultdict(list), []
    with (arguments.recordings / "transcripts.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    for row in rows:
        path = arguments.recordings / row["file"]
        said[row["set"]].append(row["text"])
        for way, one in ways.items():
            heard[row["set"], way].append(one(path).text)
        if arguments.recorded and (text := documented(transcriber, path)) != row[arguments.recorded]:
            differing.append(f"{row['file']}: {text!r}, recorded {row[arguments.recorded]!r}")

    for name in sorted(said):
        for way in ways:
            wer, cer = jiwer.wer(said[name], heard[name, way]), jiwer.cer(said[name], heard[name, way])
            print(f"{name} ({len(said[name])}), {way}: WER {wer:.2%}, CER {cer:.2%}")
    if arguments.recorded:
        print(f"{len(rows) - len(differing)} of {len(rows)} texts equal to those recorded")
        print(*differing, sep="\n")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
