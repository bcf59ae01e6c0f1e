from __future__ import annotations

import builtins

import numpy as np
import pytest

from wavconformer import WavConformerError
from wavconformer.decoding import clusters
from wavconformer.decoding.clusters import Voices, assign, group, unit


def voices_of(rows, *, seconds=None, windows=None, spans=None) -> Voices:
    count = len(rows)
    return Voices(
        unit(np.asarray(rows, np.float32)),
        np.full(count, 2.0, np.float32) if seconds is None else np.array(seconds, np.float32),
        np.arange(count) if windows is None else np.array(windows),
        np.tile([0, 9], (count, 1)) if spans is None else np.array(spans),
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
    np.testing.assert_allclose(speakers[labels[0]], unit(unit(np.array(X)) + unit(np.array(NEAR_X))), atol=1e-6)


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


def test_those_who_are_heard_at_once_are_different_people():
    speakers = np.eye(3, dtype=np.float32)[:2]
    both = [[0, 5], [4, 9]]
    assert assign(voices_of([X, NEAR_X], windows=[0, 0], spans=both), speakers).tolist() == [0, 1]
    # The one with more sound chooses first.
    assert assign(voices_of([X, NEAR_X], windows=[0, 0], spans=both, seconds=[1, 2]), speakers).tolist() == [1, 0]
    assert assign(voices_of([X, NEAR_X], windows=[0, 1], spans=both), speakers).tolist() == [0, 0]
    assert assign(voices_of([X, NEAR_X], windows=[0, 0], spans=[[0, 4], [4, 9]]), speakers).tolist() == [0, 0]
    # More than there are speakers share them.
    assert assign(voices_of([X, NEAR_X, Y], windows=[0, 0, 0]), speakers[:1]).tolist() == [0, 0, 0]


def test_little_sound_founds_no_speaker_but_joins_one():
    voices = voices_of([X, NEAR_X, Y], seconds=[3, 3, 0.4])
    assert len(group(voices, 0.5)) == 2
    assert len(group(voices, 0.5, clear=1.0)) == 1
    assert len(group(voices, 0.5, small=1.0)) == 1
    assert len(group(voices, 0.5, 2, small=1.0)) == 2  # unless so many are asked for
    assert len(group(voices_of([X, Y], seconds=[0.1, 0.2]), 0.5, clear=1.0)) == 2  # there are no others
    np.testing.assert_allclose(group(voices_of([X, Y], seconds=[0.1, 0.2]), 0.5, small=1.0), [Y], atol=1e-6)


def test_many_voices_are_grouped_by_some_from_all_parts(monkeypatch, random):
    monkeypatch.setattr(clusters, "MOST", 20)
    centres = np.repeat(np.eye(3), [40, 40, 8], axis=0)  # the last one speaks at the end, and little
    voices = voices_of(centres + 0.05 * random.standard_normal(centres.shape))
    for small in (0.0, 3.0):
        labels = assign(voices, group(voices, 0.5, small=small))
        assert [len(set(labels[part])) for part in (slice(0, 40), slice(40, 80), slice(80, 88))] == [1, 1, 1]
        assert len(set(labels)) == 3
    assert len(group(voices, 0.5, small=6.0)) == 2


def test_a_few_pieces_of_hours_are_no_speaker(random):
    centres = np.repeat(np.eye(3), [500, 500, 4], axis=0)
    assert len(group(voices_of(centres), 0.5, small=3.0)) == 2
    assert len(group(voices_of(centres), 0.5, 3, small=3.0)) == 3  # but where so many are asked for
    assert len(group(voices_of(centres[250:750:50].tolist() + centres[-4:].tolist()), 0.5, small=3.0)) == 3


def test_as_scikit_learn_groups(random):
    from sklearn.cluster import AgglomerativeClustering

    rows = random.standard_normal((40, 5)) + 3 * np.eye(5)[random.integers(5, size=40)]
    voices = voices_of(rows)
    for threshold in (0.1, 0.3, 0.6):
        labels = clusters._cut(
            clusters._links(voices.vectors),
            40 - int(np.searchsorted(clusters._links(voices.vectors)[:, 2], threshold)),
        )
        other = AgglomerativeClustering(
            None, metric="cosine", linkage="average", distance_threshold=threshold
        ).fit_predict(voices.vectors)
        assert len({*zip(labels.tolist(), other.tolist(), strict=True)}) == len({*labels.tolist()}) == other.max() + 1


def test_without_scipy_the_message_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments):
        if name.startswith("scipy"):
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(WavConformerError, match=r"wavconformer\[diarize\]"):
        group(voices_of([X, Y]), 0.5)
