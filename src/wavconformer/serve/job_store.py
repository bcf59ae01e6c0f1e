"""Jobs on the disk: one SQLite file for what is known of them, and their recordings beside it.

Whatever ends the process, the file says truly where each job stands: every step is one transaction.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO, Any

from wavconformer.errors import ConfigError
from wavconformer.serve.task import Answer

# A job that was running so often when the server came to its end is what ends it.
MOST_ATTEMPTS = 3

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, task TEXT NOT NULL, fields TEXT NOT NULL, files TEXT NOT NULL, state TEXT NOT NULL,
    created REAL NOT NULL, started REAL, finished REAL, attempts INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0, duration REAL, body TEXT, media_type TEXT, error TEXT
);
CREATE INDEX IF NOT EXISTS by_state ON jobs (state, created);
"""
_COLUMNS = "id, task, fields, files, state, created, started, finished, attempts, seconds, duration, error"


class State(str, Enum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens to it."""
        return self not in (State.QUEUED, State.RUNNING)


@dataclass(frozen=True)
class Job:
    """A job. fields: of its form. files: what its recordings are called, by the form's names.

    created, started, finished: Unix time. attempts: how often it was begun. seconds: of audio that are done, and
    duration: of how many, where that is known. error: an answer's body and status, where it failed.
    """

    id: str
    task: str
    fields: dict[str, Any]
    files: dict[str, str]
    state: State
    created: float
    started: float | None
    finished: float | None
    attempts: int
    seconds: float
    duration: float | None
    error: dict[str, Any] | None


class JobStore:
    """The jobs in a folder, which one process at a time has."""

    def __init__(self, folder: Path) -> None:
        """Opens the folder, or makes it. Jobs that were running are queued again.

        Raises ConfigError where it can't be used, or another process has it.
        """
        self._files = folder / "recordings"
        try:
            self._files.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock_file = (folder / "lock").open("w")
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._database = sqlite3.connect(folder / "jobs.sqlite", check_same_thread=False, isolation_level=None)
            self._database.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; {_SCHEMA}")
        except BlockingIOError:
            raise ConfigError(f"Another server keeps its jobs in '{folder}': give --folder another one.") from None
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"Jobs can't be kept in '{folder}': {error}. Give --folder another one.") from error
        self._lock = threading.Lock()
        self._recover()

    def _recover(self) -> None:
        lost = {"error": {"message": "It ended the server each time it ran.", "type": "server_error", "param": None,
                          "code": "lost"}}  # fmt: skip
        self._do(
            "UPDATE jobs SET state='failed', finished=?, error=? WHERE state='running' AND attempts>=?",
            time.time(), json.dumps({"status": 500, "body": lost}), MOST_ATTEMPTS,
        )  # fmt: skip
        self._do("UPDATE jobs SET state='queued', seconds=0 WHERE state='running'")
        known = {row[0] for row in self._rows("SELECT id FROM jobs WHERE state='queued'")}
        for path in self._files.iterdir():
            if path.name.partition(".")[0] not in known:
                path.unlink()

    def close(self) -> None:
        """Gives the folder back."""
        with self._lock:
            self._database.close()
        self._lock_file.close()

    def add(self, task: str, fields: Mapping[str, Any], recordings: Mapping[str, tuple[str, IO[bytes]]]) -> Job:
        """A new job. recordings: what each is called, and its content, by the form's names."""
        name = f"job_{secrets.token_hex(16)}"
        try:
            for key, (_, content) in recordings.items():
                content.seek(0)
                with self.path(name, key).open("wb") as file:
                    shutil.copyfileobj(content, file, 1 << 20)
                    file.flush()
                    os.fsync(file.fileno())
            called = {key: called for key, (called, _) in recordings.items()}
            self._do(
                "INSERT INTO jobs (id, task, fields, files, state, created) VALUES (?, ?, ?, ?, 'queued', ?)",
                name, task, json.dumps(fields), json.dumps(called), time.time(),
            )  # fmt: skip
        except BaseException:
            self._drop(name)
            raise
        job = self.get(name)
        assert job is not None
        return job

    def path(self, name: str, key: str) -> Path:
        """Of a job's recording."""
        return self._files / f"{name}.{key}"

    def get(self, name: str) -> Job | None:
        """A job, or None where there is none of that name."""
        rows = self._rows(f"SELECT {_COLUMNS} FROM jobs WHERE id=?", name)
        return _job(rows[0]) if rows else None

    @property
    def held(self) -> int:
        """Bytes of the recordings that are kept."""
        size = 0
        for path in self._files.iterdir():
            with suppress(FileNotFoundError):  # its job has come to its end meanwhile
                size += path.stat().st_size
        return size

    def count(self, state: State) -> int:
        """Jobs in a state."""
        return int(self._rows("SELECT count(*) FROM jobs WHERE state=?", state.value)[0][0])

    def claim(self) -> Job | None:
        """The job that has waited longest, which runs from now on; None where none waits."""
        with self._lock:
            row = self._database.execute(
                "UPDATE jobs SET state='running', started=?, attempts=attempts+1, seconds=0 WHERE id="
                f"(SELECT id FROM jobs WHERE state='queued' ORDER BY created LIMIT 1) RETURNING {_COLUMNS}",
                (time.time(),),
            ).fetchone()
        return None if row is None else _job(row)

    def progress(self, name: str, seconds: float, duration: float | None) -> None:
        """How far a running job is."""
        self._do("UPDATE jobs SET seconds=?, duration=? WHERE id=? AND state='running'", seconds, duration, name)

    def park(self, name: str) -> None:
        """A running job waits again, until the next start; it was no fault of its own."""
        self._do("UPDATE jobs SET state='queued', attempts=attempts-1, seconds=0 WHERE id=? AND state='running'", name)

    def finish(self, name: str, answer: Answer) -> bool:
        """A running job is done; False where it isn't running any more."""
        return self._end(
            name,
            "state='done', body=?, media_type=?, seconds=coalesce(duration, seconds)",
            answer.body,
            answer.media_type,
        )

    def fail(self, name: str, status: int, body: Mapping[str, Any]) -> bool:
        """A running job has failed; False where it isn't running any more."""
        return self._end(name, "state='failed', error=?", json.dumps({"status": status, "body": body}))

    def cancel(self, name: str) -> bool:
        """A job that waits or runs is cancelled; False where it was over already."""
        changed = self._do(
            "UPDATE jobs SET state='cancelled', finished=? WHERE id=? AND state IN ('queued', 'running')",
            time.time(),
            name,
        )
        if changed:
            self._drop(name)
        return bool(changed)

    def result(self, name: str) -> Answer | None:
        """What a job gave; None where it isn't done."""
        rows = self._rows("SELECT body, media_type FROM jobs WHERE id=? AND state='done'", name)
        return Answer(*rows[0]) if rows else None

    def forget(self, name: str) -> None:
        """Takes a job that is over away, with its result."""
        self._do("DELETE FROM jobs WHERE id=? AND state NOT IN ('queued', 'running')", name)

    def forget_old(self, days: float) -> None:
        """Takes those away that have been over for so many days."""
        self._do("DELETE FROM jobs WHERE finished IS NOT NULL AND finished<?", time.time() - days * 86400)

    def _end(self, name: str, change: str, *values: Any) -> bool:
        changed = self._do(
            f"UPDATE jobs SET {change}, finished=? WHERE id=? AND state='running'", *values, time.time(), name
        )
        if changed:
            self._drop(name)
        return bool(changed)

    def _drop(self, name: str) -> None:
        """Takes a job's recordings away."""
        for path in self._files.glob(f"{name}.*"):
            path.unlink(missing_ok=True)

    def _do(self, statement: str, *values: Any) -> int:
        with self._lock:
            return self._database.execute(statement, values).rowcount

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        with self._lock:
            return self._database.execute(statement, values).fetchall()


def _job(row: tuple[Any, ...]) -> Job:
    name, task, fields, files, state, created, started, finished, attempts, seconds, duration, error = row
    return Job(
        name, task, json.loads(fields), json.loads(files), State(state), created, started, finished, attempts, seconds,
        duration, None if error is None else json.loads(error),
    )  # fmt: skip
