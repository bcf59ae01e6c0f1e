"""People by their voices: enrolled once, known again in any recording."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wavconformer.audio import AudioSource
from wavconformer.errors import DataError
from wavconformer.scoring.calibration import Calibration
from wavconformer.store import Backend, Enrolment, Voice, default_place, open_backend
from wavconformer.store.backend import checked_name
from wavconformer.tasks.embedding import Embedder, embedder_of
from wavconformer.tasks.verification import calibration_for, finite_threshold, uncalibrated

if TYPE_CHECKING:
    import torch

# Voices that are nearest by cosine, whose scores are then normalised where there is a cohort.
_NEAREST = 10


@dataclass(frozen=True)
class Match:
    """A known voice, and the score that it has."""

    name: str
    score: float


@dataclass(frozen=True)
class Identification:
    """Who speaks in a recording. name: None where the best score is below the threshold.

    score: the best one. candidates: the voices that are most like it, best first.
    """

    name: str | None
    score: float
    threshold: float
    candidates: tuple[Match, ...]


class SpeakerStore:
    """Voices that are kept in a file, with the speaker model whose vectors they are.

    Several processes may use one store at once: each sees what the others have enrolled, and nothing is lost.
    """

    def __init__(
        self,
        place: str | os.PathLike[str] | None = None,
        *,
        model: Embedder | str | os.PathLike[str] | None = None,
        calibration: Calibration | str | os.PathLike[str] | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        """Nothing is read or made before it is used.

        place: a file, by default what $WAVCONFORMER_SPEAKERS names or speakers.db in the user's data folder; a folder
            *.lance or an address such as s3://bucket/voices is kept by LanceDB (pip install 'wavconformer[speakers]').
        model: what `Embedder.load` gave, or a name for it; the speaker model that ships with the package by default.
        calibration: what `calibrate` gave, or its file; by default that of the model's folder.
        """
        self.place = default_place() if place is None else os.fspath(place)
        self._model, self._device, self._given = model, device, calibration
        self._backend: Backend | None = None
        self._is_checked = False

    @property
    def embedder(self) -> Embedder:
        """The speaker model, loaded when it is first needed."""
        return embedder_of(self._model, self._device)

    @property
    def calibration(self) -> Calibration | None:
        """What the model's scores mean, where that is known."""
        return calibration_for(self.embedder, self._given)

    def make(self) -> None:
        """Makes the store where there is none. Raises DataError for one of another model, and for a damaged one."""
        self._open(create=True)

    def check(self, threshold: float | None = None) -> None:
        """Raises what `names` would for this store and threshold, before anything is computed."""
        self._threshold(threshold, self._open())

    def enroll(self, name: str, sources: Sequence[AudioSource], *, sampling_rate: int | None = None) -> int:
        """Adds recordings of somebody, all of them or, where one can't be used, none; returns how many there are now.

        The store is made if there is none. Raises AudioError for a recording that can't be used, DataError for a store
        of another model or a damaged one, ValueError for an empty name or no recordings, TypeError where they are no
        list.
        """
        if isinstance(sources, (str, bytes, os.PathLike)):
            raise TypeError("sources is a list of recordings: of a single one give [recording].")
        name, sources = checked_name(name), list(sources)
        if not sources:
            raise ValueError(f"'{name}' is to be enrolled without a recording: give at least one.")
        vectors = self.embedder.many(sources, sampling_rate=sampling_rate)
        return self._add(self._open(create=True), name, vectors, [_said(source) for source in sources])

    def add(self, name: str, vectors: NDArray[np.float32], sources: Sequence[str] = ()) -> int:
        """As `enroll`, of vectors (N, D) that the store's model has made; sources: what each was made of."""
        rows = np.atleast_2d(np.asarray(vectors, np.float32))
        if not np.isfinite(rows).all():
            raise ValueError(f"The vectors of '{name}' hold NaN or infinite numbers: nobody can be known by them.")
        return self._add(self._open(create=True), name, rows, list(sources) or [""] * len(rows))

    def _add(self, backend: Backend, name: str, vectors: NDArray[np.float32], sources: list[str]) -> int:
        return backend.add(name, [Enrolment(vector, said) for vector, said in zip(vectors, sources, strict=True)])

    def identify(
        self, source: AudioSource, *, threshold: float | None = None, top: int = 5, sampling_rate: int | None = None
    ) -> Identification:
        """Who of the enrolled voices speaks in a recording, if one does.

        threshold: score from which on it is that voice; by default the calibration's `threshold_among` the voices, the
            more the higher. top: candidates to tell of.

        Raises DataError where there is no store, nobody in it, or it is of another model; AudioError for a recording
        that can't be used; CheckpointError where there is neither calibration nor threshold.
        """
        backend = self._open()
        limit = self._threshold(threshold, backend)
        (candidates,) = self._search(backend, self.embedder(source, sampling_rate=sampling_rate)[None], top)
        if not candidates:
            raise DataError(f"The store '{self.place}' holds nobody: enrol somebody with `wavconformer enroll` first.")
        best = candidates[0]
        return Identification(best.name if best.score >= limit else None, best.score, limit, tuple(candidates))

    def names(self, vectors: NDArray[np.float32], *, threshold: float | None = None) -> list[Match | None]:
        """Of vectors (N, D) of length one, each by itself, the voice that it is and its score; None for an unknown one.

        Raises as `identify` does, but an empty store knows nobody.
        """
        backend = self._open()
        limit = self._threshold(threshold, backend)
        found = self._search(backend, np.atleast_2d(np.asarray(vectors, np.float32)), 1)
        return [one[0] if one and one[0].score >= limit else None for one in found]

    def _threshold(self, given: float | None, backend: Backend) -> float:
        """That is given, or the calibration's for so many voices."""
        if given is not None:
            return finite_threshold(given)
        known = self.calibration
        if known is None:
            raise uncalibrated(self.embedder)
        return known.threshold_among(backend.count())

    def _search(self, backend: Backend, vectors: NDArray[np.float32], top: int) -> list[list[Match]]:
        if vectors.shape[1] != backend.size:
            raise ValueError(f"The store's vectors have {backend.size} numbers, not {vectors.shape[1]}.")
        known = self.calibration
        if known is None or known.cohort is None:
            return [[Match(*one) for one in row] for row in backend.search(vectors, top)]
        found: list[list[Match]] = []
        for vector, row in zip(vectors, backend.search(vectors, max(top, _NEAREST)), strict=True):
            if not row:
                found.append([])
                continue
            names = [name for name, _ in row]
            scores = known.scores(backend.means(names), np.tile(vector, (len(names), 1)))
            matches = [Match(name, float(score)) for name, score in zip(names, scores, strict=True)]
            found.append(sorted(matches, key=lambda match: -match.score)[:top])
        return found

    def speakers(self) -> list[Voice]:
        """Everybody in the store, by name; no model is needed. Raises DataError where there is none."""
        return self._open(check=False).voices()

    def rename(self, name: str, new: str) -> None:
        """Gives somebody another name. Raises DataError for an unknown name, and where the new one is taken."""
        self._open(check=False).rename(name, new)

    def remove(self, name: str) -> None:
        """Forgets somebody. Raises DataError for an unknown name."""
        self._open(check=False).remove(name)

    def _open(self, *, create: bool = False, check: bool = True) -> Backend:
        """The open store; check: whether its vectors are to be compared, and so must be of this model."""
        if self._backend is None or (check and not self._is_checked):
            self.close()
            embedder = self.embedder if check else None
            self._backend = open_backend(
                self.place,
                model=None if embedder is None else embedder.name,
                size=None if embedder is None else embedder.size,
                create=create,
            )
            self._is_checked = check
        return self._backend

    def close(self) -> None:
        """Closes the file; the store can be used again."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None
            self._is_checked = False

    def __enter__(self) -> SpeakerStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _said(source: AudioSource) -> str:
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else ""
