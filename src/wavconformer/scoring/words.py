"""Word and character error rates, and where the words went wrong."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from wavconformer.errors import DataError, WavConformerError
from wavconformer.scoring.intervals import RESAMPLES, Interval, bootstrap

_APOSTROPHES = dict.fromkeys(map(ord, "’ʼ`´＇"), "'")


class Normalisation(str, Enum):
    """What is made of both texts before they are compared. Whitespace never counts."""

    none = "none"
    case = "case"
    punctuation = "punctuation"
    standard = "standard"

    @property
    def description(self) -> str:
        """What it does, in words, for reports."""
        case = "lower case"
        marks = "no punctuation: dashes and slashes part words, apostrophes inside words stay, other marks vanish"
        said = {"none": "texts as they are", "case": case, "punctuation": marks, "standard": f"{case}; {marks}"}
        return said[self.value]

    def __call__(self, text: str) -> str:
        """The text as it is compared, words parted by one space."""
        if self is not Normalisation.none:
            text = unicodedata.normalize("NFC", text)
        if self in (Normalisation.case, Normalisation.standard):
            text = text.lower()
        if self in (Normalisation.punctuation, Normalisation.standard):
            text = _without_punctuation(text)
        return " ".join(text.split())


def _without_punctuation(text: str) -> str:
    text = text.translate(_APOSTROPHES)
    kept = []
    for index, sign in enumerate(text):
        category = unicodedata.category(sign)
        if sign == "'":
            inside = 0 < index < len(text) - 1 and text[index - 1].isalnum() and text[index + 1].isalnum()
            kept.append(sign if inside else "")
        elif category == "Pd" or sign in "/\\_":
            kept.append(" ")
        elif not category.startswith("P"):
            kept.append(sign)
    return "".join(kept)


@dataclass(frozen=True)
class Rate:
    """An error rate: the errors over the length of the references, in words or in characters.

    interval: by bootstrap over utterances; None for fewer than two.
    """

    substitutions: int
    deletions: int
    insertions: int
    length: int
    interval: Interval | None = None

    @property
    def errors(self) -> int:
        """All of them."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def value(self) -> float:
        """Errors per word or character, NaN for references without any; more than 1 where much was invented."""
        return self.errors / self.length if self.length else float("nan")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "value": self.value if self.length else None,
            "interval": None if self.interval is None else [self.interval.low, self.interval.high],
            "errors": self.errors,
            "length": self.length,
            "substitutions": self.substitutions,
            "deletions": self.deletions,
            "insertions": self.insertions,
        }


@dataclass(frozen=True)
class Chunk:
    """Neighbouring words of the reference beside those of the hypothesis.

    kind: "equal", "substitute" (as many on both sides), "delete" (no hypothesis) or "insert" (no reference).
    """

    kind: str
    reference: tuple[str, ...]
    hypothesis: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """An utterance's texts as they were compared, their words aligned, and the errors in it."""

    id: str
    group: str | None
    reference: str
    hypothesis: str
    chunks: tuple[Chunk, ...]
    words: Rate
    characters: Rate

    def aligned(self, width: int | None = None) -> list[tuple[str, str, str]]:
        """Three lines for a terminal: reference, hypothesis, and the sign of each word's error below it.

        width: columns at the most; what is longer goes on in three more lines.
        """
        signs = {"equal": " ", "substitute": "S", "delete": "D", "insert": "I"}
        blocks: list[list[tuple[str, str, str]]] = [[]]
        used = 0
        for chunk in self.chunks:
            for number in range(max(len(chunk.reference), len(chunk.hypothesis))):
                reference = chunk.reference[number] if chunk.reference else ""
                hypothesis = chunk.hypothesis[number] if chunk.hypothesis else ""
                size = max(len(reference), len(hypothesis))
                if width is not None and blocks[-1] and used + size > width:
                    blocks.append([])
                    used = 0
                texts = reference or "*" * size, hypothesis or "*" * size, signs[chunk.kind]
                blocks[-1].append((texts[0].ljust(size), texts[1].ljust(size), texts[2].ljust(size)))
                used += size + 1
        return [
            (
                " ".join(words[0] for words in block).rstrip(),
                " ".join(words[1] for words in block).rstrip(),
                " ".join(words[2] for words in block).rstrip(),
            )
            for block in blocks
        ]


@dataclass(frozen=True)
class Group:
    """The rates of one speaker, or whatever the utterances are grouped by."""

    name: str
    utterances: int
    wer: Rate
    cer: Rate


@dataclass(frozen=True)
class WordScores:
    """Rates over all utterances.

    wer, cer: of words, and of characters with the spaces between words. wrong: utterances with an error.
    groups: the worst first; empty where nothing is grouped. pairs: in the order given.
    """

    wer: Rate
    cer: Rate
    wrong: int
    normalisation: Normalisation
    groups: tuple[Group, ...]
    pairs: tuple[Pair, ...]

    def worst(self, count: int) -> list[Pair]:
        """The utterances with the highest word error rates, of equal ones those with more errors first."""
        wrong = [pair for pair in self.pairs if pair.words.errors]
        return sorted(wrong, key=lambda pair: (-pair.words.errors / max(pair.words.length, 1), -pair.words.errors))[
            :count
        ]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON, without the pairs."""
        return {
            "wer": self.wer.as_dict(),
            "cer": self.cer.as_dict(),
            "utterances": len(self.pairs),
            "utterances_with_errors": self.wrong,
            "normalisation": {"name": self.normalisation.value, "what": self.normalisation.description},
            "groups": [
                {
                    "name": group.name,
                    "utterances": group.utterances,
                    "wer": group.wer.as_dict(),
                    "cer": group.cer.as_dict(),
                }
                for group in self.groups
            ],
        }


def score_words(
    references: Sequence[str],
    hypotheses: Sequence[str],
    *,
    ids: Sequence[str] | None = None,
    groups: Sequence[str | None] | None = None,
    normalise: Normalisation | str = Normalisation.standard,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> WordScores:
    """Word and character error rates of hypotheses (N,) against references (N,).

    ids, groups: (N,) of each utterance; numbers and no groups by default.
    resamples, seed: of the bootstrap intervals, see `intervals.bootstrap`.

    An empty reference is allowed: what is heard there is inserted. Raises ValueError where the numbers differ,
    DataError where there is nothing to score, WavConformerError where jiwer isn't installed.
    """
    count = len(references)
    ids = [str(number) for number in range(count)] if ids is None else ids
    groups = [None] * count if groups is None else groups
    if not len(hypotheses) == len(ids) == len(groups) == count:
        raise ValueError(
            f"{count} references go with as many hypotheses, ids and groups, not {len(hypotheses)}, {len(ids)} and "
            f"{len(groups)}."
        )
    if not count:
        raise DataError("There are no utterances to score.")
    normalise = Normalisation(normalise)
    pairs = _pairs(ids, groups, [normalise(text) for text in references], [normalise(text) for text in hypotheses])
    wer, cer = _rates(pairs, resamples, seed)
    by_group: dict[str, list[Pair]] = {}
    for pair in pairs:
        if pair.group is not None:
            by_group.setdefault(pair.group, []).append(pair)
    broken_down = [
        Group(name, len(members), *_rates(members, resamples, seed)) for name, members in sorted(by_group.items())
    ]
    broken_down.sort(key=lambda group: -group.wer.errors / max(group.wer.length, 1))
    wrong = sum(pair.words.errors > 0 for pair in pairs)
    return WordScores(wer, cer, wrong, normalise, tuple(broken_down), tuple(pairs))


def require_jiwer() -> Any:
    """The module jiwer; WavConformerError where it isn't installed."""
    try:
        import jiwer
    except ImportError as error:
        raise WavConformerError(
            "Word error rates need jiwer, which isn't installed: pip install 'wavconformer[evaluate]'."
        ) from error
    return jiwer


def _rates(pairs: Sequence[Pair], resamples: int, seed: int) -> tuple[Rate, Rate]:
    return (
        _total([pair.words for pair in pairs], resamples, seed),
        _total([pair.characters for pair in pairs], resamples, seed),
    )


def _total(rates: Sequence[Rate], resamples: int, seed: int) -> Rate:
    interval = bootstrap(
        [rate.errors for rate in rates], [rate.length for rate in rates], resamples=resamples, seed=seed
    )
    return Rate(
        sum(rate.substitutions for rate in rates),
        sum(rate.deletions for rate in rates),
        sum(rate.insertions for rate in rates),
        sum(rate.length for rate in rates),
        interval,
    )


def _pairs(
    ids: Sequence[str], groups: Sequence[str | None], references: list[str], hypotheses: list[str]
) -> list[Pair]:
    jiwer = require_jiwer()
    # jiwer refuses or allows empty references by its version: what is heard there is inserted, without its help.
    spoken = [index for index, reference in enumerate(references) if reference]
    given = [references[index] for index in spoken], [hypotheses[index] for index in spoken]
    words = dict(zip(spoken, jiwer.process_words(*given).alignments if spoken else [], strict=True))
    characters = dict(zip(spoken, jiwer.process_characters(*given).alignments if spoken else [], strict=True))
    pairs = []
    for index, (reference, hypothesis) in enumerate(zip(references, hypotheses, strict=True)):
        reference_words, hypothesis_words = tuple(reference.split()), tuple(hypothesis.split())
        if reference:
            chunks = tuple(
                Chunk(
                    chunk.type,
                    reference_words[chunk.ref_start_idx : chunk.ref_end_idx],
                    hypothesis_words[chunk.hyp_start_idx : chunk.hyp_end_idx],
                )
                for chunk in words[index]
            )
            letters = _rate(
                [(c.type, c.ref_end_idx - c.ref_start_idx, c.hyp_end_idx - c.hyp_start_idx) for c in characters[index]]
            )
        else:
            chunks = (Chunk("insert", (), hypothesis_words),) if hypothesis else ()
            letters = Rate(0, 0, len(hypothesis), 0)
        counted = _rate([(chunk.kind, len(chunk.reference), len(chunk.hypothesis)) for chunk in chunks])
        pairs.append(Pair(ids[index], groups[index], reference, hypothesis, chunks, counted, letters))
    return pairs


def _rate(chunks: Sequence[tuple[str, int, int]]) -> Rate:
    """The rate of an alignment, given as kind, reference's and hypothesis' length of each chunk."""
    counts = dict.fromkeys(("equal", "substitute", "delete", "insert"), 0)
    for kind, reference, hypothesis in chunks:
        counts[kind] += max(reference, hypothesis)
    length = sum(reference for _, reference, _ in chunks)
    return Rate(counts["substitute"], counts["delete"], counts["insert"], length)
