"""What was said in a recording: its text, its segments, its words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from wavconformer.decoding.words import Word

SEGMENT_PAUSE = 0.8
"""Seconds without a word that end a segment."""


@dataclass(frozen=True)
class SpeakerTurn:
    """A speaker heard without a break. start, end: seconds from the recording's start."""

    start: float
    end: float
    speaker: str


@dataclass(frozen=True)
class Segment:
    """What is said between two pauses. start, end: seconds from the recording's start, of its first and last word."""

    text: str
    start: float
    end: float
    words: tuple[Word, ...]

    @classmethod
    def of(cls, words: Sequence[Word]) -> Segment:
        """The segment of at least one word."""
        return cls(" ".join(word.text for word in words), words[0].start, words[-1].end, tuple(words))

    @property
    def speaker(self) -> str | None:
        """Who says it, where the words' speakers are known: then no segment has words of two."""
        return self.words[0].speaker

    def __str__(self) -> str:
        return self.text


def segments(words: Iterable[Word], pause: float = SEGMENT_PAUSE) -> tuple[Segment, ...]:
    """Parts words where none begins for `pause` seconds after the one before has ended."""
    groups: list[list[Word]] = []
    for word in words:
        if groups and word.start - groups[-1][-1].end < pause:
            groups[-1].append(word)
        else:
            groups.append([word])
    return tuple(Segment.of(group) for group in groups)


@dataclass(frozen=True)
class Transcript:
    """What was said.

    text: all of it. words: each with its start and end in seconds. duration: seconds of audio.
    segments: the words again, between pauses. problems: what of the recording could not be heard, such as its end.
    turns: who speaks when, where that was asked for.
    """

    text: str
    words: tuple[Word, ...]
    duration: float
    segments: tuple[Segment, ...] = ()
    problems: tuple[str, ...] = ()
    turns: tuple[SpeakerTurn, ...] = ()

    @classmethod
    def of(cls, segments: Iterable[Segment], duration: float, problems: Iterable[str] = ()) -> Transcript:
        """The transcript of a recording of so many seconds that consists of these segments."""
        parts = tuple(segments)
        words = tuple(word for segment in parts for word in segment.words)
        return cls(" ".join(word.text for word in words), words, duration, parts, tuple(problems))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; of the segments text and times, as the words are there once already."""
        plain: dict[str, Any] = {
            "text": self.text,
            "words": [word.as_dict() for word in self.words],
            "duration": self.duration,
            "segments": [
                {"text": part.text, "start": part.start, "end": part.end}
                | ({} if part.speaker is None else {"speaker": part.speaker})
                for part in self.segments
            ],
        }
        if self.turns:
            plain["turns"] = [vars(turn) for turn in self.turns]
        if self.problems:
            plain["problems"] = list(self.problems)
        return plain

    def __str__(self) -> str:
        return self.text
