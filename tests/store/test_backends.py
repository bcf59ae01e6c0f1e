"""Voices in SQLite and LanceDB: what goes in comes out, whoever else writes meanwhile."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest

from wavconformer.errors import DataError, WavConformerError
from wavconformer.store import Enrolment, default_place, open_backend

SIZE = 16


def vectors(count: int, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal((count, SIZE)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def enrolments(rows: np.ndarray) -> list[Enrolment]:
    return [Enrolment(row, "a.wav") for row in rows]


@pytest.fixture(params=["voices.db", "voices.lance"])
def place(request, tmp_path):
    if request.param.endswith(".lance"):
        pytest.importorskip("lancedb")
    return tmp_path / "new folder" / request.param


def made(place):
    return open_backend(place, model="m", size=SIZE, create=True)


def test_nothing_is_there_before_somebody_is_enrolled(place):
    with pytest.raises(DataError, match=r"no store of voices at .*enroll NAME"):
        open_backend(place)
    assert not place.exists()
    with made(place) as store:
        assert store.voices() == []
        assert store.search(vectors(2), 3) == [[], []]


def test_voices_are_found_by_their_mean(place):
    rows = vectors(6)
    with made(place) as store:
        assert store.add("Ann", enrolments(rows[:2])) == 2
        assert store.add_all({"O'Hara": enrolments(rows[2:3]), "Zoë": enrolments(rows[3:4])}) == [1, 1]
        assert store.add(" Ann ", enrolments(rows[4:5])) == 3
    with open_backend(place, model="m", size=SIZE) as store:
        mean = rows[[0, 1, 4]].sum(0)
        mean /= np.linalg.norm(mean)
        np.testing.assert_allclose(store.means(["Ann", "Zoë"]), [mean, rows[3]], atol=1e-6)
        first, second = store.search(np.stack([mean, rows[2]]), 2)
        assert [len(first), first[0][0], second[0][0]] == [2, "Ann", "O'Hara"]
        assert first[0][1] == pytest.approx(1.0, abs=1e-5)
        others = {name: float(store.means([name])[0] @ mean) for name in ("O'Hara", "Zoë")}
        assert first[1][0] == max(others, key=others.__getitem__)
        assert first[1][1] == pytest.approx(max(others.values()), abs=1e-5)
        assert 3 <= store.count() <= 5  # at most as many as recordings
        voices = store.voices()
        assert [(voice.name, voice.recordings) for voice in voices] == [("Ann", 3), ("O'Hara", 1), ("Zoë", 1)]
        assert all(voice.since.endswith("+00:00") for voice in voices)


def test_names_change_and_go(place):
    rows = vectors(3)
    with made(place) as store:
        store.add_all({name: enrolments(rows[[number]]) for number, name in enumerate(["Ann", "Bob", "O'Hara"])})
        assert store.search(rows[2:], 1)[0][0][0] == "O'Hara"
        store.rename("O'Hara", "Scarlett")
        store.rename("Ann", "Ann")
        assert store.search(rows[2:], 1)[0][0][0] == "Scarlett"
        store.remove("Bob")
        assert [voice.name for voice in store.voices()] == ["Ann", "Scarlett"]
        assert "Bob" not in [name for name, _ in store.search(rows[1:2], 5)[0]]
        for change in (lambda: store.remove("Bob"), lambda: store.rename("Bob", "Rob")):
            with pytest.raises(DataError, match="nobody called 'Bob'"):
                change()
        with pytest.raises(DataError, match="Did you mean 'Scarlett'"):
            store.remove("Scarlet")
        with pytest.raises(DataError, match="somebody called 'Ann' already"):
            store.rename("Scarlett", "Ann")
        assert [voice.name for voice in store.voices()] == ["Ann", "Scarlett"]


def test_misuse_is_refused_and_changes_nothing(place):
    with made(place) as store:
        for name in ("", "  ", "two\nlines"):
            with pytest.raises(ValueError, match="no name of a speaker"):
                store.add(name, enrolments(vectors(1)))
        with pytest.raises(ValueError, match="without a recording"):
            store.add_all({"Ann": enrolments(vectors(1)), "Bob": []})
        with pytest.raises(ValueError, match="have the shape"):
            store.add_all({"Ann": enrolments(vectors(1)), "Bob": [Enrolment(np.ones(3, np.float32))]})
        assert store.voices() == []
    with pytest.raises(ValueError, match="give model and size"):
        open_backend(place, create=True)


def test_another_model_is_refused_with_the_reason(place):
    with made(place) as store:
        store.add("Ann", enrolments(vectors(1)))
    for create in (True, False):
        with pytest.raises(DataError, match=r"another speaker model \(m\) than the one in use \(n\).*enrol everybody"):
            open_backend(place, model="n", size=SIZE, create=create)
    with open_backend(place) as store:
        assert (store.model, store.size) == ("m", SIZE)


def test_what_another_has_enrolled_is_seen(place):
    rows = vectors(2)
    with made(place) as here, made(place) as there:
        here.add("Ann", enrolments(rows[:1]))
        assert here.search(rows[1:], 1)[0][0][0] == "Ann"
        there.add("Bob", enrolments(rows[1:]))
        assert here.search(rows[1:], 1)[0][0][0] == "Bob"
        there.rename("Bob", "Rob")
        assert here.search(rows[1:], 1)[0][0][0] == "Rob"


WRITER = """
import sys, numpy as np
from wavconformer.store import Enrolment, open_backend
place, writer = sys.argv[1:]
with open_backend(place, model="m", size=16, create=True) as store:
    for number in range(30):
        name = "both" if number % 2 else f"{writer} {number}"
        store.add(name, [Enrolment(np.eye(16, dtype=np.float32)[number % 16], writer)])
"""


def test_processes_that_enrol_at_once_lose_nothing(tmp_path):
    place = tmp_path / "voices.db"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(place), name]) for name in ("one", "two")]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    with open_backend(place) as store:
        found = {voice.name: voice.recordings for voice in store.voices()}
    assert found.pop("both") == 30
    assert found == {f"{name} {number}": 1 for name in ("one", "two") for number in range(0, 30, 2)}


def test_threads_may_share_a_store(tmp_path):
    with made(tmp_path / "voices.db") as store:
        threads = [
            threading.Thread(target=lambda n=n: [store.add(f"{n}-{k}", enrolments(vectors(1))) for k in range(10)])
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(store.voices()) == 40


def test_many_voices_are_searched_exactly(tmp_path):
    rows = vectors(3000)
    with made(tmp_path / "voices.db") as store:
        store.add_all({f"{number}": [Enrolment(row)] for number, row in enumerate(rows)})
        asked = vectors(5, seed=1)
        found = store.search(asked, 4)
    for row, query in zip(found, asked, strict=True):
        scores = rows @ query
        best = np.argsort(-scores)[:4]
        assert [name for name, _ in row] == [str(number) for number in best]
        np.testing.assert_allclose([score for _, score in row], scores[best], atol=1e-6)


# --- files that are no store


def test_the_file_is_for_its_owner_alone(tmp_path):
    place = tmp_path / "voices.db"
    made(place).close()
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


@pytest.mark.parametrize("create", [True, False])
def test_a_damaged_file_is_told_and_left_alone(tmp_path, create):
    place = tmp_path / "voices.db"
    for content in (b"no database at all " * 100, b"SQLite format 3\x00" + b"\xff" * 5000):
        place.write_bytes(content)
        with pytest.raises(DataError, match=r"voices\.db"):
            open_backend(place, model="m", size=SIZE, create=create)
        assert place.read_bytes() == content


def test_a_store_that_is_cut_off_is_damaged(tmp_path):
    place = tmp_path / "voices.db"
    with made(place) as store:
        store.add_all({f"{number}": enrolments(vectors(1)) for number in range(500)})
    place.write_bytes(place.read_bytes()[: place.stat().st_size // 2])
    with pytest.raises(DataError, match="damaged"), open_backend(place) as store:
        store.search(vectors(1), 1)


def test_a_vector_of_another_length_is_damage(tmp_path):
    place = tmp_path / "voices.db"
    with made(place) as store:
        store.add("Ann", enrolments(vectors(1)))
    with sqlite3.connect(place) as database:
        database.execute("UPDATE recordings SET vector = x'00'")
    database.close()
    with pytest.raises(DataError, match="another length: it is damaged"), open_backend(place) as store:
        store.search(vectors(1), 1)


def change(place, *statements):
    database = sqlite3.connect(place, isolation_level=None)
    for statement in statements:
        database.execute(statement)
    database.close()


def test_databases_of_others_are_refused(tmp_path):
    place = tmp_path / "other.db"
    change(place, "CREATE TABLE mine (a)")
    with pytest.raises(DataError, match="of another program"):
        open_backend(place, model="m", size=SIZE, create=True)
    place = tmp_path / "voices.db"
    made(place).close()
    change(place, "DELETE FROM model")
    with pytest.raises(DataError, match="doesn't say which model"):
        open_backend(place)
    change(place, "PRAGMA user_version = 9")
    with pytest.raises(DataError, match="newer wavconformer"):
        open_backend(place)


def test_a_database_without_tables_is_no_store_yet(tmp_path):
    place = tmp_path / "voices.db"
    change(place, "PRAGMA user_version = 1")
    with pytest.raises(DataError, match="no store of voices"):
        open_backend(place)
    made(place).close()


def test_a_store_that_somebody_holds_is_waited_for_and_then_told(tmp_path, monkeypatch):
    place = tmp_path / "voices.db"
    monkeypatch.setattr("wavconformer.store.sqlite._PATIENCE", 0.05)
    with made(place) as store:
        holder = sqlite3.connect(place, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(DataError, match="another process is holding it"):
            store.add("Ann", enrolments(vectors(1)))
        holder.execute("ROLLBACK")
        holder.close()
        assert store.add("Ann", enrolments(vectors(1))) == 1


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_store_that_is_being_made_is_waited_for(tmp_path, monkeypatch, lock):
    place = tmp_path / "new.db"
    holder = sqlite3.connect(place, isolation_level=None, check_same_thread=False)
    holder.execute("PRAGMA user_version = 1")
    holder.execute(f"BEGIN {lock}")
    monkeypatch.setattr("wavconformer.store.sqlite._PATIENCE", 0.05)
    with pytest.raises(DataError, match="another process is holding it"):
        made(place)
    monkeypatch.setattr("wavconformer.store.sqlite._PATIENCE", 30.0)
    later = threading.Timer(0.1, holder.rollback)
    later.start()
    with made(place) as store:
        assert store.voices() == []
    later.join()
    holder.close()


def test_a_folder_is_no_store(tmp_path):
    with pytest.raises(DataError, match="no store of voices"):
        open_backend(tmp_path)
    with pytest.raises((DataError, OSError), match=tmp_path.name):
        made(tmp_path)


def test_lance_says_what_is_missing_or_damaged(tmp_path, monkeypatch):
    place = tmp_path / "voices.lance"
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(WavConformerError, match=r"pip install 'wavconformer\[speakers\]'"):
        open_backend(place)
    monkeypatch.undo()
    pytest.importorskip("lancedb")
    place.mkdir()
    with pytest.raises(DataError, match="no store of voices"):
        open_backend(place)
    with made(place) as store:
        store.add_all({f"{number}": [Enrolment(row)] for number, row in enumerate(vectors(300))})
        store.build_index()
        assert store.search(vectors(300)[7:8], 1)[0][0][0] == "7"
    import lancedb

    lancedb.connect(str(place)).drop_table("recordings")
    lancedb.connect(str(place)).create_table("recordings", [{"name": "x"}])
    with pytest.raises(DataError, match="doesn't say which model"):
        open_backend(place)


# --- the default place


def test_the_default_place_is_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("WAVCONFORMER_SPEAKERS", "s3://bucket/voices")
    assert default_place() == "s3://bucket/voices"
    monkeypatch.delenv("WAVCONFORMER_SPEAKERS")
    for platform, variable, folder in (
        ("linux", "XDG_DATA_HOME", ".local/share"),
        ("darwin", None, "Library/Application Support"),
        ("win32", "LOCALAPPDATA", "AppData/Local"),
    ):
        monkeypatch.setattr("wavconformer.store.place.sys.platform", platform)
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):
            monkeypatch.delenv(name, raising=False)
        assert default_place() == str(tmp_path / folder / "wavconformer" / "speakers.db")
        if variable:
            monkeypatch.setenv(variable, str(tmp_path / "data"))
            assert default_place() == str(tmp_path / "data" / "wavconformer" / "speakers.db")
