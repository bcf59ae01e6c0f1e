"""The people: base voices of synthesisers, each with several pitches and sizes of the vocal tract.

A recording that is played faster has its pitch and its formants higher, as a smaller person has; the synthesiser speaks
the slower for it, so that the tempo doesn't tell who it is.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from voices import Engine, Manner, Speaker, Voice

from wavconformer.audio import SAMPLE_RATE


@dataclass(frozen=True)
class Person:
    """Somebody: a voice, a factor of its pitch and formants, and espeak-ng's pitch (0 to 99) where it takes one."""

    voice: Voice
    scale: float
    pitch: int | None = None

    def __str__(self) -> str:
        pitch = "" if self.pitch is None else f" p{self.pitch}"
        return f"{self.voice} x{self.scale:.2f}{pitch}".replace(" ", "_")

    @property
    def base(self) -> str:
        """The voice that this person is made of, whatever the accent: those of one base are hardest to tell apart."""
        return f"{self.voice.engine} {self.voice.name.rpartition('+')[2]}"


ACCENTS = ("en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")
UNHEARD_ACCENT = "en-us-nyc"

# espeak-ng's speakers. Whole families are held out: klatt is another way of making a voice's sound.
TRAINING_SPEAKERS = (
    *("m1", "m2", "m3", "m4", "m6", "m7", "f1", "f2", "f4", "Alicia", "Andy", "AnxiousAndy", "Demonic", "Denis"),
    *("Diogo", "Gene", "Gene2", "Hugo", "Jacky", "Lee", "Marco", "Mario", "Michael", "Mr serious", "Nguyen", "Tweaky"),
    *("UniRobot", "adam", "anika", "anikaRobot", "antonio", "aunty", "benjamin", "ed", "grandma", "gustave", "john"),
    *("kaukovalta", "linda", "marcelo", "michel", "miguel", "norbert", "pablo", "paul", "quincy", "rob", "robert"),
    *("robosoft", "robosoft2", "robosoft3", "robosoft4", "robosoft5", "robosoft6", "robosoft7", "robosoft8", "sandro"),
    *("shelby", "steph", "steph2", "steph3", "travis", "victor", "whisper", "whisperf", "zac"),
)
DEV_SPEAKERS = ("m5", "f3", "Alex", "Annie", "Mike", "belinda", "max", "edward", "edward2")
TEST_SPEAKERS = (
    *("klatt", "klatt2", "klatt3", "klatt4", "klatt5", "klatt6", "iven", "iven2", "iven3", "iven4", "RicishayMax"),
    *(
        "RicishayMax2",
        "RicishayMax3",
        "m8",
        "f5",
        "Andrea",
        "Storm",
        "Henrique",
        "announcer",
        "boris",
        "caleb",
        "croak",
    ),
    *("david", "grandpa", "pedro"),
)

SCALES = (0.8, 0.86, 0.92, 0.98, 1.05, 1.12, 1.2, 1.28)
"""Neighbours are 7 % apart: a note and a quarter of the scale of twelve."""
PITCHES = (20, 80)  # of espeak-ng
# flite sounds at 16 kHz: played slower, it would have no treble, and that would give it away.
FLITE_SCALES = tuple(scale for scale in SCALES if scale > 0.9)


def espeak(speakers: Iterable[str], accents: Sequence[str], draw: random.Random) -> list[Person]:
    """People of each of these speakers, one of each scale; accent and pitch are drawn."""
    return [
        Person(Voice("espeak-ng", f"{draw.choice(accents)}+{speaker}", 1), scale, draw.randint(*PITCHES))
        for speaker in speakers
        for scale in SCALES
    ]


def scaled(engine: Engine, names: Iterable[str], scales: Iterable[float]) -> list[Person]:
    """People of each of an engine's voices and each scale."""
    scales = tuple(scales)
    return [Person(Voice(engine, name, 1), scale) for name in names for scale in scales]


def everybody(seed: int) -> dict[str, list[Person]]:
    """Who speaks in which set. No set has a base voice of another's."""
    draw = random.Random(f"{seed} people")
    return {
        "train": [
            *espeak(TRAINING_SPEAKERS, ACCENTS, draw),
            *scaled("flite", ("awb", "kal16", "rms", "slt"), FLITE_SCALES),
            *scaled("piper", ("joe",), SCALES),
        ],
        "dev": espeak(DEV_SPEAKERS, ACCENTS, draw),
        "test": [
            *espeak(TEST_SPEAKERS, (*ACCENTS, UNHEARD_ACCENT), draw),
            *scaled("flite", ("kal",), FLITE_SCALES),
        ],
    }


def manner(person: Person, draw: random.Random) -> Manner:
    """How somebody says one thing: nobody speaks equally fast and high each time."""
    tempo = draw.uniform(0.85, 1.15) / person.scale
    stop = draw.random() < 0.5
    if person.voice.engine == "piper":
        return Manner(tempo, noise=draw.uniform(0.4, 0.8), length_noise=draw.uniform(0.5, 0.95), stop=stop)
    pitch = None if person.pitch is None else max(0, min(99, person.pitch + draw.randint(-5, 5)))
    return Manner(tempo, pitch, stop=stop)


def spoken(speaker: Speaker, person: Person, how: Manner, text: str) -> NDArray[np.float32]:
    """The text as that person says it, samples (S,) at 16 kHz."""
    return speaker(person.voice, how, text, round(SAMPLE_RATE / person.scale))
