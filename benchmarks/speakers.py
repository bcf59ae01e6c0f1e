"""Speakers: trials of unseen voices, calibration, identification, a large store, two processes that enrol at once.

    python -m benchmarks.speakers CORPUS [--model MODEL] [--targets 2000] [--voices 100000] [--only trials …]

CORPUS is the folder that recipes/speakers/corpus.py made. The people of its sets `test` and `dev` were never trained
on; half of what they say is heard through rain, a telephone or a hall, none of which is trained on either.

Trials are drawn: pairs of one person, pairs of any two, and pairs of two people that are made of one base voice, which
differ in pitch and formants by 7 % or more and perhaps in their accent. The calibration is fitted to the trials among
one half of the base voices, and tested on those among the other. Results go to benchmarks/results/speakers.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavconformer.data.corpus import Corpus
from wavconformer.data.utterance import load_utterance
from wavconformer.scoring.calibration import Calibration, Cohort, actual_cost, fit_calibration, llr_cost
from wavconformer.scoring.verification import score_verification
from wavconformer.store import Enrolment, open_backend
from wavconformer.tasks.embedding import Embedder
from wavconformer.tasks.speakers import SpeakerStore

RESULTS = Path(__file__).parent / "results" / "speakers.json"
PRIORS = (0.5, 0.05, 0.01)
ENROLLED = 200
ENROLMENTS = 3  # recordings of each, clean ones
WRITER = """
import sys, numpy as np
from wavconformer.store import Enrolment, open_backend
place, writer, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
random = np.random.default_rng(int(writer))
with open_backend(place, model="none", size=128, create=True) as store:
    for number in range(count):
        vector = random.standard_normal(128).astype(np.float32)
        name = f"both {number % 50}" if number % 2 else f"{writer} alone {number}"
        store.add(name, [Enrolment(vector / np.linalg.norm(vector), f"{writer}-{number}")])
"""


@dataclass(frozen=True)
class Spoken:
    """Recordings (N) that are embedded: vectors (N, D), and of each the person, the base voice and the condition."""

    vectors: NDArray[np.float32]
    people: NDArray[np.str_]
    bases: NDArray[np.str_]
    conditions: NDArray[np.str_]


def embedded(folder: Path, embedder: Embedder) -> Spoken:
    corpus = Corpus.open(folder)
    utterances = list(corpus)
    vectors = embedder.many(load_utterance(one) for one in utterances)
    people = np.array([one.speaker for one in utterances])
    bases = np.array([base(name) for name in people])
    return Spoken(vectors, people, bases, np.array([one.id.rpartition("-")[2] for one in utterances]))


def base(person: str) -> str:
    """The base voice of a person's name, as "espeak-ng_en-us+klatt_x0.80_p44"."""
    return person.rsplit("_x", 1)[0].split("_", 1)[1].rpartition("+")[2]


def draw_trials(spoken: Spoken, targets: int, random: np.random.Generator) -> dict[str, NDArray[np.int64]]:
    """Pairs (K, 2) of recordings, by kind; so many of one person and of any two, half as many of one base voice."""
    of_person, of_base = defaultdict(list), defaultdict(list)
    for number, (person, voice) in enumerate(zip(spoken.people, spoken.bases, strict=True)):
        of_person[person].append(number)
        of_base[voice].append(number)
    people, voices = list(of_person.values()), list(of_base.values())

    def pairs(count: int, pair: Callable[[], Any], wanted: Callable[[int, int], bool]) -> NDArray[np.int64]:
        found: set[tuple[int, int]] = set()
        while len(found) < count:
            one, other = sorted(map(int, pair()))
            if wanted(one, other):
                found.add((one, other))
        return np.array(sorted(found))

    def differ(one: int, other: int) -> bool:
        return bool(spoken.people[one] != spoken.people[other])

    def within(groups: list[list[int]]) -> Callable[[], Any]:
        return lambda: random.choice(groups[random.integers(len(groups))], 2, replace=False)

    return {
        "target": pairs(targets, within(people), lambda one, other: True),
        "any two": pairs(targets, lambda: random.choice(len(spoken.people), 2, replace=False), differ),
        "one base voice": pairs(targets // 2, within(voices), differ),
    }


def measured(scores: NDArray[np.float64], targets: NDArray[np.bool_]) -> dict[str, Any]:
    found = score_verification(scores, targets, p_targets=PRIORS)
    return {
        "targets": found.targets,
        "nontargets": found.nontargets,
        "eer": round(found.eer, 4),
        "min_dcf": {str(cost.p_target): round(cost.value, 4) for cost in found.costs},
    }


def trials(spoken: Spoken, cohort: Spoken, embedder: Embedder, targets: int) -> dict[str, Any]:
    """Error rates, and what a calibration on one half does on the other."""
    random = np.random.default_rng(0)
    kinds = draw_trials(spoken, targets, random)
    pairs = np.concatenate(list(kinds.values()))
    kind = np.concatenate([np.full(len(some), name) for name, some in kinds.items()])
    is_target = kind == "target"
    first, second = spoken.vectors[pairs[:, 0]], spoken.vectors[pairs[:, 1]]
    is_clean = (spoken.conditions[pairs] == "clean").all(1)
    voices = np.unique(spoken.bases)
    random.shuffle(voices)
    in_half = np.isin(spoken.bases, voices[: len(voices) // 2])[pairs]
    fitted_to, tested_on = in_half.all(1), ~in_half.any(1)
    result: dict[str, Any] = {
        "people": len(np.unique(spoken.people)),
        "base_voices": len(voices),
        "recordings": len(spoken.people),
    }
    people = list(dict.fromkeys(cohort.people))
    means = np.stack([cohort.vectors[cohort.people == person].mean(0) for person in people])
    others = Cohort(np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), np.float32), len(people) // 3)
    for name, normalisation in (("cosine", None), ("as_norm", others)):
        scores = Calibration(embedder.name, 1.0, 0.0, cohort=normalisation).scores(first, second)
        usual, close = is_target | (kind == "any two"), is_target | (kind == "one base voice")
        part: dict[str, Any] = {
            "any two people": measured(scores[usual], is_target[usual]),
            "any two people, both clean": measured(scores[usual & is_clean], is_target[usual & is_clean]),
            "two people of one base voice": measured(scores[close], is_target[close]),
            "calibration": {},
        }
        fit, test = fitted_to & usual, tested_on & usual
        for prior in PRIORS[:2]:
            known = fit_calibration(
                scores[fit], is_target[fit], model=embedder.name, p_target=prior, cohort=normalisation
            )
            found = score_verification(scores[test], is_target[test], p_targets=(prior,))
            accepted = scores[test] >= known.threshold
            part["calibration"][str(prior)] = {
                "trials_fitted": int(fit.sum()),
                "trials_tested": int(test.sum()),
                "threshold": round(known.threshold, 4),
                "false_accepts": round(float(accepted[~is_target[test]].mean()), 4),
                "misses": round(float((~accepted)[is_target[test]].mean()), 4),
                "actual_dcf": round(actual_cost(scores[test], is_target[test], known), 4),
                "min_dcf": round(found.costs[0].value, 4),
                "eer": round(found.eer, 4),
                "cllr": round(llr_cost(known.llr(scores[test]), is_target[test]), 4),
            }
        result[name] = part
    return result


def shipped_calibration(spoken: Spoken, embedder: Embedder) -> Calibration:
    """The threshold that the model ships with: on trials of `dev`, at equal prior and costs."""
    kinds = draw_trials(spoken, 1500, np.random.default_rng(1))
    pairs = np.concatenate([kinds["target"], kinds["any two"]])
    scores = np.einsum("nd,nd->n", spoken.vectors[pairs[:, 0]], spoken.vectors[pairs[:, 1]], dtype=np.float64)
    return fit_calibration(scores, np.arange(len(pairs)) < len(kinds["target"]), model=embedder.name)


def identification(spoken: Spoken, strangers: Spoken, embedder: Embedder, calibration: Calibration) -> dict[str, Any]:
    """Among 200 enrolled: who is found, and how many of those who aren't enrolled are taken for somebody."""
    people = sorted(set(spoken.people))[:ENROLLED]
    asked: dict[str, list[int]] = {"clean": [], "rain, telephone, hall": []}
    with tempfile.TemporaryDirectory() as folder:
        store = SpeakerStore(Path(folder) / "voices.db", model=embedder, calibration=calibration)
        for person in people:
            own = np.flatnonzero(spoken.people == person)
            clean = [number for number in own if spoken.conditions[number] == "clean"]
            store.add(person, spoken.vectors[clean[:ENROLMENTS]])
            asked["clean"] += clean[ENROLMENTS:]
            asked["rain, telephone, hall"] += [number for number in own if spoken.conditions[number] != "clean"]
        result: dict[str, Any] = {"enrolled": len(people), "recordings_each": ENROLMENTS}
        for name, numbers in asked.items():
            best = store.names(spoken.vectors[numbers], threshold=-1.0)
            right = np.array(
                [one is not None and one.name == spoken.people[n] for one, n in zip(best, numbers, strict=True)]
            )
            passed = np.array([one is not None for one in store.names(spoken.vectors[numbers])])
            result[name] = {
                "asked": len(numbers),
                "nearest_is_right": round(float(right.mean()), 4),
                "named_rightly": round(float((right & passed).mean()), 4),
                "named_wrongly": round(float((~right & passed).mean()), 4),
            }
        taken = [one is not None for one in store.names(strangers.vectors)]
        result["strangers"] = {"asked": len(taken), "taken_for_somebody": round(float(np.mean(taken)), 4)}
        store.close()
    return result


def large(voices: int, size: int = 128) -> dict[str, Any]:
    """Query times of a store of so many voices."""
    random = np.random.default_rng(0)
    vectors = random.standard_normal((voices, size)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "voices.db"
        store = open_backend(path, model="none", size=size, create=True)
        start = time.process_time()
        for begin in range(0, voices, 1000):
            some = enumerate(vectors[begin : begin + 1000], begin)
            store.add_all({f"voice {number}": [Enrolment(vector)] for number, vector in some})
        filled = time.process_time() - start
        store.close()
        store = open_backend(path, model="none", size=size)
        start = time.process_time()
        store.search(vectors[:1], 5)
        first = time.process_time() - start
        one, cpu, many = [], [], []
        for number in range(50):
            start, begun = time.perf_counter(), time.process_time()
            ((name, _), *_), *_ = store.search(vectors[number : number + 1], 5)
            one.append(time.perf_counter() - start)
            cpu.append(time.process_time() - begun)
            assert name == f"voice {number}"
            begun = time.process_time()
            store.search(vectors[number : number + 100], 5)
            many.append(time.process_time() - begun)
        store.close()
        return {
            "voices": voices,
            "size": size,
            "file_mb": round(path.stat().st_size / 1e6, 1),
            "enrolments_per_cpu_second": round(voices / filled),
            "first_query_cpu_ms": round(1000 * first, 1),
            "query_ms": {"least": round(1000 * min(one), 2), "median": round(1000 * float(np.median(one)), 2)},
            "query_cpu_ms": round(1000 * float(np.median(cpu)), 2),
            "hundred_queries_cpu_ms": round(1000 * float(np.median(many)), 1),
        }


def at_once(count: int = 1000) -> dict[str, Any]:
    """Two processes that enrol at once, half of it under the same names; and one of two that is killed."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "voices.db")
        command = [sys.executable, "-c", WRITER, path]
        writers = [subprocess.Popen([*command, str(number), str(count)]) for number in (1, 2)]
        codes = [writer.wait() for writer in writers]
        with open_backend(path) as store:
            both = [voice for voice in store.voices() if voice.name.startswith("both")]
            kept = sum(voice.recordings for voice in store.voices())
        killed = subprocess.Popen([*command, "3", str(100 * count)])
        other = subprocess.Popen([*command, "4", str(count)])
        code = other.wait()
        killed.kill()
        killed.wait()
        with open_backend(path) as store:
            voices = store.voices()
            after = sum(voice.recordings for voice in voices if voice.name.startswith("4 alone"))
        return {
            "processes": 2,
            "exit_codes": codes,
            "enrolled": 2 * count,
            "kept": kept,
            "voices_of_both": len(both),
            "beside_a_killed_one": {"exit_code": code, "enrolled_alone": count // 2, "kept_alone": after},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, metavar="CORPUS")
    parser.add_argument("--model", default=None)
    parser.add_argument("--targets", type=int, default=2000, help="trials of one person; as many of two")
    parser.add_argument("--voices", type=int, default=100_000)
    parser.add_argument("--only", nargs="+", choices=["trials", "identification", "large", "at_once"])
    parser.add_argument("--save-calibration", type=Path, help="where to write the threshold fitted to `dev`")
    parser.add_argument("--no-write", action="store_true", help="print alone")
    arguments = parser.parse_args()
    wanted = arguments.only or ["trials", "identification", "large", "at_once"]
    result: dict[str, Any] = {}
    if {"trials", "identification"} & set(wanted):
        embedder = Embedder.load(arguments.model, device="cpu", threads=1)
        start = time.process_time()
        test, dev = (embedded(arguments.corpus / name, embedder) for name in ("test", "dev"))
        result["model"] = embedder.name
        seconds = sum(float(Corpus.open(arguments.corpus / name).seconds.sum()) for name in ("test", "dev"))
        result["audio_seconds_per_cpu_second"] = round(seconds / (time.process_time() - start))
        calibration = shipped_calibration(dev, embedder)
        if arguments.save_calibration is not None:
            calibration.save(arguments.save_calibration)
        if "trials" in wanted:
            result["trials"] = trials(test, dev, embedder, arguments.targets)
        if "identification" in wanted:
            result["identification"] = identification(test, dev, embedder, calibration)
    if "large" in wanted:
        result["large"] = large(arguments.voices)
    if "at_once" in wanted:
        result["at_once"] = at_once()
    print(json.dumps(result, indent=2))
    if not arguments.no_write:
        before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
        RESULTS.write_text(json.dumps({**before, **result}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
