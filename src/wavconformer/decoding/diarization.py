"""Who speaks when in a recording, and which words are whose."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wavconformer.decoding.transcript import Segment, SpeakerTurn, Transcript
from wavconformer.decoding.words import Word

FAR = 1.0
"""Seconds from the nearest turn within which a word that nobody was heard to say is still that speaker's."""


@dataclass(frozen=True)
class Diarization:
    """Who speaks when.

    turns: in order of their starts; those of different speakers may overlap. duration: seconds of audio.
    problems: what of the recording could not be heard, such as its end.
    """

    turns: tuple[SpeakerTurn, ...]
    duration: float
    problems: tuple[str, ...] = ()

    @property
    def speakers(self) -> tuple[str, ...]:
        """Their names, in the order in which they are first heard."""
        return tuple(dict.fromkeys(turn.speaker for turn in self.turns))

    def seconds(self, speaker: str) -> float:
        """How long somebody speaks."""
        return math.fsum(turn.end - turn.start for turn in self.turns if turn.speaker == speaker)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        plain: dict[str, Any] = {
            "duration": self.duration,
            "speakers": [{"name": name, "seconds": round(self.seconds(name), 3)} for name in self.speakers],
            "turns": [vars(turn) for turn in self.turns],
        }
        if self.problems:
            plain["problems"] = list(self.problems)
        return plain

    def as_transcript(self) -> Transcript:
        """A transcript without words, for the writers that show turns."""
        return replace(Transcript.of((), self.duration, self.problems), turns=self.turns)

    def __str__(self) -> str:
        return "\n".join(f"{turn.start:.2f}–{turn.end:.2f} {turn.speaker}" for turn in self.turns)


def by_speaker(transcript: Transcript, diarization: Diarization) -> Transcript:
    """The transcript with the speaker of each word, parted into segments where the speaker changes.

    A word is whose turns it lies in longest; where two speak at once and share it equally, it is of who spoke before.
    In no turn it is of the nearest within `FAR`, else of nobody.
    """
    ends: list[float] = []  # the latest end of all turns so far: a word need not be compared with those long gone
    for turn in diarization.turns:
        ends.append(max(turn.end, ends[-1] if ends else 0.0))
    first = 0
    last: str | None = None
    segments: list[Segment] = []
    for segment in transcript.segments:
        own: list[Word] = []
        for word in segment.words:
            while first < len(ends) and ends[first] < word.start - FAR:
                first += 1
            last = _whose(word, diarization.turns, first, last)
            own.append(replace(word, speaker=last))
        segments += [Segment.of(part) for part in _parted(own)]
    problems = dict.fromkeys((*transcript.problems, *diarization.problems))
    return replace(Transcript.of(segments, transcript.duration, problems), turns=diarization.turns)


def _whose(word: Word, turns: Sequence[SpeakerTurn], first: int, last: str | None) -> str | None:
    shares: dict[str, float] = {}
    nearest: tuple[float, str] | None = None
    for turn in turns[first:]:
        if turn.start > word.end + FAR:
            break
        shared = min(word.end, turn.end) - max(word.start, turn.start)
        if shared > 0:
            shares[turn.speaker] = shares.get(turn.speaker, 0.0) + shared
        if -shared <= FAR and (nearest is None or -shared < nearest[0]):
            nearest = (-shared, turn.speaker)
    if not shares:
        return None if nearest is None else nearest[1]
    most = max(shares.values())
    best = [speaker for speaker, share in shares.items() if share >= most - 1e-6]
    return last if last in best else best[0]


def _parted(words: Iterable[Word]) -> list[list[Word]]:
    """Runs of words of one speaker."""
    runs: list[list[Word]] = []
    for word in words:
        if runs and runs[-1][-1].speaker == word.speaker:
            runs[-1].append(word)
        else:
            runs.append([word])
    return runs
