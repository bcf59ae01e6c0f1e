from __future__ import annotations

import io
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from wavconformer import (
    AudioError,
    CheckpointError,
    DataError,
    Wav2Vec2ConformerForSequenceClassification,
    WavConformerError,
    load_audio,
)
from wavconformer.cli.evaluate import Normalise
from wavconformer.evaluation import evaluate as module
from wavconformer.evaluation.data import Utterance
from wavconformer.evaluation.evaluate import evaluate
from wavconformer.evaluation.journal import Journal, fingerprint
from wavconformer.evaluation.run import Kind, Runner, load
from wavconformer.evaluation.terminal import watching
from wavconformer.files import ASSETS
from wavconformer.scoring.words import Normalisation


class Page(HTMLParser):
    """What a page asks for, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset", "action", "poster")]

    def handle_data(self, data):
        self.text += data


def words_of(folder):
    return json.loads((folder / "results.json").read_text())["scores"]


def test_the_command_says_prints_and_writes(run, manifest, tmp_path):
    code, out, err = run("--model", "tiny-en", "--data", manifest, "--output", tmp_path / "out", "--device", "cpu")
    assert code == 0
    scores = words_of(tmp_path / "out")
    texts = [line.split("\t")[1] for line in manifest.read_text().splitlines()[1:]]
    count = len(" ".join(texts).split())
    assert (scores["wer"]["errors"], scores["wer"]["length"], scores["utterances"]) == (1, count, 6)
    assert re.search(rf"all +6 +{count} +{100 / count:.2f}".replace(".", r"\."), out)
    assert "yesterday" in out
    assert [group["name"] for group in scores["groups"]] == ["b", "a"]
    assert str(tmp_path / "out" / "report.html") in err
    lines = (tmp_path / "out" / "hypotheses.jsonl").read_text().splitlines()
    assert len(lines) == 6


def test_a_batch_hears_what_each_recording_alone_gives(transcriber, sample_texts):
    runner = Runner("tiny-en", Kind.words, device="cpu")
    waveforms = [load_audio(path) for path in sample_texts]
    silence = np.zeros(8000, np.float32)
    assert runner([*waveforms, silence]) == [*(transcriber(path).text for path in sample_texts), ""]


def test_another_column_and_normalisation(run, manifest, tmp_path):
    out = tmp_path / "out"
    text = manifest.read_text().replace("YESTERDAY", "Yesterday.").replace("SET AN", "set an")
    manifest.write_text(text)
    arguments = ("--model", "tiny-en", "--data", manifest, "--output", out, "--by", "room", "--device", "cpu")
    assert run(*arguments, "--normalise", "none")[0] == 0
    strict = words_of(out)
    assert strict["wer"]["errors"] == 3
    assert [group["name"] for group in strict["groups"]] == ["room 0", "room 1"]
    assert run(*arguments)[0] == 0
    assert words_of(out)["wer"]["errors"] == 1
    code, _, said = run(*arguments[:-4], "--by", "rom")
    assert code == 1 and "No utterance has a column 'rom' to break scores down by. Did you mean room?" in said


def test_a_rerun_runs_nothing_that_is_done(run, manifest, tmp_path, monkeypatch):
    arguments = ("--model", "tiny-en", "--data", manifest, "--output", tmp_path / "out", "--device", "cpu")
    assert run(*arguments, "--limit", 2)[0] == 0
    batches = []
    real = Runner.__call__

    def counted(self, waveforms):
        batches.append(len(waveforms))
        return real(self, waveforms)

    monkeypatch.setattr(Runner, "__call__", counted)
    first = run(*arguments)
    assert sum(batches) == 4
    again = run(*arguments)
    assert sum(batches) == 4
    assert again == first
    assert len((tmp_path / "out" / "hypotheses.jsonl").read_text().splitlines()) == 6
    # Another model's outputs are another's.
    shutil.copytree(ASSETS / "tiny-en", tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps({**config, "note": "trained on"}))
    assert run("--model", tmp_path / "other", *arguments[2:])[0] == 0
    assert sum(batches) == 10


def test_a_language_model_and_hot_words_search_as_transcribe_does(run, sample_texts, hesitant, tmp_path):
    lines = [f"{path}\t{text}" for path, text in sample_texts.items()]
    (tmp_path / "data.tsv").write_text("\n".join(["audio\ttext", *lines]))
    arguments = ("--model", hesitant, "--data", tmp_path / "data.tsv", "--output", tmp_path / "out", "--device", "cpu")
    code, out, _ = run(*arguments)
    assert code == 0
    assert "decoding: greedy" in out
    assert json.loads((tmp_path / "out" / "results.json").read_text())["decoding"] == "greedy"
    greedy = words_of(tmp_path / "out")["wer"]["errors"]
    code, out, _ = run(*arguments, "--lm", "tiny-en")
    assert code == 0
    named = "language model tiny-en/language_model/lm.arpa.gz, alpha 0.7, beta 1.5"
    assert named in " ".join(out.split())
    assert f"Decoding: beam search of width 100, {named}." in Page(tmp_path / "out" / "report.html").text
    assert run(*arguments, "--lm", "tiny-en")[0] == 0  # what was found greedily isn't taken for this
    assert words_of(tmp_path / "out")["wer"]["errors"] < greedy
    journal = tmp_path / "out" / "hypotheses.jsonl"
    assert len(journal.read_text().splitlines()) == 12
    assert run(*arguments, "--lm", "tiny-en", "--alpha", "0.7")[0] == 0  # the same search: these are its own settings
    assert len(journal.read_text().splitlines()) == 12
    assert run(*arguments, "--beam", "20", "--hotword", "SECONDS")[0] == 0
    assert words_of(tmp_path / "out")["wer"]["errors"] < greedy
    assert len(journal.read_text().splitlines()) == 18


def test_what_a_checkpoint_decodes_with_is_not_taken_for_greedy(run, manifest, tmp_path):
    arguments = ("--model", "tiny-en", "--data", manifest, "--output", tmp_path / "out", "--device", "cpu")
    journal = tmp_path / "out" / "hypotheses.jsonl"
    for lines, more in ((6, ()), (12, ("--lm", "none")), (12, ("--lm", "tiny-en")), (12, ("--lm", "none"))):
        assert run(*arguments, *more)[0] == 0
        assert len(journal.read_text().splitlines()) == lines, more


def test_a_search_is_for_words(run, checkpoints, manifest):
    code, _, err = run("--model", checkpoints["classes"], "--data", manifest, "--lm", "tiny-en")
    assert code == 1 and "isn't searched for words: leave the language model and hot words out" in err
    assert run("--model", "tiny-en", "--data", manifest, "--lm", "none", "--alpha", "1")[0] == 2


def test_an_interruption_keeps_what_is_done(run, manifest, tmp_path, monkeypatch):
    arguments = ("--model", "tiny-en", "--data", manifest, "--output", tmp_path / "out", "--device", "cpu")
    real, calls = Runner.__call__, []

    def interrupted(self, waveforms):
        calls.append(len(waveforms))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, waveforms)

    monkeypatch.setattr(Runner, "__call__", interrupted)
    code, out, err = run(*arguments, "--batch-seconds", 4)
    assert (code, out) == (130, "")
    assert "The same command goes on" in err
    journal = tmp_path / "out" / "hypotheses.jsonl"
    kept = journal.read_text().splitlines()
    assert len(kept) == sum(calls[:2])
    with journal.open("a") as file:
        file.write('{"id": "audio/time')  # as a crash in the middle of a line leaves it
    assert run(*arguments)[0] == 0
    assert sum(calls[3:]) == 6 - len(kept)
    assert len([json.loads(line) for line in journal.read_text().splitlines()]) == 6


def test_an_unreadable_recording_is_counted_and_the_others_go_on(run, manifest, tmp_path):
    folder = manifest.parent / "audio"
    (folder / "timer.flac").write_bytes(b"garbage")
    (folder / "alarm.flac").unlink()
    code, out, err = run("--model", "tiny-en", "--data", manifest, "--output", tmp_path / "out", "--device", "cpu")
    assert code == 1
    assert re.search(r"all +4 ", out)
    assert "timer.flac" in err and "alarm.flac' : no such file" in err.replace("':", "' :")
    assert "2 could not be scored" in err
    failures = json.loads((tmp_path / "out" / "results.json").read_text())["failures"]
    assert sorted(failure["id"] for failure in failures) == ["audio/alarm", "audio/timer"]
    page = Page(tmp_path / "out" / "report.html")
    assert "Not scored: 2" in page.text
    assert "audio/timer.flac" in page.text


def test_nothing_that_can_be_scored_is_one_line(run, manifest):
    for path in (manifest.parent / "audio").iterdir():
        path.unlink()
    code, out, err = run("--model", "tiny-en", "--data", manifest, "--device", "cpu")
    assert (code, out) == (1, "")
    assert "None of 6 could be scored. The first:" in err


def test_the_page_asks_for_nothing_from_outside(run, manifest, tmp_path):
    manifest.write_text(
        manifest.read_text().replace("YESTERDAY", "<script>alert(1)</script>").replace("\tb\t", "\t<b>\t")
    )
    out = tmp_path / "out"
    run("--model", "tiny-en", "--data", manifest, "--output", out, "--normalise", "none", "--device", "cpu")
    page = Page(out / "report.html")
    assert "script" not in page.tags and "b" in page.tags  # the id of an utterance is bold
    assert "<script>alert(1)</script>" in page.text
    assert "<b>" in page.text
    assert page.tags.count("audio") == 1
    assert all(address.startswith("data:") for address in page.addresses)
    content = (out / "report.html").read_text()
    assert not re.search(r"https?:|url\(|@import", content)
    assert "prefers-color-scheme:dark" in content


def test_long_recordings_are_linked_and_parts_are_cut(run, manifest, tmp_path, monkeypatch):
    manifest.write_text("audio\ttext\tstart\tend\naudio/timer.flac\tNO\t\t\naudio/timer.flac\tNOT THIS\t0.5\t1.5\n")
    out = tmp_path / "out put"
    monkeypatch.setattr("wavconformer.evaluation.report._MOST_BYTES", 33_000)  # one second as WAV has 32,044
    assert run("--model", "tiny-en", "--data", manifest, "--output", out, "--device", "cpu")[0] == 0
    addresses = [address for address in Page(out / "report.html").addresses if address != "data:,"]
    assert sorted(address.split(";")[0] for address in addresses) == ["../data/audio/timer.flac", "data:audio/wav"]
    monkeypatch.setattr("wavconformer.evaluation.report._MOST_BYTES", 100)
    assert run("--model", "tiny-en", "--data", manifest, "--output", out, "--device", "cpu")[0] == 0
    assert "../data/audio/timer.flac#t=0.5,1.5" in Page(out / "report.html").addresses


def test_parts_of_a_recording(tmp_path, sample):
    whole = load_audio(sample)
    part = load(Utterance(id="1", audio=str(sample), start=0.5, end=1.25), 16_000)
    np.testing.assert_array_equal(part, whole[8000:20_000])
    rest = load(Utterance(id="2", audio=str(sample), start=2.0), 16_000)
    np.testing.assert_array_equal(rest, whole[32_000:])
    with pytest.raises(AudioError, match="is empty or behind the recording's end"):
        load(Utterance(id="3", audio=str(sample), start=3.0), 16_000)
    with pytest.raises(AudioError, match=r"ends 2\.28 s before 5 s: the part from 1 s isn't in it"):
        load(Utterance(id="3", audio=str(sample), start=1.0, end=5.0), 16_000)


def test_hypotheses_without_a_model(run, manifest, tmp_path):
    file = tmp_path / "hyp.tsv"
    file.write_text("timer.flac\tSET A TIMER FOR TWENTY THREE SECONDS\nalarm.flac\tSET AN ALARM\nnothing.flac\tX\n")
    code, out, err = run("--hypotheses", file, "--data", manifest)
    assert code == 1
    assert re.search(r"all +2 +14 ", out)
    assert "'audio/digits' has no hypothesis" in err
    assert "1 hypotheses for nothing in the data, the first for 'nothing.flac'" in err
    complete = evaluate(hypotheses=_written(tmp_path, manifest), data=manifest)
    assert (complete.scores.wer.errors, complete.failures) == (0, ())


def _written(folder, manifest):
    rows = [line.split("\t")[:2] for line in manifest.read_text().splitlines()[1:]]
    path = folder / "perfect.txt"
    path.write_text("".join(f"{Path(audio).name}\t{text.lower()}\n" for audio, text in rows))
    return path


def test_librispeech_is_all_that_has_to_be_typed(run, tmp_path, sample):
    place = tmp_path / "LibriSpeech" / "test-clean" / "1" / "2"
    place.mkdir(parents=True)
    (place / "1-2.trans.txt").write_text("1-2-0000 SET A TIMER FOR TWENTY THREE SECONDS\n")
    shutil.copy(sample, place / "1-2-0000.flac")
    arguments = ("--model", "tiny-en", "--device", "cpu", "--root", tmp_path, "--data")
    code, out, _ = run(*arguments, "librispeech:test-clean")
    assert code == 0
    assert re.search(r"all +1 +7 +0\.00", out)
    code, out, err = run(*arguments, "librispeech:test-other")
    assert (code, out) == (1, "")
    assert "LibriSpeech's test-other isn't there: looked for" in err


def test_classes(run, manifest, checkpoints, tmp_path):
    code, out, _ = run("--model", checkpoints["classes"], "--data", manifest, "--output", tmp_path, "--device", "cpu")
    assert code == 0
    scores = words_of(tmp_path)
    assert scores["names"] == ["even", "odd"]
    assert np.array(scores["confusion"]).sum(axis=1).tolist() == [3, 3]  # the manifest has their numbers
    predictions = [json.loads(line)["output"] for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert set(predictions) <= {"even", "odd"}
    assert "accuracy" in out
    assert "Confusion" in Page(tmp_path / "report.html").text
    manifest.write_text(manifest.read_text().replace("\t1\t", "\tstrange\t"))
    code, _, err = run("--model", checkpoints["classes"], "--data", manifest, "--device", "cpu")
    assert code == 1
    assert "'strange', is none of the model's classes even, odd" in err


def test_verification(run, manifest, checkpoints, tmp_path):
    names = sorted(path.name for path in (manifest.parent / "audio").iterdir())
    trials = tmp_path / "trials.txt"
    pairs = [(one, other) for one in names for other in names if one < other]
    trials.write_text("".join(f"{number % 3 == 0:d} {a} {b}\n" for number, (a, b) in enumerate(pairs)))
    arguments = ("--model", checkpoints["verification"], "--trials", trials, "--device", "cpu")
    code, out, _ = run(*arguments, "--data", manifest.parent / "audio", "--output", tmp_path / "out")
    assert code == 0
    assert "EER" in out
    scores = words_of(tmp_path / "out")
    assert (scores["targets"], scores["nontargets"]) == (5, 10)
    vectors = {
        entry["id"]: np.array(entry["output"])
        for entry in map(json.loads, (tmp_path / "out" / "embeddings.jsonl").read_text().splitlines())
    }
    file = tmp_path / "scores.txt"
    file.write_text(
        "".join(
            f"{a} {b} {vectors[a] @ vectors[b] / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b]):.17g}\n"
            for a, b in pairs
        )
    )
    again = evaluate(hypotheses=file, trials=trials)
    assert again.scores.eer == pytest.approx(scores["eer"])
    assert "Detection error trade-off" in Page(tmp_path / "out" / "report.html").text
    # The manifest's names do as well, and a broken recording takes its trials along.
    (manifest.parent / "audio" / "timer.flac").write_bytes(b"x")
    code, _, err = run(*arguments, "--data", manifest, "--output", tmp_path / "broken")
    assert code == 1
    assert json.loads((tmp_path / "broken" / "results.json").read_text())["trials_left_out"] == 5
    assert "timer.flac" in err


def test_diarization(run, manifest, checkpoints, tmp_path):
    rttm = tmp_path / "true.rttm"
    rttm.write_text("SPEAKER timer 1 0.2 1.0 <NA> <NA> a <NA> <NA>\nSPEAKER alarm 1 0.0 1.5 <NA> <NA> a <NA> <NA>\n")
    out = tmp_path / "out"
    arguments = ("--model", checkpoints["diarization"], "--rttm", rttm, "--device", "cpu")
    code, printed, _ = run(*arguments, "--root", manifest.parent / "audio", "--output", out)
    assert code == 0
    scores = words_of(out)
    assert scores["total"]["speech"] == pytest.approx(2.5)
    assert "false alarm" in printed
    same = evaluate(hypotheses=out / "hypothesis.rttm", rttm=rttm)
    assert same.scores.rate == pytest.approx(scores["der"], abs=2e-3)
    perfect = evaluate(hypotheses=rttm, rttm=rttm, collar=0.1)
    assert perfect.scores.rate == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--model or --hypotheses"),
        (("--model", "tiny-en", "--hypotheses", "h.tsv", "--data", "x"), "--model or --hypotheses"),
        (("--model", "tiny-en"), "give --data"),
        (("--model", "tiny-en", "--data", "x", "--normalise", "some"), "Invalid value"),
    ],
)
def test_wrong_usage_exits_with_2(run, arguments, said):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_what_does_not_go_together(manifest, checkpoints, tmp_path):
    with pytest.raises(ValueError, match="give a trial list"):
        evaluate(checkpoints["verification"], manifest)
    with pytest.raises(ValueError, match="give the true turns"):
        evaluate(checkpoints["diarization"], manifest)
    (tmp_path / "t.txt").write_text("1 a b\n")
    with pytest.raises(ValueError, match="gives words"):
        evaluate("tiny-en", manifest, trials=tmp_path / "t.txt")
    manifest.write_text("audio\tspeaker\naudio/timer.flac\tx\n")
    with pytest.raises(DataError, match="has no text to compare with"):
        evaluate("tiny-en", manifest)
    with pytest.raises(DataError, match="has no label to compare with"):
        evaluate(checkpoints["classes"], manifest)
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2-conformer", "architectures": ["Odd"]}')
    with pytest.raises(CheckpointError, match="is Odd: what can be scored"):
        evaluate(tmp_path, manifest)


def test_a_batch_that_memory_cannot_hold_is_halved(manifest, monkeypatch):
    real = Runner._outputs

    def small(self, waveforms):
        if len(waveforms) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(self, waveforms)

    monkeypatch.setattr(Runner, "_outputs", small)
    assert evaluate("tiny-en", manifest, device="cpu").scores.wer.errors == 1
    monkeypatch.setattr(Runner, "_outputs", lambda self, waveforms: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # a bug of ours isn't taken for a bad recording
        evaluate("tiny-en", manifest, device="cpu")


def test_a_recording_too_short_for_the_model(checkpoints, tmp_path, sample, transcriber):
    (tmp_path / "m.csv").write_text(
        f"id,audio,start,end,text,label\nx,{sample},0,0.2,A,even\ny,{sample},0,0.01,A,odd\n"
    )
    words = evaluate("tiny-en", tmp_path / "m.csv", device="cpu")
    assert [failure.id for failure in words.failures] == ["y"]
    config = transcriber.model.config
    least = f"needs at least {config.receptive_field / 16:.0f} ms"
    assert f"10.0 ms long, but the model {least}" in words.failures[0].why
    frames = 2 + sum(  # of which the deviation needs two
        (kernel - 1) * dilation for kernel, dilation in zip(config.tdnn_kernel, config.tdnn_dilation, strict=True)
    )
    runner = Runner(checkpoints["verification"], Kind.verification, device="cpu")
    assert runner.least_samples == config.receptive_field + (frames - 1) * config.hop_length


def test_the_fingerprint_follows_the_weights(tmp_path):
    shutil.copytree(ASSETS / "tiny-en", tmp_path / "model")
    mark = fingerprint(tmp_path / "model")
    assert mark == fingerprint(tmp_path / "model") == fingerprint("tiny-en")
    assert mark != fingerprint(tmp_path / "model", dtype="float16")
    weights = tmp_path / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    assert mark != fingerprint(tmp_path / "model")


def test_a_journal_passes_over_what_is_not_its_own(tmp_path):
    path = tmp_path / "j.jsonl"
    item = Utterance(id="1", audio="a.wav", end=1.5)
    with Journal(path, "m") as journal:
        journal.add(item, "SAID")
    with path.open("a") as file:
        file.write('nonsense\n{"model": "m"}\n[1]\n')
    with Journal(path, "m") as journal:
        assert journal.get(item) == "SAID"
        assert journal.get(Utterance(id="1", audio="a.wav", end=2.0)) is None
    with Journal(path, "another") as journal:
        assert journal.get(item) is None


def test_every_kind_has_a_journal():
    assert set(module.JOURNALS) == set(Kind)


def test_the_command_knows_every_normalisation():
    assert [one.value for one in Normalise] == [one.value for one in Normalisation]


def test_what_would_fail_at_the_end_fails_at_once(manifest, checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "Runner", None)  # nothing may be run
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(WavConformerError, match=r"pip install 'wavconformer\[evaluate\]'"):
        evaluate("tiny-en", manifest)
    monkeypatch.setitem(sys.modules, "pyannote.metrics", None)
    with pytest.raises(WavConformerError, match=r"pip install 'wavconformer\[evaluate\]'"):
        evaluate(checkpoints["diarization"], rttm=tmp_path / "any.rttm")
    (tmp_path / "t.txt").write_text("1 a b\n1 a c\n")
    with pytest.raises(DataError, match="some of both kinds"):
        evaluate(checkpoints["verification"], manifest, trials=tmp_path / "t.txt")


def test_a_model_that_is_broken_or_not_whole(manifest, checkpoints, tmp_path):
    broken = Wav2Vec2ConformerForSequenceClassification.from_pretrained(checkpoints["classes"])
    state = {key: value.clone() for key, value in broken.state_dict().items()}
    state["classifier.bias"][0] = torch.nan
    broken.save_pretrained(tmp_path / "nan", state_dict=state)
    broken.save_pretrained(
        tmp_path / "headless", state_dict={key: value for key, value in state.items() if "classifier" not in key}
    )
    for name in ("nan", "headless"):
        shutil.copy(checkpoints["classes"] / "preprocessor_config.json", tmp_path / name)
    with pytest.raises(CheckpointError, match="gives NaN or infinite scores"):
        evaluate(tmp_path / "nan", manifest, device="cpu")
    with (
        pytest.warns(UserWarning, match="random values"),
        pytest.raises(CheckpointError, match=r"lacks classifier\.weight, classifier\.bias: train this head"),
    ):
        evaluate(tmp_path / "headless", manifest, device="cpu")


def test_runs_of_speech_become_turns(checkpoints):
    runner = Runner(checkpoints["diarization"], Kind.diarization, device="cpu")
    active = np.array([[1, -1], [1, 1], [-1, 1], [1, 1]], np.float32)
    turns = [
        [round(end * runner.model.config.hop_length / 16_000, 3) for end in turn] for turn in ((0, 2), (3, 4), (1, 4))
    ]
    assert runner._read(active) == [[*turns[0], 0], [*turns[1], 0], [*turns[2], 1]]


def test_a_trial_of_an_unknown_recording(manifest, checkpoints, tmp_path):
    (tmp_path / "t.txt").write_text("1 timer alarm\n0 timer whisper\n")
    with pytest.raises(DataError, match=r"has no utterance 'whisper' \(1 of 3 are missing\)"):
        evaluate(checkpoints["verification"], manifest, trials=tmp_path / "t.txt", device="cpu")
    (tmp_path / "s.txt").write_text("timer alarm 0.5\n")
    with pytest.raises(DataError, match="some of both kinds"):  # what is left of them
        evaluate(hypotheses=tmp_path / "s.txt", trials=tmp_path / "t.txt")


def test_a_bar_for_those_who_watch(manifest):
    screen = io.StringIO()
    with watching(Console(file=screen, force_terminal=True, width=100)) as watch:
        evaluate("tiny-en", manifest, device="cpu", watch=watch)
    assert "loading tiny-en" in screen.getvalue()
    assert "6/6" in screen.getvalue()
