from __future__ import annotations

import io

import numpy as np
import pytest

from wavconformer import AudioError
from wavconformer.audio.pcm import SAMPLE_FORMATS, read_pcm
from wavconformer.cli.listen import SampleFormat


class Dribble(io.BytesIO):
    """A pipe that has three bytes at a time."""

    def read1(self, size: int = -1, /) -> bytes:
        return super().read1(3)


@pytest.mark.parametrize("name", SAMPLE_FORMATS)
@pytest.mark.parametrize("channels", [1, 3])
def test_samples_are_what_was_written(name, channels, random):
    dtype = np.dtype(SAMPLE_FORMATS[name])
    wave = random.uniform(-0.9, 0.9, (50, channels))
    if dtype.kind == "f":
        written = wave
    else:
        written = np.round(wave * 2 ** (8 * dtype.itemsize - 1)) + (128 if dtype.kind == "u" else 0)
    content = written.astype(dtype).tobytes()
    for pipe in (io.BytesIO(content), Dribble(content)):
        found = np.concatenate(list(read_pcm(pipe, channels=channels, sample_format=name)))
        assert found.dtype == np.float32
        assert np.allclose(found, wave.mean(axis=1), atol=1 / 128 if name == "u8" else 1e-4)


def test_what_is_there_is_given_at_once():
    chunks = [*read_pcm(Dribble(bytes(8)))]
    assert [len(chunk) for chunk in chunks[:1]] == [1]
    assert sum(map(len, chunks[:-1])) <= 4


def test_half_a_sample_at_the_end_is_told_of():
    chunks = read_pcm(io.BytesIO(bytes(11)), channels=2)
    assert len(next(chunks)) == 2
    with pytest.raises(AudioError, match="3 bytes are left, but a sample of 2 channels has 4"):
        next(chunks)
    assert list(read_pcm(io.BytesIO())) == []


def test_a_recording_that_is_not_raw_is_refused(sample):
    with sample.open("rb") as file, pytest.raises(AudioError, match="`wavconformer transcribe` reads"):
        next(read_pcm(file))


@pytest.mark.filterwarnings("error")
def test_floats_beyond_all_bounds_are_left_to_who_takes_them():
    huge = np.array([3e38, 3e38, np.inf, -np.inf], np.float32)
    (chunk,) = read_pcm(io.BytesIO(huge.tobytes()), channels=2, sample_format="f32le")
    assert not np.isfinite(chunk).any()


def test_arguments_that_cannot_be():
    with pytest.raises(ValueError, match="channels is 0"):
        read_pcm(io.BytesIO(), channels=0)
    with pytest.raises(ValueError, match=r"'mp3', but must be one of u8, s16le"):
        read_pcm(io.BytesIO(), sample_format="mp3")


def test_the_command_knows_all_of_them():
    assert [one.value for one in SampleFormat] == list(SAMPLE_FORMATS)
