"""The OpenAI API, by its own client: all formats, streams, models, errors."""

from __future__ import annotations

import json

import openai
import pytest
import srt
import webvtt
from tests.serve.servers import running

KEY = "a-key-of-the-tests"
TEXT = "SET A TIMER FOR TWENTY THREE SECONDS"


@pytest.fixture(scope="module")
def server(transcriber, tmp_path_factory):
    folder = tmp_path_factory.mktemp("jobs")
    with running(
        transcriber,
        folder,
        keys=("another-key-of-them", KEY),
        megabytes=6,
        names=("tiny-en", "whisper-1", "owner/name"),
    ) as it:
        yield it


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def create(client, sample):
    return lambda **options: client.audio.transcriptions.create(**{"file": sample, "model": "tiny-en", **options})


def test_json(create):
    made = create()
    assert made.text == TEXT
    assert (made.usage.type, made.usage.seconds) == ("duration", 3)
    assert made.logprobs is None


def test_text_and_subtitles(create, transcriber, sample):
    assert create(response_format="text") == TEXT + "\n"
    (caption,) = srt.parse(create(response_format="srt"))
    assert caption.content == TEXT
    (cue,) = webvtt.from_string(create(response_format="vtt"))
    assert cue.text == TEXT


def test_verbose_json_says_when_each_word_is_said(create, transcriber, sample):
    expected = transcriber(sample)
    made = create(response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert [(word.word, word.start, word.end) for word in made.words] == [
        (word.text, word.start, word.end) for word in expected.words
    ]
    assert made.words[0].probability == pytest.approx(expected.words[0].probability, abs=1e-3)
    (segment,) = made.segments
    assert (segment.text, segment.start, segment.end) == (TEXT, expected.words[0].start, expected.words[-1].end)
    assert -0.1 < segment.avg_logprob < 0
    assert transcriber.processor.tokenizer.decode(segment.tokens, group_tokens=False) == TEXT
    assert made.duration == pytest.approx(expected.duration)


@pytest.mark.parametrize(("asked", "has"), [([], {"segments"}), (["segment"], {"segments"}), (["word"], {"words"})])
def test_verbose_json_has_the_granularities_that_were_asked_for(create, asked, has):
    made = create(response_format="verbose_json", **({"timestamp_granularities": asked} if asked else {}))
    assert {name for name in ("words", "segments") if getattr(made, name) is not None} == has


def test_log_probabilities_come_with_words(create):
    made = create(include=["logprobs"])
    assert "".join(token.token for token in made.logprobs) == TEXT
    assert all(-1 < token.logprob <= 0 for token in made.logprobs)
    assert bytes(map(int, made.logprobs[1].bytes)) == b" A"


def test_a_stream_sends_segments_and_then_the_whole(create, long_sample):
    *deltas, done = create(stream=True, file=("long.wav", long_sample), include=["logprobs"])
    assert {event.type for event in deltas} == {"transcript.text.delta"}
    assert len(deltas) >= 3
    assert done.type == "transcript.text.done"
    assert "".join(event.delta for event in deltas) == done.text
    assert "".join(token.token for event in deltas for token in event.logprobs) == done.text
    *deltas, done = create(stream=True)
    assert (len(deltas), deltas[0].delta, done.text) == (1, TEXT, TEXT)
    assert deltas[0].logprobs is None


def test_a_stream_that_fails_after_its_begin_says_so(create, long_sample):
    # A sample that is no number, when the segments before it have been sent.
    import numpy as np

    broken = bytearray(long_sample)
    broken[-8:-4] = np.float32("nan").tobytes()
    with pytest.raises(openai.APIError, match="NaN or infinite"):
        list(create(stream=True, file=("long.wav", bytes(broken))))


def test_the_fields_without_effect_are_taken(create):
    made = create(
        language="en",
        prompt="about timers",
        temperature=0.5,
        chunking_strategy={"type": "server_vad", "threshold": 0.5},
    )
    assert made.text == TEXT


def test_hot_words(create):
    assert create(extra_body={"hotwords": ["TIMER=2", "SECONDS"]}).text == TEXT
    assert create(extra_body={"keywords": ["ADA", "BO"], "hotwords": ["TIGER=500"]}).text != TEXT
    for wrong in ("TIMER=x", "ПРИВЕТ", "TIMER=inf", "=", "A" * 6000):
        with pytest.raises(openai.BadRequestError) as caught:
            create(extra_body={"hotwords": [wrong]})
        assert caught.value.param == "hotwords"


def test_models(client):
    listed = client.models.list().data
    assert [model.id for model in listed] == ["tiny-en", "whisper-1", "owner/name"]
    assert client.models.retrieve("owner/name").id == "owner/name"
    model = client.models.retrieve("tiny-en")
    assert (model.object, model.owned_by) == ("model", "wavconformer")
    assert "transcriptions" in model.tasks
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-5")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("options", "kind", "code", "param"),
    [
        ({"model": "gpt-5"}, openai.NotFoundError, "model_not_found", "model"),
        ({"file": ("a.mp3", b"no sound in it" * 9)}, openai.BadRequestError, "invalid_audio", "file"),
        ({"file": ("a.mp3", b"")}, openai.BadRequestError, "invalid_audio", "file"),
        ({"file": ("a.wav", bytes(6_500_000))}, openai.APIStatusError, "file_too_large", "file"),
        ({"file": ("a.wav", bytes(15_000_000))}, openai.APIStatusError, "file_too_large", "file"),
        ({"response_format": "pdf"}, openai.BadRequestError, "invalid_value", "response_format"),
        ({"temperature": 3}, openai.BadRequestError, "invalid_value", "temperature"),
        ({"timestamp_granularities": ["word"]}, openai.BadRequestError, "invalid_value", None),
        ({"include": ["logprobs"], "response_format": "srt"}, openai.BadRequestError, "invalid_value", None),
        ({"extra_body": {"hotword": "X"}}, openai.BadRequestError, "unknown_parameter", "hotword"),
        ({"extra_body": {"target_lang": "fra"}}, openai.BadRequestError, "invalid_value", "target_lang"),
    ],
)
def test_errors_have_the_shape_of_the_api(create, options, kind, code, param):
    with pytest.raises(kind) as caught:
        create(**options)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id.startswith("req_")
    assert caught.value.message.endswith((".", ".'}}"))
    if code == "file_too_large":
        assert caught.value.status_code == 413


def test_a_key_is_needed(server, sample):
    for key in ("wrong", KEY[:-1], KEY + "x"):
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError) as caught:
                client.audio.transcriptions.create(file=sample, model="tiny-en")
            assert caught.value.code == "invalid_api_key"
            with pytest.raises(openai.AuthenticationError):
                client.models.list()
            with pytest.raises(openai.AuthenticationError):  # the answer comes though the body isn't read
                client.audio.transcriptions.create(file=bytes(5_000_000), model="tiny-en")
    answer = server.http.get("/v1/models")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert server.http.get("/metrics").status_code == 401
    assert server.http.get("/healthz").status_code == 200


def test_the_bodies_are_json_even_where_the_form_is_none(server):
    headers = {"Authorization": f"Bearer {KEY}"}
    for body in ({"json": {"model": "tiny-en"}}, {"content": b"x"}, {"data": {"model": "tiny-en"}}):
        answer = server.http.post("/v1/audio/transcriptions", headers=headers, **body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_body")
    answer = server.http.post(
        "/v1/audio/transcriptions",
        headers={**headers, "Content-Type": "multipart/form-data; boundary=x"},
        content=b"--y",
    )
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    answer = server.post("/v1/audio/transcriptions", b"", headers=headers)
    assert answer.json()["error"]["code"] == "missing_required_parameter"
    answer = server.http.post(
        "/v1/audio/transcriptions", headers=headers, files={"fiel": b"x"}, data={"model": "tiny-en"}
    )
    assert answer.json()["error"]["param"] == "fiel"
    answer = server.http.post("/v1/audio/transcriptions", headers=headers, files={"model": b"x"})
    assert answer.json()["error"]["code"] == "missing_required_parameter"
    for path in ("/v1/nothing", "/v1/audio/speech"):
        answer = server.http.get(path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    answer = server.http.get("/v1/audio/transcriptions", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


def test_speakers_are_told_apart_or_refused(create, client):
    if client.models.retrieve("tiny-en").diarize:
        assert {
            segment["speaker"] for segment in json.loads(create(response_format="diarized_json").to_json())["segments"]
        }
        return
    for options in (
        {"response_format": "diarized_json"},
        {"extra_body": {"diarize": True}},
        {"known_speaker_names": ["ann"]},
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            create(**options)
        assert caught.value.code == "not_available"
