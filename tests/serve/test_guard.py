"""The door: names, origins, keys; headers, logs, counters; the pages of the site."""

from __future__ import annotations

import html
import json
import logging
import re

import pytest
from tests.serve.servers import wait_for

from wavconformer.errors import ConfigError
from wavconformer.serve.guard import Keys
from wavconformer.serve.logs import JsonFormatter, set_up
from wavconformer.serve.settings import Settings, read_keys

PATH = "/v1/audio/transcriptions"


def code_of(answer):
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:99", "[::1]:8000"])
def test_this_machine_goes_by_these_names(server, host):
    assert server.http.get("/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::1", "localhost@evil.example"])
def test_a_foreign_name_that_points_here_gives_nothing(server, host):
    assert code_of(server.http.get("/v1/models", headers={"Host": host})) == (421, "unknown_host")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_pages_of_other_sites_get_nothing(server, origin, sample):
    headers = {"Origin": origin}
    assert code_of(server.http.get("/v1/models", headers=headers)) == (403, "foreign_origin")
    assert code_of(server.post(PATH, sample, model="tiny-en", headers=headers)) == (403, "foreign_origin")
    answer = server.http.options(PATH, headers={**headers, "Access-Control-Request-Method": "POST"})
    assert "access-control-allow-origin" not in answer.headers


def test_our_own_page_may_ask(server):
    assert server.http.get("/v1/models", headers={"Origin": server.url}).status_code == 200


def test_names_and_origins_can_be_allowed(start):
    with start(origins=("https://good.example",), hosts=("good.example",), keys=("k" * 16,)) as server:
        headers = {"Origin": "https://good.example", "Host": "good.example"}
        asked = {**headers, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        answer = server.http.options(PATH, headers=asked)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://good.example")
        answer = server.http.get("/v1/models", headers={**headers, "Authorization": "Bearer " + "k" * 16})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://good.example")
        assert server.http.get("/v1/models", headers={"Host": "evil.example"}).status_code == 421


def test_all_answers_carry_the_headers_of_safety(server, sample):
    answers = [
        server.post(PATH, sample, model="tiny-en"),
        server.post(PATH, b"x", model="tiny-en"),
        server.http.get("/nothing"),
        server.http.get("/v1/models", headers={"Host": "evil.example"}),
        server.http.get("/healthz"),
    ]
    for answer in answers:
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; frame-ancestors 'none'")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
    policy = server.http.get("/docs").headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


def test_a_request_keeps_its_id(server):
    assert server.http.get("/healthz", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"
    for given in ("a b", "x" * 65, ""):
        made = server.http.get("/healthz", headers={"X-Request-ID": given}).headers["x-request-id"]
        assert re.fullmatch("req_[0-9a-f]{24}", made)


def test_the_log_says_what_was_asked_and_not_what_was_said(server, start, sample, caplog):
    def logged(server, **fields):
        caplog.clear()
        with caplog.at_level(logging.INFO, "wavconformer.serve"):
            request_id = server.post(PATH, sample, model="tiny-en", **fields).headers["x-request-id"]
            # It is written down when the answer has been sent.
            (record,) = wait_for(lambda: [it for it in caplog.records if it.fields["request_id"] == request_id])
        assert "timer.flac" not in caplog.text
        return record.fields

    for fields in ({}, {"stream": "true"}):
        line = logged(server, **fields)
        assert (line["method"], line["route"], line["status"]) == ("POST", PATH, 200)
        assert line["audio_seconds"] == 2.724
        assert "TIMER" not in json.dumps(line)
    with start(log_text=True) as other:
        assert logged(other)["text"] == "SET A TIMER FOR TWENTY THREE SECONDS"


def test_the_log_is_lines_of_json(capsys, monkeypatch):
    loggers = [logging.getLogger(name) for name in ("wavconformer.serve", "uvicorn.error")]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    try:
        set_up()
        try:
            raise ValueError("a fault")
        except ValueError as error:
            logging.getLogger("wavconformer.serve").error("error", exc_info=error, extra={"fields": {"a": "é"}})
        line = json.loads(capsys.readouterr().err)
    finally:
        for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
    assert (line["level"], line["event"], line["a"]) == ("error", "error", "é")
    assert "ValueError: a fault" in line["traceback"]
    assert line["time"].endswith("+00:00")
    assert isinstance(loggers[0], logging.Logger)
    assert JsonFormatter().format(logging.makeLogRecord({"msg": "x"}))


def test_counters(server, sample):
    assert server.post(PATH, sample, model="tiny-en").status_code == 200
    text = server.http.get("/metrics").text
    counted = dict(re.findall(r"^(wavconformer_\S+) (\S+)$", text, re.MULTILINE))
    assert float(counted[f'wavconformer_requests_total{{method="POST",route="{PATH}",status="200"}}']) >= 1
    assert float(counted["wavconformer_audio_seconds_total"]) >= 2.7
    assert float(counted["wavconformer_batch_size_count"]) >= 1
    assert counted["wavconformer_requests_inside"] == "0.0"
    assert "process_resident_memory_bytes" in text
    for number in range(3):
        assert server.http.request(f"INVENTED{number}", "/v1/models").status_code == 405
    text = server.http.get("/metrics").text
    assert 'method="other"' in text and "INVENTED" not in text


def test_health(server):
    assert server.http.get("/healthz").json() == {"status": "ok"}
    assert server.http.get("/readyz").json() == {"status": "ok"}
    server.service._stopping.set()
    try:
        assert server.http.get("/readyz").status_code == 503
        assert server.http.get("/healthz").status_code == 200
        assert code_of(server.http.get("/v1/models")) == (503, "stopping")
    finally:
        server.service._stopping.clear()


def test_a_fault_of_ours_is_told_without_its_innards(server, sample, monkeypatch, caplog):
    def fail(*arguments):
        raise RuntimeError("a secret path")

    monkeypatch.setattr(server.service.batcher, "words", fail)
    answer = server.post(PATH, sample, model="tiny-en")
    assert code_of(answer) == (500, "internal_error")
    assert "secret" not in answer.text
    assert "a secret path" in caplog.text


def test_the_description_and_its_page(server):
    description = server.http.get("/openapi.json").json()
    form = description["paths"][PATH]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["file", "model"]
    assert form["properties"]["model"]["enum"] == ["tiny-en"]
    assert form["properties"]["response_format"]["enum"][:3] == ["json", "text", "srt"]
    assert "/v1/jobs/{job}/result" in description["paths"]
    page = server.http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    for path, methods in description["paths"].items():
        for method in methods:
            assert f"<code>{method.upper()} {html.escape(path)}</code>" in page.text
    assert server.http.get("/", follow_redirects=True).headers["content-type"].startswith("text/html")
    addresses = re.findall(r'(?:href|src)="([^"]*)"', page.text)
    assert addresses
    for address in addresses:  # nothing from elsewhere
        assert server.http.get(address).status_code == 200
    assert server.http.get("/static/../app.py").status_code == 404


# Keys and settings


def test_keys():
    keys = Keys(["one-of-the-keys", "ключ-ключ"])
    assert "one-of-the-keys" in keys
    assert "ключ-ключ" in keys
    assert "one-of-the-key" not in keys
    assert "" not in keys
    assert not Keys([])


def test_a_file_of_keys(tmp_path):
    path = tmp_path / "keys"
    path.write_text("# ours\n\n  abcdefghijklmnop  \n0123456789abcdef0\n")
    assert read_keys(path) == ("abcdefghijklmnop", "0123456789abcdef0")
    path.write_text("short\n")
    with pytest.raises(ConfigError, match="fewer than 16"):
        read_keys(path)
    path.write_text("# none\n")
    with pytest.raises(ConfigError, match="holds none"):
        read_keys(path)
    with pytest.raises(ConfigError, match="can't be read"):
        read_keys(tmp_path / "missing")


@pytest.mark.parametrize(
    "wrong", [{"queue": -1}, {"megabytes": 0}, {"workers": 0}, {"names": ("",)}, {"minutes": float("nan")}]
)
def test_settings_that_can_t_be(wrong):
    with pytest.raises(ConfigError):
        Settings(**wrong)


def test_jobs_are_kept_where_state_is(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert Settings().folder == tmp_path / "wavconformer"
