"""Jobs: sent, watched, fetched, cancelled; and what a store says after its process has come to its end."""

from __future__ import annotations

import errno
import io
import sqlite3
import threading

import pytest
from tests.serve.servers import running, wait_for

from wavconformer.errors import ConfigError
from wavconformer.serve.catalogue import TASKS
from wavconformer.serve.job_store import MOST_ATTEMPTS, JobStore, State
from wavconformer.serve.task import Answer, Task, TaskForm

TEXT = "SET A TIMER FOR TWENTY THREE SECONDS"


def status_of(server, job):
    return server.http.get(f"/v1/jobs/{job['id']}").json()


def finished(server, job):
    return wait_for(lambda: (now := status_of(server, job))["status"] not in ("queued", "running") and now)


@pytest.fixture
def held(monkeypatch):
    """A task that goes on until it is let go, or has to stop."""
    go, begun = threading.Event(), []

    def hold(visit, form):
        begun.append(form)
        while not go.wait(0.01):
            visit.work.check()
        return Answer.of({"held": True})

    monkeypatch.setitem(TASKS, "held", Task("held", "Waits.", TaskForm, hold))
    hold.go, hold.begun = go, begun
    yield hold
    go.set()


def test_a_job_gives_what_its_endpoint_gives(server, sample):
    fields = {"model": "tiny-en", "response_format": "verbose_json", "timestamp_granularities[]": ["word", "segment"]}
    answer = server.post("/v1/jobs", sample, **fields)
    job = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/jobs/{job['id']}")
    assert (job["object"], job["task"], job["attempts"]) == ("job", "transcriptions", 0)
    done = finished(server, job)
    assert (done["status"], done["attempts"], done["error"]) == ("done", 1, None)
    assert done["progress"]["fraction"] == 1.0
    result = server.http.get(f"/v1/jobs/{job['id']}/result")
    direct = server.post("/v1/audio/transcriptions", sample, **fields)
    assert result.json() == direct.json()
    assert result.headers["content-type"] == direct.headers["content-type"]
    job = server.post("/v1/jobs", sample, model="tiny-en", response_format="srt").json()
    finished(server, job)
    result = server.http.get(f"/v1/jobs/{job['id']}/result")
    assert result.headers["content-type"].startswith("application/x-subrip")
    assert TEXT in result.text
    wait_for(lambda: not list((server.service.settings.folder / "recordings").iterdir()))


def test_progress_is_told_while_it_runs(server, long_sample):
    job = server.post("/v1/jobs", long_sample, model="tiny-en", task="transcriptions").json()
    told = []

    def over():
        now = status_of(server, job)
        told.append(now["progress"])
        return now["status"] == "done"

    wait_for(over)
    assert told[-1]["seconds"] == pytest.approx(told[-1]["duration"], abs=0.01)
    assert [part["seconds"] for part in told] == sorted(part["seconds"] for part in told)
    assert any(0 < part["fraction"] < 1 for part in told)


def test_a_job_of_another_task(server, sample):
    job = server.post("/v1/jobs", sample, task="align", text="Set a timer\nfor 23 seconds").json()
    assert finished(server, job)["status"] == "done"
    lines = server.http.get(f"/v1/jobs/{job['id']}/result").json()["lines"]
    assert [line["text"] for line in lines] == ["Set a timer", "for 23 seconds"]


def test_a_job_that_fails_has_its_error(server):
    job = server.post("/v1/jobs", b"no sound in this", model="tiny-en").json()
    done = finished(server, job)
    assert (done["status"], done["error"]["code"]) == ("failed", "invalid_audio")
    result = server.http.get(f"/v1/jobs/{job['id']}/result")
    assert (result.status_code, result.json()["error"]) == (400, done["error"])


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"task": "sing"}, "invalid_value", "task"),
        ({"model": "tiny-en", "stream": "true"}, "invalid_value", "stream"),
        ({"model": "gpt-5"}, "model_not_found", "model"),
        ({"task": "align"}, "missing_required_parameter", "text"),
        ({"task": ["align", "align"]}, "invalid_value", "task"),
    ],
)
def test_a_job_that_can_t_be_is_refused_at_once(server, sample, fields, code, param):
    answer = server.post("/v1/jobs", sample, **fields)
    assert answer.status_code in (400, 404)
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)


def test_jobs_are_cancelled_and_forgotten(start, held, sample):
    with start(jobs=1) as server:
        first = server.post("/v1/jobs", sample, task="held").json()
        wait_for(lambda: held.begun)
        second = server.post("/v1/jobs", sample, task="held").json()
        full = server.post("/v1/jobs", sample, task="held")
        assert (full.status_code, full.headers["retry-after"]) == (429, "30")
        assert server.http.get(f"/v1/jobs/{first['id']}/result").json()["error"]["code"] == "not_done"
        assert "wavconformer_jobs_running 1.0" in server.http.get("/metrics").text
        for job in (second, first):
            answer = server.http.delete(f"/v1/jobs/{job['id']}").json()
            assert (answer["status"], answer["deleted"]) == ("cancelled", False)
            assert server.http.get(f"/v1/jobs/{job['id']}/result").json()["error"]["code"] == "cancelled"
        wait_for(lambda: not server.app.state.runner._works)
        assert status_of(server, first)["status"] == "cancelled"
        assert len(held.begun) == 1
        assert not list((server.service.settings.folder / "recordings").iterdir())
        assert server.http.delete(f"/v1/jobs/{first['id']}").json()["deleted"]
        for method in ("GET", "DELETE"):
            answer = server.http.request(method, f"/v1/jobs/{first['id']}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "job_not_found")


def test_jobs_have_so_much_room_together(start, held, sample):
    size = sample.stat().st_size / (1 << 20)
    with start(folder_megabytes=1.5 * size) as server:
        job = server.post("/v1/jobs", sample, task="held").json()
        full = server.post("/v1/jobs", sample, task="held")
        assert (full.status_code, full.headers["retry-after"]) == (429, "30")
        held.go.set()
        assert finished(server, job)["status"] == "done"
        assert server.post("/v1/jobs", sample, task="held").status_code == 202


def test_a_disk_that_is_full_is_told(server, sample, monkeypatch):
    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(server.app.state.jobs, "add", fail)
        answer = server.post("/v1/jobs", sample, model="tiny-en")
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")


def test_a_job_that_failed_by_a_fault_of_ours_says_so(start, sample, monkeypatch):
    def fail(visit, form):
        raise RuntimeError("a secret path")

    monkeypatch.setitem(TASKS, "broken", Task("broken", "Fails.", TaskForm, fail))
    with start() as server:
        job = server.post("/v1/jobs", sample, task="broken").json()
        assert finished(server, job)["error"]["code"] == "internal_error"
        result = server.http.get(f"/v1/jobs/{job['id']}/result")
        assert (result.status_code, result.json()["error"]["code"]) == (500, "internal_error")
        assert "secret" not in result.text


def test_a_server_that_stops_parks_its_jobs(transcriber, tmp_path, held, sample):
    with running(transcriber, tmp_path) as server:
        job = server.post("/v1/jobs", sample, task="held").json()
        wait_for(lambda: held.begun)
        waiting = server.post("/v1/jobs", sample, model="tiny-en").json()
    with sqlite3.connect(tmp_path / "jobs.sqlite") as database:
        states = dict(database.execute("SELECT id, state FROM jobs"))
    assert states == {job["id"]: "queued", waiting["id"]: "queued"}
    held.go.set()
    with running(transcriber, tmp_path) as server:
        done = finished(server, job)
        assert (done["status"], done["attempts"]) == ("done", 1)
        assert server.http.get(f"/v1/jobs/{job['id']}/result").json() == {"held": True}
        assert finished(server, waiting)["status"] == "done"


def test_a_task_that_is_gone_fails_its_jobs(start, held, sample, monkeypatch):
    held.go.set()
    with start() as server:
        monkeypatch.setattr(server.app.state.runner, "wake", lambda: None)
        job = server.post("/v1/jobs", sample, task="held").json()
        monkeypatch.delitem(TASKS, "held")
        monkeypatch.undo()
        server.app.state.runner.wake()
        assert finished(server, job)["error"]["code"] == "not_available"


# The store


@pytest.fixture
def store(tmp_path):
    store = JobStore(tmp_path)
    yield store
    store.close()


def add(store):
    return store.add("align", {"text": "a"}, {"file": ("a.wav", io.BytesIO(b"sound"))})


def test_what_ran_when_the_process_ended_runs_again_but_not_for_ever(tmp_path):
    store = JobStore(tmp_path)
    job = add(store)
    store.close()
    for attempt in range(1, MOST_ATTEMPTS + 1):
        store = JobStore(tmp_path)
        assert store.get(job.id).state is State.QUEUED
        claimed = store.claim()
        assert (claimed.id, claimed.attempts, claimed.state) == (job.id, attempt, State.RUNNING)
        assert store.claim() is None
        store.progress(job.id, 3.0, 9.0)
        store.close()  # which says nothing of the job, as a process that is killed
    store = JobStore(tmp_path)
    lost = store.get(job.id)
    assert (lost.state, lost.error["body"]["error"]["code"]) == (State.FAILED, "lost")
    assert not list((tmp_path / "recordings").iterdir())
    store.close()


def test_a_job_ends_once(store):
    job = add(store)
    assert not store.finish(job.id, Answer("early"))
    store.claim()
    assert store.path(job.id, "file").read_bytes() == b"sound"
    assert store.finish(job.id, Answer("first", "text/plain"))
    assert not store.finish(job.id, Answer("second"))
    assert not store.fail(job.id, 400, {})
    assert not store.cancel(job.id)
    assert store.result(job.id) == Answer("first", "text/plain")
    store.forget_old(1)
    assert store.get(job.id) is not None
    store.forget_old(-1)
    assert store.get(job.id) is None


def test_the_oldest_goes_first(store):
    jobs = [add(store) for _ in range(3)]
    assert [store.claim().id for _ in jobs] == [job.id for job in jobs]


def test_nothing_is_left_of_a_job_that_can_t_be_written(store, tmp_path):
    class Broken(io.BytesIO):
        def read(self, *_):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        store.add("align", {}, {"file": ("a.wav", io.BytesIO(b"x")), "other": ("b.wav", Broken())})
    assert not list((tmp_path / "recordings").iterdir())
    assert store.count(State.QUEUED) == 0


def test_recordings_that_belong_to_nothing_are_taken_away(tmp_path):
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings" / "job_1.file").write_bytes(b"x")
    JobStore(tmp_path).close()
    assert not list((tmp_path / "recordings").iterdir())


def test_a_folder_has_one_server(store, tmp_path):
    with pytest.raises(ConfigError, match="Another server"):
        JobStore(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can't be kept"):
        JobStore(tmp_path / "file")
