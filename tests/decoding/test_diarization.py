from __future__ import annotations

import json

import pytest

from wavconformer import Diarization, SpeakerTurn, Transcript, Word, by_speaker
from wavconformer.decoding.transcript import segments


def spoken(*words: tuple[str, float, float]) -> Transcript:
    return Transcript.of(segments(Word(*word) for word in words), 10.0, ["a gap"])


TURNS = Diarization(
    (SpeakerTurn(0.0, 2.0, "ann"), SpeakerTurn(1.5, 4.0, "bob"), SpeakerTurn(7.0, 8.0, "ann")), 10.0, ("its end",)
)


def test_what_it_says():
    assert TURNS.speakers == ("ann", "bob")
    assert TURNS.seconds("ann") == 3.0 and TURNS.seconds("nobody") == 0.0
    assert str(TURNS).splitlines()[1] == "1.50–4.00 bob"
    plain = json.loads(json.dumps(TURNS.as_dict()))
    assert plain["speakers"] == [{"name": "ann", "seconds": 3.0}, {"name": "bob", "seconds": 2.5}]
    assert plain["turns"][0] == {"start": 0.0, "end": 2.0, "speaker": "ann"}
    assert plain["problems"] == ["its end"]
    assert "problems" not in Diarization((), 1.0).as_dict()


@pytest.mark.parametrize(
    ("start", "end", "speaker"),
    [
        (0.5, 1.0, "ann"),
        (1.4, 1.9, "ann"),  # in both, longer in this
        (1.6, 2.6, "bob"),
        (3.9, 4.5, "bob"),
        (4.8, 5.0, "bob"),  # in none, but near
        (5.2, 5.6, None),  # far from all
        (6.3, 6.5, "ann"),
        (9.5, 9.9, None),
    ],
)
def test_a_word_is_whose_turn_it_is_in(start, end, speaker):
    transcript = by_speaker(spoken(("WORD", start, end)), TURNS)
    assert transcript.words[0].speaker == speaker
    assert transcript.segments[0].speaker == speaker
    assert transcript.problems == ("a gap", "its end")


def test_in_overlap_it_is_of_who_spoke_before():
    both = Diarization((SpeakerTurn(0.0, 3.0, "ann"), SpeakerTurn(0.9, 5.0, "bob")), 5.0)
    words = by_speaker(spoken(("A", 0.0, 0.5), ("B", 1.0, 2.0), ("C", 3.5, 4.0), ("D", 4.1, 4.2)), both).words
    assert [word.speaker for word in words] == ["ann", "ann", "bob", "bob"]
    words = by_speaker(spoken(("A", 3.1, 3.4), ("B", 1.0, 2.0)), both).words
    assert [word.speaker for word in words] == ["bob", "bob"]


def test_segments_are_parted_where_the_speaker_changes():
    transcript = by_speaker(spoken(("A", 0.1, 0.4), ("B", 1.0, 1.2), ("C", 2.1, 2.5), ("D", 2.6, 3.0)), TURNS)
    assert [(part.text, part.speaker) for part in transcript.segments] == [("A B", "ann"), ("C D", "bob")]
    assert transcript.text == "A B C D" and transcript.turns == TURNS.turns
    plain = transcript.as_dict()
    assert plain["words"][2]["speaker"] == "bob" and plain["segments"][0]["speaker"] == "ann"
    assert plain["turns"][1] == {"start": 1.5, "end": 4.0, "speaker": "bob"}
    assert "speaker" not in spoken(("A", 0.1, 0.4)).as_dict()["words"][0]


def test_nobody_speaks():
    transcript = by_speaker(spoken(("A", 0.1, 0.4)), Diarization((), 10.0))
    assert transcript.words[0].speaker is None
    assert Diarization((), 10.0).as_transcript().text == ""
