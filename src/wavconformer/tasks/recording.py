"""A source of sound, opened: read whole where it is short, or as it is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wavconformer.audio import AudioSource, AudioWarning, stream_audio
from wavconformer.audio.decode import is_blocks
from wavconformer.audio.recording import check_file, name_of

BLOCK_SECONDS = 2.0


@dataclass(frozen=True)
class Recording:
    """A waveform (S,) at the model's rate, what messages call it, and its length in seconds.

    problems: what of it could not be decoded.
    """

    waveform: NDArray[np.float32]
    name: str
    duration: float
    problems: tuple[str, ...] = ()


@dataclass
class LongRecording:
    """A recording that is read as it is asked for.

    name: what messages call it. rate: samples per second. heard: samples read so far. problems: what of it could not
    be decoded, as far as is known by now. failure: the error that ended it, if one did; what came before it is good.
    """

    name: str
    rate: int
    _first: list[NDArray[np.float32]]
    _more: Iterator[NDArray[np.float32]]
    problems: list[str] = field(default_factory=list)
    heard: int = 0
    failure: Exception | None = None

    def blocks(self) -> Generator[NDArray[np.float32], None, None]:
        """Its samples (S,), block by block, once. An error ends them and is kept in `failure`."""
        try:
            while self._first:
                self.heard += len(self._first[0])
                yield self._first.pop(0)
            while True:
                try:
                    block = next(self._more, None)
                except Exception as error:  # noqa: BLE001 - whoever reads raises it, when what came before it is done
                    self.failure = error
                    return
                if block is None:
                    return
                self.heard += len(block)
                yield block
        finally:
            self.close()

    def close(self) -> None:
        """Closes the file; nothing more is read."""
        self._first.clear()
        close = getattr(self._more, "close", None)
        if close is not None:
            close()


def open_recording(
    source: AudioSource, rate: int, source_rate: int | None = None, *, longest: float
) -> Recording | LongRecording:
    """Reads a source of at most `longest` seconds whole, and begins to read a longer one.

    rate: samples per second of what comes out. source_rate: those of an array or of blocks; a file says its own.

    Raises AudioError where it can't be read, ValueError for an array without its rate, TypeError for what is neither.
    Whatever of it can't be decoded is an AudioWarning and among its problems.
    """
    if isinstance(source, np.ndarray) or is_blocks(source):
        is_right = source_rate is not None
    else:
        check_file(source)
        is_right = source_rate is None
    if not is_right:
        raise ValueError("sampling_rate goes with an array of samples, and only with one: a file says its own.")
    name = describe(source)
    problems: list[str] = []

    def on_loss(message: str) -> None:
        problems.append(message)
        warnings.warn(message, AudioWarning, stacklevel=2)

    blocks = stream_audio(
        source, sampling_rate=rate, source_rate=source_rate, block_seconds=BLOCK_SECONDS, on_loss=on_loss
    )
    first: list[NDArray[np.float32]] = []
    for block in blocks:
        first.append(block)
        if sum(map(len, first)) > longest * rate:
            return LongRecording(name, rate, first, blocks, problems)
    waveform = np.concatenate(first)
    return Recording(waveform, name, len(waveform) / rate, tuple(problems))


def describe(source: AudioSource) -> str:
    """How messages name a source."""
    return "The given audio" if isinstance(source, np.ndarray) or is_blocks(source) else name_of(source)
