"""One utterance examined: can it be trained on, and if not, why."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from wavconformer.audio import SAMPLE_RATE, AudioWarning, probe, stream_audio
from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.data.frames import ctc_frames, output_frames
from wavconformer.data.utterance import Utterance, load_utterance, source_of
from wavconformer.errors import WavConformerError
from wavconformer.files import Source, first_line
from wavconformer.processing import Wav2Vec2CTCTokenizer

Case = Literal["keep", "upper", "lower"]
BUILD = "build"
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "|")

_LEAST_RATE = 8_000  # Hz; of what is above half of it nothing is left
_SILENCE = 1e-4  # of full scale, -80 dB: what 16 bits have as noise


@dataclass(frozen=True)
class Rules:
    """What a text must fit.

    vocabulary: None to leave texts unchecked, "build" for any characters, else a vocab.json or a checkpoint's name.
    case: what is made of the letters.
    """

    vocabulary: str | None = None
    case: Case = "keep"


@dataclass(frozen=True)
class Accepted:
    """An utterance that can be trained on, its length and text made ready; and the rate it was recorded at."""

    utterance: Utterance
    rate: int


@dataclass(frozen=True)
class Refused:
    """An utterance that can't: a word for the reason, by which such are counted, and a sentence."""

    id: str
    audio: str
    reason: str
    detail: str


Finding = Accepted | Refused


class Examiner:
    """Examines utterances by the same rules.

    Raises CheckpointError where the vocabulary isn't there or can't be used.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._config = Wav2Vec2ConformerConfig()
        self._tokenizer: Wav2Vec2CTCTokenizer | None = None
        name = rules.vocabulary
        if name is not None and name != BUILD:
            self._tokenizer = read_tokenizer(name)
            source = Source(name)
            if not Path(name).is_file() and source.find("config.json") is not None:
                self._config = Wav2Vec2ConformerConfig.from_source(source)

    def __call__(self, utterance: Utterance) -> Finding:
        """What is found; never raises on account of the utterance."""
        if isinstance(utterance.audio, str) and written(utterance.audio) != utterance.audio:
            return _refused(utterance, "unreadable", "The name of its file is no valid UTF-8: rename it.")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", AudioWarning)
                samples, peak, rate = _heard(utterance)
        except (WavConformerError, OSError) as error:
            return _refused(utterance, "unreadable", first_line(error) + ".")
        for warning in caught:
            if issubclass(warning.category, AudioWarning):
                return _refused(utterance, "damaged", str(warning.message))
        problem = self._of_sound(samples, peak, rate)
        if problem is None and self._rules.vocabulary is not None:
            problem = self._of_text(utterance.text, samples)
        if problem is not None:
            return _refused(utterance, *problem)
        text = None if utterance.text is None else self._text(utterance.text)
        return Accepted(replace(utterance, text=text, seconds=round(samples / SAMPLE_RATE, 4)), rate)

    def _of_sound(self, samples: int, peak: float, rate: int) -> tuple[str, str] | None:
        if rate < _LEAST_RATE:
            return "low rate", f"Recorded at {rate} Hz, of which speech can't be learned: at least {_LEAST_RATE} Hz."
        if samples < self._config.receptive_field:
            least = self._config.receptive_field / SAMPLE_RATE
            return "too short", f"It lasts {samples / SAMPLE_RATE:.3f} s, and the model needs {least:.3f} s."
        if peak < _SILENCE:
            return "silent", "Nothing is to be heard in it."
        return None

    def _text(self, text: str) -> str:
        text = " ".join(text.split())
        if self._rules.case == "keep":
            return text
        return text.upper() if self._rules.case == "upper" else text.lower()

    def _of_text(self, given: str | None, samples: int) -> tuple[str, str] | None:
        if given is None:
            return "no text", "It has no text, and CTC learns from texts."
        text = self._text(given)
        if not text:
            return "no text", "Its text is empty."
        if self._tokenizer is None:
            special = [token for token in SPECIAL_TOKENS if token in text]
            if special:
                return "vocabulary", f"Its text holds {', '.join(special)}, which has a meaning of its own: {text!r}"
            needed = ctc_frames(text)
        else:
            ids = self._tokenizer(text)["input_ids"]
            outside = outside_vocabulary(self._tokenizer, text, ids)
            if outside:
                return "vocabulary", outside
            needed = ctc_frames(ids)
        frames = output_frames(samples, self._config)
        if needed > frames:
            return "text too long", f"Its text needs {needed} frames, its audio makes {frames}: {_shortened(text)}"
        return None


def read_tokenizer(name: str) -> Wav2Vec2CTCTokenizer:
    """The tokenizer of a vocab.json, or of a folder or Hub repository."""
    if name.endswith(".json") or Path(name).is_file():
        return Wav2Vec2CTCTokenizer(name)
    return Wav2Vec2CTCTokenizer.from_pretrained(name)


def _heard(utterance: Utterance) -> tuple[int, float, int]:
    """How many samples at the models' rate there are, the largest, and the rate as recorded."""
    source = source_of(utterance)
    if utterance.start or utterance.end is not None:
        samples = load_utterance(utterance)
        return len(samples), float(np.abs(samples).max()), probe(source).sampling_rate
    count, peak = 0, 0.0
    for block in stream_audio(source):  # an hour of sound needn't be held at once
        count += len(block)
        peak = max(peak, float(np.abs(block).max()))
    return count, peak, probe(source).sampling_rate


def outside_vocabulary(tokenizer: Wav2Vec2CTCTokenizer, text: str, ids: list[int]) -> str | None:
    """What to say of a text that the vocabulary can't write; None where it can."""
    special = {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}
    if not special.intersection(ids):
        return None

    def known(character: str) -> bool:
        return not special.intersection(tokenizer(character)["input_ids"])

    unknown = sorted({character for character in text if not known(character)})
    if not unknown:
        return f"Its text holds a special token: {_shortened(text)}"
    change: tuple[tuple[str, Callable[[str], str]], ...] = (("upper", str.upper), ("lower", str.lower))
    for case, changed in change:
        if all(known(one) for character in unknown for one in changed(character)):
            return f"The vocabulary has {' '.join(unknown)} in {case} case alone: prepare with --case {case}."
    return f"The vocabulary lacks {' '.join(map(repr, unknown))}: {_shortened(text)}"


def written(name: str) -> str:
    """A name as it can be written in UTF-8, which names of files needn't be."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _refused(utterance: Utterance, reason: str, detail: str) -> Refused:
    audio = "" if isinstance(utterance.audio, bytes) else utterance.audio
    return Refused(written(utterance.id), written(audio), reason, " ".join(detail.split()))


def _shortened(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:99]}…"
