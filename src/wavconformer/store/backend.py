"""What a store of voices can do, and which kind a place means."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from difflib import get_close_matches
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from wavconformer.errors import DataError

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Voice:
    """Somebody who is enrolled: with so many recordings, the first of them at that time (UTC, ISO 8601)."""

    name: str
    recordings: int
    since: str


@dataclass(frozen=True)
class Enrolment:
    """A recording of somebody: its vector (D,) of length one, and what it was read from, for people to see."""

    vector: Vectors
    source: str = ""


class Backend(ABC):
    """Names, each with the vectors of one or more recordings, of one speaker model.

    A voice's score is the cosine of a vector with the mean of the voice's vectors, brought to length one.

    place: where it is. model, size: of the speaker model whose vectors these are, and numbers in each.
    """

    place: str
    model: str
    size: int

    def add(self, name: str, enrolments: Sequence[Enrolment]) -> int:
        """Enrols recordings of somebody, all or none of them; returns how many that voice has now."""
        return self.add_all({name: enrolments})[0]

    def add_all(self, voices: Mapping[str, Sequence[Enrolment]]) -> list[int]:
        """As `add`, of several people at once, all or none: many are thus kept far faster than one by one."""
        checked = {checked_name(name): list(enrolments) for name, enrolments in voices.items()}
        for name, enrolments in checked.items():
            if not enrolments:
                raise ValueError(f"'{name}' is to be enrolled without a recording: give at least one.")
            for one in enrolments:
                if one.vector.shape != (self.size,):
                    raise ValueError(f"The store's vectors have the shape ({self.size},), not {one.vector.shape}.")
        return self._add_all(checked, datetime.now(timezone.utc).isoformat(timespec="seconds"))

    @abstractmethod
    def _add_all(self, voices: Mapping[str, Sequence[Enrolment]], now: str) -> list[int]:
        """As `add_all`, of what has been checked."""

    @abstractmethod
    def voices(self) -> list[Voice]:
        """Everybody, by name."""

    @abstractmethod
    def rename(self, name: str, new: str) -> None:
        """Gives a voice another name. Raises DataError for an unknown one, and where the new name is taken."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Forgets a voice and its recordings. Raises DataError for an unknown one."""

    @abstractmethod
    def search(self, vectors: Vectors, top: int) -> list[list[tuple[str, float]]]:
        """For each of the vectors (N, D) the names that are most like it and their scores, best first."""

    @abstractmethod
    def count(self) -> int:
        """How many voices there are; at most, where counting them would take long."""

    @abstractmethod
    def means(self, names: Sequence[str]) -> Vectors:
        """The mean vectors (N, D) of known voices, of length one."""

    @abstractmethod
    def close(self) -> None:
        """Ends its use."""

    def __enter__(self) -> Backend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _unknown(self, name: str) -> DataError:
        names = [voice.name for voice in self.voices()]
        near = get_close_matches(name, names, 1)
        hint = f"Did you mean '{near[0]}'?" if near else "`wavconformer speakers` lists who is there."
        return DataError(f"The store '{self.place}' has nobody called '{name}'. {hint}")

    def _taken(self, name: str) -> DataError:
        return DataError(
            f"The store '{self.place}' has somebody called '{name}' already: remove that one first, or take another "
            "name."
        )

    def _another_model(self, wrote: str) -> DataError:
        return DataError(
            f"The store '{self.place}' holds vectors of another speaker model ({wrote}) than the one in use "
            f"({self.model}), and vectors of two models can't be compared: use that model (--model; of "
            "diarize, --speaker-model), another --store, or enrol everybody anew."
        )


def normalised(vectors: Vectors) -> Vectors:
    """Vectors (N, D) brought to length one."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)


def checked_name(name: str) -> str:
    """A speaker's name without spaces round it; ValueError for an empty one and for control characters."""
    stripped = name.strip()
    if not stripped or not stripped.isprintable():
        raise ValueError(f"{name!r} is no name of a speaker: give letters, in one line.")
    return stripped


def is_lance(place: str | os.PathLike[str]) -> bool:
    """Whether a place means LanceDB: a folder *.lance, or an address such as s3://bucket/voices."""
    return str(place).rstrip("/").endswith(".lance") or "://" in str(place)


def open_backend(
    place: str | os.PathLike[str], *, model: str | None = None, size: int | None = None, create: bool = False
) -> Backend:
    """Opens a store of voices: SQLite's, or LanceDB's where the place ends in .lance or is an address (s3://…).

    model, size: identity of the speaker model and numbers in its vectors; None for whichever wrote the store.
    create: make the store where there is none; needs model and size.

    Raises DataError where there is none and it isn't to be made, where another model wrote it, and where it is damaged;
    WavConformerError where LanceDB isn't installed.
    """
    if is_lance(place):
        from wavconformer.store.lance import LanceBackend

        return LanceBackend(str(place), model=model, size=size, create=create)
    from wavconformer.store.sqlite import SqliteBackend

    return SqliteBackend(place, model=model, size=size, create=create)


def missing(place: str | os.PathLike[str]) -> DataError:
    """What to say where there is no store."""
    return DataError(f"There is no store of voices at '{place}': `wavconformer enroll NAME FILE...` makes it.")
