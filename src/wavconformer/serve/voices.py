"""Who speaks: voices as vectors, whether two are of one speaker, and who speaks when, as endpoints."""

from __future__ import annotations

from dataclasses import asdict, replace
from importlib import import_module

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from wavconformer.errors import CheckpointError
from wavconformer.serve.failures import refused
from wavconformer.serve.service import Visit
from wavconformer.serve.task import Answer, Task, TaskForm

_SPEAKERS = 100
_VOICE_SECONDS = 1800.0


class VerifyForm(TaskForm):
    """What `verify` takes besides the recordings."""

    threshold: float | None = Field(
        None, ge=-1000, le=1000, description="Score from which on it is one speaker; by default the calibration's."
    )


class DiarizeForm(TaskForm):
    """What `diarize` takes besides the recording."""

    speakers: int | None = Field(None, ge=1, le=_SPEAKERS, description="How many people speak, where that is known.")
    min_speakers: int | None = Field(None, ge=1, le=_SPEAKERS, description="The fewest that may be found.")
    max_speakers: int | None = Field(None, ge=1, le=_SPEAKERS, description="The most that may be found.")

    @model_validator(mode="after")
    def _fitting(self) -> DiarizeForm:
        if self.speakers is not None and not (self.min_speakers is None and self.max_speakers is None):
            raise ValueError("speakers is the exact number: leave min_speakers and max_speakers out")
        if (self.min_speakers or 1) > (self.max_speakers or _SPEAKERS):
            raise ValueError("min_speakers is more than max_speakers")
        return self


def _samples(visit: Visit, rate: int, name: str) -> NDArray[np.float32]:
    """A whole recording (S,), of no more than what a voice can be known by."""
    bounded = replace(visit, most_seconds=min(visit.most_seconds, _VOICE_SECONDS))
    with bounded.decoded(rate, name) as decoding:
        return np.concatenate(list(decoding.blocks))


def _embed(visit: Visit, form: TaskForm) -> Answer:
    with visit.model("speakers") as embedder:
        samples = _samples(visit, embedder.sampling_rate, "file")
        vector = embedder(samples, sampling_rate=embedder.sampling_rate)
    return Answer.of({"embedding": [float(number) for number in vector], "speaker_model": embedder.name})


def _verify(visit: Visit, form: VerifyForm) -> Answer:
    verify = import_module("wavconformer.tasks.verification").verify
    with visit.model("speakers") as embedder:
        rate = embedder.sampling_rate
        first, second = (_samples(visit, rate, name) for name in VERIFY.files)
        try:
            found = verify(first, second, model=embedder, threshold=form.threshold, sampling_rate=rate)
        except CheckpointError:
            if form.threshold is not None:
                raise
            raise refused("The speaker model here has no calibration: give a threshold.", "threshold") from None
    return Answer.of(asdict(found))


def _diarize(visit: Visit, form: DiarizeForm) -> Answer:
    numbers = {"min_speakers": form.min_speakers, "max_speakers": form.max_speakers}
    with visit.model("diarize") as diarizer, visit.decoded(diarizer.sampling_rate) as decoding:
        rate = diarizer.sampling_rate
        found = diarizer(decoding.blocks, speakers=form.speakers, sampling_rate=rate, **numbers)
    return Answer.of(found.as_dict())


EMBED = Task("embed", "The voice of a recording, as a vector of length one.", TaskForm, _embed, needs="speakers")
VERIFY = Task(
    "verify", "Whether one speaker speaks in two recordings.", VerifyForm, _verify, ("file", "other"), needs="speakers"
)
DIARIZE = Task("diarize", "Who speaks when.", DiarizeForm, _diarize, needs="diarize")
