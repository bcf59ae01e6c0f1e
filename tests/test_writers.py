"""Each format is read back by a library that others wrote."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import re
from html.parser import HTMLParser
from itertools import pairwise, zip_longest

import numpy as np
import pytest
import srt
import webvtt
from hypothesis import given, settings
from hypothesis import strategies as st
from praatio import textgrid

from wavconformer import (
    AudioError,
    Diarization,
    Segment,
    SpeakerTurn,
    Transcript,
    Word,
    by_speaker,
    load_audio,
    save_transcript,
)
from wavconformer.audio.peaks import peaks
from wavconformer.data.rttm import Turn, read_rttm
from wavconformer.decoding.transcript import segments
from wavconformer.writers import FORMATS, render
from wavconformer.writers.captions import GAP, LINE, LINES, LONGEST, SHORTEST, SPEED, captions
from wavconformer.writers.turns import render_diarization


@st.composite
def transcripts(draw) -> Transcript:
    """Words of any letters that vocabularies have, in order, with and without pauses."""
    alphabet = st.sampled_from(list("abzäß'’-\"&<>%语\\"))
    spoken, time = [], 0.0
    for text in draw(st.lists(st.text(alphabet, min_size=1, max_size=60), max_size=40)):
        time = round(time + draw(st.sampled_from([0.0, 0.02, 0.1, 0.5, 3.0])), 3)
        end = round(time + draw(st.sampled_from([0.02, 0.3, 1.0, 9.0])), 3)
        spoken.append(Word(text, time, end, draw(st.sampled_from([None, 0.0, 0.25, 1.0]))))
        time = end
    return Transcript.of(segments(spoken), time + 0.5)


WORDS = (Word("SET", 0.5, 0.75, 0.99), Word("A", 0.8, 0.82, 0.5), Word("<TIMER>", 2.0, 2.5, None))
TRANSCRIPT = Transcript.of(segments(WORDS), 3.0, ["its end is lost & gone"])
EMPTY = Transcript.of([], 2.0)


def test_formats_are_what_they_are_called():
    assert FORMATS == ("txt", "json", "srt", "vtt", "tsv", "ctm", "TextGrid", "html")
    with pytest.raises(ValueError, match="format is 'pdf', but must be one of txt, json"):
        render(TRANSCRIPT, "pdf")


def test_txt_and_json():
    assert render(TRANSCRIPT, "txt") == "SET A <TIMER>\n"
    content = json.loads(render(TRANSCRIPT, "json", name="a.wav"))
    assert content["file"] == "a.wav"
    assert content["words"][1] == {"text": "A", "start": 0.8, "end": 0.82, "probability": 0.5}
    assert content["segments"] == [
        {"text": "SET A", "start": 0.5, "end": 0.82},
        {"text": "<TIMER>", "start": 2.0, "end": 2.5},
    ]


# Subtitles


@settings(deadline=None)
@given(transcripts())
def test_captions_keep_to_the_limits(transcript):
    made = captions(transcript)
    letters = "".join(line for caption in made for line in caption.lines).replace(" ", "")
    assert letters == "".join(word.text for word in transcript.words).replace(" ", "")
    for caption, following in zip_longest(made, made[1:]):
        assert 1 <= len(caption.lines) <= LINES
        assert all(0 < len(line) <= LINE for line in caption.lines)
        assert 0 < caption.end - caption.start <= LONGEST + 1e-9
        if following is not None:
            assert caption.end <= following.start
            room = following.start - caption.start
        else:
            room = np.inf
        characters = sum(map(len, caption.lines))
        wanted = min(LONGEST, max(SHORTEST, characters / SPEED))
        assert caption.end - caption.start >= min(wanted, room - GAP) - 1e-9


def test_captions_part_at_pauses_and_have_even_lines():
    text = "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG AND RUNS AWAY INTO THE DEEP DARK WOODS WHERE NOBODY LIVES"
    spoken = [
        Word(word, 0.3 * number + 0.7 * (number >= 9), 0.3 * number + 0.7 * (number >= 9) + 0.25)
        for number, word in enumerate(text.split())
    ]
    made = captions(Transcript.of([Segment.of(spoken)], 10.0))
    assert [caption.lines for caption in made] == [
        ("THE QUICK BROWN FOX", "JUMPS OVER THE LAZY DOG"),
        ("AND RUNS AWAY INTO THE DEEP", "DARK WOODS WHERE NOBODY LIVES"),
    ]


def test_a_word_longer_than_a_line_is_parted():
    """As a vocabulary without a delimiter makes them: all of a sentence is one word."""
    text = "语" * 100
    made = captions(Transcript.of([Segment.of([Word(text, 1.0, 11.0)])], 12.0))
    assert [caption.lines for caption in made] == [("语" * 34,), ("语" * 34, "语" * 32)]
    assert made[1].start == pytest.approx(4.4)


@settings(deadline=None)
@given(transcripts())
def test_srt_is_read_by_srt(transcript):
    made = captions(transcript)
    found = list(srt.parse(render(transcript, "srt")))
    assert [entry.index for entry in found] == list(range(1, len(made) + 1))
    assert [entry.content for entry in found] == ["\n".join(caption.lines) for caption in made]
    assert [entry.start.total_seconds() for entry in found] == pytest.approx([each.start for each in made], abs=6e-4)
    assert [entry.end.total_seconds() for entry in found] == pytest.approx([each.end for each in made], abs=6e-4)


@settings(deadline=None)
@given(transcripts())
def test_vtt_is_read_by_webvtt(transcript):
    made = captions(transcript)
    found = list(webvtt.from_string(render(transcript, "vtt")))
    assert [seconds(entry.start) for entry in found] == pytest.approx([each.start for each in made], abs=6e-4)
    assert [seconds(entry.end) for entry in found] == pytest.approx([each.end for each in made], abs=6e-4)
    assert [html.unescape(entry.text) for entry in found] == ["\n".join(caption.lines) for caption in made]


def seconds(clock: str) -> float:
    hours, minutes, rest = clock.split(":")
    return 3_600 * int(hours) + 60 * int(minutes) + float(rest)


def test_the_clock_has_hours():
    late = Transcript.of(segments([Word("LATE", 7_199.9996, 7_201.25)]), 7_300)
    assert "02:00:00,000 --> 02:00:01,500\n" in render(late, "srt")
    assert "02:00:00.000 --> 02:00:01.500\n" in render(late, "vtt")


# Tables and TextGrid


@settings(deadline=None)
@given(transcripts())
def test_tsv_is_read_by_csv(transcript):
    table = render(transcript, "tsv")
    rows = list(csv.DictReader(io.StringIO(table), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [row["word"] for row in rows] == [word.text for word in transcript.words]
    assert [float(row["start"]) for row in rows] == [word.start for word in transcript.words]
    assert [row["probability"] and float(row["probability"]) for row in rows] == [
        "" if word.probability is None else word.probability for word in transcript.words
    ]
    assert [int(row["segment"]) for row in rows] == sorted(int(row["segment"]) for row in rows)


def test_ctm_is_read_by_lhotse(tmp_path):
    from lhotse import SupervisionSegment, SupervisionSet

    save_transcript(TRANSCRIPT, tmp_path / "a b.ctm")
    whole = SupervisionSegment("one", "a_b", 0.0, 3.0, channel=1)
    (read,) = SupervisionSet.from_segments([whole]).with_alignment_from_ctm(tmp_path / "a b.ctm")
    items = read.alignment["word"]
    assert [item.symbol for item in items] == [word.text for word in WORDS]
    assert [item.start for item in items] == pytest.approx([word.start for word in WORDS])
    assert [item.end for item in items] == pytest.approx([word.end for word in WORDS])
    assert [item.score for item in items] == [0.99, 0.5, None]
    assert render(EMPTY, "ctm") == ""


@settings(deadline=None, max_examples=40)
@given(transcript=transcripts())
def test_textgrid_is_read_by_praatio(transcript, tmp_path_factory):
    path = tmp_path_factory.mktemp("grid") / "a.TextGrid"
    save_transcript(transcript, path)
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=True, reportingMode="error")
    assert grid.tierNames == ("segments", "words")
    entries = grid.getTier("words").entries
    assert [entry.label for entry in entries if entry.label] == [word.text for word in transcript.words]
    assert [entry.start for entry in entries if entry.label] == pytest.approx([word.start for word in transcript.words])
    assert entries[0].start == 0
    assert entries[-1].end == pytest.approx(transcript.duration)
    assert all(one.end == other.start for one, other in pairwise(entries))


# Who speaks

TURNS = (SpeakerTurn(0.2, 0.9, "ann & co"), SpeakerTurn(0.5, 2.8, "<bob>"))
TALK = by_speaker(TRANSCRIPT, Diarization(TURNS, 3.0))


def test_words_by_speaker_in_each_format():
    assert render(TALK, "txt") == "ann & co: SET A\n<bob>: <TIMER>\n"
    assert json.loads(render(TALK, "json"))["words"][2]["speaker"] == "<bob>"
    assert [one.content for one in srt.parse(render(TALK, "srt"))] == ["[ann & co] SET A", "[<bob>] <TIMER>"]
    captions_ = webvtt.from_buffer(io.StringIO(render(TALK, "vtt"))).captions
    assert [html.unescape(one.voice) for one in captions_] == ["ann & co", "<bob>"]
    assert html.unescape(captions_[1].text) == "<TIMER>"
    rows = list(csv.DictReader(io.StringIO(render(TALK, "tsv")), delimiter="\t"))
    assert [row["speaker"] for row in rows] == ["ann & co", "ann & co", "<bob>"]
    nobody = by_speaker(TRANSCRIPT, Diarization((SpeakerTurn(0.2, 0.9, "ann"),), 3.0))
    assert render(nobody, "txt") == "ann: SET A\n?: <TIMER>\n"
    assert render(nobody, "tsv").splitlines()[-1].endswith("\t")


def test_turns_in_each_format(tmp_path, sample):
    diarization = Diarization(TURNS, 3.0, ("its end",))
    assert render_diarization(diarization, "txt") == "0.20\t0.90\tann & co\n0.50\t2.80\t<bob>\n"
    content = json.loads(render_diarization(diarization, "json", name="a.wav"))
    assert content["file"] == "a.wav" and content["turns"][0] == {"start": 0.2, "end": 0.9, "speaker": "ann & co"}
    (tmp_path / "a.rttm").write_text(render_diarization(diarization, "rttm", name="some/long talk.wav"))
    assert read_rttm(tmp_path / "a.rttm") == [
        Turn("long_talk", 0.2, pytest.approx(0.9), "ann_&_co"),
        Turn("long_talk", 0.5, pytest.approx(2.8), "<bob>"),
    ]
    page = Page(render_diarization(diarization, "html", name="talk", audio=sample))
    assert page.data["turns"] == [[0.2, 0.9, "ann & co"], [0.5, 2.8, "<bob>"]] and page.data["segments"] == []
    assert len(page.addresses) == 1
    with pytest.raises(ValueError, match="format is 'srt', but must be one of txt, json, rttm, html"):
        render_diarization(diarization, "srt")


def test_the_page_has_the_speakers():
    page = Page(render(TALK, "html"))
    assert page.data["speakers"] == ["ann & co", "<bob>"]
    assert page.data["turns"][1] == [0.5, 2.8, "<bob>"]
    assert Page(render(TRANSCRIPT, "html")).data["speakers"] == [None, None]


# The page


class Page(HTMLParser):
    """Everything in a page that could ask for something, and its data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.name = ""
        self.texts: dict[str, str] = {}
        self.feed(text)
        self.data = json.loads(self.texts["data"])

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.addresses += [given[name] for name in ("src", "href", "action", "poster") if given.get(name)]
        self.name = given.get("id") or tag

    def handle_data(self, data):
        self.texts[self.name] = self.texts.get(self.name, "") + data


def test_the_page_has_all_in_it(sample):
    transcript = Transcript.of(segments(WORDS), 2.72, ["its end is lost & gone"])
    text = render(transcript, "html", name="some/<timer>.flac", audio=sample)
    page = Page(text)
    (address,) = page.addresses
    head, _, content = address.partition(",")
    assert head == "data:audio/flac;base64"
    assert base64.b64decode(content) == sample.read_bytes()
    assert page.data["segments"][1] == [["<TIMER>", 2.0, 2.5, None]]
    assert len(base64.b64decode(page.data["peaks"])) == -(-len(load_audio(sample)) // 320)
    assert page.texts["title"].strip() == "<timer>.flac"
    assert "its end is lost &amp; gone" in text
    assert not re.search(r"https?://", text)
    assert "{{" not in text


def test_the_page_refers_to_what_is_large(sample, tmp_path):
    (tmp_path / "talk & more.flac").write_bytes(sample.read_bytes())
    path = save_transcript(TRANSCRIPT, tmp_path / "pages" / "a.html", audio=tmp_path / "talk & more.flac", embed=False)
    (address,) = Page(path.read_text(encoding="utf-8")).addresses
    assert address == "../talk%20%26%20more.flac"
    page = Page(render(TRANSCRIPT, "html", audio=sample.read_bytes()))
    assert page.addresses[0].startswith("data:audio/*;base64,")
    assert not Page(render(EMPTY, "html")).addresses
    with pytest.raises(ValueError, match="embed=False needs the recording's path"):
        render(TRANSCRIPT, "html", audio=sample.read_bytes(), embed=False)
    with pytest.raises(AudioError, match="no such file"):
        render(TRANSCRIPT, "html", audio=tmp_path / "missing.wav")


def test_peaks_are_the_loudest_of_each_stretch():
    audio = np.array([0.1, -0.5, 0.2, 0.25, 0.0], np.float32)
    assert peaks([audio], 2).tolist() == [255, 128, 0]
    assert peaks([audio[:1], audio[1:2], audio[2:]], 2).tolist() == [255, 128, 0]
    assert peaks([], 2).tolist() == []
    assert peaks([np.zeros(4, np.float32)], 2).tolist() == [0, 0]


def test_saving_names_the_format_by_the_suffix(tmp_path):
    for name in FORMATS:
        path = save_transcript(EMPTY, tmp_path / f"talk.{name}")
        assert path.read_text(encoding="utf-8") == render(EMPTY, name, name="talk", folder=tmp_path)
    with pytest.raises(ValueError, match="format is 'doc'"):
        save_transcript(EMPTY, tmp_path / "talk.doc")
