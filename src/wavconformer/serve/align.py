"""Text and speech brought together, as an endpoint."""

from __future__ import annotations

from pydantic import Field

from wavconformer.serve.service import Visit
from wavconformer.serve.task import Answer, Task, TaskForm
from wavconformer.tasks.align import align

_TEXT_LENGTH = 200_000


class AlignForm(TaskForm):
    """What `align` takes besides the recording."""

    text: str = Field(min_length=1, max_length=_TEXT_LENGTH, description="What is said in it, line by line.")
    language: str | None = Field(
        None, max_length=20, description="In which numbers and signs are read out, such as 'en'."
    )
    target_lang: str | None = Field(None, max_length=50, description="Language of the model's adapter.")


def _align(visit: Visit, form: AlignForm) -> Answer:
    transcriber = visit.transcriber(form.target_lang)
    expecting = visit.service.batcher.expecting(visit.work)
    with expecting, visit.decoded(transcriber.sampling_rate) as decoding:
        alignment = align(
            decoding.blocks,
            form.text,
            model=transcriber,
            language=form.language,
            sampling_rate=transcriber.sampling_rate,
        )
    visit.work.check()
    return Answer.of(alignment.as_dict())


ALIGN = Task("align", "When each line and word of a text is said.", AlignForm, _align)
