"""The other tasks: align with its model; those that need a further one with stand-ins for it."""

from __future__ import annotations

import sys
import threading
from dataclasses import asdict, dataclass, replace
from types import ModuleType

import numpy as np
import pytest

from wavconformer import align
from wavconformer.errors import CheckpointError, ConfigError
from wavconformer.serve import models
from wavconformer.serve.models import FurtherModels, Kind
from wavconformer.serve.work import Reason, Stopped, Work

RATE = 8_000


def test_align_gives_what_align_gives(server, transcriber, sample):
    text = "Set a timer\nfor 23 seconds"
    expected = align(sample, text, model=transcriber, language="en").as_dict()
    answer = server.post("/v1/align", sample, text=text, language="en")
    assert answer.status_code == 200
    lines = answer.json()["lines"]
    assert [[(word["text"], word["start"], word["end"]) for word in line["words"]] for line in lines] == [
        [(word["text"], word["start"], word["end"]) for word in line["words"]] for line in expected["lines"]
    ]


@pytest.mark.parametrize(
    ("fields", "param"),
    [({}, "text"), ({"text": ""}, "text"), ({"text": "?!"}, None), ({"text": "a", "language": "xx"}, None)],
)
def test_a_text_that_can_t_be_aligned(server, sample, fields, param):
    answer = server.post("/v1/align", sample, **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_what_a_server_can_t_do_it_says(server, sample):
    can = server.http.get("/v1/models/tiny-en").json()["tasks"]
    for task in {"classify", "embed", "diarize"} - set(can):
        answer = server.post(f"/v1/{task}", sample)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "not_available")
        answer = server.post("/v1/jobs", sample, task=task)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "not_available")


# Stand-ins, which hear how long a recording is


@dataclass(frozen=True)
class Heard:
    seconds: float
    asked: tuple[str, ...]

    def as_dict(self):
        return asdict(self)


class Model:
    """A model of any kind. It keeps who uses it apart."""

    name = "a model"
    sampling_rate = RATE

    def __init__(self):
        self.inside = 0

    def __call__(self, source, *, sampling_rate, **settings):
        assert sampling_rate == RATE
        self.inside += 1
        assert self.inside == 1
        heard = Heard(
            round(sum(map(len, source)) / RATE, 2), tuple(f"{key}={value}" for key, value in settings.items())
        )
        self.inside -= 1
        return heard


class Voices(Model):
    def __call__(self, source, *, sampling_rate):
        assert source.ndim == 1  # a whole recording
        return np.array([super().__call__([source], sampling_rate=sampling_rate).seconds, 0.5], np.float32)


@pytest.fixture
def kinds(monkeypatch):
    made = {"classify": Model(), "speakers": Voices(), "diarize": Model()}
    for name, model in made.items():
        kind = Kind("json", "tiny-en", lambda module, place, others, model=model: model)
        monkeypatch.setitem(models.KINDS, name, kind)

    def verify(a, b, *, model, threshold, sampling_rate):
        if threshold is None:
            raise CheckpointError("no calibration.json in a secret place")
        return Heard(float(model(a, sampling_rate=RATE)[0] - model(b, sampling_rate=RATE)[0]), (f"{threshold}",))

    @dataclass(frozen=True)
    class Spoken:
        """A segment with its speaker."""

        text: str
        start: float
        end: float
        words: tuple
        speaker: str

    def by_speaker(transcript, heard):
        named = tuple(Spoken(**vars(segment), speaker=f"of {heard.seconds}") for segment in transcript.segments)
        return replace(transcript, segments=named)

    for name, function in {"tasks.verification": verify, "decoding.diarization": by_speaker}.items():
        module = ModuleType(name)
        setattr(module, function.__name__, function)
        monkeypatch.setitem(sys.modules, f"wavconformer.{name}", module)
    return made


@pytest.mark.parametrize(
    ("task", "fields", "expected"),
    [
        ("classify", {"top": "2"}, {"seconds": 2.72, "asked": ["top=2", "threshold=0.5"]}),
        ("embed", {}, {"embedding": [pytest.approx(2.72), 0.5], "speaker_model": "a model"}),
        (
            "diarize",
            {"speakers": 2},
            {"seconds": 2.72, "asked": ["speakers=2", "min_speakers=None", "max_speakers=None"]},
        ),
    ],
)
def test_a_task_gives_what_its_model_gives(server, kinds, sample, task, fields, expected):
    answer = server.post(f"/v1/{task}", sample, **fields)
    assert (answer.status_code, answer.json()) == (200, expected)
    assert task in server.http.get("/v1/models/tiny-en").json()["tasks"]


def test_who_doesn_t_ask_the_model_of_words_isn_t_waited_for(server, kinds, sample, monkeypatch):
    batcher = server.service.batcher
    expecting, expected = batcher.expecting, []
    monkeypatch.setattr(batcher, "expecting", lambda work: expected.append(work) or expecting(work))
    assert server.post("/v1/classify", sample).status_code == 200
    assert not expected
    assert server.post("/v1/audio/transcriptions", sample, model="tiny-en").status_code == 200
    assert server.post("/v1/align", sample, text="Set a timer").status_code == 200
    assert len(expected) == 2
    assert not batcher._expected


def test_verify_takes_two_recordings(server, kinds, sample):
    files = {"file": ("a.flac", sample.read_bytes()), "other": ("b.flac", sample.read_bytes())}
    answer = server.http.post("/v1/verify", files=files, data={"threshold": "0.5"})
    assert (answer.status_code, answer.json()) == (200, {"seconds": 0.0, "asked": ["0.5"]})
    answer = server.http.post("/v1/verify", files=files)
    assert (answer.status_code, answer.json()["error"]["param"], "secret" in answer.text) == (400, "threshold", False)
    answer = server.post("/v1/verify", sample)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "other")


@pytest.mark.parametrize("fields", [{"speakers": 2, "max_speakers": 3}, {"min_speakers": 3, "max_speakers": 2}])
def test_numbers_of_speakers_that_contradict_each_other(server, kinds, sample, fields):
    assert server.post("/v1/diarize", sample, **fields).status_code == 400


def test_a_transcript_says_who_speaks(server, kinds, sample):
    ask = {"model": "tiny-en", "response_format": "diarized_json"}
    made = server.post("/v1/audio/transcriptions", sample, **ask).json()
    (segment,) = made["segments"]
    assert (segment["id"], segment["type"], segment["speaker"]) == ("seg_001", "transcript.text.segment", "of 2.72")
    ask = {"model": "tiny-en", "response_format": "verbose_json", "diarize": "true"}
    made = server.post("/v1/audio/transcriptions", sample, **ask).json()
    assert made["segments"][0]["speaker"] == "of 2.72"
    answer = server.post("/v1/audio/transcriptions", sample, model="tiny-en", diarize="true", stream="true")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "stream")


def test_a_further_model_is_used_by_one_at_a_time(kinds):
    further = FurtherModels({"classify": "somewhere"})
    entered, work = threading.Event(), Work()
    work_of_other = Work()

    def other():
        with further.use("classify", work_of_other):
            entered.set()

    with further.use("classify", work) as model:
        assert model is kinds["classify"]
        thread = threading.Thread(target=other)
        thread.start()
        assert not entered.wait(0.3)
    assert entered.wait(30)
    thread.join()
    with further.use("classify", work):
        work_of_other.stop(Reason.GONE)
        with pytest.raises(Stopped), further.use("classify", work_of_other):
            pass


def test_kinds_that_aren_t_there(monkeypatch):
    with pytest.raises(ConfigError, match="no task 'sing'"):
        FurtherModels({"sing": "somewhere"})
    monkeypatch.setitem(models.KINDS, "classify", Kind("json", "no-such-model", lambda *_: None))
    assert "--task classify=MODEL" in (FurtherModels({}).why_not("classify") or "")
    monkeypatch.setitem(models.KINDS, "classify", Kind("wavconformer.nothing", "tiny-en", lambda *_: None))
    assert "no 'classify'" in (FurtherModels({}).why_not("classify") or "")
