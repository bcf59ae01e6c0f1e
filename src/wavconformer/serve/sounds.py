"""What kind of sound a recording is, as an endpoint."""

from __future__ import annotations

from pydantic import Field

from wavconformer.serve.service import Visit
from wavconformer.serve.task import Answer, Task, TaskForm


class ClassifyForm(TaskForm):
    """What `classify` takes besides the recording."""

    top: int | None = Field(3, ge=1, le=10_000, description="So many labels are told, best first.")
    threshold: float = Field(0.5, ge=0, le=1, description="From which on one of several labels holds.")


def _classify(visit: Visit, form: ClassifyForm) -> Answer:
    with visit.model("classify") as classifier, visit.decoded(classifier.sampling_rate) as decoding:
        found = classifier(
            decoding.blocks, sampling_rate=classifier.sampling_rate, top=form.top, threshold=form.threshold
        )
    return Answer.of(found.as_dict())


CLASSIFY = Task("classify", "What kind of sound it is: labels and their probabilities.", ClassifyForm, _classify,
                needs="classify")  # fmt: skip
