from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import wavconformer
from wavconformer import AudioError, CheckpointError, DataError, Transcriber, align, load_audio
from wavconformer.audio.windows import Cutting
from wavconformer.checkpoint.onnx_graph import OnnxModel
from wavconformer.decoding.alignment import AlignedLine, AlignedWord, Alignment
from wavconformer.tasks.align import THRESHOLD, as_transcript, read_lines, render_alignment
from wavconformer.tasks.hearing import hear

RATE = 16_000
ENERGY = Cutting(vad="energy")


@pytest.fixture(scope="module")
def joined(sample_texts):
    """The samples with a second of faint noise before each: samples, texts, seconds that each begins at."""
    random = np.random.default_rng(0)
    parts, starts, length = [], [], 0
    paths = [path for path in sample_texts if "weather" not in path]
    for path in paths:
        pause = random.standard_normal(RATE).astype(np.float32) * 1e-4
        starts.append((length + len(pause)) / RATE)
        parts += [pause, load_audio(path)]
        length += len(pause) + len(parts[-1])
    return np.concatenate(parts), [sample_texts[path] for path in paths], starts, paths


@pytest.fixture(scope="module")
def alignment(joined, transcriber):
    samples, texts, _, _ = joined
    return align(samples, [text.capitalize() + "." for text in texts], model=transcriber, sampling_rate=RATE)


def test_every_line_is_found_where_it_was_joined(alignment, joined):
    samples, texts, starts, _ = joined
    assert alignment.duration == pytest.approx(len(samples) / RATE, abs=0.001)
    assert [line.text for line in alignment.lines] == [text.capitalize() + "." for text in texts]
    assert alignment.untranscribed == ()
    assert alignment.score > 0.5
    for line, start in zip(alignment.lines, starts, strict=True):
        assert line.score > THRESHOLD
        assert line.start == pytest.approx(start, abs=0.3)


def test_words_are_where_they_are_in_the_sample_alone(alignment, joined, transcriber):
    _, texts, starts, paths = joined
    errors = []
    for line, text, start, path in zip(alignment.lines, texts, starts, paths, strict=True):
        alone = align(path, text, model=transcriber).words
        errors += [abs(word.start - other.start - start) for word, other in zip(line.words, alone, strict=True)]
    assert np.median(errors) <= 0.04


def test_words_are_where_the_transcript_has_them(transcriber, sample):
    transcript = transcriber(sample)
    alignment = align(sample, transcript.text, model=transcriber)
    assert [(word.text, word.start) for word in alignment.words] == [
        (word.text, pytest.approx(word.start, abs=0.021)) for word in transcript.words
    ]
    assert alignment.score == pytest.approx(1.0, abs=0.01)
    assert alignment.is_optimal


def test_a_foreign_text_and_speech_without_text(transcriber, joined, sample):
    samples, texts, starts, _ = joined
    foreign = align(sample, "PLAY SOME MUSIC BY MOZART", model=transcriber)
    assert foreign.score < THRESHOLD
    part = align(samples, [texts[0], texts[3]], model=transcriber, sampling_rate=RATE)
    for number in (1, 2, 4):
        middle = starts[number] + 1.0
        assert any(stretch.start < middle < stretch.end for stretch in part.untranscribed)
    for number in (0, 3):
        middle = starts[number] + 1.0
        assert not any(stretch.start < middle < stretch.end for stretch in part.untranscribed)


def test_every_kind_of_text_gives_the_same(transcriber, sample, tmp_path):
    lines = ["Set a timer", "for twenty three seconds"]
    expected = align(sample, lines, model=transcriber)
    path = tmp_path / "text.txt"
    path.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    for text in ("\n".join(lines), path):
        assert align(sample, text, model=transcriber) == expected
    with_empty = align(sample, "\n" + "\n\n* * *\n".join(lines), model=transcriber)
    assert [line.number for line in with_empty.lines] == [2, 5]
    assert with_empty.words == expected.words


def test_a_model_by_its_name(sample):
    assert align(sample, "SET A TIMER", device="cpu", model="tiny-en").words[0].text == "SET"


def test_a_number_is_read_out(transcriber, sample):
    alignment = align(sample, "Set a timer for 23 seconds", model=transcriber, language="en")
    spoken = align(sample, "Set a timer for twenty three seconds", model=transcriber)
    assert alignment.words[4].start == spoken.words[4].start
    assert alignment.words[4].end == spoken.words[5].end
    assert alignment.words[5].start == spoken.words[6].start


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "The text is empty"),
        (" \n\n", "The text is empty"),
        ("漢字 123", "The text has no letter that tiny-en can spell"),
        ("...", "The text has no letter"),
    ],
)
def test_a_text_without_anything_to_find(transcriber, sample, text, message):
    with pytest.raises(DataError, match=message):
        align(sample, text, model=transcriber)


def test_a_file_of_text_that_is_none(transcriber, sample, tmp_path):
    with pytest.raises(DataError, match=r"text '.*missing.txt' can't be read: No such file"):
        read_lines(tmp_path / "missing.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"latin.txt' isn't in UTF-8 \(at byte 3\): convert it"):
        read_lines(tmp_path / "latin.txt")
    (tmp_path / "empty.txt").touch()
    with pytest.raises(DataError, match=r"text '.*empty.txt' is empty"):
        align(sample, tmp_path / "empty.txt", model=transcriber)


def test_the_name_of_a_file_is_no_text(tmp_path):
    (tmp_path / "talk.txt").write_text("set a timer")
    with pytest.raises(ValueError, match=r"is the name of a file: give pathlib.Path\('.*talk.txt'\)"):
        read_lines(str(tmp_path / "talk.txt"))
    assert read_lines(str(tmp_path / "none.txt")) == [str(tmp_path / "none.txt")]


def test_audio_too_short_for_its_text(transcriber):
    noise = np.random.default_rng(0).standard_normal(RATE // 10).astype(np.float32)
    with pytest.raises(AudioError, match=r"is 0\.1 s long, too short for 50 lines"):
        align(noise, 50 * ["A LINE"], model=transcriber, sampling_rate=RATE)
    least = transcriber.model.config.receptive_field / RATE * 1000
    with pytest.raises(AudioError, match=rf"is 12\.5 ms long, but the model needs at least {least:.0f} ms"):
        align(noise[:200], "A LINE", model=transcriber, sampling_rate=RATE)


def test_silence_has_none_of_it(transcriber):
    alignment = align(np.zeros(5 * RATE, np.float32), ["ONE TWO", "THREE"], model=transcriber, sampling_rate=RATE)
    assert alignment.score == 0.0
    assert all(line.is_interpolated for line in alignment.lines)


def test_a_recording_that_can_not_be_read_to_its_end(transcriber, joined):
    samples = joined[0].copy()
    samples[8 * RATE] = np.nan
    with pytest.raises(AudioError, match=r"at 8\.000 s a sample is NaN"):
        align(samples, "SET AN ALARM", model=transcriber, sampling_rate=RATE)


def test_a_broken_model(sample):
    broken = wavconformer.load_model(device="cpu")
    with torch.no_grad():
        broken.model.lm_head.bias[3] = torch.nan
    with pytest.raises(CheckpointError, match="tiny-en gives NaN or infinite scores"):
        align(sample, "SET A TIMER", model=broken)


# --- hearing


def test_pauses_that_nobody_hears_are_blank(transcriber, joined):
    samples, _, starts, _ = joined
    labels = (0, 4, *range(5, 12))
    told: list[float] = []
    evidence = hear(transcriber, samples, labels, 4, sampling_rate=RATE, cutting=ENERGY, progress=told.append)
    hop = transcriber.model.config.hop_length
    assert len(evidence) == len(samples) // hop
    assert evidence.costs.shape == (len(evidence), len(labels))
    assert evidence.is_quiet.shape == (len(evidence),)
    assert evidence.duration == told[-1] == len(samples) / RATE
    assert told == sorted(told)
    assert len(told) > len(starts)
    assert (evidence.costs >= 0).all()
    for start in starts:
        pause = slice(round((start - 0.7) * RATE / hop), round((start - 0.3) * RATE / hop))
        assert (evidence.costs[pause] == [0.0, 0.0, *7 * [10.0]]).all()
        assert evidence.is_quiet[pause].all()
    assert evidence.is_quiet.mean() < 0.6


def test_without_pauses_windows_are_heard_as_the_whole_is(transcriber, joined):
    samples, *_ = joined
    labels = (0, 4, *range(5, 12))
    whole, parts = (
        hear(transcriber, samples, labels, sampling_rate=RATE, cutting=Cutting(window_seconds=seconds, vad="off"))
        for seconds in (60, 5.5)
    )
    assert len(parts) == len(whole)
    assert (whole.costs.argmin(-1) == parts.costs.argmin(-1)).mean() > 0.9


def test_costs_are_differences_of_logits(transcriber, sample):
    evidence = hear(transcriber, sample, (0, 9, 5), cutting=Cutting(vad="off"))
    inputs = transcriber.processor(load_audio(sample), sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        logits = transcriber.model(inputs.input_values).logits[0]
    expected = (logits.amax(-1, keepdim=True) - logits[:, [0, 9, 5]]).numpy()
    np.testing.assert_allclose(evidence.costs[: len(expected)], expected, atol=1e-3)
    assert 0 <= len(evidence) - len(expected) <= 2  # what is left at the end makes no frame
    hop = transcriber.model.config.hop_length
    assert (evidence.labels, evidence.seconds_per_frame) == ((0, 9, 5), hop / RATE)
    part = evidence.part(10, 20)
    assert len(part) == 10
    assert part.duration == pytest.approx(10 * hop / RATE)


@pytest.mark.parametrize("arguments", [{"window_seconds": 0}, {"context_seconds": -1}, {"vad": "ear"}])
def test_settings_that_make_no_windows(transcriber, sample, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        align(sample, "SET A TIMER", model=transcriber, **arguments)


class Graph(OnnxModel):
    """In place of ONNX Runtime, for which exporting would take its time: takes and gives what the engine does."""

    def __init__(self, model):
        self.model, self.config = model, model.config

    def __call__(self, input_values, attention_mask):
        with torch.no_grad():
            return self.model(torch.from_numpy(input_values), torch.from_numpy(attention_mask)).logits.numpy()


def test_a_graph_hears_the_same(transcriber, sample):
    graph = Transcriber(Graph(transcriber.model), transcriber.processor)
    expected = hear(transcriber, sample, (0, 4, 9))
    np.testing.assert_allclose(hear(graph, sample, (0, 4, 9)).costs, expected.costs, atol=1e-4)


# --- files


A, B = AlignedWord("A", 0.5, 0.6, 0.95, ()), AlignedWord("b", 1.0, 1.25, None, ())
C = AlignedWord("— c", 2.0, 2.0, 0.0, (), is_interpolated=True)
LINES = (AlignedLine(1, "A\tb", 0.5, 1.25, 0.9, (A, B)), AlignedLine(3, "c", 2.0, 2.0, None, (C,)))
MADE = Alignment(LINES, 0.9, (), 3.0, True)


def test_tables():
    assert render_alignment(MADE, "tsv", "x.wav").splitlines() == [
        "line\tstart\tend\tscore\ttext",
        "1\t0.500\t1.250\t0.900\tA b",
        "3\t2.000\t2.000\tNA\tc",
    ]
    assert render_alignment(MADE, "ctm", "my talk.wav").splitlines() == [
        "my_talk 1 0.500 0.100 A 0.9500",
        "my_talk 1 1.000 0.250 b",
        "my_talk 1 2.000 0.000 —_c 0.0000",
    ]
    with pytest.raises(ValueError, match="format is 'pdf', but must be one of"):
        render_alignment(MADE, "pdf", "x.wav")


def test_the_other_formats_have_the_lines_that_are_heard(alignment):
    left_out = AlignedLine(9, "never said", 1.0, 1.0, 0.0, (), is_interpolated=True)
    with_it = Alignment((*alignment.lines, left_out), 0.5, (), alignment.duration, True)
    transcript = as_transcript(with_it)
    assert [segment.text for segment in transcript.segments] == [line.text for line in alignment.lines]
    assert [(word.text, word.probability) for word in transcript.words] == [
        (word.text, word.score) for word in alignment.words
    ]
    for format in ("srt", "vtt", "TextGrid", "html", "txt"):
        made = render_alignment(with_it, format, "x.wav")
        assert "twenty" in made
        assert "never said" not in made


def test_json_is_all_there_is(alignment):
    content = json.loads(render_alignment(alignment, "json", "x.wav"))
    assert content["file"] == "x.wav"
    assert content["lines"][0]["words"][0]["characters"][0] == {
        "text": alignment.words[0].text[0],
        "start": alignment.words[0].start,
        "end": alignment.words[0].characters[0].end,
        "is_interpolated": False,
    }
    assert content.keys() == {"file", "lines", "score", "untranscribed", "duration", "is_optimal"}
