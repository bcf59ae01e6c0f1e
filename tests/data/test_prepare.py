from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.data.corpora import RATE, librispeech, write_audio

from wavconformer.data import examine
from wavconformer.data import prepare as preparing
from wavconformer.data.corpus import Corpus
from wavconformer.data.manifest import open_manifest
from wavconformer.data.prepare import prepare
from wavconformer.data.shards import ShardWriter
from wavconformer.data.utterance import load_utterance
from wavconformer.errors import CheckpointError, DataError
from wavconformer.files import DEFAULT_MODEL
from wavconformer.processing import Wav2Vec2CTCTokenizer


@pytest.fixture
def source(tmp_path) -> Path:
    return librispeech(tmp_path / "corpus", speakers=3, utterances=4)


def refused(folder: Path) -> dict[str, str]:
    lines = (folder / "refused.jsonl").read_text(encoding="utf-8").splitlines()
    return {entry["id"]: entry["reason"] for entry in map(json.loads, lines)}


# --- what is written


def test_a_corpus_without_faults(source, tmp_path):
    report = prepare(source, tmp_path / "out", workers=0)
    assert (report.accepted, report.refused, report.speakers, report.with_text) == (12, 0, 3, 12)
    assert report.seconds == pytest.approx(3 * (0.5 + 0.6 + 0.7 + 0.8), abs=1e-3)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "manifest.index.npz",
        "manifest.jsonl",
        "refused.jsonl",
        "report.json",
        "report.txt",
    ]
    corpus = Corpus.open(tmp_path / "out")
    assert len(corpus) == 12
    assert corpus.seconds[:4] == pytest.approx([0.5, 0.6, 0.7, 0.8])
    first = corpus[5]
    assert (first.id, first.text, first.speaker) == ("2-7-0001", "THE TEXT B", "2")
    assert len(load_utterance(first)) == 0.6 * RATE
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["accepted"] == 12
    assert content["rates"] == {"16000": 12}
    assert content["characters"]["T"] == 36
    assert "12 of 12 utterances accepted, 0.00 hours" in (tmp_path / "out" / "report.txt").read_text()


def test_workers_find_what_one_process_finds(source, tmp_path):
    (source / "2" / "7" / "2-7-0001.flac").write_bytes(b"broken")
    prepare(source, tmp_path / "one", workers=0)
    prepare(source, tmp_path / "two", workers=2)
    for name in ("manifest.jsonl", "refused.jsonl", "report.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_every_reason_is_told(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    good = write_audio(folder / "good.wav", 1.0)
    write_audio(folder / "tiny.wav", 0.02)
    write_audio(folder / "low.wav", 1.0, rate=4000)
    soundfile.write(folder / "silent.wav", np.zeros(RATE, np.float32), RATE)
    (folder / "broken.wav").write_bytes(b"RIFF nonsense")
    (folder / "empty.flac").touch()
    cut = write_audio(folder / "cut.flac", 3.0).read_bytes()
    (folder / "cut.flac").write_bytes(cut[: len(cut) // 2])
    text = "YES"
    rows = [{"audio": path.name, "text": text} for path in sorted(folder.iterdir())]
    rows += [
        {"id": "missing", "audio": "missing.wav", "text": text},
        {"id": "behind", "audio": "good.wav", "start": 5, "end": 6, "text": text},
        {"id": "long", "audio": "good.wav", "text": "A" * 26},  # 26 letters and 25 blanks, in 49 frames
        {"id": "fits", "audio": "good.wav", "text": "AB" * 24},
        {"id": "untold", "audio": "good.wav"},
        {"id": "blank", "audio": "good.wav", "text": "  "},
        {"id": "special", "audio": "good.wav", "text": "A <unk> B"},
        {"id": "good", "audio": "good.wav", "text": "twice"},
    ]
    table = tmp_path / "corpus" / "all.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = prepare(table, tmp_path / "out", vocabulary="build", workers=0)
    expected = {
        "tiny": "too short",
        "low": "low rate",
        "silent": "silent",
        "broken": "unreadable",
        "empty": "unreadable",
        "cut": "damaged",
        "missing": "unreadable",
        "behind": "unreadable",
        "long": "text too long",
        "untold": "no text",
        "blank": "no text",
        "special": "vocabulary",
        "good": "given twice",
    }
    assert refused(tmp_path / "out") == expected
    assert [one.id for one in Corpus.open(tmp_path / "out")] == ["good", "fits"]
    assert good.exists() and report.refused == len(expected)
    readable = (tmp_path / "out" / "report.txt").read_text()
    assert "2 of 15 utterances accepted" in readable
    assert "  text too long: 1\n    long: Its text needs 51 frames, its audio makes 49: AAAA" in readable
    assert re.search(r"unreadable: 4\n    broken: .*broken\.wav.* no recording that can be read", readable)


def test_names_that_are_no_utf8_are_refused(source, tmp_path):
    path = write_audio(tmp_path / "x.wav")
    path.rename(os.fsdecode(os.fsencode(source) + b"/zz\xff.wav"))
    with pytest.raises(Stop):
        prepare(source, tmp_path / "out", workers=0, progress=interrupted_at(13))
    report = prepare(source, tmp_path / "out", workers=0)
    assert (report.accepted, report.refused) == (12, 1)
    assert refused(tmp_path / "out") == {"zz\\udcff": "unreadable"}


def test_a_prepared_corpus_can_be_prepared_again(source, tmp_path):
    prepare(source, tmp_path / "out", workers=0)
    prepare(tmp_path / "out", tmp_path / "again", case="lower", workers=0)
    texts = [one.text for one in Corpus.open(tmp_path / "again")]
    assert texts == [one.text.lower() for one in Corpus.open(tmp_path / "out")]
    for place in (tmp_path / "out", source):
        with pytest.raises(DataError, match="is the source itself"):
            prepare(place, place, workers=0)


# --- texts and vocabularies


def test_a_vocabulary_is_built(source, tmp_path):
    prepare(source, tmp_path / "out", vocabulary="build", workers=0)
    vocabulary = json.loads((tmp_path / "out" / "vocab.json").read_text())
    assert sorted(vocabulary, key=vocabulary.get) == ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABEHTX"]
    tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer("THE AB")["input_ids"] == [9, 8, 7, 4, 5, 6]


def test_texts_are_checked_against_a_models_vocabulary(tmp_path):
    write_audio(tmp_path / "a.wav", 1.0)
    (tmp_path / "all.csv").write_text("id,audio,text\n1,a.wav,  HELLO   THERE\n2,a.wav,hello\n3,a.wav,ÄH\n4,a.wav,X9\n")
    prepare(tmp_path / "all.csv", tmp_path / "out", vocabulary=DEFAULT_MODEL, workers=0)
    assert [one.text for one in Corpus.open(tmp_path / "out")] == ["HELLO THERE"]
    details = [json.loads(line)["detail"] for line in (tmp_path / "out" / "refused.jsonl").read_text().splitlines()]
    assert details == [
        "The vocabulary has e h l o in upper case alone: prepare with --case upper.",
        "The vocabulary lacks 'Ä': ÄH",
        "The vocabulary lacks '9': X9",
    ]
    prepare(tmp_path / "all.csv", tmp_path / "upper", vocabulary=DEFAULT_MODEL, case="upper", workers=0)
    assert [one.text for one in Corpus.open(tmp_path / "upper")] == ["HELLO THERE", "HELLO"]


def test_a_vocabulary_file_will_do(source, tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps({"<pad>": 0, "<unk>": 1, "|": 2} | dict.fromkeys("T", 3)))
    with pytest.raises(DataError, match=r"Nothing of .* can be used \(vocabulary: 12\)"):
        prepare(source, tmp_path / "out", vocabulary=str(tmp_path / "vocab.json"), workers=0)
    assert "12 refused" in (tmp_path / "out" / "report.txt").read_text()


def test_a_vocabulary_that_is_not_there_is_told_before_any_work(source, tmp_path):
    with pytest.raises(CheckpointError):
        prepare(source, tmp_path / "out", vocabulary=str(tmp_path / "none"))
    assert not (tmp_path / "out").exists()


# --- recordings without files


def parquet(folder: Path, count: int) -> Path:
    import pyarrow as pa
    import pyarrow.parquet

    data = [write_audio(folder / f"{n}.flac", 0.3 + 0.1 * n).read_bytes() for n in range(count)]
    audio = pa.array([{"bytes": one, "path": f"{n}.flac"} for n, one in enumerate(data)])
    pa.parquet.write_table(pa.table({"audio": audio, "text": ["A"] * count}), folder / "all.parquet")
    return folder / "all.parquet"


def test_encoded_recordings_go_into_shards(tmp_path):
    path = parquet(tmp_path, 3)
    prepare(path, tmp_path / "out", workers=0)
    utterances = list(Corpus.open(tmp_path / "out"))
    assert {one.audio for one in utterances} == {str(tmp_path / "out" / "audio.000000.tar")}
    for number, utterance in enumerate(utterances):
        expected = soundfile.read(tmp_path / f"{number}.flac", dtype="float32")[0]
        np.testing.assert_array_equal(load_utterance(utterance), expected)
    with tarfile.open(tmp_path / "out" / "audio.000000.tar") as shard:
        assert [member.name for member in shard] == [one.id for one in utterances]
    (tmp_path / "out").rename(tmp_path / "moved")  # the folder can be moved as a whole
    assert len(load_utterance(Corpus.open(tmp_path / "moved")[2])) == round(0.5 * RATE)


def test_files_can_be_packed_into_shards(source, tmp_path):
    prepare(source, tmp_path / "plain", workers=0)
    prepare(source, tmp_path / "packed", pack=True, workers=1)
    plain, packed = list(Corpus.open(tmp_path / "plain")), list(Corpus.open(tmp_path / "packed"))
    expected = [load_utterance(one) for one in plain]
    for path in source.rglob("*.flac"):
        path.unlink()
    for one, other, samples in zip(plain, packed, expected, strict=True):
        assert (one.id, one.text, one.seconds) == (other.id, other.text, other.seconds)
        np.testing.assert_array_equal(load_utterance(other), samples)
    prepare(tmp_path / "packed", tmp_path / "again", workers=0)  # shards are a source as well
    assert [one.audio for one in Corpus.open(tmp_path / "again")] == [one.audio for one in packed]


def test_stretches_are_not_packed(tmp_path):
    write_audio(tmp_path / "a.wav", 2.0)
    (tmp_path / "all.csv").write_text("audio,start,end\na.wav,0,1\na.wav,1,2\n")
    prepare(tmp_path / "all.csv", tmp_path / "out", pack=True, workers=0)
    assert {one.audio for one in Corpus.open(tmp_path / "out")} == {str(tmp_path / "a.wav")}


def test_shards_are_closed_when_full_and_gone_on_with(tmp_path):
    writer = ShardWriter(tmp_path, size=1500)
    places = [writer.write(name, name.encode() * 400) for name in "abc"]
    writer.flush()  # and here it is killed
    assert [path.name for path, _ in places] == ["audio.000000.tar", "audio.000000.tar", "audio.000001.tar"]
    writer = ShardWriter(tmp_path, 1, places[2][1] + 400, size=1500)
    places.append(writer.write("d", b"d" * 400))
    writer.close()
    for name, (path, offset) in zip("abcd", places, strict=True):
        assert path.read_bytes()[offset : offset + 400] == name.encode() * 400
    with tarfile.open(tmp_path / "audio.000001.tar") as shard:
        assert shard.getnames() == ["c", "d"]


def test_long_recordings_without_text_are_parted(tmp_path):
    for name, seconds in (("long", 5.0), ("short", 2.0), ("told", 5.0)):
        write_audio(tmp_path / f"{name}.wav", seconds)
    rows = [{"audio": "long.wav", "start": 0.5}, {"audio": "short.wav"}, {"audio": "told.wav", "text": "A"}]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(tmp_path / "all.jsonl", tmp_path / "out", split=2.0, workers=0)
    corpus = Corpus.open(tmp_path / "out")
    assert [(Path(one.audio).stem, one.start, one.end, one.seconds) for one in corpus] == [
        ("long", 0.5, 2.0, 1.5),
        ("long", 2.0, 3.5, 1.5),
        ("long", 3.5, 5.0, 1.5),
        ("short", 0.0, None, 2.0),
        ("told", 0.0, None, 5.0),
    ]
    assert len({one.id for one in corpus}) == 5
    assert len(load_utterance(corpus[1])) == 1.5 * RATE
    assert corpus.seconds.sum() == pytest.approx(11.5)


# --- going on


class Stop(Exception):
    pass


def interrupted_at(count: int):
    def progress(done: int, total: int) -> None:
        if done == count:
            raise Stop

    return progress


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", ["files", "parquet"])
def test_an_interrupted_run_goes_on(source, tmp_path, monkeypatch, workers, kind):
    corpus = source if kind == "files" else parquet(tmp_path / "corpus", 12)
    (source / "1" / "7" / "1-7-0002.flac").write_bytes(b"broken")
    prepare(corpus, tmp_path / "whole", workers=0)
    for count in (3, 8):
        with pytest.raises(Stop):
            prepare(corpus, tmp_path / "out", workers=workers, progress=interrupted_at(count))
        with (tmp_path / "out" / ".journal.jsonl").open("ab") as journal:
            journal.write(b'{"id": "cut o')  # as a kill may leave it
        assert not (tmp_path / "out" / "manifest.jsonl").exists()
    seen = []
    monkeypatch.setattr(preparing, "_CHUNK", 1)
    prepare(corpus, tmp_path / "out", workers=0, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 12) for done in range(8, 13)]
    names = ["manifest.jsonl", "refused.jsonl", "report.json", *(["audio.000000.tar"] if kind == "parquet" else [])]
    for name in names:
        whole, resumed = ((tmp_path / folder / name).read_bytes() for folder in ("whole", "out"))
        assert whole == resumed, name


@pytest.mark.parametrize("at", ["shard", "end"])
def test_a_full_disk_is_told_and_the_run_goes_on(source, tmp_path, monkeypatch, at):
    prepare(source, tmp_path / "whole", workers=0, pack=True)
    calls = []

    def full(*given):
        calls.append(given)
        if len(calls) > 4 or at == "end":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*given)

    place, name = (preparing.ShardWriter, "write") if at == "shard" else (preparing, "write_index")
    write = getattr(place, name)
    with monkeypatch.context() as patch:
        patch.setattr(place, name, full)
        with pytest.raises(DataError) as caught:
            prepare(source, tmp_path / "out", workers=0, pack=True)
    done = 4 if at == "shard" else 12
    for said in (f"The disk that '{tmp_path / 'out'}' is on is full, after {done} of 12", "the same command again"):
        assert said in str(caught.value)
    prepare(source, tmp_path / "out", workers=0, pack=True)
    for name in ("manifest.jsonl", "audio.000000.tar", "report.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_half_done_run_of_something_else_is_not_mixed_with(source, tmp_path):
    with pytest.raises(Stop):
        prepare(source, tmp_path / "out", workers=0, progress=interrupted_at(2))
    with pytest.raises(DataError, match=r"holds a half-done run of .*corpus, or with other settings"):
        prepare(source, tmp_path / "out", workers=0, case="lower")
    (source / "1" / "7" / "1-7-0001.flac").rename(source / "1" / "7" / "1-7-0009.flac")
    with pytest.raises(DataError, match="has changed since it was prepared in part"):
        prepare(source, tmp_path / "out", workers=0)


def test_a_killed_command_goes_on(tmp_path, source):
    for number in range(600):
        os.link(source / "1" / "7" / "1-7-0000.flac", source / f"more{number:03d}.flac")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "wavconformer", "prepare", str(source), "-o", str(out), "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    journal = out / ".journal.jsonl"
    deadline = time.monotonic() + 50
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 20) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=50)
    done = journal.read_bytes().count(b"\n") - 1
    assert 20 <= done < 612
    seen = []
    report = prepare(source, out, workers=0, progress=lambda done, total: seen.append(done))
    assert seen[0] == done
    assert (report.accepted, report.refused) == (612, 0)


def crash(utterance):
    if utterance.id == "2-7-0001":
        os._exit(9)
    return examine.Accepted(utterance, RATE)


def start_crashing(rules):
    preparing._examiner = crash


def test_a_recording_that_crashes_its_worker_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "_start", start_crashing)
    monkeypatch.setattr(preparing, "_CHUNK", 2)
    utterances = iter(open_manifest(source))
    rules = examine.Rules()
    findings = [finding for _, finding in preparing._examined(utterances, rules, examine.Examiner(rules), 2)]
    assert len(findings) == 12
    assert [finding.id for finding in findings if isinstance(finding, examine.Refused)] == ["2-7-0001"]


# --- the corpus that it makes


def test_an_edited_manifest_is_read_anew(source, tmp_path):
    prepare(source, tmp_path / "out", workers=0)
    path = tmp_path / "out" / "manifest.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[6:]))
    corpus = Corpus.open(path)
    assert len(corpus) == 6
    assert corpus[0].id == "2-7-0002"
    both = Corpus.open(path, tmp_path / "out")
    assert (len(both), both[7].id) == (12, corpus[1].id)
    with pytest.raises(IndexError):
        both[12]
    path.write_text('{"id": "a", "audio": "a.wav"}\n')
    with pytest.raises(DataError, match="no prepared utterance, with its length in 'seconds'"):
        Corpus.open(path)
    path.write_text('{"id": "a", "audio": "a.wav", "seconds": NaN}\n')
    with pytest.raises(DataError, match="no prepared utterance, with its length in 'seconds'"):
        Corpus.open(path)
    with pytest.raises(DataError, match="is no prepared manifest: run `wavconformer prepare"):
        Corpus.open(source)


# --- the command


def test_the_command(run, source, tmp_path):
    code, out, err = run("prepare", source, "-o", tmp_path / "out", "--vocabulary", "build", "--workers", 0)
    assert (code, err) == (0, "")
    assert out == (tmp_path / "out" / "report.txt").read_text()
    code, out, err = run("prepare", tmp_path / "none", "-o", tmp_path / "out")
    assert (code, out) == (1, "")
    assert "There is no file or folder" in err
    code, _, err = run("prepare", source, "-o", source, "--workers", 0)
    assert code == 1 and "is the source itself" in err
    assert run("prepare", source, "-o", tmp_path / "x", "--case", "title")[0] == 2


def test_the_command_can_be_interrupted(run, source, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(preparing, "prepare", interrupted)
    code, _, err = run("prepare", source, "-o", tmp_path / "out")
    assert code == 130
    assert err == "Interrupted. The same command goes on where it stopped.\n"
