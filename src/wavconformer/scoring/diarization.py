"""Who spoke when: the diarization error rate."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wavconformer.data.rttm import Turn
from wavconformer.errors import DataError, WavConformerError

PARTS = ("missed", "false_alarm", "confusion")
"""The kinds of errors."""


@dataclass(frozen=True)
class RecordingErrors:
    """Seconds of one recording, or of all: of speech in the reference, and of each kind of error.

    missed: speech that wasn't found. false_alarm: found where none was. confusion: given to another speaker.
    Where two speak at once both count.
    """

    name: str
    speech: float
    missed: float
    false_alarm: float
    confusion: float

    @property
    def rate(self) -> float:
        """The errors' share of the speech; more than 1 is possible, NaN where nobody speaks."""
        return math.fsum(self.share(part) for part in PARTS)

    def share(self, part: str) -> float:
        """The share of the speech that one of the `PARTS` has, NaN where nobody speaks."""
        return float(getattr(self, part)) / self.speech if self.speech else math.nan

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**vars(self), "rate": self.rate if self.speech else None}


@dataclass(frozen=True)
class DiarizationScores:
    """The diarization error rate of all recordings together, its parts, and that of each, the worst first.

    collar: seconds left out on either side of each boundary of the reference. skip_overlap: whether places where two
    speak at once are left out.
    """

    total: RecordingErrors
    recordings: tuple[RecordingErrors, ...]
    collar: float
    skip_overlap: bool

    @property
    def rate(self) -> float:
        """The diarization error rate."""
        return self.total.rate

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "der": self.total.as_dict()["rate"],
            "total": self.total.as_dict(),
            "collar": self.collar,
            "skip_overlap": self.skip_overlap,
            "recordings": [recording.as_dict() for recording in self.recordings],
        }


def score_diarization(
    references: Iterable[Turn],
    hypotheses: Iterable[Turn],
    *,
    collar: float = 0.0,
    skip_overlap: bool = False,
    extents: Mapping[str, tuple[float, float]] | None = None,
) -> DiarizationScores:
    """The diarization error rate of turns; speakers of the hypotheses are matched to those of the references best.

    collar: seconds left out on either side of each boundary of a reference turn, as NIST counts it (its usual 0.25);
        pyannote's own argument of that name is the whole width, twice as much.
    skip_overlap: leave out where two speak at once in the reference.
    extents: start and end in seconds of what is scored, by recording; by default from the first turn to the last of
        both sides.

    Raises DataError where the references are empty or a hypothesis is of a recording without any, WavConformerError
    where pyannote.metrics isn't installed.
    """
    require_pyannote()
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    if not 0 <= collar < math.inf:
        raise ValueError(f"The collar is {collar} s, but must be 0 or more.")

    def annotations(turns: Iterable[Turn]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for number, turn in enumerate(turns):
            found.setdefault(turn.recording, Annotation(uri=turn.recording))[Segment(turn.start, turn.end), number] = (
                turn.speaker
            )
        return found

    true, heard = annotations(references), annotations(hypotheses)
    if not true:
        raise DataError("The reference holds no turns to score.")
    foreign = sorted(heard.keys() - true.keys())
    if foreign:
        raise DataError(
            f"The hypothesis has turns of '{foreign[0]}', which the reference doesn't know; it knows "
            f"{', '.join(sorted(true)[:5])}. Recordings must have the same name in both."
        )
    metric = DiarizationErrorRate(collar=2 * collar, skip_overlap=skip_overlap)
    recordings = []
    for name, annotation in true.items():
        extent = None if extents is None else extents.get(name)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'uem' was approximated")  # documented above
            parts = metric.compute_components(
                annotation,
                heard.get(name, Annotation(uri=name)),
                uem=None if extent is None else Timeline([Segment(*extent)], uri=name),
            )
        recordings.append(
            RecordingErrors(
                name,
                *(float(parts[key]) for key in ("total", "missed detection", "false alarm", "confusion")),
            )
        )
    total = RecordingErrors(
        "all",
        math.fsum(recording.speech for recording in recordings),
        math.fsum(recording.missed for recording in recordings),
        math.fsum(recording.false_alarm for recording in recordings),
        math.fsum(recording.confusion for recording in recordings),
    )
    recordings.sort(key=lambda recording: -recording.rate if recording.speech else 0.0)
    return DiarizationScores(total, tuple(recordings), collar, skip_overlap)


def require_pyannote() -> None:
    """Raises WavConformerError where pyannote.metrics isn't installed."""
    try:
        import pyannote.metrics  # noqa: F401
    except ImportError as error:
        raise WavConformerError(
            "The diarization error rate needs pyannote.metrics, which isn't installed: "
            "pip install 'wavconformer[evaluate]'."
        ) from error
