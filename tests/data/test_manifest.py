from __future__ import annotations

import gzip
import json
import re
import shutil

import numpy as np
import pytest
import soundfile
from tests.data.corpora import RATE, librispeech, tone, write_audio

from wavconformer.audio import load_audio
from wavconformer.data.manifest import open_manifest
from wavconformer.data.rttm import Turn, activity, read_rttm, turns_by_recording, write_rttm
from wavconformer.data.utterance import Utterance, load_utterance
from wavconformer.errors import AudioError, DataError


def read(path) -> list[Utterance]:
    manifest = open_manifest(path)
    utterances = list(manifest)
    assert manifest.count() == len(utterances)
    return utterances


# --- folders of recordings


def test_librispeech_layout(tmp_path):
    utterances = read(librispeech(tmp_path))
    assert [one.id for one in utterances] == ["1-7-0000", "1-7-0001", "2-7-0000", "2-7-0001"]
    assert utterances[1] == Utterance(
        id="1-7-0001", audio=str(tmp_path / "1" / "7" / "1-7-0001.flac"), text="THE TEXT B", speaker="1"
    )


def test_recordings_without_transcripts_have_no_text(tmp_path):
    write_audio(tmp_path / "b" / "one.wav")
    write_audio(tmp_path / "a.WAV")
    (tmp_path / "notes.txt").touch()
    assert [(one.id, one.text, one.speaker) for one in read(tmp_path)] == [("a", None, None), ("b/one", None, None)]


def test_a_transcript_without_its_recording_is_not_lost(tmp_path):
    librispeech(tmp_path, speakers=1)
    (tmp_path / "1" / "7" / "1-7-0000.flac").unlink()
    missing = read(tmp_path)[-1]
    assert (missing.id, missing.text) == ("1-7-0000", "THE TEXT A")
    with pytest.raises(AudioError, match="no such file"):
        load_utterance(missing)


# --- tables


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "jsonl.gz", "csv.gz"])
def test_tables(tmp_path, suffix):
    rows = [
        {"audio": "a.wav", "text": 'so, "yes"', "speaker": "x", "label": "7", "start": "0.5", "end": "1.25"},
        {"audio": "/far/b.wav", "text": "ü", "speaker": "", "label": "", "start": "", "end": ""},
    ]
    if "csv" in suffix:
        text = 'Audio,text,speaker,label,start,end,more\na.wav,"so, ""yes""",x,7,0.5,1.25,\n/far/b.wav,ü,,,,,1\n'
    elif suffix == "tsv":
        text = "\t".join(rows[0]) + "\n" + "".join("\t".join(row.values()) + "\n" for row in rows)
    else:
        filled = [{key: value for key, value in row.items() if value} for row in rows]
        filled[0] |= {"start": 0.5, "end": 1.25, "label": 7}
        text = "".join(json.dumps(row) + "\n\n" for row in filled)
    path = tmp_path / f"corpus.{suffix}"
    with gzip.open(path, "wt", encoding="utf-8") if "gz" in suffix else path.open("w", encoding="utf-8-sig") as file:
        file.write(text)
    assert read(path) == [
        Utterance(
            id="a-0.50-1.25",
            audio=str(tmp_path / "a.wav"),
            start=0.5,
            end=1.25,
            text='so, "yes"',
            speaker="x",
            label="7",
        ),
        Utterance(id="/far/b", audio="/far/b.wav", text="ü", others={"more": "1"} if "csv" in suffix else {}),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "place,text\nx,y\n", "its first line must name the columns, 'audio' among them"),
        ("a.csv", "", "it is empty"),
        ("a.csv", "audio,text\na.wav\n", "line 2: 1 fields, but the first line names 2 columns."),
        ("a.csv", "audio,audio\na,b\n", "names audio twice"),
        ("a.csv", "audio,text\n,x\n", "line 2: 'audio' must be the path of a recording"),
        ("a.csv", "audio,start\na.wav,soon\n", "line 2: start is 'soon', and no number of seconds."),
        ("a.csv", "audio,start,end\na.wav,2,1\n", "line 2 goes from 2 s to 1 s"),
        ("a.csv", 'audio,text\na.wav,"x\n', "can't be read as CSV"),
        ("a.jsonl", '{"audio": "a"}\n{"audio"\n', "line 2: no valid JSON"),
        ("a.jsonl", "[1]\n", "line 1: no JSON object"),
        ("a.jsonl", '{"audoi": "a"}\n', "'audio' must be the path of a recording; there is audoi."),
        ("a.jsonl", '{"audio": "a", "text": [1]}\n', "line 1: 'text' must be text, not [1]."),
        ("a.jsonl", '{"audio": "a", "start": NaN}\n', "start is nan"),
        ("a.json", "nonsense\n", "first line: no valid JSON"),
        ("a.txt", "a.wav\n", "is no manifest by its name"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        list(open_manifest(path))
    assert str(path) in str(caught.value)


def test_a_table_that_is_not_utf8_is_told(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("audio,text\na.wav,ä\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.csv'.*can't be read as CSV"):
        list(open_manifest(path))


def test_tables_are_streamed(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"audio": "a.wav"}\n' * 2 + "broken\n", encoding="utf-8")
    stream = open_manifest(path).read()
    assert next(stream).id == next(stream).id == "a"  # the third line isn't looked at yet
    with pytest.raises(DataError, match="line 3"):
        next(stream)


# --- Kaldi


@pytest.fixture
def kaldi(tmp_path):
    write_audio(tmp_path / "wav" / "a.wav", 2.0)
    write_audio(tmp_path / "wav" / "b.wav")
    (tmp_path / "wav.scp").write_text(f"a wav/a.wav\nb {tmp_path}/wav/b.wav\n")
    (tmp_path / "text").write_text("a ONE  TWO\nb\n")
    (tmp_path / "utt2spk").write_text("b bob\na ann\n")
    return tmp_path


def test_kaldi_folder(kaldi):
    assert read(kaldi) == [
        Utterance(id="a", audio=str(kaldi / "wav" / "a.wav"), text="ONE  TWO", speaker="ann"),
        Utterance(id="b", audio=str(kaldi / "wav" / "b.wav"), text="", speaker="bob"),
    ]


def test_kaldi_segments(kaldi):
    (kaldi / "segments").write_text("a-2 a 1.0 -1\na-1 a 0.25 1.0\n")
    (kaldi / "text").write_text("a-1 ONE\na-2 TWO\n")
    first, second = read(kaldi)
    assert (first.id, first.start, first.end, first.text) == ("a-2", 1.0, None, "TWO")
    assert (second.id, second.start, second.end, second.text) == ("a-1", 0.25, 1.0, "ONE")
    assert len(load_utterance(first)) == RATE
    assert len(load_utterance(second)) == 0.75 * RATE


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("wav.scp", "a sph2pipe -f wav a.sph |\n", "commands from a data folder are never run"),
        ("wav.scp", "a all.ark:123\n", "copy archives out"),
        ("wav.scp", "a\n", "must be the path of an audio file"),
        ("segments", "a-1 a 0\n", "line 1: must be 'utterance recording start end'"),
        ("segments", "a-1 c 0 1\n", "wav.scp has no recording 'c'"),
        ("segments", "a-1 a 1 1\n", "its end must be behind its start"),
    ],
)
def test_kaldi_folders_that_cannot_be_read(kaldi, file, text, message):
    (kaldi / file).write_text(text)
    with pytest.raises(DataError, match=re.escape(message)):
        list(open_manifest(kaldi))


# --- lhotse


@pytest.fixture
def lhotse_sets(tmp_path):
    from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet

    recordings = RecordingSet.from_recordings(
        Recording.from_file(write_audio(tmp_path / "audio" / f"{name}.wav", 2.0), recording_id=name) for name in "ab"
    )
    supervisions = SupervisionSet.from_segments(
        [
            SupervisionSegment("a-1", "a", 0.0, 0.5, text="ONE", speaker="ann", custom={"label": "yes"}),
            SupervisionSegment("a-2", "a", 0.5, 1.5, text="TWO", speaker="ann"),
        ]
    )
    return recordings, supervisions


EXPECTED = [
    ("a-1", 0.0, 0.5, "ONE", "ann", "yes"),
    ("a-2", 0.5, 2.0, "TWO", "ann", None),
    ("b", 0.0, None, None, None, None),
]


@pytest.fixture
def shar(tmp_path):
    """A folder for shards, which lhotse doesn't make."""
    folder = tmp_path / "shar"
    folder.mkdir()
    return folder


def seen(utterances):
    return [(one.id, one.start, one.end, one.text, one.speaker, one.label) for one in utterances]


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_lhotse_recordings_and_supervisions(tmp_path, lhotse_sets, suffix):
    recordings, supervisions = lhotse_sets
    folder = tmp_path / "set"
    folder.mkdir()
    recordings.to_file(folder / f"x_recordings_dev.{suffix}")
    supervisions.to_file(folder / f"x_supervisions_dev.{suffix}")
    assert seen(read(folder)) == EXPECTED
    assert seen(read(folder / f"x_recordings_dev.{suffix}")) == EXPECTED
    with pytest.raises(DataError, match="holds supervisions"):
        open_manifest(folder / f"x_supervisions_dev.{suffix}")


def test_lhotse_cuts_whole_and_trimmed(tmp_path, lhotse_sets):
    from lhotse import CutSet

    cuts = CutSet.from_manifests(*lhotse_sets)
    cuts.to_file(tmp_path / "cuts.jsonl.gz")
    whole = read(tmp_path / "cuts.jsonl.gz")
    assert [one[1:] for one in seen(whole)] == [one[1:] for one in EXPECTED]
    cuts.trim_to_supervisions().to_file(tmp_path / "trimmed.jsonl.gz")
    assert [one[1:] for one in seen(read(tmp_path / "trimmed.jsonl.gz"))] == [one[1:] for one in EXPECTED[:2]]


@pytest.mark.parametrize(("format", "tolerance"), [("wav", 1e-4), ("flac", 1e-4)])
def test_lhotse_shar_is_read_where_it_lies(tmp_path, shar, lhotse_sets, format, tolerance):
    from lhotse import CutSet

    cuts = CutSet.from_manifests(*lhotse_sets).trim_to_supervisions()
    cuts.to_shar(shar, fields={"recording": format}, shard_size=1)
    first, second = read(shar)
    assert (first.text, first.speaker, second.text) == ("ONE", "ann", "TWO")
    assert first.audio == str(shar / "recording.000000.tar")
    expected = load_audio(tmp_path / "audio" / "a.wav")[8000:]
    assert np.abs(load_utterance(second) - expected).max() < tolerance


def test_lhotse_shar_keeps_supervisions_within_a_cut(shar, lhotse_sets):
    from lhotse import CutSet

    CutSet.from_manifests(*lhotse_sets).to_shar(shar, fields={"recording": "flac"})
    assert [one[1:] for one in seen(read(shar))][:2] == [one[1:] for one in EXPECTED[:2]]


def test_shar_without_its_recordings_is_refused(shar, lhotse_sets):
    from lhotse import CutSet

    folder = shar
    CutSet.from_manifests(*lhotse_sets).to_shar(folder, fields={"recording": "flac"}, shard_size=1)
    (folder / "recording.000001.tar").unlink()
    with pytest.raises(DataError, match=r"2 files cuts.*and 1 files recording"):
        open_manifest(folder)
    shutil.copy(folder / "recording.000000.tar", folder / "recording.000001.tar")
    with pytest.raises(DataError, match="stands where the recording of the cut"):
        list(open_manifest(folder))
    (folder / "recording.000001.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(DataError, match="can't be read as a tar file"):
        list(open_manifest(folder))


def test_lhotse_manifests_that_cannot_be_read(tmp_path, lhotse_sets):
    from lhotse import CutSet, Recording, RecordingSet

    recordings, supervisions = lhotse_sets
    cuts = CutSet.from_manifests(recordings, supervisions)
    cuts.perturb_speed(1.1).to_file(tmp_path / "fast.jsonl")
    with pytest.raises(DataError, match="is to be transformed when it is read"):
        list(open_manifest(tmp_path / "fast.jsonl"))
    cuts.mix(cuts, snr=10).to_file(tmp_path / "mixed.jsonl")
    with pytest.raises(DataError, match="a MixedCut, has no recording of its own"):
        list(open_manifest(tmp_path / "mixed.jsonl"))
    (tmp_path / "pipe.jsonl").write_text(
        json.dumps({**recordings["a"].to_dict(), "sources": [{"type": "command", "channels": [0], "source": "rm x"}]})
    )
    with pytest.raises(DataError, match="commands and addresses in a manifest are never followed"):
        list(open_manifest(tmp_path / "pipe.jsonl"))
    soundfile.write(tmp_path / "two.wav", np.zeros((RATE, 2), np.float32), RATE)
    stereo = RecordingSet.from_recordings([Recording.from_file(tmp_path / "two.wav")])
    CutSet.from_manifests(stereo).to_file(tmp_path / "both.jsonl")
    channels = list(open_manifest(tmp_path / "both.jsonl").read())
    assert len(channels) == 1  # a cut of both channels is mixed down
    one = {**json.loads((tmp_path / "both.jsonl").read_text()), "type": "MonoCut", "channel": 1}
    (tmp_path / "one.jsonl").write_text(json.dumps(one))
    with pytest.raises(DataError, match="is channel 1 of the 2"):
        list(open_manifest(tmp_path / "one.jsonl"))
    (tmp_path / "bad.jsonl").write_text('{"type": "MonoCut", "id": 3}\n')
    with pytest.raises(DataError, match=r"bad\.jsonl' can't be read as a manifest of lhotse's"):
        list(open_manifest(tmp_path / "bad.jsonl"))


# --- Hugging Face datasets


@pytest.fixture
def rows(tmp_path):
    """A table with bytes, one with a path beside it, and the features that `datasets` would note."""
    import pyarrow as pa

    encoded = write_audio(tmp_path / "x" / "one.wav").read_bytes()
    write_audio(tmp_path / "two.wav")
    audio = [{"bytes": encoded, "path": "one.wav"}, {"bytes": None, "path": "two.wav"}, None]
    table = pa.table(
        {
            "audio": pa.array(audio, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "sentence": ["eins", "zwei", None],
            "speaker_id": [7, 8, 9],
            "label": [1, 0, -1],
        }
    )
    features = {"info": {"features": {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}}}
    return table.replace_schema_metadata({"huggingface": json.dumps(features)})


def check_rows(folder, utterances):
    assert [(one.id, one.text, one.speaker, one.label) for one in utterances] == [
        ("one-0000000", "eins", "7", "yes"),
        ("two-0000001", "zwei", "8", "no"),
        ("row-0000002", None, "9", None),
    ]
    expected = load_audio(folder / "two.wav")
    np.testing.assert_array_equal(load_utterance(utterances[0]), expected)
    np.testing.assert_array_equal(load_utterance(utterances[1]), expected)
    with pytest.raises(AudioError, match="empty"):
        load_utterance(utterances[2])


def test_parquet(tmp_path, rows):
    import pyarrow.parquet

    pyarrow.parquet.write_table(rows, tmp_path / "train-00000-of-00001.parquet")
    check_rows(tmp_path, read(tmp_path / "train-00000-of-00001.parquet"))
    pyarrow.parquet.write_table(rows, tmp_path / "train-00001-of-00002.parquet")
    both = tmp_path / "both"
    both.mkdir()
    for path in tmp_path.glob("*.parquet"):
        path.rename(both / path.name)
    assert len({one.id for one in read(both)}) == 6
    (both / "test-00000-of-00001.parquet").write_bytes(b"")
    with pytest.raises(DataError, match="several splits, test, train"):
        open_manifest(both)


def test_dataset_saved_to_disk(tmp_path, rows):
    import pyarrow as pa

    folder = tmp_path / "saved"
    folder.mkdir()
    with pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as sink, pa.ipc.new_stream(sink, rows.schema) as w:
        w.write_table(rows)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state))
    write_audio(folder / "two.wav")
    check_rows(tmp_path, read(folder))
    (folder / "state.json").write_text(json.dumps({**state, "_indices_data_files": [{"filename": "i.arrow"}]}))
    with pytest.raises(DataError, match="flatten_indices"):
        list(open_manifest(folder))
    (folder / "state.json").write_text("{}")
    with pytest.raises(DataError, match=r"state\.json can't be read"):
        list(open_manifest(folder))
    (tmp_path / "dataset_dict.json").write_text("{}")
    with pytest.raises(DataError, match="give one of its folders saved"):
        open_manifest(tmp_path)


def test_tables_of_datasets_that_cannot_be_read(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.table({"sound": [b""]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="has no column 'audio', only sound"):
        list(open_manifest(tmp_path / "a.parquet"))
    (tmp_path / "b.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match="can't be read as parquet"):
        list(open_manifest(tmp_path / "b.parquet"))
    with pytest.raises(DataError, match=r"b\.parquet' can't be read as parquet"):  # which of the two
        open_manifest(tmp_path).count()


# --- what is none of these


def test_a_folder_that_is_no_corpus_lists_what_was_looked_for(tmp_path):
    (tmp_path / "readme.txt").touch()
    with pytest.raises(DataError, match=r"wav\.scp.*Shar.*state\.json.*parquet.*trans\.txt"):
        open_manifest(tmp_path)


def test_a_place_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="There is no file or folder"):
        open_manifest(tmp_path / "none")


def test_a_folder_with_several_manifests_asks_for_one(tmp_path):
    for name in ("a_cuts.jsonl.gz", "b_cuts.jsonl"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"give one of a_cuts\.jsonl\.gz, b_cuts\.jsonl"):
        open_manifest(tmp_path)


# --- stretches


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("rate", [16_000, 22_050])
def test_a_stretch_equals_that_of_the_whole(tmp_path, suffix, rate):
    path = write_audio(tmp_path / f"a.{suffix}", 2.0, rate=rate)
    whole = load_audio(path)
    part = load_utterance(Utterance(id="a", audio=str(path), start=0.5, end=1.5))
    assert len(part) == RATE
    assert np.abs(part - whole[8000:24000])[200:-200].max() < 2e-3  # but for the resampler's ends


def test_a_stretch_to_the_end_and_one_behind_it(tmp_path):
    path = str(write_audio(tmp_path / "a.wav", 1.0))
    assert len(load_utterance(Utterance(id="a", audio=path, start=0.75))) == 4000
    assert len(load_utterance(Utterance(id="a", audio=path, start=0.75, end=9))) == 4000
    with pytest.raises(AudioError, match=r"a: its stretch .* from 1 s to 2 s, is empty or behind"):
        load_utterance(Utterance(id="a", audio=path, start=1, end=2))


def test_a_recording_cut_off_in_its_shard_is_told(tmp_path):
    shard = tmp_path / "s.tar"
    shard.write_bytes(b"12345")
    with pytest.raises(AudioError, match="cut off"):
        load_utterance(Utterance(id="a", audio=str(shard), offset=2, size=9))
    with pytest.raises(AudioError, match="can't be read"):
        load_utterance(Utterance(id="a", audio=str(tmp_path / "t.tar"), offset=2, size=9))


# --- RTTM


def test_rttm(tmp_path):
    (tmp_path / "a.rttm").write_text(
        "SPKR-INFO call 1 <NA> <NA> <NA> unknown ann <NA>\n"
        "SPEAKER call 1 1.00 0.50 <NA> <NA> bob <NA> <NA>\n"
        "SPEAKER call 1 0.00 1.20 <NA> <NA> ann <NA> <NA>\n"
    )
    (tmp_path / "b.rttm").write_text("SPEAKER talk 1 0 1 <NA> <NA> eve <NA>\n")
    assert turns_by_recording(read_rttm(tmp_path)) == {
        "call": [Turn("call", 0.0, 1.2, "ann"), Turn("call", 1.0, 1.5, "bob")],
        "talk": [Turn("talk", 0.0, 1.0, "eve")],
    }
    for text in ("SPEAKER a 1 0 1\n", "SPEAKER a 1 x 1 <NA> <NA> b <NA>\n"):
        (tmp_path / "b.rttm").write_text(text)
        with pytest.raises(DataError, match=r"b\.rttm', line 1"):
            read_rttm(tmp_path / "b.rttm")


def test_rttm_there_and_back(tmp_path):
    given = [Turn("meeting", 0.5, 1.25, "anna"), Turn("meeting", 1.0, 2.0, "ben"), Turn("call", 0.0, 3.0, "anna")]
    write_rttm(tmp_path / "new" / "a.rttm", given)
    assert read_rttm(tmp_path / "new" / "a.rttm") == given
    first = (tmp_path / "new" / "a.rttm").read_text().splitlines()[0]
    assert first == "SPEAKER meeting 1 0.500 0.750 <NA> <NA> anna <NA> <NA>"
    with pytest.raises(DataError, match="two words"):
        write_rttm(tmp_path / "b.rttm", [Turn("two words", 0, 1, "a")])
    assert not (tmp_path / "b.rttm").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("SPEAKER r 1 0.5", "has 4 fields"),
        ("SPEAKER r 1 x 1.0 <NA> <NA> a <NA> <NA>", "no number of seconds"),
        ("SPEAKER r 1 0.5 -1.0 <NA> <NA> a <NA> <NA>", "no number of seconds"),
        ("SPEAKER r 1 nan 1.0 <NA> <NA> a <NA> <NA>", "no number of seconds"),
    ],
)
def test_rttm_that_cannot_be_read(tmp_path, line, said):
    (tmp_path / "a.rttm").write_text(f"SPKR-INFO r 1 <NA> <NA> <NA> unknown a <NA>\n\n{line}\n")
    with pytest.raises(DataError, match=f"line 3: .*{said}"):
        read_rttm(tmp_path / "a.rttm")


def test_a_turn_of_no_length_is_none(tmp_path):
    (tmp_path / "a.rttm").write_text("SPEAKER r 1 0.5 0.0 <NA> <NA> a <NA> <NA>\n")
    assert read_rttm(tmp_path / "a.rttm") == []


def test_activity_goes_by_the_middle_of_frames():
    turns = [Turn("r", 0.0, 0.1, "ann"), Turn("r", 0.06, 0.2, "bob")]
    active = activity(turns, 10, 3)
    assert active[:, 0].tolist() == [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert active[:, 1].tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1, 1]
    assert not active[:, 2].any()
    later = activity(turns, 3, 1, start=0.12)  # where bob alone is heard
    assert later[:, 0].tolist() == [1, 1, 1]
    with pytest.raises(DataError, match="More than 1 speakers are heard: ann, bob"):
        activity(turns, 10, 1)


def test_tones_differ():  # or else the comparisons above prove little
    assert np.abs(tone(0.1)[1:] - tone(0.1)[:-1]).max() > 0.02
