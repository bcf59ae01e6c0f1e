"""From anything that holds sound to mono float32 samples at the rate that the models hear.

A recording passes through four stages, each an iterator over the one before, so that memory holds a block or two
however long the recording is:

    decode and mix down  →  refuse NaN and infinity  →  resample  →  cut into blocks of equal length

Decoding is PyAV's (FFmpeg), resampling soxr's.

What is done with the oddities of containers:
- The first audio stream counts, in videos too.
- Encoder delay and padding are cut off wherever the file states them, as FFmpeg does by default: mp3, m4a and opus
  come out as long as what went in. (FFmpeg leaves the padding at the end of m4a: up to 1,024 samples.)
- The rate, the channels and the sample format may change in mid-stream.
- Timestamps are ignored: gaps are closed up, and a stream that starts late starts at zero.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import av
import numpy as np
import numpy.typing as npt
import soxr

from wavconformer.audio.recording import AudioFile, check_file, name_of, opened
from wavconformer.errors import AudioError

if TYPE_CHECKING:
    from typing_extensions import TypeIs

SAMPLE_RATE = 16_000
"""Samples per second that the released models were trained on."""

Samples: TypeAlias = npt.NDArray[np.float32]

AudioSource: TypeAlias = AudioFile | npt.NDArray[Any] | Iterable[npt.NDArray[Any]]
"""An encoded recording, or samples whose rate is told apart: all of them (S,), or one block (S,) after the other."""

# A piece of a recording on its way: its sampling rate, and mono samples (S,).
_Piece: TypeAlias = tuple[int, Samples]

# FFmpeg's packed sample formats; a planar one has a "p" behind its name.
_SAMPLE_TYPES: dict[str, type[np.generic]] = {
    "u8": np.uint8,
    "s16": np.int16,
    "s32": np.int32,
    "s64": np.int64,
    "flt": np.float32,
    "dbl": np.float64,
}
_LEAST_RATE = 1_000  # Hz; resampling from a few Hz, as a hostile header may state, would take memory without bound
_ARRAY_TYPES = (np.uint8, np.int16, np.int32, np.float16, np.float32, np.float64)


def load_audio(
    source: AudioSource,
    *,
    sampling_rate: int = SAMPLE_RATE,
    source_rate: int | None = None,
    on_loss: Callable[[str], None] | None = None,
) -> Samples:
    """The whole recording as mono samples (S,) at `sampling_rate`, float32, full scale ±1.

    Arguments, errors and warnings are those of `stream_audio`.
    """
    blocks = stream_audio(source, sampling_rate=sampling_rate, source_rate=source_rate, on_loss=on_loss)
    return np.concatenate(list(blocks))


def stream_audio(
    source: AudioSource,
    *,
    sampling_rate: int = SAMPLE_RATE,
    source_rate: int | None = None,
    block_seconds: float = 10.0,
    on_loss: Callable[[str], None] | None = None,
    on_duration: Callable[[float | None], None] | None = None,
) -> Iterator[Samples]:
    """Decodes a recording block by block, in memory bounded by the block.

    Channels are mixed down to their mean. A recording that has `sampling_rate` already comes out as it was decoded,
    bit for bit; any other is resampled to round(S × sampling_rate / its rate) samples, give or take one.

    source: a path, bytes, a binary file (read from where it stands, pipes where the format allows it, and left open),
        or an array (S,) of floats with full scale ±1 or of uint8, int16 or int32 PCM, or an iterable of such arrays,
        which is asked for the next one when it is needed.
    sampling_rate: samples per second of the blocks.
    source_rate: samples per second of `source`, for arrays; files state their own.
    block_seconds: length of a block.
    on_loss: is told, in a sentence, what of a recording could not be decoded, in place of the AudioWarning.
    on_duration: is told the seconds that a file's container states, as `probe` gives them, before anything is decoded;
        what it raises ends the recording.

    Yields float32 blocks (S,), all of `block_seconds` but the last, which may be shorter. A file is opened when the
    first block is asked for, and closed after the last one or when the iterator is dropped.

    Raises AudioError where the source is missing, empty, no audio, without an audio stream or of an unknown codec,
    where nothing in it can be decoded, and at a sample that is NaN or infinite. What can be decoded of a recording
    that is cut off or damaged is yielded, with an AudioWarning at the end. ValueError and TypeError for misuse:
    a text file, an array without rate or of a wrong type or shape, a rate that isn't positive.
    """
    if not sampling_rate > 0:
        raise ValueError(f"sampling_rate must be positive, not {sampling_rate}.")
    if not 0 < block_seconds < math.inf:
        raise ValueError(f"block_seconds must be positive and finite, not {block_seconds}.")
    if isinstance(source, np.ndarray):
        name = "The given array"
        pieces = _converted(source, source_rate, block_seconds)
    elif is_blocks(source):
        name = "The given blocks"
        pieces = _from_blocks(source, checked_rate(source_rate), block_seconds)
    else:
        check_file(source)
        name = name_of(source)
        if source_rate is not None:
            raise ValueError(f"{name}: source_rate is for arrays; a recording states its own. Leave it out.")
        pieces = _decoded(source, block_seconds, on_loss, on_duration)
    resampled = _resampled(_finite(pieces, name), sampling_rate)
    return _cut(resampled, max(1, round(block_seconds * sampling_rate)), name)


def is_blocks(source: AudioFile | Iterable[npt.NDArray[Any]]) -> TypeIs[Iterable[npt.NDArray[Any]]]:
    """Whether a source is samples that come block by block."""
    if isinstance(source, (list, tuple)):
        return any(isinstance(block, np.ndarray) for block in source)
    is_file = isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(source, "read")
    # An array of another kind is iterable too, number by number.
    return isinstance(source, Iterable) and not is_file and not hasattr(source, "__array__")


# The stages


def _decoded(
    source: AudioFile,
    seconds: float,
    on_loss: Callable[[str], None] | None,
    on_duration: Callable[[float | None], None] | None,
) -> Iterator[_Piece]:
    """The recording mixed down, about `seconds` at a time; each piece has one rate."""
    with opened(source) as recording:
        if on_duration is not None:
            on_duration(recording.duration)
        waiting: list[npt.NDArray[Any]] = []  # (C, S) each, of one form
        form: tuple[int, int, str] | None = None
        gathered, rate, heard = 0, 0, 0.0
        for frame in recording.frames():
            before, form = form, (frame.sample_rate, frame.layout.nb_channels, frame.format.name)
            if waiting and form != before:
                yield rate, _mixed_down(waiting)
                waiting, gathered = [], 0
            rate = frame.sample_rate
            if rate < _LEAST_RATE:
                raise AudioError(
                    f"{recording.name}: states a sampling rate of {rate} Hz, at which nothing can be heard. Its header "
                    "is damaged: make it anew."
                )
            waiting.append(_channels(frame))
            gathered += frame.samples
            heard += frame.samples / rate
            if gathered >= seconds * rate:
                yield rate, _mixed_down(waiting)
                waiting, gathered = [], 0
        if waiting:
            yield rate, _mixed_down(waiting)
        recording.account_for_losses(heard, on_loss)


def _converted(samples: npt.NDArray[Any], rate: int | None, seconds: float) -> Iterator[_Piece]:
    """The samples of an array as float32, in pieces of `seconds`."""
    rate = checked_rate(rate)
    check_samples(samples)
    size = max(1, round(seconds * rate))
    return ((rate, as_float(samples[start : start + size])) for start in range(0, len(samples), size))


def check_samples(samples: npt.NDArray[Any]) -> None:
    """ValueError for an array of another shape than (S,), TypeError for what is none or holds no samples."""
    if not isinstance(samples, np.ndarray):
        raise TypeError(
            f"Blocks of samples are numpy arrays (a tensor as tensor.numpy()), not {type(samples).__name__}."
        )
    if samples.ndim != 1:
        raise ValueError(
            f"An array of samples has one dimension, not the shape {samples.shape}. Mix the channels down first: "
            "array.mean(axis=0) for (channels, samples), array.mean(axis=1) for (samples, channels)."
        )
    if samples.dtype.type not in _ARRAY_TYPES:
        raise TypeError(
            f"Samples are floats with full scale ±1, or uint8, int16 or int32 PCM, not {samples.dtype}: convert them."
        )


def checked_rate(rate: int | None) -> int:
    """The sampling rate of arrays; ValueError where it is missing or can't be."""
    if rate is None:
        raise ValueError("An array doesn't say its sampling rate: pass source_rate, such as source_rate=16000.")
    if not rate > 0:
        raise ValueError(f"source_rate must be positive, not {rate}.")
    return rate


def _from_blocks(blocks: Iterable[npt.NDArray[Any]], rate: int, seconds: float) -> Iterator[_Piece]:
    """The samples of arrays that come one by one, each as `_converted` takes it."""
    for block in blocks:
        check_samples(block)
        yield from _converted(block, rate, seconds)


def _finite(pieces: Iterable[_Piece], name: str) -> Iterator[_Piece]:
    """The pieces as they are; AudioError at the first sample that is NaN or infinite."""
    elapsed = 0.0
    for rate, samples in pieces:
        check_finite(samples, name, elapsed, rate)
        elapsed += len(samples) / rate
        yield rate, samples


def check_finite(samples: Samples, name: str, elapsed: float, rate: int) -> None:
    """AudioError at the first sample that is NaN or infinite. elapsed: seconds before these samples."""
    finite = np.isfinite(samples)
    if not finite.all():
        second = elapsed + int(finite.argmin()) / rate
        raise AudioError(
            f"{name}: at {second:.3f} s a sample is NaN or infinite. Make the recording anew, or replace such "
            "samples (numpy.nan_to_num)."
        )


class Resampler:
    """From one rate to another, as samples come in; of equal rates they pass untouched."""

    def __init__(self, rate: int, sampling_rate: int) -> None:
        self._stream = None if rate == sampling_rate else soxr.ResampleStream(rate, sampling_rate, 1, quality="HQ")

    def feed(self, samples: Samples) -> Samples:
        """What is certain with these samples (S,)."""
        if self._stream is None:
            return samples
        resampled: Samples = self._stream.resample_chunk(samples)
        return resampled

    def finish(self) -> Samples:
        """What is still held back."""
        if self._stream is None:
            return np.zeros(0, np.float32)
        rest: Samples = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        return rest


def _resampled(pieces: Iterable[_Piece], sampling_rate: int) -> Iterator[Samples]:
    """The samples at `sampling_rate`; pieces that have it pass untouched."""
    source_rate = sampling_rate
    resampler = Resampler(source_rate, sampling_rate)
    for rate, samples in pieces:
        if rate != source_rate:
            yield resampler.finish()
            source_rate, resampler = rate, Resampler(rate, sampling_rate)
        yield resampler.feed(samples)
    yield resampler.finish()


def _cut(pieces: Iterable[Samples], size: int, name: str) -> Iterator[Samples]:
    """The samples in blocks of `size`, the last one shorter; AudioError where there are none."""
    waiting: list[Samples] = []
    length, empty = 0, True
    try:
        for piece in pieces:
            waiting.append(piece)
            length += len(piece)
            if length >= size:
                joined = np.concatenate(waiting)
                whole = length - length % size
                for start in range(0, whole, size):
                    yield joined[start : start + size]
                waiting, length, empty = [joined[whole:]], length - whole, False
    except Exception:
        if length:
            yield np.concatenate(waiting)  # what was heard before the error isn't lost
        raise
    if length:
        yield np.concatenate(waiting)
    elif empty:
        raise AudioError(f"{name}: no samples in it. Check how it was recorded or cut.")


# Samples


def _channels(frame: av.AudioFrame) -> npt.NDArray[Any]:
    """A view of a frame's samples as they were decoded, (channels, S)."""
    count = frame.layout.nb_channels
    dtype = _SAMPLE_TYPES[frame.format.name.removesuffix("p")]
    planes: tuple[Any, ...] = frame.planes  # buffers, which av's types don't say
    if not frame.format.is_planar:
        packed: npt.NDArray[Any] = np.frombuffer(planes[0], dtype, frame.samples * count).reshape(-1, count).T
        return packed
    # From 8 channels on av counts one plane too many, and frame.to_ndarray reads it.
    channels = [np.frombuffer(plane, dtype, frame.samples) for plane in planes[:count]]
    return channels[0][None] if count == 1 else np.stack(channels)


def _mixed_down(frames: list[npt.NDArray[Any]]) -> Samples:
    """The mean of the channels of consecutive frames (channels, S), as float32 samples (S,)."""
    channels = np.concatenate(frames, axis=1)
    with np.errstate(invalid="ignore", over="ignore"):  # ∞ − ∞ and beyond; told of later, with its place
        floats = as_float(channels)
        mean: Samples = floats.mean(axis=0) if len(channels) > 1 else floats[0]
    return mean


def as_float(samples: npt.NDArray[Any]) -> Samples:
    """A copy as float32 with full scale ±1. Unsigned PCM is silent at the middle of its range."""
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite; told of later, with its place
        floats = samples.astype(np.float32)
    if samples.dtype.kind == "f":
        return floats
    half = np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))
    if samples.dtype.kind == "u":
        floats -= half
    floats /= half
    return floats
