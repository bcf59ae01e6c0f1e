"""A recording opened with FFmpeg: what it says of itself, its frames, and what of it is lost.

FFmpeg gets to see one Python file and nothing else: a playlist that names other files or addresses can't make it
open them.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import av

from wavconformer.errors import AudioError

AudioFile: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]
"""An encoded recording: a path, the bytes themselves, or a binary file (read from where it stands)."""

# Containers that state the length. For others FFmpeg may guess it from the bit rate.
_FORMATS_THAT_STATE_LENGTH = (
    "aiff",
    "au",
    "flac",
    "matroska,webm",
    "mov,mp4,m4a,3gp,3g2,mj2",
    "mp3",
    "ogg",
    "tta",
    "wav",
    "wv",
)
_UNKNOWN_RIFF_SIZE = 0x7FFF_0000  # writers that can't seek back put this or more for the size, or nothing
_LONGEST_OGG_PAGE = 27 + 255 + 255 * 255  # bytes
_SHORT_BY = 0.25  # seconds; less may be encoder padding or the rounding of a container's clock


class AudioWarning(UserWarning):
    """A recording was decoded in part: it is cut off or damaged."""


@dataclass(frozen=True)
class AudioInfo:
    """What a recording's container says of it.

    duration: seconds; None where the container doesn't say. An estimate for formats without a header, such as aac.
    sampling_rate: samples per second as recorded.
    channels: how many channels were recorded.
    codec: name of FFmpeg's decoder, such as "flac" or "aac".
    container: FFmpeg's name of the format, such as "wav" or "matroska,webm".
    """

    duration: float | None
    sampling_rate: int
    channels: int
    codec: str
    container: str


def probe(source: AudioFile) -> AudioInfo:
    """What the container says of a recording, without decoding it: to sort files by length, or to show progress.

    A binary file that can seek is set back to where it stood. Raises AudioError where the source is missing, empty,
    no audio, without an audio stream or of an unknown codec; TypeError and ValueError for what is no binary file.
    """
    check_file(source)
    with opened(source) as recording:
        codec = recording.stream.codec_context
        info = AudioInfo(
            duration=recording.duration,
            sampling_rate=codec.sample_rate,
            channels=codec.layout.nb_channels,
            codec=codec.name,
            container=recording.container.format.name,
        )
        if recording.file.seekable():
            recording.file.seek(0)
    return info


def name_of(source: AudioFile) -> str:
    """How messages call the source."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "The given bytes"
    if isinstance(source, (str, os.PathLike)):
        return f"'{os.fsdecode(source)}'"
    name = getattr(source, "name", None)
    return f"'{name}'" if isinstance(name, str) and name else "The given file object"


def check_file(source: AudioFile) -> None:
    """Refuses what is neither path nor bytes nor a binary file that is open for reading.

    Raises TypeError or ValueError, and AudioError where reading fails at once.
    """
    if isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)):
        return
    if not hasattr(source, "read"):
        raise TypeError(
            "A recording is given as a path, as bytes, as a binary file or as a numpy array (a tensor as "
            f"tensor.numpy()), not as {type(source).__name__}."
        )
    name = name_of(source)
    if getattr(source, "closed", False):
        raise ValueError(f"{name}: the file is closed. Keep it open until the recording is read.")
    try:
        nothing: Any = source.read(0)
    except io.UnsupportedOperation as error:
        raise ValueError(f"{name}: the file isn't open for reading. Open it with mode 'rb'.") from error
    except OSError as error:
        raise AudioError(f"{name}: can't be read ({error}). Check the disk or the connection.") from error
    if not isinstance(nothing, bytes):
        raise TypeError(f"{name}: reading gives {type(nothing).__name__}, not bytes. Open the file with mode 'rb'.")


@contextmanager
def opened(source: AudioFile) -> Iterator[Recording]:
    """The recording in `source`, open for as long as the block lasts; a file object of the caller's stays open.

    Raises AudioError where there is no audio stream that can be decoded.
    """
    name = name_of(source)
    if isinstance(source, (str, os.PathLike)):
        with _opened_path(os.fsdecode(source), name) as file, _demuxed(file, name) as recording:
            yield recording
    else:
        file = io.BytesIO(bytes(source)) if isinstance(source, (bytes, bytearray, memoryview)) else source
        with _demuxed(file, name) as recording:
            yield recording


def _opened_path(path: str, name: str) -> IO[bytes]:
    if "://" in path:
        raise AudioError(f"{name}: addresses are not fetched. Download the recording and give its path or its bytes.")
    try:
        if Path(path).is_dir():
            raise AudioError(f"{name}: a directory. Give the files in it.")
        return Path(path).open("rb")
    except FileNotFoundError as error:
        raise AudioError(f"{name}: no such file. Check the path.") from error
    except PermissionError as error:
        raise AudioError(f"{name}: no permission to read it. Change its permissions, or run as its owner.") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise AudioError(f"{name}: can't be opened ({error}). Check the path.") from error


@contextmanager
def _demuxed(file: IO[bytes], name: str) -> Iterator[Recording]:
    """The recording in an open file."""
    reader = _Reader(file)
    try:
        # No protocol is allowed, not even for local files: FFmpeg reads through `reader` alone.
        container = av.open(reader, "r", container_options={"protocol_whitelist": "none"}, metadata_errors="replace")
    except av.FFmpegError as error:
        if reader.failure is not None:
            raise AudioError(
                f"{name}: can't be read ({reader.failure}). Check the disk or the connection."
            ) from reader.failure
        if reader.end == 0:
            raise AudioError(
                f"{name}: empty. Check how it was made; a file object that was read already needs seek(0)."
            ) from error
        raise AudioError(
            f"{name}: no recording that can be read ({error.strerror}). Give audio or video such as wav, flac, mp3, "
            "ogg, m4a, mp4 or webm; if it is one of these, it is damaged or cut off."
        ) from error
    with container:
        if not container.streams.audio:
            found = ", ".join(stream.type for stream in container.streams) or "nothing"
            raise AudioError(
                f"{name}: no audio stream in it (read as {container.format.name}, it holds {found}). Give a file with "
                "sound."
            )
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise AudioError(
                f"{name}: its audio has a codec that FFmpeg can't decode here. Convert it to wav or flac first."
            )
        yield Recording(name, reader, container, stream)


class _Reader:
    """A binary file as FFmpeg sees it: it begins where the file stands, and can be read and sought, no more.

    Keeps what FFmpeg doesn't tell: how far it read, whether it met the end, and why reading failed.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._start = file.tell() if self.seekable() else 0
        self.name = str(getattr(file, "name", ""))  # the suffix helps FFmpeg where the content doesn't tell
        self.head = b""
        self.position = 0
        self.end: int | None = None
        self.failure: OSError | None = None

    def seekable(self) -> bool:
        able = getattr(self._file, "seekable", None)
        return hasattr(self._file, "seek") and hasattr(self._file, "tell") and (able is None or able())

    def read(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
        except OSError as error:
            self.failure = error  # told of once FFmpeg is done: not every exception finds its way through C
            return b""
        if not data:
            self.end = self.position
        elif self.position == 0:
            self.head = data[:12]
        self.position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = self._start if whence == os.SEEK_SET else 0
        try:
            self._file.seek(start + offset, whence)
        except OSError:
            return -1  # how FFmpeg is told that there is no such place
        self.position = self.tell()
        return self.position

    def tell(self) -> int:
        return self._file.tell() - self._start


@dataclass
class Recording:
    """An open recording: the container, its first audio stream, and what went wrong so far."""

    name: str
    file: _Reader
    container: av.container.InputContainer
    stream: av.AudioStream
    skipped: int = 0
    trouble: str | None = None

    def frames(self) -> Iterator[av.AudioFrame]:
        """All frames that can be decoded; counts the packets that can't."""
        try:
            for packet in self.container.demux(self.stream):
                try:
                    frames = packet.decode()
                except av.FFmpegError as error:
                    self.skipped += 1
                    self.trouble = error.strerror
                else:
                    yield from frames
                if not packet.size:  # the last one, which empties the decoder
                    return  # without asking on: av fails after it if streams turned up that weren't there at first
        except av.FFmpegError as error:  # the container itself breaks off
            self.trouble = error.strerror

    def account_for_losses(self, heard: float, on_loss: Callable[[str], None] | None = None) -> None:
        """To be called at the end: AudioError where nothing could be decoded, AudioWarning where something is lost.

        heard: seconds that were decoded. on_loss: is told in place of the warning.
        """
        if self.file.failure is not None:
            raise AudioError(
                f"{self.name}: reading failed after {heard:.2f} s of sound: {self.file.failure}. "
                "Check the disk or the connection, and try again."
            ) from self.file.failure
        if not heard:
            pipe = "" if self.file.seekable() else " Some formats can't be read from a pipe: save it to a file first."
            raise AudioError(
                f"{self.name}: nothing in it can be decoded ({self.trouble or 'it holds no samples'}). It is empty, "
                f"damaged or cut off: make or fetch it anew.{pipe}"
            )
        stated = self._stated_seconds(heard)
        losses = []
        if self.skipped:
            losses.append(f"damaged packets skipped: {self.skipped}")
        if stated is not None and heard < stated - _SHORT_BY:
            losses.append(f"its header speaks of {stated:.2f} s")
        elif stated is None and self.trouble and not self.skipped:
            losses.append(f"it breaks off: {self.trouble}")
        elif self.container.format.name == "ogg" and self._ends_within_a_page():
            losses.append("it breaks off in the middle of a page")
        if losses:
            message = f"{self.name}: cut off or damaged; {heard:.2f} s could be decoded ({'; '.join(losses)})."
            if on_loss is None:
                warnings.warn(message, AudioWarning, stacklevel=2)
            else:
                on_loss(message)

    def _ends_within_a_page(self) -> bool:
        """Whether the last page of an Ogg file is shorter than its header says (RFC 3533, section 6)."""
        if not self.file.seekable():
            return False
        if self.file.seek(-_LONGEST_OGG_PAGE, os.SEEK_END) < 0:
            self.file.seek(0)
        tail = b""
        while more := self.file.read(_LONGEST_OGG_PAGE):
            tail += more
        page = tail[max(0, tail.rfind(b"OggS")) :]
        segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
        return len(page) < 27 or len(page) < 27 + page[26] + sum(segments)

    @property
    def duration(self) -> float | None:
        """Seconds, stated or estimated; of the stream if that is known, else of the container."""
        if self.stream.duration is not None and self.stream.time_base is not None:
            return float(self.stream.duration * self.stream.time_base)
        if self.container.duration is not None:
            return self.container.duration / av.time_base
        return None

    def _stated_seconds(self, heard: float) -> float | None:
        """The length that the header states; None where it states none or FFmpeg may have guessed it."""
        format_name = self.container.format.name
        if format_name not in _FORMATS_THAT_STATE_LENGTH:
            return None
        if format_name == "wav":  # FFmpeg goes by the file's size; the header's second word is what there should be
            stated = int.from_bytes(self.file.head[4:8], "little")
            if self.file.head[:4] != b"RIFF" or stated >= _UNKNOWN_RIFF_SIZE or not self.file.end:
                return None
            return heard * (stated + 8) / self.file.end
        if format_name == "mp3" and not self.stream.start_time:
            return None  # without the header that states encoder delay and length, FFmpeg guesses from the bit rate
        if self.stream.duration is None and len(self.container.streams) > 1:
            return None  # the length of the longest stream, which needn't be ours
        return self.duration
