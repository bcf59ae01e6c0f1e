"""Words in a row, by voices that a keyword model never heard: how many it finds, and how many that nobody says.

    python -m benchmarks.keywords CORPUS [--model MODEL]

CORPUS is what recipes/keywords/corpus.py made. Of each of its sets test-voice-* all keywords make one recording, and
all unknown words another; both are heard in windows, one every 0.25 s. A keyword is found where a span of its label
with at least the score lies in its clip; a false alarm is a span of any keyword among the unknown words.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from wavconformer import load_classifier
from wavconformer.data.corpus import Corpus
from wavconformer.data.utterance import load_utterance
from wavconformer.decoding.classification import Span

RATE, HOP_SECONDS = 16_000, 0.25
SCORES = (0.5, 0.7, 0.9)
OTHERS = ("unknown", "silence")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--model", help="the shipped one by default")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    classifier = load_classifier(arguments.model, device="cpu")

    def spans(clips: list[np.ndarray]) -> list[Span]:
        found = classifier(np.concatenate(clips), sampling_rate=RATE, hop_seconds=HOP_SECONDS)
        return [span for span in found.spans if span.label not in OTHERS]

    found: Counter[float] = Counter()
    alarms: Counter[float] = Counter()
    keywords, seconds = 0, 0.0
    for folder in sorted(arguments.corpus.glob("test-voice-*")):
        clips = [(one.label, load_utterance(one)) for one in Corpus.open(str(folder))]
        said = [(label, samples) for label, samples in clips if label not in OTHERS]
        others = [samples for label, samples in clips if label == "unknown"]
        heard = spans([samples for _, samples in said])
        edges = np.cumsum([0, *(len(samples) for _, samples in said)]) / RATE
        for (label, _), start, end in zip(said, edges, edges[1:], strict=False):
            best = max(
                (one.score for one in heard if (one.label == label) and one.end > start and one.start < end), default=0
            )
            found.update(score for score in SCORES if best >= score)
        alarms.update(score for span in spans(others) for score in SCORES if span.score >= score)
        keywords += len(said)
        seconds += sum(map(len, others)) / RATE
    for score in SCORES:
        print(
            f"score {score}: {found[score] / keywords:.1%} of {keywords} keywords found, "
            f"{60 * alarms[score] / seconds:.1f} a minute in {seconds:.0f} s of other words"
        )


if __name__ == "__main__":
    main()
