"""What is done to training audio: joining, speed, silence, reverb, noise, volume.

lhotse has these for its cuts, drawn from one source of randomness for a whole worker. Here each draw belongs to an
utterance in an epoch, so that a resumed run hears the same; and soxr, which is there already, is the faster resampler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from wavconformer.audio import SAMPLE_RATE, load_audio, probe
from wavconformer.data.sources.folder import AUDIO_SUFFIXES
from wavconformer.data.utterance import Utterance, load_utterance
from wavconformer.errors import DataError
from wavconformer.training.recipe import Augmentation

Samples = NDArray[np.float32]

_LONG = 10.0  # seconds; of longer noise only the stretch that is needed is decoded
_BEFORE = 32  # samples of a response that are kept before its peak, 2 ms


@dataclass(frozen=True)
class Augmented:
    """What training hears (S,), the factor by which its speed was changed, and the same without reverb, noise, volume.

    clean: (S,).
    """

    samples: Samples
    factor: float
    clean: Samples


class Augmenter:
    """Applies a recipe's augmentation.

    Raises DataError where a folder of noise or impulse responses isn't there or holds no recording.
    """

    def __init__(self, recipe: Augmentation) -> None:
        self._recipe = recipe
        self._noise = _recordings(recipe.noise, "augmentation.noise")
        self._responses = _recordings(recipe.reverb, "augmentation.reverb")
        if self._responses:
            _required_fftconvolve()

    @property
    def slowest(self) -> float:
        """The least speed factor: audio may become longer by its inverse."""
        return min((1.0, *self._recipe.speed))

    def __call__(self, samples: Samples, random: np.random.Generator) -> Augmented:
        """The samples (S,) augmented as `random` draws."""
        recipe, factor = self._recipe, 1.0
        if recipe.speed:
            factor = float(random.choice(recipe.speed))
            samples = change_speed(samples, factor)
        if recipe.silence_seconds is not None and random.random() < recipe.silence_probability:
            samples = np.concatenate([self._silence(random), samples, self._silence(random)])
        clean = samples
        if self._responses and random.random() < recipe.reverb_probability:
            samples = add_reverb(samples, _response(self._responses[random.integers(len(self._responses))]))
        if self._noise and random.random() < recipe.noise_probability:
            noise = _stretch(self._noise[random.integers(len(self._noise))], len(samples), random)
            samples = add_noise(samples, noise, random.uniform(*recipe.noise_snr_db))
        if recipe.volume_db is not None:
            samples = samples * np.float32(10 ** (random.uniform(*recipe.volume_db) / 20))
        return Augmented(samples, factor, clean)

    def group(self, numbers: Sequence[int], random: np.random.Generator) -> list[list[int]]:
        """Which utterances of a batch become one: each by itself, or with one to three others."""
        if random.random() >= self._recipe.join_probability:
            return [[number] for number in numbers]
        size = int(random.integers(2, 5))
        return [list(numbers[first : first + size]) for first in range(0, len(numbers), size)]

    def join(self, parts: Sequence[Samples], random: np.random.Generator) -> Samples:
        """Sounds (S,) one after the other, with silence between them."""
        joined = [parts[0]]
        for part in parts[1:]:
            joined += [self._silence(random), part]
        return np.concatenate(joined) if len(joined) > 1 else parts[0]

    def _silence(self, random: np.random.Generator) -> Samples:
        """Nothing, or noise so faint that it only tells a recording from a file: 40 to 90 dB below full scale."""
        seconds = 0.0 if self._recipe.silence_seconds is None else random.uniform(*self._recipe.silence_seconds)
        level = random.choice([0.0, 10 ** (random.uniform(-90, -40) / 20)])
        silence: Samples = np.float32(level) * random.standard_normal(round(seconds * SAMPLE_RATE), np.float32)
        return silence


def change_speed(samples: Samples, factor: float) -> Samples:
    """The samples (S,) played faster by that factor, as about S / factor samples; pitch changes along."""
    if factor == 1.0:
        return samples
    return np.asarray(soxr.resample(samples, SAMPLE_RATE * factor, SAMPLE_RATE), np.float32)


def add_noise(samples: Samples, noise: Samples, snr_db: float) -> Samples:
    """Speech (S,) and noise (S,) mixed so that their powers have that ratio; without effect if one is silent."""
    speech_power, noise_power = float(np.square(samples).mean()), float(np.square(noise).mean())
    if not speech_power or not noise_power:
        return samples
    gain = np.sqrt(speech_power / noise_power / 10 ** (snr_db / 10))
    mixed: Samples = samples + np.float32(gain) * noise
    return mixed


def add_reverb(samples: Samples, response: Samples) -> Samples:
    """Samples (S,) heard through an impulse response, as long, as loud, and not later than before."""
    peak = int(np.abs(response).argmax())
    first = max(0, peak - _BEFORE)
    wet = _required_fftconvolve()(samples, response[first:])[peak - first :][: len(samples)].astype(np.float32)
    before, after = float(np.square(samples).mean()), float(np.square(wet).mean())
    loud: Samples = wet * np.float32(np.sqrt(before / after)) if after else wet
    return loud


def _required_fftconvolve() -> Callable[[Samples, Samples], NDArray[Any]]:
    try:
        from scipy.signal import fftconvolve
    except ImportError as error:
        raise DataError("Reverb needs scipy: pip install 'wavconformer[train]'.") from error
    convolve: Callable[[Samples, Samples], NDArray[Any]] = fftconvolve
    return convolve


def _recordings(folder: str | None, name: str) -> list[str]:
    if folder is None:
        return []
    found = sorted(str(path) for path in Path(folder).rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    if not found:
        raise DataError(f"{name}: the folder '{folder}' isn't there, or holds no recording.")
    return found


@lru_cache(maxsize=256)
def _response(path: str) -> Samples:
    return load_audio(path)


@lru_cache(maxsize=16)
def _whole(path: str) -> Samples:
    return load_audio(path)


@lru_cache(maxsize=4096)
def _seconds(path: str) -> float | None:
    return probe(path).duration


def _stretch(path: str, length: int, random: np.random.Generator) -> Samples:
    """That many samples of a recording, from a random place on, over again where it is shorter."""
    seconds, wanted = _seconds(path), length / SAMPLE_RATE
    if seconds is not None and seconds > max(_LONG, wanted):
        start = random.uniform(0, seconds - wanted)
        noise = load_utterance(Utterance(id=path, audio=path, start=start, end=start + wanted))
    else:
        noise = _whole(path)
        noise = np.roll(noise, -int(random.integers(len(noise))))
    return np.resize(noise, length)
