"""Which command a model is for, by its head."""

from __future__ import annotations

import os

from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.errors import CheckpointError
from wavconformer.files import Source

_USES = {
    "Wav2Vec2ConformerForCTC": "it writes what is said. Give it to `wavconformer transcribe`",
    "Wav2Vec2ConformerForSequenceClassification": (
        "it tells what kind of sound a recording is. Give it to `wavconformer classify`"
    ),
    "Wav2Vec2ConformerForAudioFrameClassification": (
        "it tells for each frame who speaks. Give it to `wavconformer diarize`"
    ),
    "Wav2Vec2ConformerForXVector": "it tells speakers apart by their vectors. Give it to `wavconformer verify`",
}


def architecture_of(source: Source) -> str:
    """The name of the class that a checkpoint is for. Raises as `Wav2Vec2ConformerConfig.from_source` does."""
    from wavconformer.auto import model_class

    return model_class(Wav2Vec2ConformerConfig.from_source(source), source).__name__


def refuse_other_head(place: str | os.PathLike[str], architecture: str, *, task: str, head: str) -> None:
    """Raises CheckpointError for a model with the head of another task, with what it is for.

    architecture: its class. task, head: what asks for it, and the class that it needs. A model without a head passes.
    """
    if architecture != head and architecture in _USES:
        raise CheckpointError(f"'{place}' is a {architecture}: {_USES[architecture]}; {task} needs a {head}.")
