"""One utterance: where its sound is, and what is known of it."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavconformer.audio import SAMPLE_RATE, load_audio, stream_audio
from wavconformer.errors import AudioError, DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """A stretch of a recording, with its labels.

    id: name, unique in a corpus.
    audio: path of the recording, or of the shard that holds it; or the encoded recording itself.
    start, end: seconds within the recording; `end` is None for its end.
    text, speaker, label: what is said, who says it, and its class; None where that isn't known.
    seconds: length, once it was measured.
    offset, size: the place of the recording in its shard, in bytes; None for a file of its own.
    others: what else its manifest says, by column.
    """

    id: str
    audio: str | bytes
    start: float = 0.0
    end: float | None = None
    text: str | None = None
    speaker: str | None = None
    label: str | None = None
    seconds: float | None = None
    offset: int | None = None
    size: int | None = None
    others: Mapping[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path | None:
        """The recording's own file; None where it lies in a shard or in memory."""
        return Path(self.audio) if isinstance(self.audio, str) and self.offset is None else None

    def group(self, column: str) -> str | None:
        """What the utterance has in a column that scores are broken down by."""
        value = getattr(self, column) if column in ("speaker", "label") else self.others.get(column)
        return value if value is None else str(value)

    def as_dict(self, folder: Path | None = None) -> dict[str, Any]:
        """What is known, for a line of JSON; a path inside `folder` is written as seen from there."""
        known = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "others"}
        if folder is not None and isinstance(self.audio, str):
            path = os.path.abspath(self.audio)  # noqa: PTH100 (links stay as they are)
            inside = os.path.relpath(path, folder)
            known["audio"] = path if inside.startswith("..") else inside
        told = {name: value for name, value in known.items() if value is not None and (name != "start" or value)}
        return {**told, **self.others}


def load_utterance(utterance: Utterance, sampling_rate: int = SAMPLE_RATE) -> NDArray[np.float32]:
    """The samples (S,) of the utterance, float32, full scale ±1.

    Of a long recording only the stretch is decoded where its format can seek; the others are decoded up to its end.
    Raises AudioError where the recording can't be read, or ends before the stretch begins.
    """
    source = source_of(utterance)
    if not utterance.start and utterance.end is None:
        return load_audio(source, sampling_rate=sampling_rate)
    samples = _sought(source, utterance, sampling_rate)
    if samples is None:
        samples = _decoded(source, utterance, sampling_rate)
    if not len(samples):
        raise AudioError(
            f"{utterance.id}: its stretch of {name_of(utterance)}, from {utterance.start:g} s to "
            f"{'the end' if utterance.end is None else f'{utterance.end:g} s'}, is empty or behind the recording's end."
        )
    return samples


def name_of(utterance: Utterance) -> str:
    """How messages call the recording."""
    if isinstance(utterance.audio, bytes):
        return "the recording"
    place = "" if utterance.offset is None else f" at byte {utterance.offset}"
    return f"'{utterance.audio}'{place}"


def source_of(utterance: Utterance) -> str | bytes:
    """The recording, as `wavconformer.audio` takes it; one in a shard is read from there."""
    if utterance.offset is None:
        return utterance.audio
    if isinstance(utterance.audio, bytes) or utterance.size is None:
        raise DataError(f"{utterance.id}: offset and size go together, and with the path of a shard.")
    try:
        with Path(utterance.audio).open("rb") as shard:
            shard.seek(utterance.offset)
            data = shard.read(utterance.size)
    except OSError as error:
        raise AudioError(f"{utterance.id}: {name_of(utterance)} can't be read ({error.strerror}).") from error
    if len(data) < utterance.size:
        raise AudioError(f"{utterance.id}: {name_of(utterance)} ends within the recording: it is cut off.")
    return data


def _decoded(source: str | bytes, utterance: Utterance, sampling_rate: int) -> NDArray[np.float32]:
    """The stretch, of a recording that is decoded from its beginning to the stretch's end."""
    start = round(utterance.start * sampling_rate)
    stop = None if utterance.end is None else round(utterance.end * sampling_rate)
    kept, first = [np.empty(0, np.float32)], 0
    for block in stream_audio(source, sampling_rate=sampling_rate):
        kept.append(block[max(0, start - first) :])
        first += len(block)
        if stop is not None and first >= stop:
            break
    samples = np.concatenate(kept)
    return samples if stop is None else samples[: stop - start]


def _sought(source: str | bytes, utterance: Utterance, sampling_rate: int) -> NDArray[np.float32] | None:
    """The stretch, of a format that libsndfile seeks in to the sample (wav, flac, ogg); None for another."""
    try:
        import soundfile
    except ImportError as error:
        raise DataError(
            f"Stretches of recordings need soundfile ({error}): pip install 'wavconformer[train]'."
        ) from error
    try:
        with soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            if not file.seekable() or file.format == "MP3":  # whose encoder delay it treats otherwise
                return None
            rate = file.samplerate
            first = min(round(utterance.start * rate), file.frames)
            last = file.frames if utterance.end is None else min(round(utterance.end * rate), file.frames)
            if first >= last:
                return np.empty(0, np.float32)
            file.seek(first)
            samples = file.read(last - first, dtype="float32", always_2d=True).mean(axis=1)
    except soundfile.LibsndfileError:
        return None  # FFmpeg knows more formats, and says better what is wrong
    return load_audio(samples, sampling_rate=sampling_rate, source_rate=rate)
