"""Makes the corpus of the recipe: words by many voices, noises, rooms, as folders that `wavconformer finetune` reads.

    python recipes/keywords/corpus.py OUT --examples 500 --seed 0 --workers 2

The same seed and engines give the same corpus. A run that was interrupted goes on where it stopped, and more examples
with the same seed add to what is there.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from scipy.signal import butter, sosfilt

from wavconformer.audio import SAMPLE_RATE
from wavconformer.data.manifest import MANIFEST_FILE
from wavconformer.files import write_json
from wavconformer.training.augmentation import add_noise, change_speed

sys.path.insert(0, str(Path(__file__).parents[1] / "tiny-en"))  # whose voices these are
sys.path.insert(0, str(Path(__file__).parent))  # for workers that are started anew
from parts import PART, Samples, Take, check_heading, finish, make_parts, number_of, part_count, telling, write_part
from surroundings import rainfall, training_noise, write_surroundings
from voices import TRAINING as KNOWN
from voices import Manner, Speaker, Voice, manner, require
from words import FAR, FAR_UNHEARD, KEYWORDS, LABELS, NEAR, NEAR_UNHEARD, SILENCE, UNKNOWN

VERSION = 2
"""Goes up when the same seed gives another corpus."""

UNHEARD = (
    Voice("flite", "rms", 1),
    Voice("piper", "joe", 1),  # the one neural voice
    Voice("espeak-ng", "en-us-nyc", 1),  # an accent
    Voice("espeak-ng", "en-us+Andrea", 1),  # a speaker
    Voice("espeak-ng", "en-us+klatt2", 1),  # another way to make the sound of a voice; no klatt is trained on
)
"""What is never trained on: whole voices, none of which has a sister in training."""

_UNHEARD_NAMES = {str(voice) for voice in UNHEARD}
_SHARE = {"flite": 1 / 6, "espeak-ng": 1 / 2 / sum(voice.engine == "espeak-ng" for voice in KNOWN)}
TRAINING = tuple(
    Voice(voice.engine, voice.name, _SHARE[voice.engine]) for voice in KNOWN if str(voice) not in _UNHEARD_NAMES
)
"""What is trained on: flite's kal, awb and slt by a half, all of espeak-ng's accents and speakers by the other."""

CUT_SHARE = 0.15  # of unknown examples: a keyword that isn't there whole, as windows of a longer recording have it
UNKNOWN_SHARE, SILENCE_SHARE = 12, 3  # times as many examples as a keyword has
VALIDATION = 12  # examples of each keyword
TEST = 8  # examples of each keyword, for each voice
NOISES, ROOMS = 40, 40
SHIFT = 1.25  # voices of training are made higher or lower by at most so much, formants and all
SECONDS = (0.9, 1.3)  # of a clip; a word that takes longer makes it longer
LEVELS_DB = (-18.0, 0.0)


@dataclass(frozen=True)
class Line:
    """What is to be heard: a word or several by a voice, or none; under which condition of the tests.

    shift: by how much the voice is made higher, formants and all, at the same tempo. is_cut: whether the clip's edge
    cuts off most of it.
    """

    id: str
    text: str
    label: str
    voice: Voice
    manner: Manner
    level_db: float
    shift: float = 1.0
    is_cut: bool = False
    condition: str | None = None


class Script:
    """All that is to be said, drawn from a seed; training without end, a share of each label in every stretch of it."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        draw = random.Random(f"{seed} held out")
        words = (NEAR, FAR)
        self.sets = {"valid": self._set("valid", VALIDATION, TRAINING, words, draw)}
        unheard = (NEAR_UNHEARD, FAR_UNHEARD)
        for voice in UNHEARD:
            name = f"test-voice-{str(voice).replace(' ', '-').replace('+', '-').lower()}"
            self.sets[name] = self._set(name, TEST, (voice,), unheard, draw)
        for condition in CONDITIONS:
            name = f"test-{condition}"
            self.sets[name] = self._set(name, TEST, UNHEARD, unheard, draw, condition)

    def training(self, examples: int) -> list[Line]:
        """The first lines of training, about so many for each keyword, in whole parts."""
        draw = random.Random(f"{self._seed} training")
        lines: list[Line] = []
        while len(lines) < examples * _SHARES or len(lines) % PART:
            if not len(lines) % _SHARES:
                labels = _labels(1)
                draw.shuffle(labels)
            label = labels[len(lines) % _SHARES]
            line = self._line(f"train-{len(lines):06d}", label, _voice(TRAINING, draw), (NEAR, FAR), draw)
            if label == UNKNOWN and draw.random() < CUT_SHARE:
                line = replace(line, text=draw.choice(KEYWORDS), is_cut=True)
            lines.append(line)
        return lines

    def _set(
        self,
        name: str,
        count: int,
        voices: tuple[Voice, ...],
        words: tuple[Sequence[str], Sequence[str]],
        draw: random.Random,
        condition: str | None = None,
    ) -> list[Line]:
        return [
            self._line(f"{name}-{number:04d}", label, _voice(voices, draw), words, draw, condition)
            for number, label in enumerate(_labels(count))
        ]

    def _line(
        self,
        name: str,
        label: str,
        voice: Voice,
        words: tuple[Sequence[str], Sequence[str]],
        draw: random.Random,
        condition: str | None = None,
    ) -> Line:
        text = {UNKNOWN: _other(words, draw), SILENCE: ""}.get(label, label)
        how, level = manner(voice, draw), draw.uniform(*LEVELS_DB)
        shift = SHIFT ** draw.uniform(-1, 1) if voice in TRAINING else 1.0
        return Line(name, text, label, voice, replace(how, tempo=how.tempo / shift), level, shift, condition=condition)


_SHARES = len(KEYWORDS) + UNKNOWN_SHARE + SILENCE_SHARE


def _labels(count: int) -> list[str]:
    return [*KEYWORDS * count, *[UNKNOWN] * UNKNOWN_SHARE * count, *[SILENCE] * SILENCE_SHARE * count]


def _other(words: tuple[Sequence[str], Sequence[str]], draw: random.Random) -> str:
    """A word that sounds nearly like a keyword, another, or some in a row."""
    near, far = words
    kind = draw.random()
    if kind < 0.45:
        return draw.choice(near)
    if kind < 0.8:
        return draw.choice(far)
    return " ".join(draw.choice((*near, *far)) for _ in range(draw.randint(2, 4)))


def _voice(voices: tuple[Voice, ...], draw: random.Random) -> Voice:
    (voice,) = draw.choices(voices, [voice.weight for voice in voices])
    return voice


# Sound


def placed(spoken: Samples, random_: np.random.Generator, is_cut: bool = False) -> Samples:
    """What is spoken, without the silence round it, somewhere in a clip over a faint noise; of a long text a part.

    is_cut: only its beginning, at the clip's end, or its end, at the clip's beginning.
    """
    loud = np.flatnonzero(np.abs(spoken) > 0.01 * np.abs(spoken).max())
    margin = round(0.03 * SAMPLE_RATE)
    word = spoken[max(0, loud[0] - margin) : loud[-1] + margin]
    length = round(random_.uniform(*SECONDS) * SAMPLE_RATE)
    if len(word) > 1.4 * SECONDS[1] * SAMPLE_RATE:  # several words: any stretch of them
        start = int(random_.integers(len(word) - length))
        word = word[start : start + length]
    kept = round(len(word) * random_.uniform(0.2, 0.5)) if is_cut else len(word)
    clip = np.zeros(max(length, kept), np.float32)
    start = int(random_.integers(len(clip) - kept + 1))
    if is_cut and random_.random() < 0.5:
        word, start = word[:kept], len(clip) - kept
    elif is_cut:
        word, start = word[-kept:], 0
    clip[start : start + len(word)] = word
    if random_.random() < 0.7:
        floor = 10 ** (random_.uniform(-75, -40) / 20) * float(np.abs(word).max())
        clip += np.float32(floor) * random_.standard_normal(len(clip), np.float32)
    return clip


def microphone(samples: Samples, random_: np.random.Generator) -> Samples:
    """The samples (S,) with some frequencies louder and others softer, by up to 10 dB, smoothly."""
    spectrum = np.fft.rfft(samples)
    mel = np.log1p(np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE) / 700)
    gains_db = random_.uniform(-1, 1, 7) * random_.uniform(0, 10)
    gain = 10 ** (np.interp(mel, np.linspace(0, mel[-1], len(gains_db)), gains_db) / 20)
    return np.asarray(np.fft.irfft(spectrum * gain, len(samples)), np.float32)


def silence(random_: np.random.Generator) -> Samples:
    """Nothing, a faint hiss, or a noise of those to train with."""
    seconds = random_.uniform(*SECONDS)
    length, kind = round(seconds * SAMPLE_RATE), random_.random()
    if kind < 0.1:
        return np.zeros(length, np.float32)
    if kind < 0.4:
        return np.float32(10 ** (random_.uniform(-85, -45) / 20)) * random_.standard_normal(length, np.float32)
    return training_noise(int(random_.integers(5)), seconds, random_)


# Kept for the tests


def _tune(length: int, random_: np.random.Generator) -> Samples:
    """Plucked tones, a chord's or its neighbours, each with its harmonics."""
    time = np.arange(length) / SAMPLE_RATE
    tune = np.zeros(length)
    start = -random_.uniform(0, 0.2)
    while start < length / SAMPLE_RATE:
        pitch = 220 * 2 ** (random_.choice([0, 2, 4, 5, 7, 9, 11, 12, 16]) / 12)
        since = np.maximum(time - start, 0)
        note = sum(np.sin(2 * np.pi * pitch * number * since) / number**1.5 for number in range(1, 7))
        tune += (time >= start) * np.exp(-since * random_.uniform(2, 6)) * note
        start += random_.choice([0.12, 0.24, 0.36])
    return np.asarray(tune, np.float32)


def _typing(length: int, random_: np.random.Generator) -> Samples:
    """Keys that are struck: two short bursts each, over a soft rustle."""
    sound = 0.02 * random_.standard_normal(length)
    for place in random_.integers(0, length, max(1, round(length / SAMPLE_RATE * 9))):
        for delay, level in ((0, 1.0), (random_.uniform(0.05, 0.09), 0.5)):
            first = place + round(delay * SAMPLE_RATE)
            burst = random_.standard_normal(400) * np.exp(-np.arange(400) / random_.uniform(30, 90))
            part = sound[first : first + 400]
            part += level * random_.uniform(0.5, 1.5) * burst[: len(part)]
    return np.asarray(sosfilt(butter(1, 800, "high", fs=SAMPLE_RATE, output="sos"), sound), np.float32)


def unheard_noise(length: int, random_: np.random.Generator) -> Samples:
    """A noise (length,) of the kinds that are never trained on: rain, a tune, typing."""
    maker = (rainfall, _tune, _typing)[int(random_.integers(3))]
    return maker(length, random_)


CONDITIONS = {"noise-10db": 10.0}
"""Ratios of speech to unheard noise, in tests alone."""


def _make_part(folder: Path, number: int, lines: list[Line], seed: int) -> None:
    write_part(folder, number, _takes(Speaker(number_of(seed, folder.name, number)), lines, seed))


def _takes(speaker: Speaker, lines: list[Line], seed: int) -> Iterator[Take]:
    for line in lines:
        random_ = np.random.default_rng(number_of(seed, line.id))
        if line.label == SILENCE:
            samples = silence(random_)
        else:
            spoken = change_speed(speaker(line.voice, line.manner, line.text), line.shift)
            samples = placed(spoken, random_, line.is_cut)
            if line.voice in TRAINING:
                samples = microphone(samples, random_)
        if line.condition is not None:
            noise = unheard_noise(len(samples), random_)
            samples = noise if line.label == SILENCE else add_noise(samples, noise, CONDITIONS[line.condition])
        peak = float(np.abs(samples).max())
        # Silence stays as soft as it is: what is loud in it is none.
        level = line.level_db if line.label != SILENCE or peak > 0.05 else 20 * np.log10(max(peak, 1e-6) / 0.9)
        speaker_ = "" if line.label == SILENCE else str(line.voice)
        yield Take(line.id, samples, level, line.text, speaker_, line.label)


def make(out: Path, examples: int, seed: int, workers: int, console: Console | None = None) -> dict[str, Any]:
    """Makes or completes the corpus in the folder `out`; returns what its report.json says.

    Raises DataError where an engine is missing, and where the folder holds a corpus of something else.
    """
    require((*TRAINING, *UNHEARD))
    check_heading(out, {"version": VERSION, "seed": seed, "labels": list(LABELS)})
    script = Script(seed)
    sets = {**script.sets, "train": script.training(examples)}
    make_parts(_make_part, out, sets, seed, workers, console)
    _make_surroundings(out, seed)
    for name, lines in sets.items():
        finish(out / name, part_count(lines))
    report = {name: _report(out / name / MANIFEST_FILE) for name in sets}
    write_json(out / "report.json", report)
    return report


def _make_surroundings(out: Path, seed: int) -> None:
    """Writes the noises and rooms that training mixes in."""
    random_ = np.random.default_rng(number_of(seed, "surroundings"))
    draw, speaker = random.Random(f"{seed} babble"), Speaker(seed)

    def talk() -> list[Samples]:
        some = [_voice(TRAINING, draw) for _ in range(draw.randint(3, 7))]
        return [speaker(one, manner(one, draw), " ".join(draw.sample(FAR, 12))) for one in some]

    write_surroundings(out, NOISES, ROOMS, 10.0, random_, talk)


def _report(manifest: Path) -> dict[str, Any]:
    """What a set is made of."""
    entries = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    return {
        "clips": len(entries),
        "hours": round(sum(entry["seconds"] for entry in entries) / 3600, 3),
        "voices": len({entry["speaker"] for entry in entries} - {""}),
        "labels": dict(Counter(entry["label"] for entry in entries)),
    }


def main(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    examples: Annotated[int, typer.Option(min=1, help="Of each keyword to train on, about.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that speak.")] = 2,
) -> None:
    """Make a corpus of spoken words by synthetic voices, with noises and rooms, and sets to validate and test on."""
    console = Console(stderr=True)
    with telling(console):
        report = make(out, examples, seed, workers, console)
    for name, part in report.items():
        typer.echo(f"{name:40s} {part['clips']:7,d} clips {part['hours']:8.2f} h  {part['voices']:4d} voices")


if __name__ == "__main__":
    typer.run(main)
