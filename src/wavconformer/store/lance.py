"""Voices in LanceDB, for millions of them, and for object storage: s3://, gs://, az://."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from wavconformer.errors import DataError, WavConformerError
from wavconformer.files import first_line
from wavconformer.store.backend import Backend, Enrolment, Vectors, Voice, checked_name, missing, normalised

_TABLE = "recordings"
# Recordings nearest to a vector whose voices are then scored exactly, for each voice that is asked for.
_CANDIDATES = 16


class LanceBackend(Backend):
    """Voices in a table of LanceDB's, a row for each recording. Appends of several processes all stay.

    The nearest recordings are sought, all of them compared unless there is an index (`build_index`), and the voices
    that they are of are scored exactly. So a voice whose mean is near, but none of whose recordings is, may be missed.
    """

    def __init__(self, place: str, *, model: str | None = None, size: int | None = None, create: bool = False) -> None:
        """As `open_backend`."""
        self.place = place
        try:
            import lancedb
            import pyarrow
        except ImportError as error:
            raise WavConformerError(
                f"The store '{place}' is of LanceDB's kind, which needs more packages: "
                "pip install 'wavconformer[speakers]'. A store whose name ends in .db needs none."
            ) from error
        self._arrow = pyarrow
        if create and (model is None or size is None):
            raise ValueError("A store is made for a speaker model: give model and size.")
        if not create and "://" not in place and not Path(place).is_dir():
            raise missing(place)
        with self._using():
            # Every read looks for what other processes have written.
            database = lancedb.connect(place, read_consistency_interval=timedelta(0))
            if _TABLE in database.list_tables().tables:
                self._table: Any = database.open_table(_TABLE)
            elif create:
                self._table = database.create_table(_TABLE, schema=self._schema(str(model), size or 0), exist_ok=True)
            else:
                raise missing(place)
            stated = self._table.schema.metadata or {}
        if not {b"model", b"size"} <= stated.keys():
            raise DataError(f"'{place}' is no store of voices, or it is damaged: it doesn't say which model wrote it.")
        self.model, self.size = stated[b"model"].decode(), int(stated[b"size"])
        if model is not None and model != self.model:
            wrote, self.model = self.model, model
            raise self._another_model(wrote)

    def _schema(self, model: str, size: int) -> Any:
        text = self._arrow.string()
        vector = self._arrow.list_(self._arrow.float32(), size)
        columns = [("name", text), ("vector", vector), ("source", text), ("added", text)]
        return self._arrow.schema(columns, metadata={"model": model, "size": str(size)})

    @contextmanager
    def _using(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError, OSError) as error:
            raise DataError(f"The store '{self.place}' can't be used: {first_line(error)}.") from error

    def _add_all(self, voices: Mapping[str, Sequence[Enrolment]], now: str) -> list[int]:
        rows = [
            {"name": name, "vector": one.vector.tolist(), "source": one.source, "added": now}
            for name, enrolments in voices.items()
            for one in enrolments
        ]
        with self._using():
            self._table.add(self._arrow.Table.from_pylist(rows, schema=self._table.schema))
            return [int(self._table.count_rows(_of([name]))) for name in voices]

    def voices(self) -> list[Voice]:
        """As `Backend.voices`."""
        grouped = self._rows(["name", "added"]).group_by("name").aggregate([("added", "count"), ("added", "min")])
        rows = grouped.select(["name", "added_count", "added_min"]).to_pylist()
        return sorted((Voice(*row.values()) for row in rows), key=lambda voice: voice.name)

    def rename(self, name: str, new: str) -> None:
        """As `Backend.rename`. Two processes that give one new name to different voices at once make them one."""
        new = checked_name(new)
        self._require(name)
        if new == name:
            return
        with self._using():
            if self._table.count_rows(_of([new])):
                raise self._taken(new)
            self._table.update(where=_of([name]), values={"name": new})

    def remove(self, name: str) -> None:
        """As `Backend.remove`."""
        self._require(name)
        with self._using():
            self._table.delete(_of([name]))

    def search(self, vectors: Vectors, top: int) -> list[list[tuple[str, float]]]:
        """As `Backend.search`, among the voices of the nearest recordings."""
        return [self._search(np.asarray(vector, np.float32), top) for vector in vectors]

    def _search(self, vector: Vectors, top: int) -> list[tuple[str, float]]:
        with self._using():
            near = (
                self._table.search(vector, vector_column_name="vector")
                .distance_type("cosine")
                .refine_factor(4)
                .select(["name", "_distance"])
                .limit(_CANDIDATES * top)
                .to_arrow()
            )
        names = sorted(set(near["name"].to_pylist()))
        if not names:
            return []
        scores = self.means(names) @ vector
        best = np.argsort(-scores, kind="stable")[:top]
        return [(names[index], float(scores[index])) for index in best]

    def count(self) -> int:
        """As `Backend.count`: recordings, of which every voice has at least one."""
        with self._using():
            return int(self._table.count_rows())

    def means(self, names: Sequence[str]) -> Vectors:
        """As `Backend.means`."""
        rows = self._rows(["name", "vector"], _of(names))
        numbers = {name: number for number, name in enumerate(names)}
        sums = np.zeros((len(names), self.size), np.float32)
        owners = [numbers[owner] for owner in rows["name"].to_pylist()]
        np.add.at(sums, owners, np.array(rows["vector"].to_pylist(), np.float32))
        return normalised(sums)

    def build_index(self) -> None:
        """Makes or renews the index that finds near recordings without comparing all; worth it from 100,000 on."""
        from lancedb.index import IvfPq

        with self._using():
            self._table.create_index("vector", config=IvfPq(distance_type="cosine"), replace=True)
            self._table.optimize()

    def _rows(self, columns: list[str], condition: str | None = None) -> Any:
        with self._using():
            query = self._table.search().select(columns)
            if condition is not None:
                query = query.where(condition)
            return query.limit(max(1, self._table.count_rows())).to_arrow()

    def _require(self, name: str) -> None:
        with self._using():
            is_known = bool(self._table.count_rows(_of([name])))
        if not is_known:
            raise self._unknown(name)

    def close(self) -> None:
        """As `Backend.close`; LanceDB holds nothing open that matters."""


def _of(names: Sequence[str]) -> str:
    """The condition, in SQL, that a row is of one of these names."""
    return f"name IN ({', '.join(_quoted(name) for name in names)})"


def _quoted(text: str) -> str:
    """A text as SQL quotes it."""
    return "'" + text.replace("'", "''") + "'"
