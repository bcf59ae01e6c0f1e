"""Decoding, mixing down and resampling: every format, as a stream and whole, and everything that goes wrong."""

from __future__ import annotations

import io
import itertools
import struct
import subprocess
import sys
import tracemalloc
import wave
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavconformer.audio import SAMPLE_RATE, AudioInfo, AudioWarning, load_audio, probe, stream_audio
from wavconformer.audio.recording import opened
from wavconformer.errors import AudioError

# FFmpeg's sample formats that the fixtures are written in: numpy's type, full scale, zero.
PCM = {"u8": ("u1", 127, 128), "s16": ("i2", 2**15 - 1, 0), "s32": ("i4", 2**31 - 1, 0), "flt": ("f4", 1, 0)}
PCM["dbl"] = ("f8", 1, 0)


def tone(hertz: float, seconds: float, rate: int, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def as_pcm(channels: np.ndarray, sample_format: str) -> np.ndarray:
    """(C, S) of ±1 as the integers or floats of a packed sample format."""
    dtype, scale, zero = PCM[sample_format]
    scaled = channels * scale + zero
    return (np.round(scaled) if dtype[0] != "f" else scaled).astype(dtype)


def add_audio(container: av.container.OutputContainer, count: int, rate: int, codec: str, **options: str) -> Any:
    layout = {1: "mono", 2: "stereo", 3: "2.1", 6: "5.1", 8: "7.1"}.get(count, f"{count} channels")
    return container.add_stream(codec, rate=rate, layout=layout, options=options)


def encode_audio(container: Any, stream: Any, channels: np.ndarray, sample_format: str) -> None:
    """Encodes (C, S) samples into a stream of the container."""
    rate, packed = stream.rate, sample_format.removesuffix("p")
    pcm = as_pcm(channels, packed)
    step = stream.codec_context.frame_size or 1024
    for start in range(0, pcm.shape[1], step):
        part = pcm[:, start : start + step]
        if sample_format == packed:
            part = part.T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), sample_format, stream.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def write(
    target: Any,
    channels: np.ndarray,
    rate: int,
    codec: str = "pcm_s16le",
    sample_format: str = "s16",
    container: str | None = None,
    muxer: dict[str, str] | None = None,
    **options: str,
) -> Any:
    """A recording of (S,) or (C, S) samples, written by FFmpeg."""
    channels = np.atleast_2d(channels)
    with av.open(target if hasattr(target, "write") else str(target), "w", container, container_options=muxer) as file:
        stream = add_audio(file, len(channels), rate, codec, **options)
        encode_audio(file, stream, channels, sample_format)
    return target


def encoded(channels: np.ndarray, rate: int, container: str, codec: str, sample_format: str, **more: Any) -> bytes:
    return write(io.BytesIO(), channels, rate, codec, sample_format, container, **more).getvalue()


def add_video(container: av.container.OutputContainer, codec: str, pixel_format: str) -> Any:
    stream = container.add_stream(codec, rate=25)
    stream.width, stream.height, stream.pix_fmt = 32, 32, pixel_format
    return stream


def encode_video(container: av.container.OutputContainer, stream: Any, frames: int) -> None:
    for index in range(frames):
        frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 20 * index, np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def wav_header(rate: int = 16_000, channels: int = 1, bits: int = 16, tag: int = 1, size: int = 0) -> bytes:
    width = channels * bits // 8
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * width, width, bits)
    return b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt \x10\0\0\0" + form + b"data" + struct.pack("<I", size)


def frequency(samples: np.ndarray, rate: int = SAMPLE_RATE) -> float:
    """The strongest frequency in the middle of the samples, to about 1 Hz."""
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 4 * rate))
    return float(spectrum.argmax()) / 4


def level(samples: np.ndarray) -> float:
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    return float(np.sqrt(2 * np.mean(middle.astype(np.float64) ** 2)))


class Pipe(io.RawIOBase):
    """A binary file that can't seek, as a pipe or a socket."""

    def __init__(self, content: bytes) -> None:
        self.content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self.content.read(size)


FORMATS = [
    # suffix, codec, sample format, rate, channels, samples more than went in at most, at the source's rate
    ("wav", "pcm_s16le", "s16", 8_000, 1, 0),
    ("wav", "pcm_s24le", "s32", 44_100, 2, 0),
    ("wav", "pcm_s32le", "s32", 96_000, 1, 0),
    ("wav", "pcm_f32le", "flt", 22_050, 6, 0),
    ("wav", "pcm_f64le", "dbl", 11_025, 2, 0),
    ("wav", "pcm_u8", "u8", 16_000, 1, 0),
    ("wav", "pcm_mulaw", "s16", 8_000, 1, 0),
    ("wav", "pcm_s16le", "s16", 48_000, 16, 0),
    ("aiff", "pcm_s16be", "s16", 44_100, 2, 0),
    ("flac", "flac", "s16", 16_000, 1, 0),
    ("flac", "flac", "s32", 48_000, 8, 0),
    ("mp3", "libmp3lame", "fltp", 44_100, 2, 0),
    ("mp3", "libmp3lame", "s16p", 16_000, 1, 0),
    ("ogg", "vorbis", "fltp", 44_100, 2, 64),
    ("ogg", "libopus", "flt", 48_000, 1, 0),
    ("ogg", "libopus", "flt", 48_000, 8, 0),  # comes back in eight planes
    ("webm", "libopus", "s16", 48_000, 2, 0),
    ("mkv", "flac", "s16", 22_050, 2, 0),
    ("m4a", "aac", "fltp", 44_100, 1, 1_024),
    ("m4a", "alac", "s16p", 16_000, 2, 0),
    ("mp4", "aac", "fltp", 11_025, 2, 1_024),
]


@pytest.mark.parametrize(
    ("suffix", "codec", "sample_format", "rate", "channels", "padding"),
    FORMATS,
    ids=[f"{suffix}-{codec}-{rate}-{channels}" for suffix, codec, _, rate, channels, _ in FORMATS],
)
def test_every_format_keeps_length_pitch_and_level(
    tmp_path, suffix, codec, sample_format, rate, channels, padding
) -> None:
    signal = np.tile(tone(440, 2.01, rate), (channels, 1))
    options = {"strict": "-2"} if codec == "vorbis" else {}
    path = write(tmp_path / f"a.{suffix}", signal, rate, codec, sample_format, **options)
    samples = load_audio(path)
    assert samples.dtype == np.float32
    expected = signal.shape[1] * SAMPLE_RATE / rate
    assert expected - 1 <= len(samples) <= expected + padding * SAMPLE_RATE / rate + 1
    assert abs(frequency(samples) - 440) <= 1
    assert level(samples) == pytest.approx(0.5, rel=0.06)  # lame turns the volume down by 5 %


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000])
def test_any_rate_to_any_rate(rate) -> None:
    recording = encoded(tone(300, 1.0, rate), rate, "wav", "pcm_s16le", "s16")
    for target in (8_000, 16_000, 44_100):
        samples = load_audio(recording, sampling_rate=target)
        assert abs(len(samples) - round(rate * target / rate)) <= 1
        assert abs(frequency(samples, target) - 300) <= 1


@pytest.mark.parametrize(
    ("container", "codec", "sample_format"),
    [
        ("wav", "pcm_u8", "u8"),
        ("wav", "pcm_s16le", "s16"),
        ("wav", "pcm_s32le", "s32"),
        ("wav", "pcm_f32le", "flt"),
        ("wav", "pcm_f64le", "dbl"),
        ("flac", "flac", "s16"),
        ("aiff", "pcm_s16be", "s16"),
    ],
)
def test_samples_that_have_the_rate_already_come_out_bit_for_bit(container, codec, sample_format) -> None:
    signal = np.random.default_rng(0).uniform(-1, 1, (1, 40_000))
    written = as_pcm(signal, sample_format)[0]
    full_scale = {"u8": 2**7, "s16": 2**15, "s32": 2**31}.get(sample_format, 1)
    zero = PCM[sample_format][2]
    expected = (written.astype(np.float64) - zero) / full_scale
    samples = load_audio(encoded(signal, SAMPLE_RATE, container, codec, sample_format))
    assert np.array_equal(samples, expected.astype(np.float32))


@pytest.mark.parametrize("channels", [2, 3, 6, 8, 16])
def test_channels_are_mixed_down_to_their_mean(channels) -> None:
    signal = np.random.default_rng(1).uniform(-1, 1, (channels, 5_000)).astype(np.float32)
    recording = encoded(signal, SAMPLE_RATE, "wav", "pcm_f32le", "flt")
    np.testing.assert_allclose(load_audio(recording), signal.mean(axis=0), atol=1e-6)


def test_eight_planes_are_mixed_down_to_their_mean() -> None:
    signal = np.stack([tone(200 * (index + 1), 1.0, 48_000, level=0.1) for index in range(8)])
    samples = load_audio(encoded(signal, 48_000, "ogg", "libopus", "flt", b="512k"))
    spectrum = 2 * np.abs(np.fft.rfft(samples)) / len(samples)
    heard = spectrum[[200, 400, 600, 1000, 1200, 1400, 1600]]  # 800 Hz went into the low-frequency channel
    np.testing.assert_allclose(heard, 0.1 / 8, rtol=0.15)


def test_what_the_target_rate_cannot_hold_is_filtered_out() -> None:
    mixed = tone(1_000, 1.0, 48_000) + tone(10_000, 1.0, 48_000)
    samples = load_audio(encoded(mixed / 2, 48_000, "wav", "pcm_f32le", "flt"))
    rest = samples - tone(1_000, 1.0, SAMPLE_RATE, level=0.25)
    assert level(rest) < 1e-5


@pytest.mark.filterwarnings("error")
def test_rate_and_channels_may_change_in_mid_stream() -> None:
    bare = {"write_xing": "0", "id3v2_version": "0"}
    stereo = np.tile(tone(700, 2.0, 16_000), (2, 1))
    first = encoded(tone(400, 2.0, 48_000), 48_000, "mp3", "libmp3lame", "fltp", muxer=bare)
    second = encoded(stereo, 16_000, "mp3", "libmp3lame", "s16p", muxer=bare)
    samples = load_audio(first + second)
    assert len(samples) == pytest.approx(4 * SAMPLE_RATE, abs=3_000)
    assert abs(frequency(samples[: len(samples) // 2]) - 400) <= 1
    assert abs(frequency(samples[len(samples) // 2 :]) - 700) <= 1


def test_a_stream_that_turns_up_later_does_no_harm() -> None:
    first = encoded(tone(440, 20.0, 16_000), 16_000, "mpegts", "aac", "fltp")
    target = io.BytesIO()
    with av.open(target, "w", "mpegts") as container:
        streams = [add_audio(container, 1, 16_000, "aac") for _ in range(3)]
        for stream in streams:
            encode_audio(container, stream, tone(440, 2.0, 16_000)[None], "fltp")
    for _ in range(5):  # what av does then depends on what its memory held before
        assert len(load_audio(first + target.getvalue())) == pytest.approx(22 * SAMPLE_RATE, abs=6_000)


# As a stream


@given(
    count=st.integers(10, 30_000),
    rate=st.sampled_from([7_999, 8_000, 16_000, 22_050, 44_100, 48_000]),
    block_seconds=st.floats(0.01, 3.0),
)
@settings(max_examples=40, deadline=None)
def test_blocks_are_equal_and_make_up_the_whole(count, rate, block_seconds) -> None:
    signal = np.random.default_rng(count).uniform(-1, 1, count).astype(np.float32)
    blocks = list(stream_audio(signal, source_rate=rate, block_seconds=block_seconds))
    size = max(1, round(block_seconds * SAMPLE_RATE))
    assert all(block.shape == (size,) and block.dtype == np.float32 for block in blocks[:-1])
    assert 0 < len(blocks[-1]) <= size
    whole = load_audio(signal, source_rate=rate)
    assert abs(len(whole) - round(count * SAMPLE_RATE / rate)) <= 1
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-6)


@pytest.mark.parametrize("block_seconds", [0.05, 0.7, 1.0, 100.0])
def test_blocks_of_a_file_make_up_the_whole(tmp_path, block_seconds) -> None:
    path = write(tmp_path / "a.mp3", tone(440, 3.3, 44_100), 44_100, "libmp3lame", "fltp")
    blocks = list(stream_audio(path, block_seconds=block_seconds))
    assert {len(block) for block in blocks[:-1]} <= {round(block_seconds * SAMPLE_RATE)}
    np.testing.assert_allclose(np.concatenate(blocks), load_audio(path), atol=1e-6)


def test_a_long_recording_streams_in_bounded_memory(tmp_path) -> None:
    path, seconds, rate = tmp_path / "long.wav", 30 * 60, 8_000
    with path.open("wb") as file:
        file.write(wav_header(rate, size=2 * rate * seconds))
        for minute in range(seconds // 60):
            file.write(np.full(60 * rate, minute * 100, "<i2").tobytes())
    tracemalloc.start()
    count = 0
    for block in stream_audio(path, block_seconds=5.0):
        assert len(block) <= 5 * SAMPLE_RATE
        count += len(block)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == seconds * SAMPLE_RATE  # 115 MB as float32
    assert peak < 5e6


def test_the_file_is_closed_when_the_iterator_is_dropped(tmp_path, monkeypatch) -> None:
    path = write(tmp_path / "a.wav", tone(440, 2.0, 16_000), 16_000)
    opened: list[IO[bytes]] = []
    original = Path.open

    def spy(self: Path, *arguments: Any, **keywords: Any) -> Any:
        opened.append(original(self, *arguments, **keywords))
        return opened[-1]

    monkeypatch.setattr(Path, "open", spy)
    blocks = stream_audio(path, block_seconds=0.1)
    assert not opened  # nothing happens before the first block is asked for
    next(blocks)
    assert not opened[0].closed
    blocks.close()
    assert opened[0].closed


# What a recording may be given as


def test_paths_bytes_and_files_give_the_same(tmp_path) -> None:
    path = write(tmp_path / "a.flac", tone(440, 1.5, 22_050), 22_050, "flac", "s16")
    content, expected = path.read_bytes(), load_audio(path)
    with path.open("rb") as file:
        for source in (str(path), content, bytearray(content), memoryview(content), io.BytesIO(content), file):
            assert np.array_equal(load_audio(source), expected)
        assert not file.closed
    assert np.array_equal(load_audio(Pipe(content)), expected)


def test_a_file_is_read_from_where_it_stands(tmp_path) -> None:
    content = encoded(tone(440, 1.0, 44_100), 44_100, "mp4", "aac", "fltp")  # its index is at the end: needs seeking
    file = io.BytesIO(b"a header of somebody's own" + content)
    file.seek(len(file.getvalue()) - len(content))
    assert np.array_equal(load_audio(file), load_audio(content))


def test_a_file_object_may_lack_all_but_read() -> None:
    class Body:
        def __init__(self, content: bytes) -> None:
            self.read = io.BytesIO(content).read

    content = encoded(tone(440, 1.0, 16_000), 16_000, "wav", "pcm_s16le", "s16")
    assert np.array_equal(load_audio(Body(content)), load_audio(content))


def test_the_content_counts_not_the_suffix(tmp_path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(encoded(tone(440, 1.0, 16_000), 16_000, "mp3", "libmp3lame", "s16p"))
    assert len(load_audio(path)) == SAMPLE_RATE


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("video_first", [True, False])
def test_the_first_audio_stream_of_a_video_is_taken(tmp_path, suffix, video_first) -> None:
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        streams = [add_audio(container, 1, 44_100, "aac") for _ in range(0 if video_first else 2)]
        video = add_video(container, "mpeg4", "yuv420p")
        streams = streams or [add_audio(container, 1, 44_100, "aac") for _ in range(2)]
        encode_video(container, video, frames=10)
        for hertz, stream in zip((440, 880), streams, strict=True):
            encode_audio(container, stream, tone(hertz, 1.0, 44_100)[None], "fltp")
    assert abs(frequency(load_audio(path)) - 440) <= 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16, np.int32, np.uint8])
def test_arrays_of_every_type_have_full_scale_one(dtype) -> None:
    if np.issubdtype(dtype, np.floating):
        array = np.array([-1, -0.5, 0, 0.5], dtype)
    else:
        limits = np.iinfo(dtype)
        quarter = (int(limits.max) - int(limits.min) + 1) // 4
        array = np.array([limits.min + quarter * step for step in range(4)], dtype)
    before = array.copy()
    samples = load_audio(array, source_rate=SAMPLE_RATE)
    assert samples.tolist() == [-1, -0.5, 0, 0.5]
    assert samples.dtype == np.float32
    samples += 1  # the caller's array is not the result's memory
    assert np.array_equal(array, before)


def test_a_big_endian_and_a_strided_array_are_as_good_as_any() -> None:
    values = np.arange(-500, 500, dtype=np.int16)
    expected = values / np.float32(2**15)
    assert np.array_equal(load_audio(values.astype(">i2"), source_rate=SAMPLE_RATE), expected)
    assert np.array_equal(load_audio(np.repeat(values, 2)[::2], source_rate=SAMPLE_RATE), expected)


def test_silence_is_silence() -> None:
    samples = load_audio(encoded(np.zeros(44_100), 44_100, "flac", "flac", "s16"))
    assert samples.shape == (SAMPLE_RATE,)
    assert not samples.any()


# What it says of itself


def test_probe_tells_what_the_container_says(tmp_path) -> None:
    path = write(tmp_path / "a.flac", np.tile(tone(440, 1.5, 44_100), (2, 1)), 44_100, "flac", "s16")
    assert probe(path) == AudioInfo(duration=1.5, sampling_rate=44_100, channels=2, codec="flac", container="flac")
    assert probe(path.read_bytes()) == probe(path)


@pytest.mark.parametrize(
    ("container", "codec", "sample_format"),
    [("mp3", "libmp3lame", "s16p"), ("ogg", "libopus", "flt"), ("webm", "libopus", "flt"), ("mp4", "aac", "fltp")],
)
def test_probe_knows_the_length_and_puts_the_file_back(container, codec, sample_format) -> None:
    file = io.BytesIO(b"head" + encoded(tone(440, 2.0, 48_000), 48_000, container, codec, sample_format))
    file.seek(4)
    assert probe(file).duration == pytest.approx(2.0, abs=0.05)
    assert file.tell() == 4
    assert len(load_audio(file)) == pytest.approx(2 * SAMPLE_RATE, abs=400)


def test_probe_says_when_the_length_is_unknown() -> None:
    recording = encoded(tone(440, 1.0, 16_000), 16_000, "mp3", "libmp3lame", "s16p")
    assert probe(Pipe(recording)).duration is None


# What can't be read


def refuses(source: Any, *words: str) -> str:
    """Checks that loading raises an AudioError whose one-line message has all the words."""
    with pytest.raises(AudioError) as caught:
        load_audio(source)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


def test_what_is_not_there_or_no_file(tmp_path) -> None:
    refuses(tmp_path / "none.wav", "none.wav", "no such file", "Check the path")
    refuses(str(tmp_path), tmp_path.name, "directory", "Give the files")
    refuses(tmp_path / "none.wav" / "a.wav", "a.wav")
    refuses("a\0b.wav", "can't be opened")
    refuses("a" * 5_000, "can't be opened")
    for call in (probe, load_audio):
        with pytest.raises(AudioError, match="no such file"):
            call(tmp_path / "none.wav")


def test_a_file_without_permission(tmp_path, monkeypatch) -> None:
    def denied(self: Path, *arguments: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)  # the tests may run as root, who may read anything
    refuses(tmp_path / "secret.wav", "secret.wav", "permission")


def test_addresses_are_not_fetched() -> None:
    for address in ("http://127.0.0.1:9/a.wav", "file:///etc/passwd", "rtsp://example.org/x"):
        refuses(address, address, "not fetched", "Download")


def test_what_is_empty(tmp_path) -> None:
    path = tmp_path / "empty.wav"
    path.touch()
    refuses(path, "empty.wav", "empty")
    refuses(b"", "The given bytes", "empty")
    refuses(Pipe(b""), "The given file object", "empty")
    read_already = io.BytesIO(encoded(tone(440, 0.1, 16_000), 16_000, "wav", "pcm_s16le", "s16"))
    read_already.read()
    refuses(read_already, "empty", "seek(0)")


@pytest.mark.parametrize("suffix", ["", ".txt", ".wav", ".mp3", ".m3u8"])
@pytest.mark.parametrize("content", [b"Minutes of the meeting.\n" * 200, bytes(50_000), b"x"], ids=["text", "0", "x"])
def test_what_is_no_recording(tmp_path, content, suffix) -> None:
    path = tmp_path / f"minutes{suffix}"
    path.write_bytes(content)
    refuses(path, path.name)
    refuses(content, "The given bytes", "no recording", "Give audio or video such as wav")


def test_pictures_and_videos_without_sound(tmp_path) -> None:
    picture, film = tmp_path / "a.png", tmp_path / "silent.mp4"
    with av.open(str(picture), "w", "image2") as container:
        encode_video(container, add_video(container, "png", "rgb24"), frames=1)
    with av.open(str(film), "w") as container:
        encode_video(container, add_video(container, "mpeg4", "yuv420p"), frames=10)
    for path in (picture, film):
        refuses(path, path.name, "no audio stream", "video")


def test_a_codec_that_nobody_knows() -> None:
    refuses(wav_header(tag=0x1234, size=3_200) + bytes(3_200), "The given bytes", "codec", "Convert it")


def test_a_rate_that_no_recording_has() -> None:
    refuses(wav_header(rate=1, size=20_000) + bytes(20_000), "The given bytes", "sampling rate of 1 Hz", "damaged")
    refuses(wav_header(rate=0, size=20_000) + bytes(20_000), "The given bytes", "damaged")


def test_a_recording_without_samples() -> None:
    refuses(wav_header(), "The given bytes", "holds no samples")
    refuses(wav_header(rate=1_000_000, size=2) + bytes(2), "no samples")  # less than one sample at 16 kHz
    refuses(wav_header(channels=0, size=3_200) + bytes(3_200), "nothing in it can be decoded")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("codec", "sample_format"), [("pcm_f32le", "flt"), ("pcm_f64le", "dbl")])
def test_a_sample_that_is_no_number_is_told_with_its_place(wrong, codec, sample_format) -> None:
    signal = tone(440, 3.0, 44_100)
    signal[110_250] = wrong
    refuses(encoded(signal, 44_100, "wav", codec, sample_format), "The given bytes", "at 2.500 s", "NaN or infinite")
    with pytest.raises(AudioError, match=r"The given array: at 2\.500 s"):
        load_audio(signal, source_rate=44_100)


@pytest.mark.filterwarnings("error")
def test_infinities_that_cancel_and_numbers_beyond_float32_are_no_numbers() -> None:
    signal = np.zeros((2, 16_000))
    signal[:, 8_000] = [np.inf, -np.inf]
    refuses(encoded(signal, 16_000, "wav", "pcm_f32le", "flt"), "at 0.500 s")
    signal[:, 8_000] = 1e300
    refuses(encoded(signal, 16_000, "wav", "pcm_f64le", "dbl"), "at 0.500 s")


@pytest.mark.parametrize(
    ("failing_from", "words"),
    [(300_000, "reading failed after 9.21 s"), (1, "can't be read"), (0, "can't be read")],
)
def test_a_file_that_fails_while_it_is_read(failing_from, words) -> None:
    class Failing(Pipe):
        def read(self, size: int = -1) -> bytes:
            if self.content.tell() + size >= failing_from:
                raise OSError(5, "Input/output error")
            return super().read(size)

    content = encoded(tone(440, 20.0, 16_000), 16_000, "wav", "pcm_s16le", "s16")
    refuses(Failing(content), "The given file object", words, "Input/output error", "Check the disk")


def test_a_file_that_claims_to_seek_and_cannot() -> None:
    class Stuck(Pipe):
        def seekable(self) -> bool:
            return True

        def tell(self) -> int:
            return self.content.tell()

        def seek(self, offset: int, whence: int = 0) -> int:
            raise OSError(29, "Illegal seek")

    content = encoded(tone(440, 1.0, 16_000), 16_000, "flac", "flac", "s16")
    assert np.array_equal(load_audio(Stuck(content)), load_audio(content))


def test_a_format_that_needs_seeking_through_a_pipe() -> None:
    content = encoded(tone(440, 30.0, 44_100), 44_100, "mp4", "aac", "fltp")  # too long for FFmpeg's own buffer
    refuses(Pipe(content), "The given file object", "pipe", "save it to a file")


# Cut off or damaged


def decoded_with_warning(source: Any, *words: str) -> np.ndarray:
    with pytest.warns(AudioWarning) as caught:
        samples = load_audio(source)
    (warning,) = caught
    for word in words:
        assert word in str(warning.message), warning.message
    return samples


@pytest.mark.parametrize(
    ("container", "codec", "sample_format", "muxer"),
    [
        ("wav", "pcm_s16le", "s16", None),
        ("aiff", "pcm_s16be", "s16", None),
        ("flac", "flac", "s16", None),
        ("mp3", "libmp3lame", "s16p", None),
        ("mp4", "aac", "fltp", {"movflags": "faststart"}),
        ("webm", "libopus", "flt", None),
    ],
)
def test_of_a_recording_that_is_cut_off_the_rest_is_heard(tmp_path, container, codec, sample_format, muxer) -> None:
    rate = 16_000
    path = write(tmp_path / "talk", tone(440, 10.0, rate), rate, codec, sample_format, container, muxer)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    samples = decoded_with_warning(path, "talk", "cut off", "could be decoded", "of 10.0")
    assert 2 * rate < len(samples) < 7 * rate
    assert abs(frequency(samples) - 440) <= 1


def test_an_ogg_that_is_cut_off_within_a_page_is_told(tmp_path, recwarn) -> None:
    """Nothing in it states its length."""
    path = write(tmp_path / "note", tone(440, 10.0, 48_000), 48_000, "libopus", "flt", "ogg")
    content = path.read_bytes()
    assert len(load_audio(content)) == pytest.approx(10 * SAMPLE_RATE, abs=500)
    assert not recwarn.list
    page = content.rfind(b"OggS", 0, len(content) * 7 // 10)
    for length in (page + 10, page + 27, page + 400):
        path.write_bytes(content[:length])
        samples = decoded_with_warning(path, "note", "cut off", "breaks off in the middle of a page")
        assert 2 * SAMPLE_RATE < len(samples) < 8 * SAMPLE_RATE
    path.write_bytes(content[:page])  # between two pages: who can tell?
    load_audio(path)
    assert not recwarn.list


@pytest.mark.filterwarnings("error")
def test_no_false_alarm_where_the_length_is_only_guessed() -> None:
    """Silence first, noise after: from its first frames FFmpeg takes this mp3 to be longer than it is."""
    signal = np.concatenate([np.zeros(16_000 * 20), np.random.default_rng(0).uniform(-0.5, 0.5, 16_000 * 5)])
    options = {"flags": "qscale", "global_quality": "472"}
    quiet_first = encoded(
        signal, 16_000, "mp3", "libmp3lame", "s16p", muxer={"write_xing": "0", "id3v2_version": "0"}, **options
    )
    assert probe(quiet_first).duration > 26
    assert len(load_audio(quiet_first)) == pytest.approx(len(signal), abs=2_000)


@pytest.mark.filterwarnings("error")
def test_no_false_alarm_for_a_wav_whose_writer_could_not_know_the_length() -> None:
    signal = np.zeros(SAMPLE_RATE, "<i2").tobytes()
    for size in (0xFFFF_FFFF, 0x7FFF_FFFF):
        header = bytearray(wav_header())
        header[4:8] = header[40:44] = struct.pack("<I", size)
        assert len(load_audio(bytes(header) + signal)) == SAMPLE_RATE


def test_an_mp4_that_lost_its_index_cannot_be_read() -> None:
    content = encoded(tone(440, 3.0, 44_100), 44_100, "mp4", "aac", "fltp")
    refuses(content[: len(content) // 2], "The given bytes", "damaged or cut off")


@pytest.mark.parametrize(
    ("container", "codec", "sample_format"), [("mp3", "libmp3lame", "s16p"), ("mp4", "aac", "fltp")]
)
def test_damaged_packets_are_skipped_counted_and_told(container, codec, sample_format) -> None:
    content = bytearray(encoded(tone(440, 10.0, 16_000), 16_000, container, codec, sample_format))
    half = len(content) // 2
    content[half : half + 1_500] = np.random.default_rng(0).integers(0, 256, 1_500, np.uint8).tobytes()
    samples = decoded_with_warning(bytes(content), "The given bytes", "damaged packets skipped")
    assert 8 * SAMPLE_RATE < len(samples) < 10.1 * SAMPLE_RATE


def test_a_container_that_breaks_off_is_told() -> None:
    class BreakingOff:
        def __init__(self, container: Any) -> None:
            self.format, self.container = container.format, container

        def demux(self, stream: Any) -> Any:
            yield from itertools.islice(self.container.demux(stream), 50)
            raise av.error.InvalidDataError(1094995529, "Invalid data found")

    content = encoded(tone(440, 10.0, 16_000), 16_000, "adts", "aac", "fltp")
    with opened(content) as recording:
        recording.container = BreakingOff(recording.container)  # type: ignore[assignment]
        count = sum(frame.samples for frame in recording.frames())
        with pytest.warns(AudioWarning, match=r"3\.20 s could be decoded \(it breaks off: Invalid data found\)"):
            recording.account_for_losses(count / 16_000)


RECORDINGS = [
    encoded(tone(440, 0.5, 16_000), 16_000, *kind)
    for kind in [
        ("wav", "pcm_s16le", "s16"),
        ("flac", "flac", "s16"),
        ("mp3", "libmp3lame", "s16p"),
        ("ogg", "libopus", "flt"),
        ("mp4", "aac", "fltp"),
        ("webm", "libopus", "flt"),
    ]
]


@pytest.mark.filterwarnings("ignore::wavconformer.audio.AudioWarning")
@given(content=st.sampled_from(RECORDINGS), places=st.data())
@settings(max_examples=80, deadline=None)
def test_whatever_is_damaged_gives_samples_or_an_audio_error(content, places) -> None:
    damaged = bytearray(content)
    for _ in range(places.draw(st.integers(1, 8))):
        damaged[places.draw(st.integers(0, len(damaged) - 1))] = places.draw(st.integers(0, 255))
    del damaged[places.draw(st.integers(1, len(damaged))) :]
    try:
        for block in stream_audio(bytes(damaged)):
            assert np.isfinite(block).all()
    except AudioError as error:
        assert str(error).startswith("The given bytes: ")


@pytest.mark.filterwarnings("ignore::wavconformer.audio.AudioWarning")
def test_nothing_is_printed(capfd) -> None:
    refused = 0
    for content in [*RECORDINGS, *(content[: len(content) // 2] for content in RECORDINGS)]:
        try:
            load_audio(content)
        except AudioError:
            refused += 1
    assert 0 < refused < len(RECORDINGS)  # the mp4 without its index at least
    assert capfd.readouterr() == ("", "")


# Hostile files


def test_playlists_do_not_open_other_files(tmp_path) -> None:
    write(tmp_path / "secret.ts", tone(440, 2.0, 16_000), 16_000, "aac", "fltp")
    write(tmp_path / "secret.wav", tone(440, 2.0, 16_000), 16_000)
    names = ["secret.ts", str(tmp_path / "secret.ts"), f"file://{tmp_path}/secret.ts", "http://127.0.0.1:9/secret.ts"]
    playlists = {
        f"{index}.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:2,\n{name}\n#EXT-X-ENDLIST\n"
        for index, name in enumerate(names)
    }
    playlists["a.ffconcat"] = "ffconcat version 1.0\nfile secret.wav\n"
    playlists["a.sdp"] = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n"
    for name, text in playlists.items():
        (tmp_path / name).write_text(text)
    with av.open(str(tmp_path / "0.m3u8")) as container, av.open(str(tmp_path / "a.ffconcat")) as other:
        assert container.streams.audio  # FFmpeg alone follows them: the test is worth something
        assert other.streams.audio
    for name, text in playlists.items():
        refuses(tmp_path / name, name)
        refuses(text.encode(), "The given bytes")
        with (tmp_path / name).open("rb") as file:
            refuses(file, name)


# Misuse


@pytest.mark.parametrize("rate", [0, -16_000, float("nan")])
def test_rates_must_be_positive(rate) -> None:
    with pytest.raises(ValueError, match="sampling_rate must be positive"):
        stream_audio(b"", sampling_rate=rate)
    with pytest.raises(ValueError, match="source_rate must be positive"):
        stream_audio(np.zeros(10), source_rate=rate)


@pytest.mark.parametrize("block_seconds", [0, -1, float("inf"), float("nan")])
def test_blocks_must_have_a_length(block_seconds) -> None:
    with pytest.raises(ValueError, match="block_seconds"):
        stream_audio(b"", block_seconds=block_seconds)


def test_an_array_needs_its_rate_and_a_file_has_its_own() -> None:
    with pytest.raises(ValueError, match="pass source_rate"):
        load_audio(np.zeros(10))
    with pytest.raises(ValueError, match="states its own"):
        load_audio(b"x", source_rate=16_000)


@pytest.mark.parametrize("shape", [(), (2, 100), (100, 2), (1, 1, 100)])
def test_an_array_has_one_dimension(shape) -> None:
    with pytest.raises(ValueError, match=r"Mix the channels down first: array\.mean"):
        load_audio(np.zeros(shape), source_rate=16_000)


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint16, bool, np.complex64, object, "U1"])
def test_an_array_of_another_type(dtype) -> None:
    with pytest.raises(TypeError, match="floats with full scale ±1, or uint8, int16 or int32"):
        load_audio(np.zeros(10, dtype), source_rate=16_000)


def test_an_array_without_samples() -> None:
    with pytest.raises(AudioError, match="The given array: no samples"):
        load_audio(np.zeros(0), source_rate=16_000)


@pytest.mark.parametrize("source", [None, 3, [0.0, 0.1], object()])
def test_what_is_no_source(source) -> None:
    with pytest.raises(TypeError, match=r"not as (NoneType|int|list|object)"):
        load_audio(source)
    with pytest.raises(TypeError, match="as a path, as bytes"):
        probe(source)


def test_files_that_are_not_open_for_reading_bytes(tmp_path) -> None:
    path = write(tmp_path / "a.wav", tone(440, 0.1, 16_000), 16_000)
    with path.open("r", encoding="latin-1") as file, pytest.raises(TypeError, match=r"a\.wav.*mode 'rb'"):
        stream_audio(file)
    with pytest.raises(TypeError, match="The given file object: reading gives str"):
        stream_audio(io.StringIO("RIFF"))
    with pytest.raises(ValueError, match=r"a\.wav.*closed"):
        stream_audio(file)
    with (tmp_path / "b.wav").open("wb") as target, pytest.raises(ValueError, match="mode 'rb'"):
        stream_audio(target)


# The package


def test_wave_files_of_the_standard_library_are_read(tmp_path) -> None:
    path = tmp_path / "a.wav"
    values = np.random.default_rng(0).integers(-(2**15), 2**15, 1_000, np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(values.tobytes())
    assert np.array_equal(load_audio(path), values / np.float32(2**15))


def test_importing_it_does_not_import_torch() -> None:
    code = "import sys, wavconformer.audio; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
