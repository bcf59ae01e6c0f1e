"""Voices in a file of SQLite's, searched exactly: all voices against a vector is one matrix product."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from wavconformer.errors import DataError
from wavconformer.store.backend import Backend, Enrolment, Vectors, Voice, checked_name, missing, normalised

# "wvcS": tells a store from other files of SQLite's.
_APPLICATION = 0x77766353
_FORMAT = 1
# Seconds that a process waits for others that are writing.
_PATIENCE = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS model (name TEXT NOT NULL, size INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS speakers (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS recordings (
    id INTEGER PRIMARY KEY,
    speaker INTEGER NOT NULL REFERENCES speakers (id) ON DELETE CASCADE,
    vector BLOB NOT NULL,
    source TEXT NOT NULL,
    added TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS recordings_of ON recordings (speaker);
"""


class SqliteBackend(Backend):
    """Voices in one file. Several processes may write to it at once; what each has enrolled stays.

    The voices' means are read once into one matrix and kept until somebody, here or elsewhere, changes the store.
    """

    def __init__(
        self, place: str | os.PathLike[str], *, model: str | None = None, size: int | None = None, create: bool = False
    ) -> None:
        """As `open_backend`. The file is for its owner's eyes alone: voices tell people apart."""
        path = Path(place)
        self.place = str(place)
        self._lock = threading.RLock()
        if create and (model is None or size is None):
            raise ValueError("A store is made for a speaker model: give model and size.")
        if path.is_dir():
            raise DataError(
                f"'{place}' is a folder and no store of voices: name a file, such as '{path / 'speakers.db'}'."
            )
        if not path.is_file() or not path.stat().st_size:
            if not create:
                raise missing(place)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch(mode=0o600)
            except OSError as error:
                why = error.strerror or error
                raise DataError(
                    f"The store '{place}' can't be made ({why}): name a file in a folder of yours."
                ) from error
        with self._reading():
            self._database = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        self._names: list[str] = []
        self._means: Vectors | None = None
        self._version = -1
        try:
            with self._reading():
                self._database.execute("PRAGMA foreign_keys = ON")
                self._check_kind()
                if create:
                    self._prepare(str(model), int(size or 0))
                self.model, self.size = self._written_by()
        except BaseException:
            self._database.close()
            raise
        if model is not None and model != self.model:
            wrote, self.model = self.model, model
            self._database.close()
            raise self._another_model(wrote)

    def _check_kind(self) -> None:
        (application,) = self._database.execute("PRAGMA application_id").fetchone()
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        (tables,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != _APPLICATION and (application or tables):
            raise DataError(f"'{self.place}' is a database of another program, not a store of voices: name another.")
        if version > _FORMAT:
            raise DataError(f"'{self.place}' was written by a newer wavconformer (format {version}): install that one.")

    def _prepare(self, model: str, size: int) -> None:
        """Makes the tables, unless they are there: perhaps another process is just making them."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:  # the one step for which SQLite doesn't wait by itself
                self._database.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        with self._writing():
            for statement in _SCHEMA.strip().split(";\n"):
                self._database.execute(statement)
            self._database.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._database.execute(f"PRAGMA user_version = {_FORMAT}")
            self._database.execute(
                "INSERT INTO model SELECT ?, ? WHERE NOT EXISTS (SELECT * FROM model)", (model, size)
            )

    def _written_by(self) -> tuple[str, int]:
        found = self._database.execute("SELECT name, size FROM model").fetchone()
        if found is None:
            raise DataError(f"The store '{self.place}' doesn't say which model wrote it: it is damaged.")
        return str(found[0]), int(found[1])

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turns what SQLite says of a damaged, locked or unwritable file into errors of ours."""
        with self._lock:
            try:
                yield
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    raise missing(self.place) from error
                hint = "another process is holding it" if "locked" in str(error) else "check the file and its folder"
                raise DataError(f"The store '{self.place}' can't be used ({error}): {hint}.") from error
            except sqlite3.DatabaseError as error:
                raise DataError(
                    f"'{self.place}' is no store of voices, or it is damaged ({error}): restore a copy, or name "
                    "another."
                ) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction, all of it or nothing. Others wait for it, and it for them."""
        with self._reading():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def _add_all(self, voices: Mapping[str, Sequence[Enrolment]], now: str) -> list[int]:
        counts = []
        with self._writing():
            for name, enrolments in voices.items():
                self._database.execute("INSERT INTO speakers (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
                (speaker,) = self._database.execute("SELECT id FROM speakers WHERE name = ?", (name,)).fetchone()
                self._database.executemany(
                    "INSERT INTO recordings (speaker, vector, source, added) VALUES (?, ?, ?, ?)",
                    [(speaker, one.vector.astype("<f4").tobytes(), one.source, now) for one in enrolments],
                )
                counted = self._database.execute("SELECT count(*) FROM recordings WHERE speaker = ?", (speaker,))
                counts.append(int(counted.fetchone()[0]))
            self._means = None
        return counts

    def voices(self) -> list[Voice]:
        """As `Backend.voices`."""
        with self._reading():
            rows = self._database.execute(
                "SELECT name, count(*), min(added) FROM speakers JOIN recordings ON speaker = speakers.id "
                "GROUP BY speakers.id ORDER BY name"
            ).fetchall()
        return [Voice(*row) for row in rows]

    def rename(self, name: str, new: str) -> None:
        """As `Backend.rename`."""
        new = checked_name(new)
        with self._writing():
            try:
                done = self._database.execute("UPDATE speakers SET name = ? WHERE name = ?", (new, name)).rowcount
            except sqlite3.IntegrityError:
                raise self._taken(new) from None
            if not done:
                raise self._unknown(name)
            self._means = None

    def remove(self, name: str) -> None:
        """As `Backend.remove`."""
        with self._writing():
            if not self._database.execute("DELETE FROM speakers WHERE name = ?", (name,)).rowcount:
                raise self._unknown(name)
            self._means = None

    def search(self, vectors: Vectors, top: int) -> list[list[tuple[str, float]]]:
        """As `Backend.search`, exactly."""
        with self._lock:
            names, means = self._matrix()
        if not names:
            return [[] for _ in vectors]
        scores = np.asarray(vectors, np.float32) @ means.T
        top = min(top, len(names))
        found = []
        for row in scores:
            best = np.argpartition(-row, top - 1)[:top]
            best = best[np.argsort(-row[best], kind="stable")]
            found.append([(names[index], float(row[index])) for index in best])
        return found

    def count(self) -> int:
        """As `Backend.count`."""
        with self._reading():
            return int(self._database.execute("SELECT count(*) FROM speakers").fetchone()[0])

    def means(self, names: Sequence[str]) -> Vectors:
        """As `Backend.means`."""
        known, means = self._matrix()
        rows: Vectors = means[[known.index(name) for name in names]]
        return rows

    def _matrix(self) -> tuple[list[str], Vectors]:
        """All names, and the mean vectors of their recordings (N, D), brought to length one."""
        with self._reading():
            # Changes when another connection has written; our own changes forget the matrix themselves.
            (version,) = self._database.execute("PRAGMA data_version").fetchone()
            if self._means is None or version != self._version:
                self._names, self._means = self._read_means()
                self._version = version
            return self._names, self._means

    def _read_means(self) -> tuple[list[str], Vectors]:
        names: list[str] = []
        starts: list[int] = []
        blobs: list[bytes] = []
        with closing(
            self._database.execute(
                "SELECT speakers.id, name, vector FROM recordings JOIN speakers ON speaker = speakers.id "
                "ORDER BY speakers.id"
            )
        ) as rows:
            last = None
            for number, (speaker, name, blob) in enumerate(rows):
                if speaker != last:
                    names.append(name)
                    starts.append(number)
                    last = speaker
                blobs.append(blob)
        if any(len(blob) != 4 * self.size for blob in blobs):
            raise DataError(f"The store '{self.place}' holds a vector of another length: it is damaged.")
        vectors = np.frombuffer(b"".join(blobs), "<f4").reshape(len(blobs), self.size)
        if not len(names):
            return [], np.empty((0, self.size), np.float32)
        means = vectors.astype(np.float32) if len(names) == len(blobs) else np.add.reduceat(vectors, starts, axis=0)
        return names, normalised(means)

    def close(self) -> None:
        """As `Backend.close`."""
        self._database.close()
