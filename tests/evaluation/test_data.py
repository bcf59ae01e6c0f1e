from __future__ import annotations

import json

import pytest

from wavconformer import DataError
from wavconformer.data.utterance import Utterance
from wavconformer.evaluation.data import locate, utterances
from wavconformer.evaluation.hypotheses import ids_by_name, match, read_hypotheses


@pytest.fixture
def librispeech(tmp_path):
    """Two chapters of two speakers; of one line the recording is missing."""
    for speaker, chapter, lines in (
        ("84", "1", "84-1-0000 FIRST LINE\n84-1-0001 SECOND\n"),
        ("9", "7", "9-7-0000 X\n"),
    ):
        place = tmp_path / "LibriSpeech" / "test-clean" / speaker / chapter
        place.mkdir(parents=True)
        (place / f"{speaker}-{chapter}.trans.txt").write_text(lines)
    for name in ("84-1-0000.flac", "84-1-0001.wav"):
        (tmp_path / "LibriSpeech" / "test-clean" / "84" / "1" / name).touch()
    return tmp_path


def test_the_layout_of_librispeech(librispeech):
    folder = librispeech / "LibriSpeech" / "test-clean"
    first, second, third = utterances(folder)
    assert first == Utterance(
        id="84-1-0000", audio=str(folder / "84/1/84-1-0000.flac"), text="FIRST LINE", speaker="84"
    )
    assert second.file.name == "84-1-0001.wav"
    assert (third.file, third.speaker) == (folder / "9/7/9-7-0000.flac", "9")
    assert [one.speaker for one in utterances(folder / "84" / "1")] == ["84", "84"]


def test_librispeech_by_name(librispeech):
    for root in (librispeech, librispeech / "LibriSpeech"):
        assert locate("librispeech:test-clean", root) == librispeech / "LibriSpeech" / "test-clean"
    with pytest.raises(DataError) as error:
        locate("librispeech:test-other", librispeech)
    for said in (librispeech / "test-other", librispeech / "LibriSpeech" / "test-other", "test-other.tar.gz", "--root"):
        assert str(said) in str(error.value)


def test_manifests_of_any_form_say_the_same(tmp_path):
    given = [
        {"id": "1", "audio": "a.flac", "text": 'he said "no"', "speaker": "x", "start": "0.5", "end": "2"},
        {"id": "2", "audio": "sub/b.flac", "text": "", "speaker": "", "start": "", "end": ""},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(json.dumps(row) for row in given) + "\n\n")
    (tmp_path / "m.tsv").write_text(
        "\n".join("\t".join(row) for row in [list(given[0]), *(list(row.values()) for row in given)])
    )
    (tmp_path / "m.csv").write_text(
        'id,audio,text,speaker,start,end\n1,a.flac,"he said ""no""",x,0.5,2\n2,sub/b.flac,,,,\n'
    )
    wanted = [
        Utterance(id="1", audio=str(tmp_path / "a.flac"), start=0.5, end=2.0, text='he said "no"', speaker="x"),
        Utterance(id="2", audio=str(tmp_path / "sub" / "b.flac"), text=""),
    ]
    for name in ("m.jsonl", "m.tsv", "m.csv"):
        assert list(utterances(tmp_path / name)) == wanted


def test_ids_are_made_of_file_and_part(tmp_path):
    (tmp_path / "m.csv").write_text("file,start,end,voice\na.wav,,,x\na.wav,0,1.5,y\na.wav,1.5,,z\n")
    found = list(utterances(tmp_path / "m.csv"))
    assert [one.id for one in found] == ["a", "a-0.00-1.50", "a-1.50-"]
    assert [one.group("voice") for one in found] == ["x", "y", "z"]
    assert found[0].group("speaker") is None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("m.csv", "sound,text\na.wav,x\n", "its first line must name the columns, 'audio' among them"),
        ("m.csv", "audio,text\na.wav,x,y\n", "line 2: 3 fields, but the first line names 2 columns"),
        ("m.csv", "audio,start\na.wav,soon\n", "line 2: start is 'soon'"),
        ("m.csv", "audio,start,end\na.wav,2,1\n", "line 2 goes from 2 s to 1 s: its end must be behind"),
        ("m.csv", "audio\na.wav\na.wav\n", "utterance 'a' twice"),
        ("m.csv", "audio\n", "holds no utterances"),
        ("m.jsonl", '{"audio": "a.wav"}\n{"audio": \n', "line 2: no valid JSON"),
        ("m.jsonl", "[1]\n", "line 1: no JSON object"),
        ("m.jsonl", '{"audio": "a.wav", "end": -1}\n', "end is -1"),
        ("m.txt", "audio\n", "ends in .csv, .tsv or .jsonl"),
    ],
)
def test_a_manifest_that_cannot_be_used(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said):
        list(utterances(tmp_path / name))


def test_a_manifest_that_is_no_text(tmp_path):
    (tmp_path / "m.csv").write_bytes(b"audio\n\xff\xfe.wav\n")
    with pytest.raises(DataError, match="can't be read"):
        list(utterances(tmp_path / "m.csv"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="holds nothing that is known as a corpus"):
        list(utterances(tmp_path / "folder"))
    with pytest.raises(DataError, match=r"nowhere' doesn't exist"):
        locate(tmp_path / "nowhere")


def test_hypotheses_of_any_form(tmp_path):
    wanted = {"a.flac": "ONE TWO", "b.flac": ""}
    forms = {
        "titles.tsv": "file\ttext\na.flac\tONE TWO\nb.flac\t\n",
        "no-titles.tsv": "a.flac\tONE TWO\nb.flac\t\n",
        "lines.txt": "a.flac\tONE TWO\nb.flac\t\n",
        "own.jsonl": '{"id": "a.flac", "output": "ONE TWO"}\n{"id": "b.flac", "output": ""}\n',
        "titles.csv": "id,text,hypothesis\na.flac,the truth,ONE TWO\nb.flac,the truth,\n",
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        assert read_hypotheses(tmp_path / name) == wanted, name


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("h.txt", "a ONE\n", "line 1: not a name, a tab and a text"),
        ("h.tsv", "file\tsize\na\t3\n", "line 2: needs a name"),
        ("h.tsv", "a\tx\na\ty\n", "two hypotheses for 'a'"),
    ],
)
def test_hypotheses_that_cannot_be_used(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said):
        read_hypotheses(tmp_path / name)


def test_hypotheses_find_their_utterances(tmp_path):
    items = [Utterance(id="1", audio=str(tmp_path / "x/a.wav")), Utterance(id="2", audio=str(tmp_path / "y/a.wav"))]
    items.append(Utterance(id="3", audio=str(tmp_path / "y" / "b.wav")))
    names = ids_by_name(items)
    assert (names["b"], names["b.wav"], names[str(tmp_path / "x" / "a.wav")]) == ("3", "3", "1")
    assert "a" not in names  # which one?
    assert match({"1": "p", "b": "q", "c": "r"}, items) == ({"1": "p", "3": "q"}, ["c"])
    with pytest.raises(DataError, match="two hypotheses for the utterance '3'"):
        match({"3": "p", "b": "q"}, items)
