"""What can be set of a server, and its limits."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from wavconformer.errors import ConfigError

MEGABYTE = 1 << 20
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def default_folder() -> Path:
    """Where jobs are kept unless another place is named: in XDG's place for state."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "wavconformer"


_POSITIVE = (
    *("timeout_seconds", "megabytes", "minutes", "upload_megabytes", "stall_seconds", "job_megabytes", "job_hours"),
    *("folder_megabytes", "stream_minutes", "decoder_megabytes", "grace_seconds", "keep_days"),
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of one server. Whatever it holds for its clients is bounded by one of these.

    host, port: where it listens. keys: the API's keys; without one anybody who reaches it may use it.
    names: what clients call the model; the first is its name, the others stand for it too.
    hosts: names under which it may be asked, besides those of this machine; "*" for any. origins: of web pages
        elsewhere that may ask it.
    workers: batches that go through the model at the same time. window_milliseconds: that a recording waits at most
        for others that are likely to come.
    concurrency: requests that are worked on at once. queue: those that may wait for it.
    timeout_seconds, megabytes, minutes: of one request: its time, its body, its audio.
    uploads, upload_megabytes: bodies that are being received at once, and how much they may hold together.
    stall_seconds: without a byte, after which a sender is given up.
    folder: where jobs are kept. job_workers: jobs that run at once. jobs: that may be queued. job_megabytes, job_hours:
        as megabytes and minutes, of a job. folder_megabytes: recordings of all jobs together. keep_days: how long a
        finished job is kept.
    streams, stream_minutes: live streams at once, and how long one may last.
    decoder_megabytes: memory that decoding one recording may take.
    grace_seconds: that requests have to finish in when the server is told to stop.
    log_text: put what was said into the log.

    Raises ConfigError where they can't be used.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: tuple[str, ...] = ()
    names: tuple[str, ...] = ("tiny-en",)
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    workers: int | None = None
    window_milliseconds: float = 30.0
    concurrency: int = 16
    queue: int = 16
    timeout_seconds: float = 120.0
    megabytes: float = 100.0
    minutes: float = 30.0
    uploads: int = 128
    upload_megabytes: float = 4096.0
    stall_seconds: float = 15.0
    folder: Path = field(default_factory=default_folder)
    job_workers: int = 1
    jobs: int = 100
    job_megabytes: float = 2048.0
    job_hours: float = 12.0
    folder_megabytes: float = 16_384.0
    keep_days: float = 7.0
    streams: int = 8
    stream_minutes: float = 120.0
    decoder_megabytes: float = 512.0
    grace_seconds: float = 30.0
    log_text: bool = False

    def __post_init__(self) -> None:
        if not self.names or not all(self.names):
            raise ConfigError("The model's name is empty: give --name one.")
        least = {"workers": 1, "concurrency": 1, "queue": 0, "uploads": 1, "jobs": 1, "job_workers": 1, "streams": 0}
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise ConfigError(f"{name} is {value}, but must be at least {bound}.")
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}, but must be positive.")

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host in LOOPBACK


def read_keys(path: Path) -> tuple[str, ...]:
    """The keys of a file, one a line; empty lines and those that begin with # don't count.

    Raises ConfigError where it can't be read, holds none, or one that is shorter than 16 characters.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The file of API keys '{path}' can't be read: {error}.") from error
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise ConfigError(f"The file of API keys '{path}' holds none: write one a line (openssl rand -hex 24).")
    if any(len(key) < 16 for key in keys):
        raise ConfigError(
            f"A key in '{path}' has fewer than 16 characters: it could be guessed (openssl rand -hex 24)."
        )
    return keys
