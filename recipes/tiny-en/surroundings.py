"""Where a voice is heard: noises and rooms to train with, and others that are kept for the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray
from parts import write_recording
from scipy.signal import butter, sosfilt

from wavconformer.audio import SAMPLE_RATE
from wavconformer.training.augmentation import add_noise, add_reverb

Samples = NDArray[np.float32]
Random = np.random.Generator

# Noises to train with


def _coloured(length: int, power: float, random: Random) -> Samples:
    """Noise (length,) whose power falls with frequency to that power: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(random.standard_normal(length))
    frequency = np.maximum(np.fft.rfftfreq(length, 1 / SAMPLE_RATE), 20.0)
    return _level(np.fft.irfft(spectrum * frequency ** (-power / 2), length))


def _hum(length: int, random: Random) -> Samples:
    """Mains and its harmonics over a little noise."""
    time = np.arange(length) / SAMPLE_RATE
    base = random.choice([50.0, 60.0])
    tones = [
        random.uniform(0.2, 1) / number * np.sin(2 * np.pi * (base * number * time + random.random()))
        for number in range(1, 12)
    ]
    return _level(np.sum(tones, axis=0) + 0.1 * _coloured(length, 1, random))


def _fan(length: int, random: Random) -> Samples:
    """A band of noise that swells with the turning of blades."""
    time = np.arange(length) / SAMPLE_RATE
    low = random.uniform(80, 600)
    band = sosfilt(
        butter(2, [low, low * random.uniform(3, 8)], "band", fs=SAMPLE_RATE, output="sos"), _white(length, random)
    )
    swell = 1 + random.uniform(0.1, 0.5) * np.sin(2 * np.pi * random.uniform(4, 25) * time)
    return _level(_level(band) * swell + 0.2 * _coloured(length, 2, random))


def write_surroundings(
    out: Path, noises: int, rooms: int, seconds: float, random: Random, talk: Callable[[], list[Samples]]
) -> None:
    """Writes the noises and rooms that training mixes in, as `noise` and `rooms` of a folder.

    seconds: of a noise. talk: gives what several people say; every fourth noise is the babble of such.
    """
    for number in range(noises):
        noise = babble(talk(), seconds, random) if number % 4 == 0 else training_noise(number, seconds, random)
        write_recording(out / "noise" / f"{number:03d}.flac", noise)
    for number in range(rooms):
        write_recording(out / "rooms" / f"{number:03d}.flac", training_room(random))


def training_noise(kind: int, seconds: float, random: Random) -> Samples:
    """A noise to train with (S,); kinds 0 to 4 are white to brown, hum and fan."""
    length = round(seconds * SAMPLE_RATE)
    makers: list[Callable[[], Samples]] = [
        lambda: _coloured(length, random.uniform(0, 0.5), random),
        lambda: _coloured(length, random.uniform(0.8, 1.2), random),
        lambda: _coloured(length, random.uniform(1.6, 2.2), random),
        lambda: _hum(length, random),
        lambda: _fan(length, random),
    ]
    return makers[kind % len(makers)]()


def babble(speakers: list[Samples], seconds: float, random: Random) -> Samples:
    """Several at once, each over and over from a place of its own."""
    length = round(seconds * SAMPLE_RATE)
    voices = [np.roll(np.resize(one, length), int(random.integers(length))) for one in map(_level, speakers)]
    return _level(np.sum(voices, axis=0))


# Rooms


def room(reverberation: float, random: Random) -> Samples:
    """The impulse response (S,) of a room that falls by 60 dB in so many seconds.

    Direct sound, some early reflections, and a tail of noise that loses its treble first.
    """
    length = round(reverberation * 1.1 * SAMPLE_RATE)
    time = np.arange(length) / SAMPLE_RATE
    tail = _white(length, random) * 10 ** (-3 * time / reverberation)
    dull = sosfilt(butter(1, random.uniform(1500, 4000), fs=SAMPLE_RATE, output="sos"), tail)
    blend = np.clip(time / reverberation * 2, 0, 1)
    tail = np.asarray((1 - blend) * tail + blend * dull)
    tail[time < 0.01] = 0
    response = tail * np.sqrt(random.uniform(0.1, 0.8) / np.square(tail).sum())
    for _ in range(int(random.integers(4, 12))):
        delay = random.uniform(0.001, 0.04)
        response[round(delay * SAMPLE_RATE)] += random.choice([-1, 1]) * random.uniform(0.1, 0.5) * 10 ** (-20 * delay)
    response[0] = 1.0
    return np.asarray(response / np.abs(response).max(), np.float32)


def training_room(random: Random) -> Samples:
    """A room to train with: 0.12 to 0.6 s."""
    return room(random.uniform(0.12, 0.6), random)


# Kept for the tests


def rainfall(length: int, random: Random) -> Samples:
    """Rain on a window (length,): short clicks, dense, each with its own ring."""
    drops = np.where(random.random(length) < 0.004, random.exponential(1, length), 0) * random.choice([-1, 1], length)
    ring = np.exp(-np.arange(160) / 25) * np.sin(np.arange(160) * 1.1)
    heard = np.convolve(drops, ring)[:length] + 0.05 * sosfilt(
        butter(2, 2000, "high", fs=SAMPLE_RATE, output="sos"), _white(length, random)
    )
    return _level(heard)


def rain(samples: Samples, random: Random) -> Samples:
    """Speech in rain, 10 dB below it."""
    return add_noise(samples, rainfall(len(samples), random), 10.0)


def telephone(samples: Samples, random: Random) -> Samples:
    """Speech through a telephone: 300 to 3400 Hz, 8 kHz, µ-law."""
    narrow = soxr.resample(samples, SAMPLE_RATE, 8000)
    band = sosfilt(butter(4, [300, 3400], "band", fs=8000, output="sos"), narrow)
    scaled = band / max(1e-6, float(np.abs(band).max())) * random.uniform(0.3, 0.9)
    coded = np.round(np.sign(scaled) * np.log1p(255 * np.abs(scaled)) / np.log(256) * 127) / 127
    decoded = np.sign(coded) * (256 ** np.abs(coded) - 1) / 255
    return np.asarray(soxr.resample(decoded, 8000, SAMPLE_RATE), np.float32)


def hall(samples: Samples, random: Random) -> Samples:
    """Speech in a hall, which takes 0.9 to 1.3 s to fall silent: longer than any room to train with."""
    return add_reverb(samples, room(random.uniform(0.9, 1.3), random))


CONDITIONS: dict[str, Callable[[Samples, Random], Samples]] = {"rain": rain, "telephone": telephone, "hall": hall}
"""What is done to speech in tests alone."""


def _white(length: int, random: Random) -> NDArray[np.float64]:
    return random.standard_normal(length)


def _level(samples: NDArray[np.floating]) -> Samples:
    """At a root mean square of 0.05, which leaves room for peaks."""
    return np.asarray(samples * (0.05 / max(1e-9, float(np.sqrt(np.square(samples).mean())))), np.float32)
