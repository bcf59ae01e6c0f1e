from __future__ import annotations

import builtins

import numpy as np
import pytest

from wavconformer import WavConformerError
from wavconformer.decoding import clusters
from wavconformer.decoding.clusters import APART, Voices, assign, group, ties_between


def unit(rows) -> np.ndarray:
    vectors = np.asarray(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def voices_of(rows, *, seconds=None, windows=None, ties=None) -> Voices:
    count = len(rows)
    return Voices(
        unit(rows),
        np.full(count, 2.0, np.float32) if seconds is None else np.array(seconds, np.float32),
        np.arange(count) if windows is None else np.array(windows),
        ties or {},
    )


X, Y, Z = [1, 0, 0], [0, 1, 0], [0, 0, 1]
NEAR_X, NEAR_Y = [1, 0.1, 0], [0, 1, 0.1]


def test_voices_that_are_near_are_one_speaker():
    voices = voices_of([X, Y, NEAR_X, NEAR_Y])
    speakers = group(voices, 0.5)
    assert speakers.shape == (2, 3)
    np.testing.assert_allclose(np.linalg.norm(speakers, axis=1), 1, atol=1e-6)
    labels = assign(voices, speakers)
    assert labels[0] == labels[2] != labels[1] == labels[3]
    np.testing.assert_allclose(speakers[labels[0]], unit([unit([X])[0] + unit([NEAR_X])[0]])[0], atol=1e-6)


def test_the_number_of_speakers_can_be_given():
    voices = voices_of([X, Y, NEAR_X, NEAR_Y, Z])
    assert len(group(voices, 0.5)) == 3
    assert len(group(voices, 0.5, 2, 2)) == 2
    assert len(group(voices, 0.5, most=1)) == 1
    assert len(group(voices, 0.5, 4)) == 4
    assert len(group(voices, 0.0)) == 5
    assert len(group(voices, 2.0)) == 1
    assert len(group(voices, 0.5, 9)) == 5  # no more than there are voices


def test_nobody_and_one_voice():
    assert group(voices_of(np.zeros((0, 3))), 0.5).shape == (0, 3)
    alone = voices_of([X])
    assert group(alone, 0.5, 3).tolist() == [X]
    assert assign(alone, group(alone, 0.5)).tolist() == [0]


def test_voices_of_one_window_are_different_people():
    voices = voices_of([X, NEAR_X, Y], windows=[0, 0, 1])
    assert len(group(voices_of([X, NEAR_X, Y]), 0.5)) == 2
    speakers = group(voices, 0.5)
    assert len(speakers) == 3
    assert len(set(assign(voices, speakers).tolist())) == 3
    # Two of one window do not share a speaker while there is another, even if both are nearest to one.
    assert sorted(assign(voices, unit([X, Y])).tolist()[:2]) == [0, 1]
    assert assign(voices, unit([X])).tolist() == [0, 0, 0]


def test_ties_stand_over_distances():
    rows = [X, Y, NEAR_X]
    assert len(group(voices_of(rows, ties={(0, 1): 0.0, (1, 2): 0.0}), 0.5)) == 1
    assert len(group(voices_of(rows, ties={(0, 2): APART}), 0.5)) == 3


def test_little_sound_founds_no_speaker_but_joins_one():
    voices = voices_of([X, NEAR_X, Y], seconds=[3, 3, 0.4])
    assert len(group(voices, 0.5)) == 2
    assert len(group(voices, 0.5, clear=1.0)) == 1
    assert len(group(voices, 0.5, small=1.0)) == 1
    assert len(group(voices, 0.5, 2, small=1.0)) == 2  # unless so many are asked for
    assert len(group(voices_of([X, Y], seconds=[0.1, 0.2]), 0.5, clear=1.0)) == 2  # there are no others
    np.testing.assert_allclose(group(voices_of([X, Y], seconds=[0.1, 0.2]), 0.5, small=1.0), [Y], atol=1e-6)


def test_many_voices_are_grouped_by_those_with_most_sound(monkeypatch, random):
    monkeypatch.setattr(clusters, "MOST", 10)
    centres = np.eye(3)
    rows = [centres[number % 3] + 0.05 * random.standard_normal(3) for number in range(60)]
    voices = voices_of(rows, seconds=random.uniform(1, 3, 60))
    speakers = group(voices, 0.5)
    labels = assign(voices, speakers)
    assert len(speakers) == 3
    assert all(len(set(labels[first::3])) == 1 for first in range(3)) and len(set(labels[:3])) == 3


def test_as_scikit_learn_groups(random):
    from sklearn.cluster import AgglomerativeClustering

    rows = random.standard_normal((40, 5)) + 3 * np.eye(5)[random.integers(5, size=40)]
    voices = voices_of(rows)
    for threshold in (0.1, 0.3, 0.6):
        labels = clusters._cut(
            clusters._links(voices, np.arange(40)),
            40 - int(np.searchsorted(clusters._links(voices, np.arange(40))[:, 2], threshold)),
        )
        other = AgglomerativeClustering(
            None, metric="cosine", linkage="average", distance_threshold=threshold
        ).fit_predict(voices.vectors)
        assert len({*zip(labels.tolist(), other.tolist(), strict=True)}) == len({*labels.tolist()}) == other.max() + 1


def test_what_two_windows_share_tells_who_is_the_same():
    one = np.zeros((10, 2), bool)
    one[:6, 0] = one[6:, 1] = True
    same = one[:, ::-1]
    assert ties_between(one, same, [0, 1], [2, 3], least=2) == {(0, 3): 0.0, (1, 2): 0.0, (0, 2): APART, (1, 3): APART}
    assert ties_between(one, same, [0, None], [2, 3], least=5) == {(0, 3): 0.0}
    half = one.copy()
    half[:, 0] = True
    assert ties_between(one, half, [0, None], [2, None], least=2) == {(0, 2): 0.0}
    half[:3, 0] = False
    assert (0, 2) not in ties_between(one, half, [0, None], [2, None], least=2)


def test_without_scipy_the_message_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments):
        if name.startswith("scipy"):
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(WavConformerError, match=r"wavconformer\[diarize\]"):
        group(voices_of([X, Y]), 0.5)
