"""Speech to text as the OpenAI API defines it (its OpenAPI description, `createTranscription`), and our own fields."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable
from contextlib import closing
from importlib import import_module
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from wavconformer.decoding.hotwords import HOTWORD_WEIGHT, read_hotwords
from wavconformer.decoding.transcript import Segment, Transcript
from wavconformer.decoding.words import Word
from wavconformer.serve.failures import not_available, refused
from wavconformer.serve.service import Visit
from wavconformer.serve.task import Answer, Task, TaskForm
from wavconformer.writers import render

_MOST_WEIGHT = 1000.0
_HOTWORDS = 500
_LETTERS = 5000
_TYPES = {"text": "text/plain; charset=utf-8", "srt": "application/x-subrip; charset=utf-8", "vtt": "text/vtt"}


class TranscriptionForm(TaskForm):
    """The fields of a request. Those without effect here are taken all the same, so that clients work unchanged."""

    model: str = Field(max_length=200, description="Name of the model, as /v1/models has it.")
    language: str | None = Field(None, max_length=50, description="Language of the recording; see target_lang.")
    languages: list[str] = Field([], max_length=50, description="Without effect: the model has its language.")
    keywords: list[str] = Field([], max_length=_HOTWORDS, description="Words or phrases to prefer, as hotwords.")
    prompt: str | None = Field(None, description="Without effect: a CTC model takes no prompt.")
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"] = "json"
    temperature: float = Field(0.0, ge=0, le=1, description="Without effect: nothing is drawn at random.")
    include: list[Literal["logprobs"]] = Field([], max_length=4, description="Log probabilities, of words.")
    timestamp_granularities: list[Literal["word", "segment"]] = Field(
        [], max_length=4, description="Of verbose_json: segments by default."
    )
    stream: bool | None = Field(None, description="Send segments as server-sent events, as they are found.")
    chunking_strategy: str | None = Field(None, description="Without effect: long recordings are cut at pauses.")
    known_speaker_names: list[str] = Field([], max_length=4)
    known_speaker_references: list[str] = Field([], max_length=4)
    hotwords: list[str] = Field(
        [], max_length=_HOTWORDS, description="Ours: words or phrases to prefer, TEXT or TEXT=WEIGHT."
    )
    target_lang: str | None = Field(None, max_length=50, description="Ours: language of the model's adapter.")
    diarize: bool = Field(False, description="Ours: tell who speaks.")

    @field_validator("hotwords", "keywords")
    @classmethod
    def _bounded(cls, texts: list[str]) -> list[str]:
        if sum(map(len, texts)) > _LETTERS:
            raise ValueError(f"more than {_LETTERS} letters in all")
        return texts

    @model_validator(mode="after")
    def _fitting(self) -> TranscriptionForm:
        if self.timestamp_granularities and self.response_format != "verbose_json":
            raise ValueError("timestamp_granularities go with response_format 'verbose_json'")
        if self.include and self.response_format != "json":
            raise ValueError("include goes with response_format 'json'")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """The hot words with their weights. Raises Failure where one isn't a number."""
        return {**dict.fromkeys(self.keywords, HOTWORD_WEIGHT), **hotword_weights(self.hotwords)}


def hotword_weights(texts: Iterable[str]) -> dict[str, float]:
    """Hot words given as TEXT or TEXT=WEIGHT. Raises Failure where a weight isn't a number that can be used."""
    try:
        weights = read_hotwords(texts)
    except ValueError as error:
        raise refused(f"The hot word {error}", "hotwords") from None
    if not all(abs(weight) <= _MOST_WEIGHT for weight in weights.values()):
        raise refused(f"A hot word's weight is at most {_MOST_WEIGHT:g}.", "hotwords")
    return weights


def _wants_speakers(form: TranscriptionForm) -> bool:
    return form.diarize or form.response_format == "diarized_json"


def _check(visit: Visit, form: TranscriptionForm) -> None:
    """Raises Failure for what can't be had."""
    if form.known_speaker_names or form.known_speaker_references:
        raise not_available("Speakers are told apart here, but not by name: leave known_speaker_names out.")
    if not _wants_speakers(form):
        return
    reason = visit.service.models.why_not("diarize")
    if reason is not None:
        raise not_available(f"Speakers can't be told apart: {reason}")
    if form.stream:
        raise refused("Who speaks is known at the end alone: leave stream or diarize out.", "stream")


def listen(visit: Visit, form: TranscriptionForm, tell: Callable[[Segment], None] = lambda segment: None) -> Transcript:
    """Transcribes the visit's recording; each segment is told of as soon as it is found."""
    _check(visit, form)
    language = form.target_lang
    if language is None and form.language in visit.service.batcher.languages:
        language = form.language
    transcriber = visit.transcriber(language, form.weights)
    found = []
    rate = transcriber.sampling_rate
    with visit.service.batcher.expecting(visit.work), visit.decoded(rate) as decoding:
        with closing(transcriber.stream(decoding.blocks, sampling_rate=rate)) as stream:
            for segment in stream:
                found.append(segment)
                tell(segment)
        problems = (*stream.problems, *decoding.problems)
    transcript = Transcript.of(found, stream.duration, problems)
    if _wants_speakers(form):
        with visit.model("diarize") as diarizer, visit.decoded(diarizer.sampling_rate) as decoding:
            turns = diarizer(decoding.blocks, sampling_rate=diarizer.sampling_rate)
        transcript = import_module("wavconformer.decoding.diarization").by_speaker(transcript, turns)
    if visit.service.settings.log_text:
        visit.noted["text"] = transcript.text
    return transcript


def answer(visit: Visit, form: TranscriptionForm) -> Answer:
    """The transcript of the visit's recording in the format that was asked for."""
    transcript = listen(visit, form)
    format = form.response_format
    if format in _TYPES:
        return Answer(render(transcript, "txt" if format == "text" else format), _TYPES[format])
    if format == "json":
        return Answer.of(_plain(transcript, logprobs="logprobs" in form.include))
    if format == "diarized_json":
        return Answer.of(_diarized(transcript))
    language = form.target_lang or form.language or visit.service.batcher.language
    tokens = visit.service.batcher.transcriber().processor.tokenizer
    return Answer.of(_verbose(transcript, form, language, lambda text: tokens(text)["input_ids"]))


def _usage(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(transcript.duration)}


def _plain(transcript: Transcript, *, logprobs: bool) -> dict[str, Any]:
    content: dict[str, Any] = {"text": transcript.text, "usage": _usage(transcript)}
    if logprobs:
        content["logprobs"] = [_logprob(word, first=not number) for number, word in enumerate(transcript.words)]
    return content


def _logprob(word: Word, *, first: bool) -> dict[str, Any]:
    """A word, with the space before it, as the API's token."""
    text = word.text if first else f" {word.text}"
    return {"token": text, "logprob": _log(word), "bytes": list(text.encode())}


def _log(word: Word) -> float:
    return math.log(max(word.probability if word.probability is not None else 1.0, 1e-9))


def _verbose(
    transcript: Transcript, form: TranscriptionForm, language: str | None, ids: Callable[[str], list[int]]
) -> dict[str, Any]:
    granularities = form.timestamp_granularities or ["segment"]
    content: dict[str, Any] = {
        "task": "transcribe",
        "language": language or "und",  # ISO 639-2 for what isn't determined
        "duration": transcript.duration,
        "text": transcript.text,
        "usage": _usage(transcript),
    }
    if "segment" in granularities:
        content["segments"] = [
            {
                "id": number,
                "seek": 0,
                "start": segment.start,
                "end": segment.end,
                "text": segment.text,
                "tokens": ids(segment.text),
                "temperature": 0.0,
                "avg_logprob": sum(map(_log, segment.words)) / len(segment.words),
                "compression_ratio": _compression(segment.text),
                "no_speech_prob": 0.0,
                **_speaker(segment),
            }
            for number, segment in enumerate(transcript.segments)
        ]
    if "word" in granularities:
        content["words"] = [
            {"word": word.text, "start": word.start, "end": word.end, "probability": word.probability, **_speaker(word)}
            for word in transcript.words
        ]
    if transcript.problems:
        content["problems"] = list(transcript.problems)
    return content


def _speaker(part: Word | Segment) -> dict[str, str]:
    """Who says it, where that is known."""
    speaker = getattr(part, "speaker", None)
    return {} if speaker is None else {"speaker": speaker}


def _diarized(transcript: Transcript) -> dict[str, Any]:
    return {
        "task": "transcribe",
        "duration": transcript.duration,
        "text": transcript.text,
        "segments": [
            {
                "type": "transcript.text.segment",
                "id": f"seg_{number:03}",
                "start": segment.start,
                "end": segment.end,
                "text": segment.text,
                **{"speaker": "", **_speaker(segment)},
            }
            for number, segment in enumerate(transcript.segments, start=1)
        ],
        "usage": _usage(transcript),
    }


def _compression(text: str) -> float:
    plain = text.encode()
    return len(plain) / len(zlib.compress(plain))


def event(thing: Segment | Transcript, *, first: bool, logprobs: bool) -> dict[str, Any]:
    """What a stream says of a segment, or of the whole at the end."""
    if isinstance(thing, Transcript):
        return {"type": "transcript.text.done", "text": thing.text, "usage": _usage(thing)}
    delta = {"type": "transcript.text.delta", "delta": thing.text if first else f" {thing.text}"}
    if logprobs:
        return {**delta, "logprobs": [_logprob(word, first=first and not at) for at, word in enumerate(thing.words)]}
    return delta


TRANSCRIPTIONS = Task("transcriptions", "Speech to text.", TranscriptionForm, answer, path="/v1/audio/transcriptions")
