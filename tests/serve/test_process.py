"""`wavconformer serve` as a process: killed, told to stop, and what it refuses to begin with."""

from __future__ import annotations

import builtins
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading

import httpx2
import numpy as np
import psutil
import pytest
from tests.serve.servers import wait_for, wav


class Process:
    """A server in a process of its own."""

    def __init__(self, folder, *options):
        command = [sys.executable, "-m", "wavconformer", "serve", "--port", "0", "--folder", str(folder), *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.log = []
        self._reader = threading.Thread(target=lambda: self.log.extend(iter(self.process.stderr.readline, "")))
        self._reader.start()
        line = wait_for(lambda: next((line for line in map(json.loads, self.log[:]) if "port" in line), None))
        self.url = f"http://127.0.0.1:{line['port']}"
        self.http = httpx2.Client(base_url=self.url, timeout=60)

    def end(self, by):
        self.process.send_signal(by)
        code = self.process.wait(timeout=60)
        self._reader.join()
        self.process.stderr.close()
        self.http.close()
        return code


def test_a_job_outlives_its_process_and_ends_once(tmp_path, long_sample):
    server = Process(tmp_path)
    sound = {"file": ("long.wav", long_sample)}
    job = server.http.post("/v1/jobs", files=sound, data={"model": "tiny-en"}).json()
    address = f"/v1/jobs/{job['id']}"
    wait_for(lambda: server.http.get(address).json()["status"] == "running")
    its_own = psutil.Process(server.process.pid).children(recursive=True)
    assert server.end(signal.SIGKILL) == -signal.SIGKILL
    assert not psutil.wait_procs(its_own, timeout=60)[1]  # those that decode and those of the model end with it

    server = Process(tmp_path)
    done = wait_for(lambda: (now := server.http.get(address).json())["status"] == "done" and now)
    assert done["attempts"] == 2
    text = server.http.get(f"{address}/result").json()["text"]
    assert text.count("SET A TIMER") == 2
    with sqlite3.connect(tmp_path / "jobs.sqlite") as database:
        assert database.execute("SELECT count(*) FROM jobs").fetchone() == (1,)

    longer = wav(np.tile(np.frombuffer(long_sample[44:], np.float32), 20))
    # Told to stop: the request that runs is answered, the job that runs waits for the next time.
    job = server.http.post("/v1/jobs", files={"file": ("longer.wav", longer)}, data={"model": "tiny-en"}).json()
    wait_for(lambda: server.http.get(f"/v1/jobs/{job['id']}").json()["status"] == "running")
    answers = []
    asked = {
        "url": f"{server.url}/v1/audio/transcriptions",
        "files": sound,
        "data": {"model": "tiny-en"},
        "timeout": 60,
    }
    request = threading.Thread(target=lambda: answers.append(httpx2.post(**asked)))
    request.start()
    wait_for(lambda: "wavconformer_requests_inside 1.0" in server.http.get("/metrics").text)
    assert server.end(signal.SIGTERM) in (0, -signal.SIGTERM)
    request.join()
    assert (answers[0].status_code, answers[0].json()["text"]) == (200, text)
    with sqlite3.connect(tmp_path / "jobs.sqlite") as database:
        states = dict(database.execute("SELECT id, state FROM jobs"))
    assert states[job["id"]] == "queued"
    assert json.loads(server.log[-1])["event"] == "stopped"
    assert "TIMER" not in "".join(server.log)


def test_other_machines_need_a_key(run, tmp_path):
    code, _, err = run("serve", "--host", "0.0.0.0")
    assert (code, "--api-key-file" in err) == (1, True)
    code, _, err = run("serve", "--host", "0.0.0.0", "--api-key-file", tmp_path / "missing")
    assert (code, "can't be read" in err) == (1, True)


def test_what_isn_t_installed_is_named(run, monkeypatch):
    imported = builtins.__import__

    def without(name, *arguments, **options):
        if name == "wavconformer.serve.app":
            raise ModuleNotFoundError("No module named 'fastapi'", name="fastapi")
        return imported(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    code, _, err = run("serve")
    assert (code, "pip install 'wavconformer[serve]'" in " ".join(err.split())) == (1, True)


@pytest.mark.parametrize("wrong", [("--model", "nothing/here/at all"), ("--lm", "missing.arpa")])
def test_a_model_that_isn_t_there(run, wrong, tmp_path):
    code, _, err = run("serve", "--folder", tmp_path, *wrong)
    assert code == 1
    assert wrong[1] in err


def test_a_port_that_is_taken(run, tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = run("serve", "--port", taken.getsockname()[1], "--folder", tmp_path)
    assert code == 1
    assert "can't listen" in " ".join(err.split())
