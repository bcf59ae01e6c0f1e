"""Makes simulated conversations with who speaks when: turns, pauses, overlaps, short replies, rooms and noise.

    python recipes/diarize/conversations.py OUT --hours 9 --seed 0 --workers 2

OUT gets train, dev and test, each with manifest.jsonl and its file in OUT/turns; those who speak in dev and test have
voices that nobody in train has, nor anybody whom the speaker model was trained on. The same seed and engines give the
same conversations. A run that was interrupted goes on where it stopped, and more hours with the same seed add to what
is there.
"""

from __future__ import annotations

import io
import multiprocessing
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import typer
from numpy.typing import NDArray

from wavconformer.audio import SAMPLE_RATE
from wavconformer.data.prepare import prepare
from wavconformer.data.rttm import Turn, read_rttm, write_rttm
from wavconformer.files import atomic, write_text
from wavconformer.training.augmentation import add_noise, add_reverb

sys.path.insert(0, str(Path(__file__).parents[1] / "tiny-en"))  # whose texts and noises these are
sys.path.insert(0, str(Path(__file__).parents[1] / "speakers"))  # whose people
from commands import phrase
from people import Person, everybody, manner, spoken
from sentences import Exclusion, open_sentences
from surroundings import room, training_noise
from voices import Speaker, require

Samples = NDArray[np.float32]

PEOPLE, SAYINGS, CONVERSATIONS = 24, 11, 25
"""A town has so many people, each of whom says so many things, and meets in so many conversations."""
UNHEARD_TOWNS = 2  # of dev, and of test
SECONDS = (50.0, 110.0)
REPLIES = ("YES", "RIGHT", "NO", "OKAY", "I SEE", "OH", "WELL", "OF COURSE", "REALLY", "AND THEN", "TRUE", "WHY NOT")

_SPEAKERS = (1, 2, 3, 4)
_SHARES = (0.1, 0.35, 0.3, 0.25)  # of conversations with so many
_OVERLAP = 0.25  # share of turns that begin before the one before has ended
_REPLY = 0.2  # share of turns that somebody replies to while they last
_SAME = 0.15  # share of turns after which the same one goes on
_SILENCE = 0.06  # share of turns with a long pause before them
_NOISE = 0.7  # share of conversations with noise
_FRAME = 160  # samples, 10 ms
_FLOOR_DB = 40.0  # below the loudest frame it is silent
_REST = 25  # frames; in shorter silence somebody still speaks
_AVERAGE = sum(SECONDS) / 2


@dataclass(frozen=True)
class Saying:
    """Something said: when it begins, in samples, by whom, and its sound."""

    start: int
    person: Person
    samples: Samples

    @property
    def end(self) -> int:
        """The sample after its last."""
        return self.start + len(self.samples)


Repertoire = dict[Person, tuple[list[Samples], list[Samples]]]
"""Of each person sentences, and short replies."""


def script(company: list[Person], said: Repertoire, seconds: float, draw: random.Random) -> list[Saying]:
    """A conversation that lasts about so long."""
    sentences = {person: cycle(draw.sample(said[person][0], len(said[person][0]))) for person in company}
    sayings: list[Saying] = []
    time = round(draw.uniform(0.0, 1.5) * SAMPLE_RATE)  # where the turn before has ended
    busy = dict.fromkeys(company, 0)  # until when each speaks
    person = draw.choice(company)
    while time < seconds * SAMPLE_RATE:
        others = [one for one in company if one is not person]
        if others and draw.random() >= _SAME:
            person = draw.choice(others)
        turn = list(islice(sentences[person], draw.choice((1, 1, 1, 2, 2, 3))))
        start = max(time + _gap(sayings, turn, draw), busy[person])
        begun = start
        for samples in turn:
            sayings.append(Saying(start, person, samples))
            start = sayings[-1].end + round(draw.uniform(0.05, 0.5) * SAMPLE_RATE)
        time = busy[person] = sayings[-1].end
        listeners = [one for one in company if one is not person and busy[one] <= begun]
        if listeners and draw.random() < _REPLY:
            listener = draw.choice(listeners)
            reply = draw.choice(said[listener][1])
            place = begun + round(draw.random() * max(0, time - begun - len(reply)))
            sayings.append(Saying(place, listener, reply))
            busy[listener] = sayings[-1].end
    return sorted(sayings, key=lambda saying: saying.start)


def _gap(sayings: list[Saying], turn: list[Samples], draw: random.Random) -> int:
    """Samples from the end of a turn to the beginning of the next, fewer than none where they overlap."""
    if sayings and draw.random() < _OVERLAP:
        return -round(min(draw.uniform(0.1, 2.0) * SAMPLE_RATE, 0.7 * len(sayings[-1].samples), 0.7 * len(turn[0])))
    pause = draw.uniform(2.0, 5.0) if draw.random() < _SILENCE else draw.expovariate(1 / 0.45)
    return round(pause * SAMPLE_RATE)


def mixed(sayings: list[Saying], noise: np.random.Generator, draw: random.Random) -> Samples:
    """The conversation as a microphone hears it: each from a place of their own in one room, and with noise."""
    length = max(saying.end for saying in sayings) + round(draw.uniform(0.2, 1.0) * SAMPLE_RATE)
    heard = np.zeros(length, np.float32)
    reverberation = None if draw.random() < 0.3 else draw.uniform(0.12, 0.6)
    for person in dict.fromkeys(saying.person for saying in sayings):
        response = None if reverberation is None else room(reverberation, noise)
        loud = 10 ** (draw.uniform(-5.0, 5.0) / 20)
        for saying in sayings:
            if saying.person is person:
                samples = saying.samples / max(1e-6, float(np.sqrt(np.square(saying.samples).mean())))
                tail = min(length - saying.end, SAMPLE_RATE // 2)
                samples = np.pad(samples, (0, tail))
                if response is not None:
                    samples = add_reverb(samples, response)
                heard[saying.start : saying.end + tail] += np.float32(loud) * samples
    if draw.random() < _NOISE:
        stretch = training_noise(draw.randrange(5), min(30.0, length / SAMPLE_RATE), noise)
        heard = add_noise(heard, np.resize(stretch, length), draw.uniform(8.0, 30.0))
    peak = 0.9 * 10 ** (draw.uniform(-12.0, 0.0) / 20)
    return heard * np.float32(peak / np.abs(heard).max())


def turns_of(sayings: list[Saying], recording: str) -> list[Turn]:
    """Who speaks when: each stretch in which there is sound; a person's own that meet or overlap are one."""
    found: dict[str, list[tuple[float, float]]] = {}
    for saying in sayings:
        own = found.setdefault(str(saying.person).replace(" ", "_"), [])
        for first, last in sounding(saying.samples):
            own.append(((saying.start + first) / SAMPLE_RATE, (saying.start + last) / SAMPLE_RATE))
    turns = [Turn(recording, start, end, name) for name, own in found.items() for start, end in own]
    return sorted(turns, key=lambda turn: (turn.start, turn.speaker))


def company_of(count: int, people: list[Person], draw: random.Random) -> list[Person]:
    """So many of these people, no two of whom are made of one voice."""
    company: list[Person] = []
    for person in draw.sample(people, len(people)):
        if len(company) < count and person.base not in {other.base for other in company}:
            company.append(person)
    return company


def repertoire(people: list[Person], texts: list[str], sayings: int, seed: int, draw: random.Random) -> Repertoire:
    """What people can say: so many sentences each, of these texts, and three replies."""
    speaker = Speaker(seed)

    def say(person: Person, text: str) -> Samples:
        samples = spoken(speaker, person, manner(person, draw), text)
        first, *_, last = [place for stretch in sounding(samples) for place in stretch]
        return samples[first:last]

    return {
        person: (
            [say(person, draw.choice(texts)) for _ in range(sayings)],
            [say(person, text) for text in draw.sample(REPLIES, 3)],
        )
        for person in people
    }


def sounding(samples: Samples) -> list[tuple[int, int]]:
    """The stretches in which there is sound, as first sample and the one after the last; shorter rests belong to it."""
    count = len(samples) // _FRAME
    energy = np.square(samples[: count * _FRAME].reshape(count, _FRAME)).mean(1)
    places = np.flatnonzero(energy > energy.max() * 10 ** (-_FLOOR_DB / 10))
    breaks = np.flatnonzero(np.diff(places) > _REST)
    firsts, lasts = places[[0, *(breaks + 1)]], places[[*breaks, -1]]
    return [(int(first) * _FRAME, (int(last) + 1) * _FRAME) for first, last in zip(firsts, lasts, strict=True)]


def town(folder: Path, number: int, people: list[Person], least: int, texts: list[str], seed: int) -> None:
    """Writes the conversations of a town as FLAC, and who speaks when once all of them are there.

    least: the fewest people in a conversation.
    """
    draw = random.Random(f"{seed} {folder.name} {number}")
    noise = np.random.default_rng(draw.getrandbits(32))
    people = draw.sample(people, min(PEOPLE, len(people)))
    said = repertoire(people, texts, SAYINGS, draw.getrandbits(31), draw)
    turns: list[Turn] = []
    for conversation in range(CONVERSATIONS):
        name = f"{folder.name}-{number:03d}-{conversation:02d}"
        (count,) = draw.choices(_SPEAKERS[least - 1 :], _SHARES[least - 1 :])
        sayings = script(company_of(count, people, draw), said, draw.uniform(*SECONDS), draw)
        write_flac(folder / "audio" / f"{name}.flac", mixed(sayings, noise, draw))
        turns += turns_of(sayings, name)
    write_rttm(folder / "towns" / f"{number:03d}.rttm", turns)


def write_flac(path: Path, samples: Samples) -> None:
    """Writes samples as FLAC of 16 bits, whole or not at all."""
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, "PCM_16", format="FLAC")
    with atomic(path) as temporary:
        temporary.write_bytes(file.getvalue())


def read_texts(seed: int, exclusion: Exclusion) -> list[str]:
    """What is said: sentences and commands as tiny-en has them."""
    draw = random.Random(f"{seed} texts")
    pools = [text for pool in open_sentences(seed) for text in draw.sample(pool, min(len(pool), 6000))]
    texts = pools + [phrase(draw) for _ in range(4000)]
    return [text for text in texts if text not in exclusion]


def make(out: Path, hours: float, seed: int, workers: int, exclusion: Exclusion) -> None:
    """Makes or completes train, valid and test in the folder `out`. Raises DataError where an engine is missing."""
    sets = everybody(seed)
    sets["train"] = [person for person in sets["train"] if person.voice.engine != "piper"]  # which is slow
    require([person.voice for people in sets.values() for person in people])
    texts = read_texts(seed, exclusion)
    towns = dict.fromkeys(sets, UNHEARD_TOWNS)
    towns["train"] = max(1, round(hours * 3600 / (CONVERSATIONS * _AVERAGE)))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        jobs = [
            pool.submit(town, out / name, number, people, 1 if name == "train" else 2, texts, seed)
            for name, people in sorted(sets.items())  # dev and test first
            for number in range(towns[name])
            if not (out / name / "towns" / f"{number:03d}.rttm").is_file()
        ]
        for done, job in enumerate(jobs, 1):
            job.result()
            typer.echo(f"{done} of {len(jobs)} towns", err=True)
    for name in sets:
        prepare(out / name / "audio", out / name, workers=0)
        write_rttm(out / "turns" / f"{name}.rttm", read_rttm(out / name / "towns"))
    write_text(out / "seed.txt", f"{seed}\n")


def main(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    hours: Annotated[float, typer.Option(min=0.1, help="Hours to train on, about.")] = 9.0,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that speak.")] = 2,
    exclude: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="Sentences that nobody may say.")] = None,
) -> None:
    """Make simulated conversations to train, validate and test a diarization model on."""
    make(out, hours, seed, workers, Exclusion.read(exclude or []))


if __name__ == "__main__":
    typer.run(main)
