"""Who speaks in the simulated conversations: people with a voice of their own, made of the synthesisers' voices.

A person is a synthesiser's voice with one pitch, played faster or slower so that pitch and formants move together,
as they do with the length of a vocal tract; the tempo is set right before.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavconformer.training.augmentation import change_speed

sys.path.insert(0, str(Path(__file__).parents[1] / "tiny-en"))
import voices
from voices import Manner, Speaker, Voice

Samples = NDArray[np.float32]

TRAINING = tuple(voice for voice in voices.TRAINING if voice.engine != "piper")
"""Voices to train with: those of tiny-en that are quick."""

_SPEAKERS = (
    *("adam", "antonio", "benjamin", "boris", "caleb", "david", "Denis", "Diogo", "ed", "edward", "grandpa", "gustave"),
    *("Henrique", "iven", "Jacky", "marcelo", "miguel", "pablo", "pedro", "klatt3", "klatt4"),
)
UNHEARD = (
    *voices.UNHEARD,
    *(Voice("espeak-ng", f"{('en-us', 'en-gb')[number % 2]}+{name}", 1) for number, name in enumerate(_SPEAKERS)),
)
"""Voices that are never trained on: tiny-en's, and speakers of espeak-ng's that tiny-en leaves out."""

_FLITE = 0.3  # share of people with one of flite's voices, of which there are few, but which are more natural
_SHIFTS = (0.87, 1.16)  # how much faster a person's voice is played


@dataclass(frozen=True)
class Person:
    """A voice that stays the same. pitch: espeak-ng's, or Hertz for flite's kal. shift: how much faster it is played."""

    name: str
    voice: Voice
    pitch: int | None
    tempo: float
    shift: float

    @property
    def kind(self) -> str:
        """Whom one might mistake the person for: accents of espeak-ng sound alike with the same speaker."""
        return f"{self.voice.engine} {self.voice.name.partition('+')[2] or self.voice.name}"


def draw_person(name: str, among: tuple[Voice, ...], draw: random.Random) -> Person:
    """Some person with one of these voices."""
    flite = [voice for voice in among if voice.engine == "flite"]
    others = [voice for voice in among if voice.engine != "flite"]
    voice = draw.choice(flite if draw.random() < _FLITE and flite else others)
    pitch = None
    if voice.engine == "espeak-ng":
        pitch = draw.randint(25, 75)
    elif voice.name.startswith("kal"):
        pitch = draw.randint(80, 130)
    return Person(name, voice, pitch, draw.uniform(0.85, 1.15), draw.uniform(*_SHIFTS))


def draw_company(count: int, people: list[Person], draw: random.Random) -> list[Person]:
    """So many of them, of whom no two have the same kind of voice."""
    company: list[Person] = []
    for person in draw.sample(people, len(people)):
        if len(company) < count and person.kind not in {other.kind for other in company}:
            company.append(person)
    return company


def speak(speaker: Speaker, person: Person, text: str, draw: random.Random) -> Samples:
    """The text as the person says it, (S,) at 16 kHz, without the silence round it."""
    tempo = person.tempo * draw.uniform(0.92, 1.08) / person.shift
    samples = speaker(person.voice, Manner(tempo, person.pitch, stop=draw.random() < 0.5), text)
    samples = change_speed(samples, person.shift)
    first, *_, last = [place for stretch in sounding(samples) for place in stretch]
    return samples[first:last]


_FRAME = 160  # samples, 10 ms
_FLOOR_DB = 40.0  # below the loudest frame it is silent
_REST = 25  # frames; in shorter silence somebody still speaks


def sounding(samples: Samples) -> list[tuple[int, int]]:
    """The stretches in which there is sound, as first sample and the one after the last; shorter rests belong to it."""
    count = len(samples) // _FRAME
    energy = np.square(samples[: count * _FRAME].reshape(count, _FRAME)).mean(1)
    places = np.flatnonzero(energy > energy.max() * 10 ** (-_FLOOR_DB / 10))
    breaks = np.flatnonzero(np.diff(places) > _REST)
    firsts, lasts = places[[0, *(breaks + 1)]], places[[*breaks, -1]]
    return [(int(first) * _FRAME, (int(last) + 1) * _FRAME) for first, last in zip(firsts, lasts, strict=True)]
