"""Verdicts on pairs, thresholds from trials, and people who are known again."""

from __future__ import annotations

import numpy as np
import pytest

import wavconformer
from wavconformer import SpeakerStore
from wavconformer.errors import AudioError, CheckpointError, DataError
from wavconformer.files import samples
from wavconformer.scoring.calibration import Calibration, Cohort
from wavconformer.scoring.verification import Trial
from wavconformer.tasks.embedding import Embedder

RATE = 16_000


@pytest.fixture
def embedder(speaker_model):
    return Embedder.load(speaker_model, device="cpu")


def known(embedder, **settings):
    return Calibration(embedder.name, 20.0, -10.0, **settings)


# --- verify


def test_a_verdict_has_score_threshold_and_probability(embedder):
    a, b = samples()[:2]
    cosine = float(embedder(a) @ embedder(b))
    found = wavconformer.verify(a, b, model=embedder, calibration=known(embedder))
    assert found.score == pytest.approx(cosine, abs=1e-5)
    assert found.threshold == pytest.approx(0.5)
    assert found.is_same is (found.score >= 0.5)
    assert found.probability == pytest.approx(1 / (1 + np.exp(10 - 20 * cosine)), abs=1e-3)
    assert wavconformer.verify(a, a, model=embedder, threshold=0.99).is_same
    refused = wavconformer.verify(a, b, model=embedder, threshold=1.01)
    assert (refused.is_same, refused.threshold, refused.probability) == (False, 1.01, None)


def test_a_cohort_normalises_the_score(embedder):
    a, b, *others = samples()
    cohort = Cohort(embedder.many(others), top=2)
    found = wavconformer.verify(a, b, model=embedder, calibration=known(embedder, cohort=cohort))
    pair = embedder.many([a, b])
    assert found.score == pytest.approx(cohort.normalised([pair[0] @ pair[1]], pair[:1], pair[1:])[0], rel=1e-3)


def test_the_calibration_of_the_folder_is_taken(make_speaker_model):
    folder = make_speaker_model()
    name = Embedder.load(folder, device="cpu").name
    Calibration(name, 1.0, -0.25).save(folder / "calibration.json")
    embedder = Embedder.load(folder, device="cpu")
    assert wavconformer.verify(*samples()[:2], model=embedder).threshold == pytest.approx(0.25)
    given = folder / "other.json"
    Calibration(name, 1.0, -0.75).save(given)
    assert wavconformer.verify(*samples()[:2], model=embedder, calibration=given).threshold == pytest.approx(0.75)


def test_what_nobody_can_judge_is_refused(embedder, tmp_path, sample):
    with pytest.raises(CheckpointError, match=r"has no calibration\.json.*wavconformer calibrate"):
        wavconformer.verify(sample, sample, model=embedder)
    with pytest.raises(DataError, match="calibration is of the speaker model xvector-else"):
        wavconformer.verify(sample, sample, model=embedder, calibration=Calibration("xvector-else", 1.0, 0.0))
    with pytest.raises(DataError, match="no calibration at"):
        wavconformer.verify(sample, sample, model=embedder, calibration=tmp_path / "none.json")
    with pytest.raises(AudioError, match=r"0\.20 s long, but the speaker model needs at least"):
        wavconformer.verify(sample, np.ones(3200, np.float32), model=embedder, threshold=0.5)


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_a_threshold_that_is_no_number_is_refused(store, embedder, sample, threshold):
    store.enroll("Ann", [sample])
    vectors = embedder.many([sample])
    for use in (
        lambda: wavconformer.verify(sample, sample, model=embedder, threshold=threshold),
        lambda: store.identify(sample, threshold=threshold),
        lambda: store.names(vectors, threshold=threshold),
        lambda: store.check(threshold),
    ):
        with pytest.raises(ValueError, match=f"threshold is {threshold}, but must be a finite number"):
            use()


# --- calibrate


def tones(folder, voices=4, takes=3):
    """Recordings of "voices" that even a model of random weights can tell apart: tones in noise."""
    import soundfile

    random = np.random.default_rng(0)
    for voice in range(voices):
        for take in range(takes):
            tone = np.sin(2 * np.pi * 300 * 2.5**voice * np.arange(RATE) / RATE)
            samples = tone + 0.05 * random.standard_normal(RATE)
            soundfile.write(folder / f"{voice}-{take}.wav", samples / np.abs(samples).max() * 0.5, RATE)
    names = [(voice, take) for voice in range(voices) for take in range(takes)]
    return [
        Trial(f"{a[0]}-{a[1]}.wav", f"{b[0]}-{b[1]}.wav", a[0] == b[0])
        for number, a in enumerate(names)
        for b in names[:number]
    ]


@pytest.mark.parametrize("has_cohort", [False, True])
def test_trials_give_a_threshold(embedder, tmp_path, has_cohort):
    trials = tones(tmp_path)
    (tmp_path / "trials.txt").write_text("".join(f"{int(one.target)} {one.enrolment} {one.test}\n" for one in trials))
    told = []
    report = wavconformer.calibrate(
        tmp_path / "trials.txt",
        model=embedder,
        p_target=0.3,
        cohort=sorted(tmp_path.glob("*-0.wav")) if has_cohort else (),
        top=3,
        progress=lambda done, total: told.append((done, total)),
    )
    count = 12 + 4 * has_cohort
    assert told == [(number, count) for number in range(1, count + 1)]
    assert (report.scores.targets, report.scores.nontargets, report.recordings) == (12, 54, count)
    assert report.calibration.model == embedder.name
    assert (report.calibration.cohort is not None) is has_cohort
    assert report.scores.eer < 0.35
    assert report.scores.costs[0].value <= report.actual_cost + 1e-9 <= 1.2
    assert 0 < report.llr_cost < 1
    same = wavconformer.calibrate(trials, model=embedder, folder=tmp_path, p_target=0.3)
    if not has_cohort:
        assert same.calibration.threshold == pytest.approx(report.calibration.threshold, abs=1e-4)
    verdicts = [
        wavconformer.verify(
            tmp_path / one.enrolment, tmp_path / one.test, model=embedder, calibration=report.calibration
        ).is_same
        == one.target
        for one in trials[::6]
    ]
    assert np.mean(verdicts) > 0.6


def test_trials_that_cannot_be_used_are_refused(embedder, tmp_path):
    with pytest.raises(DataError, match="no trials to calibrate"):
        wavconformer.calibrate([], model=embedder)
    with pytest.raises(AudioError, match=r"missing\.wav"):
        wavconformer.calibrate([Trial("missing.wav", "missing.wav", True)], model=embedder, folder=tmp_path)
    with pytest.raises(ValueError, match=r"the costs inf and 1\.0 above 0, and be finite"):
        wavconformer.calibrate([Trial("a.wav", "b.wav", True)], model=embedder, c_miss=float("inf"))


# --- the store


@pytest.mark.parametrize(
    ("name", "sources", "message"),
    [
        ("Ann", "ann.wav", "sources is a list of recordings"),
        ("Ann", [], "without a recording"),
        (" ", ["missing.wav"], "no name of a speaker"),
    ],
)
def test_an_enrolment_that_cannot_be_leaves_no_store(store, tmp_path, name, sources, message):
    with pytest.raises((TypeError, ValueError), match=message):
        store.enroll(name, sources)
    assert not (tmp_path / "voices.db").exists()


def test_vectors_that_are_no_numbers_are_not_kept(store, embedder):
    with pytest.raises(ValueError, match="The vectors of 'Ann' hold NaN"):
        store.add("Ann", np.full((1, embedder.size), np.nan, np.float32))
    with pytest.raises(DataError, match="no store of voices"):
        store.speakers()


@pytest.fixture
def store(embedder, tmp_path):
    with SpeakerStore(tmp_path / "voices.db", model=embedder, calibration=known(embedder)) as opened:
        yield opened


def test_people_are_known_again(store, embedder):
    a, b, c, *_ = samples()
    assert store.enroll("Ann", [a, b]) == 2
    assert store.enroll("Bob", [c]) == 1
    assert store.enroll("Bob", [a]) == 2
    vectors = embedder.many([a, b, c])
    means = {"Ann": vectors[:2].sum(0), "Bob": vectors[[0, 2]].sum(0)}
    scores = {name: float(mean / np.linalg.norm(mean) @ vectors[2]) for name, mean in means.items()}
    found = store.identify(c, threshold=0.0)
    assert found.name == max(scores, key=scores.__getitem__)
    assert {match.name: match.score for match in found.candidates} == pytest.approx(scores, abs=1e-5)
    assert found.score == found.candidates[0].score
    nobody = store.identify(c, threshold=1.01, top=1)
    assert nobody.name is None and len(nobody.candidates) == 1 and nobody.threshold == 1.01
    assert [(voice.name, voice.recordings) for voice in store.speakers()] == [("Ann", 2), ("Bob", 2)]


def test_vectors_are_named_for_who_has_them(store, embedder):
    vectors = embedder.many(samples()[:2])
    store.add("Ann", vectors[0])
    store.add("Bob", vectors[1:], ["b.wav"])
    opposite = -vectors[:1]
    found = store.names(np.concatenate([vectors, opposite]), threshold=0.999)
    assert [match and match.name for match in found] == ["Ann", "Bob", None]
    assert found[0].score == pytest.approx(1.0, abs=1e-5)
    assert [match is None for match in store.names(opposite)] == [True]  # by the calibration's threshold
    with pytest.raises(ValueError, match="have 24 numbers, not 3"):
        store.names(np.ones((1, 3), np.float32))


def test_more_voices_ask_for_a_higher_score(store, embedder, sample):
    vectors = embedder.many(samples()[:4])
    thresholds = []
    for name, vector in zip("ABCD", vectors, strict=True):
        store.add(name, vector)
        thresholds.append(store.identify(sample).threshold)
    # Prior 1/2 parted among n: odds of 2n - 1 to 1 against each, over a scale of 20.
    assert thresholds == pytest.approx([0.5 + np.log(2 * n - 1) / 20 for n in (1, 2, 3, 4)])


def test_a_cohort_ranks_the_candidates_anew(embedder, tmp_path):
    a, b, *others = samples()
    cohort = Cohort(embedder.many(others), top=2)
    calibration = known(embedder, cohort=cohort)
    with SpeakerStore(tmp_path / "voices.db", model=embedder, calibration=calibration) as store:
        store.add("Ann", embedder(a))
        store.add("Bob", embedder(b))
        query = embedder(others[0])
        expected = {
            name: float(calibration.scores(embedder(source)[None], query[None])[0])
            for name, source in {"Ann": a, "Bob": b}.items()
        }
        found = store.identify(others[0], threshold=-100.0)
        assert {match.name: match.score for match in found.candidates} == pytest.approx(expected, rel=1e-3)
        assert found.name == max(expected, key=expected.__getitem__)
        store.remove("Ann")
        store.remove("Bob")
        assert store.names(query) == [None]


def test_a_recording_at_fault_enrols_none(store, tmp_path, sample):
    with pytest.raises(AudioError, match="is silent"):
        store.enroll("Ann", [sample, np.zeros(RATE, np.float32)])
    with pytest.raises(DataError, match="no store of voices"):
        store.speakers()
    assert not (tmp_path / "voices.db").exists()


def test_nobody_is_found_in_an_empty_store(store, sample):
    with pytest.raises(DataError, match=r"no store of voices at .*voices\.db"):
        store.identify(sample)
    store.enroll("Ann", [sample])
    store.remove("Ann")
    with pytest.raises(DataError, match=r"holds nobody: enrol somebody"):
        store.identify(sample)
    assert store.speakers() == []


def test_the_model_that_wrote_the_store_is_required(store, sample, make_speaker_model, tmp_path):
    store.enroll("Ann", [sample])
    other = Embedder.load(make_speaker_model(seed=1), device="cpu")
    with SpeakerStore(tmp_path / "voices.db", model=other) as refused:
        assert [voice.name for voice in refused.speakers()] == ["Ann"]  # names can be read with any model
        for use in (lambda: refused.identify(sample, threshold=0.5), lambda: refused.enroll("Bob", [sample])):
            with pytest.raises(DataError, match="another speaker model"):
                use()
        refused.rename("Ann", "Zoë")
    assert [voice.name for voice in store.speakers()] == ["Zoë"]


def test_without_a_threshold_nobody_can_be_named(embedder, tmp_path, sample):
    with SpeakerStore(tmp_path / "voices.db", model=embedder) as store:
        store.enroll("Ann", [sample])
        with pytest.raises(CheckpointError, match=r"no calibration\.json"):
            store.identify(sample)
        assert store.identify(sample, threshold=0.9).name == "Ann"
