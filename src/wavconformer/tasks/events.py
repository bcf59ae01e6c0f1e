"""What a live transcription tells while it listens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from wavconformer.decoding.transcript import Segment
from wavconformer.decoding.words import Word


@dataclass(frozen=True)
class PartialWords:
    """What seems to be said after the words that are final. It holds until the next event, whatever that is.

    words: with their times from the stream's start; none where those that were told before are taken back.
    heard: seconds of audio that had come in when it was told.
    """

    words: tuple[Word, ...]
    heard: float
    kind: ClassVar[Literal["partial"]] = "partial"

    @property
    def text(self) -> str:
        """The words in one line."""
        return " ".join(word.text for word in self.words)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"type": self.kind, "text": self.text, "words": _plain(self.words), "heard": self.heard}


@dataclass(frozen=True)
class FinalWords:
    """What was said, for good.

    segment: its words, with their times from the stream's start. heard: seconds of audio that had come in by then.
    """

    segment: Segment
    heard: float
    kind: ClassVar[Literal["final"]] = "final"

    @property
    def text(self) -> str:
        """The words in one line."""
        return self.segment.text

    @property
    def words(self) -> tuple[Word, ...]:
        """Those of the segment."""
        return self.segment.words

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        times = {"start": self.segment.start, "end": self.segment.end}
        return {"type": self.kind, "text": self.text, **times, "words": _plain(self.words), "heard": self.heard}


@dataclass(frozen=True)
class EndOfUtterance:
    """A pause, after words; all of them are final.

    start, end: seconds from the stream's start, of the first word since the pause before and of the last one.
    heard: seconds of audio that had come in by then.
    """

    start: float
    end: float
    heard: float
    kind: ClassVar[Literal["end"]] = "end"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"type": self.kind, "start": self.start, "end": self.end, "heard": self.heard}


LiveEvent: TypeAlias = PartialWords | FinalWords | EndOfUtterance


def _plain(words: tuple[Word, ...]) -> list[dict[str, Any]]:
    return [word.as_dict() for word in words]
