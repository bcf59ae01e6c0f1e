"""Raw samples from a pipe, as they come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wavconformer.audio.decode import as_float
from wavconformer.errors import AudioError

SAMPLE_FORMATS = {
    "u8": "u1",
    "s16le": "<i2",
    "s16be": ">i2",
    "s32le": "<i4",
    "s32be": ">i4",
    "f32le": "<f4",
    "f32be": ">f4",
    "f64le": "<f8",
    "f64be": ">f8",
}
"""FFmpeg's names of packed samples, and numpy's."""
_CONTAINERS = (b"fLaC", b"OggS", b"ID3", b"\x1aE\xdf\xa3")
"""How recordings begin that aren't raw samples. RIFF isn't among them: behind a short header WAV has raw samples."""
_MOST = 1 << 16  # bytes that are taken at once


class Pipe(Protocol):
    """What bytes are read from, as `sys.stdin.buffer`."""

    def read1(self, size: int, /) -> bytes:
        """At most so many bytes, and no more than there are by now; none at the end."""


def read_pcm(pipe: Pipe, *, channels: int = 1, sample_format: str = "s16le") -> Iterator[NDArray[np.float32]]:
    """Samples (S,) as soon as they are there, mixed down to the mean of the channels, with full scale ±1.

    channels: that are interleaved. sample_format: a name in `SAMPLE_FORMATS`.

    Raises AudioError for a compressed recording, and, at the end, where that is in the middle of a sample; ValueError
    for arguments that can't be.
    """
    if channels < 1:
        raise ValueError(f"channels is {channels}, but must be at least 1.")
    if sample_format not in SAMPLE_FORMATS:
        raise ValueError(f"sample_format is {sample_format!r}, but must be one of {', '.join(SAMPLE_FORMATS)}.")
    return _read(pipe, channels, np.dtype(SAMPLE_FORMATS[sample_format]))


def _read(pipe: Pipe, channels: int, dtype: np.dtype[np.generic]) -> Iterator[NDArray[np.float32]]:
    size = channels * dtype.itemsize
    rest, is_first = b"", True
    while content := pipe.read1(_MOST):
        if is_first and content.startswith(_CONTAINERS):
            raise AudioError(
                "This is a recording in a container or compressed, not raw samples: `wavconformer transcribe` reads "
                "it, and `ffmpeg -i FILE -f s16le -ac 1 -ar 16000 -` makes raw samples of it."
            )
        is_first = False
        content = rest + content
        whole = len(content) - len(content) % size
        rest = content[whole:]
        if whole:
            frames = np.frombuffer(content[:whole], dtype).astype(dtype.newbyteorder("="), copy=False)
            with np.errstate(invalid="ignore", over="ignore"):  # told of later, with its place
                samples = as_float(frames.reshape(-1, channels)).mean(axis=1)
            yield samples
    if rest:
        raise AudioError(
            f"The raw samples end in the middle of one: {len(rest)} bytes are left, but a sample of {channels} "
            f"channel{'s' * (channels > 1)} has {size}. Check the sample format and the channels."
        )
