"""Beam search with a language model beside greedy decoding: word errors, rare names, time.

    python -m benchmarks.beam RECORDINGS [--model MODEL] [--lm FILE | --save-lm FILE] [--alpha 0.5] [--beta 1.5]
                              [--beam 100] [--names 20] [--limit N]

RECORDINGS is a folder with a transcripts.tsv (columns: file, set, text). Without --lm a language model is made of the
text of recipes/tiny-en/lm_text.py (apt-get install bible-kjv fortunes), without any sentence that is in RECORDINGS,
holds one of them, or is part of one. `--lm tiny-en` is the one that ships along, of the same text and pruned.

Rare names are words of RECORDINGS that the text of the language model has at most --rare times (by default 3), the
rarest first; hot words are these. Their recall is the share of their occurrences that is found in the decoded text.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import jiwer
import numpy as np
import torch
from numpy.typing import NDArray

import wavconformer
from wavconformer.decoding.beam import BeamDecoder, BeamSettings
from wavconformer.decoding.greedy import greedy
from wavconformer.decoding.processor_with_lm import beam_decoder, find_language_model
from wavconformer.decoding.words import words
from wavconformer.lm.arpa import write_arpa
from wavconformer.lm.kneser_ney import Corpus, estimate

RECIPE = Path(__file__).parent.parent / "recipes" / "tiny-en"
ORDER = 4


def sentences(recordings: Path) -> Iterator[str]:
    """The text of the language model that ships along, but for what is in the recordings."""
    sys.path.insert(0, str(RECIPE))
    import lm_text
    from sentences import Exclusion

    return lm_text.sentences(Exclusion.read([recordings / "transcripts.tsv"]))


def log_probs(transcriber: wavconformer.Transcriber, path: Path) -> NDArray[np.float64]:
    """(T, V) of a recording."""
    inputs = transcriber.processor(wavconformer.load_audio(path), sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        return transcriber.model(inputs.input_values).logits[0].double().log_softmax(-1).numpy()


Decode = Callable[[list[NDArray[np.float64]]], list[str]]


def decoded(frames: dict[str, NDArray[np.float64]], decode: Decode, at_once: int) -> tuple[dict[str, str], float]:
    """The text of each recording, so many of like length at once, and the seconds of this process that it took."""
    names = sorted(frames, key=lambda name: len(frames[name]))
    texts: dict[str, str] = {}
    start = time.process_time()
    for first in range(0, len(names), at_once):
        group = names[first : first + at_once]
        texts.update(zip(group, decode([frames[name] for name in group]), strict=True))
    return texts, time.process_time() - start


def errors(said: dict[str, tuple[str, str]], heard: dict[str, str]) -> dict[str, float]:
    """Word error rate of each set, and of all."""
    by_set: dict[str, list[str]] = defaultdict(list)
    for name, (group, _) in said.items():
        by_set[group].append(name)
        by_set["all"].append(name)
    return {
        group: jiwer.wer([said[name][1] for name in names], [heard[name] for name in names])
        for group, names in by_set.items()
    }


def recall(names: set[str], said: dict[str, tuple[str, str]], heard: dict[str, str]) -> tuple[int, int, int]:
    """How often names are said, how many of these are found, and how often one is found where it isn't said."""
    total = found = invented = 0
    for name, (_, text) in said.items():
        true = Counter(word for word in text.split() if word in names)
        got = Counter(word for word in heard[name].split() if word in names)
        total += true.total()
        found += (true & got).total()
        invented += (got - true).total()
    return total, found, invented


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--model", help="folder or Hub repository; the shipped checkpoint by default")
    parser.add_argument("--lm", help="a language model that is there already: a file, or a checkpoint that has one")
    parser.add_argument("--save-lm", type=Path, help="where to write the one that is made")
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--beta", type=float, default=1.5)
    parser.add_argument("--unknown", type=float, default=-10.0, help="unk_score_offset")
    parser.add_argument("--beam", type=int, default=100)
    parser.add_argument("--names", type=int, default=20)
    parser.add_argument("--rare", type=int, default=3)
    parser.add_argument("--hotword-weight", type=float, default=10.0)
    parser.add_argument("--distractors", type=int, default=80, help="hot words that aren't said, beside the names")
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    with (arguments.recordings / "transcripts.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))[: arguments.limit]
    said = {row["file"]: (row["set"], row["text"]) for row in rows}
    transcriber = wavconformer.load_model(arguments.model, device="cpu", lm=False)
    frames = {name: log_probs(transcriber, arguments.recordings / name) for name in said}
    step = transcriber.model.config.hop_length / 16_000
    seconds = sum(map(len, frames.values())) * step

    text = [one.split() for one in sentences(arguments.recordings)]
    if arguments.lm is None:
        start = time.perf_counter()
        corpus = Corpus()
        for sentence in text:
            corpus.add(sentence)
        lm = estimate(corpus, ORDER).model
        print(f"language model: {sum(map(len, text)):,} words, {len(lm.trie) - 1:,} n-grams, "
              f"{time.perf_counter() - start:.1f} s")  # fmt: skip
        if arguments.save_lm is not None:
            write_arpa(lm, arguments.save_lm)
    else:
        lm, _ = find_language_model(arguments.lm)

    settings = BeamSettings(
        arguments.beam, alpha=arguments.alpha, beta=arguments.beta, unk_score_offset=arguments.unknown
    )
    with_lm = beam_decoder(
        transcriber.processor.tokenizer, lm, settings=settings, count=transcriber.model.config.vocab_size
    )
    without = beam_decoder(
        transcriber.processor.tokenizer, settings=settings, count=transcriber.model.config.vocab_size
    )

    def best(decoder: BeamDecoder) -> Decode:
        return lambda group: [" ".join(word.text for word in found) for found in decoder.many(group)]

    def likeliest(group: list[NDArray[np.float64]]) -> list[str]:
        tokens = [greedy(rows.argmax(-1), without.blank) for rows in group]
        return [" ".join(word.text for word in words(one, without.symbols, step)) for one in tokens]

    counts = Counter(word for sentence in text for word in sentence)
    rare = sorted(
        {word for _, sentence in said.values() for word in sentence.split() if len(word) > 3},
        key=lambda word: (counts[word], word),
    )
    names = [word for word in rare if counts[word] <= arguments.rare][: arguments.names]
    others = [word for word, _ in counts.most_common() if len(word) > 5 and word not in set(rare)]
    random.Random(0).shuffle(others)
    hot = dict.fromkeys([*names, *others[: arguments.distractors]], arguments.hotword_weight)
    ways = {
        "greedy": (likeliest, 1),
        "beam": (best(without), 1),
        "beam, hot words": (best(without.using(dict.fromkeys(names, arguments.hotword_weight))), 1),
        "beam, LM": (best(with_lm), 1),
        "beam, LM, 4 at once": (best(with_lm), 4),
        "beam, LM, 8 at once": (best(with_lm), 8),
        "beam, LM, hot words": (best(with_lm.using(dict.fromkeys(names, arguments.hotword_weight))), 1),
        f"beam, LM, {len(hot)} hot words": (best(with_lm.using(hot)), 1),
    }
    print(f"{len(said)} recordings, {seconds:.0f} s; hot words: {' '.join(names)}")
    plain = None
    for name, (decode, at_once) in ways.items():
        heard, spent = decoded(frames, decode, at_once)
        rates = errors(said, heard)
        plain = plain or rates
        total, found, invented = recall(set(names), said, heard)
        wer = ", ".join(f"{group} {rate:.1%} ({rate / plain[group] - 1:+.0%})" for group, rate in rates.items())
        print(f"{name:26} WER {wer}; names {found} of {total}, {invented} invented; "
              f"{spent / seconds * 1000:.1f} ms of CPU a second of audio", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
