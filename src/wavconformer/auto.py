"""The Auto names that users' code has, so that a one-word import change suffices.

There is one family of models here, so each of them knows its class; a checkpoint of another family is refused by its
configuration.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

from wavconformer.checkpoint.models import (
    Wav2Vec2ConformerForAudioFrameClassification,
    Wav2Vec2ConformerForCTC,
    Wav2Vec2ConformerForPreTraining,
    Wav2Vec2ConformerForSequenceClassification,
    Wav2Vec2ConformerForXVector,
    Wav2Vec2ConformerModel,
)
from wavconformer.checkpoint.pretrained import PreTrained
from wavconformer.checkpoint.weights import open_weights
from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.decoding.processor_with_lm import ALPHABET_FILE, Wav2Vec2ProcessorWithLM
from wavconformer.files import SOURCE_ARGUMENTS, Source
from wavconformer.processing import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor
from wavconformer.processing.feature_extractor import PREPROCESSOR_FILE, PROCESSOR_FILE

Name = str | os.PathLike[str]

CLASSES: dict[str, type[PreTrained]] = {
    cls.__name__: cls
    for cls in (
        Wav2Vec2ConformerModel,
        Wav2Vec2ConformerForCTC,
        Wav2Vec2ConformerForSequenceClassification,
        Wav2Vec2ConformerForAudioFrameClassification,
        Wav2Vec2ConformerForXVector,
        Wav2Vec2ConformerForPreTraining,
    )
}
# Names of weights by which a class is told where the configuration names none, the more telling ones first.
_TELLING: tuple[tuple[str, type[PreTrained]], ...] = (
    ("lm_head", Wav2Vec2ConformerForCTC),
    ("quantizer", Wav2Vec2ConformerForPreTraining),
    ("tdnn", Wav2Vec2ConformerForXVector),
    ("projector", Wav2Vec2ConformerForSequenceClassification),
    ("classifier", Wav2Vec2ConformerForAudioFrameClassification),
)


def model_class(config: Wav2Vec2ConformerConfig, source: Source) -> type[PreTrained]:
    """The class that a checkpoint's configuration names, else the one that its weights' names tell."""
    for architecture in config.architectures or ():
        if architecture in CLASSES:
            return CLASSES[architecture]
    with open_weights(source) as tensors:
        heads = {key.split(".")[0] for key in tensors}
    return next((cls for head, cls in _TELLING if head in heads), Wav2Vec2ConformerModel)


def feature_extractor(source: Source, **arguments: Any) -> Wav2Vec2FeatureExtractor:
    """A checkpoint's feature extractor, or one of default settings where it has none.

    arguments: as `Wav2Vec2FeatureExtractor.from_pretrained` takes them.
    """
    if not any(source.find(file) for file in (PREPROCESSOR_FILE, PROCESSOR_FILE)):
        return Wav2Vec2FeatureExtractor()
    return Wav2Vec2FeatureExtractor.from_pretrained(source.name, **arguments)


class _Auto:
    """Refuses to be made: an Auto class only chooses another."""

    def __init__(self) -> None:
        raise TypeError(f"{type(self).__name__} is not made directly: use {type(self).__name__}.from_pretrained(name).")


class AutoConfig(_Auto):
    """Chooses the configuration class."""

    @classmethod
    def from_pretrained(cls, name: Name, **arguments: Any) -> Any:
        """As `Wav2Vec2ConformerConfig.from_pretrained`."""
        return Wav2Vec2ConformerConfig.from_pretrained(name, **arguments)


class AutoFeatureExtractor(_Auto):
    """Chooses the feature extractor class."""

    @classmethod
    def from_pretrained(cls, name: Name, **arguments: Any) -> Wav2Vec2FeatureExtractor:
        """As `Wav2Vec2FeatureExtractor.from_pretrained`."""
        return Wav2Vec2FeatureExtractor.from_pretrained(name, **arguments)


class AutoTokenizer(_Auto):
    """Chooses the tokenizer class."""

    @classmethod
    def from_pretrained(cls, name: Name, **arguments: Any) -> Wav2Vec2CTCTokenizer:
        """As `Wav2Vec2CTCTokenizer.from_pretrained`."""
        return Wav2Vec2CTCTokenizer.from_pretrained(name, **arguments)


class AutoProcessor(_Auto):
    """Chooses the processor class, by what the checkpoint holds."""

    @classmethod
    def from_pretrained(cls, name: Name, **arguments: Any) -> Wav2Vec2Processor | Wav2Vec2FeatureExtractor:
        """The whole processor, with its language model if the checkpoint has one; the feature extractor alone where
        it has no vocabulary.
        """
        given = {key: value for key, value in arguments.items() if key in SOURCE_ARGUMENTS}
        source = Source.take(name, given)
        if source.find("vocab.json") is None:
            return Wav2Vec2FeatureExtractor.from_pretrained(name, **arguments)
        if source.find(ALPHABET_FILE) is not None:
            return Wav2Vec2ProcessorWithLM.from_pretrained(name, **arguments)
        return Wav2Vec2Processor.from_pretrained(name, **arguments)


class AutoModel(_Auto):
    """Chooses the bare model; its subclasses the models with a head."""

    model_class: ClassVar[type[PreTrained]] = Wav2Vec2ConformerModel

    @classmethod
    def from_pretrained(cls, name: Name, **arguments: Any) -> Any:
        """As the chosen class's `from_pretrained`."""
        return cls.model_class.from_pretrained(name, **arguments)

    @classmethod
    def from_config(cls, config: Wav2Vec2ConformerConfig, **arguments: Any) -> PreTrained:
        """A model of that configuration with starting weights."""
        return cls.model_class(config, **arguments)


class AutoModelForCTC(AutoModel):
    """Chooses the CTC model."""

    model_class = Wav2Vec2ConformerForCTC


class AutoModelForPreTraining(AutoModel):
    """Chooses the pretraining model."""

    model_class = Wav2Vec2ConformerForPreTraining


class AutoModelForAudioClassification(AutoModel):
    """Chooses the sequence classifier."""

    model_class = Wav2Vec2ConformerForSequenceClassification


class AutoModelForAudioFrameClassification(AutoModel):
    """Chooses the frame classifier."""

    model_class = Wav2Vec2ConformerForAudioFrameClassification


class AutoModelForAudioXVector(AutoModel):
    """Chooses the speaker model."""

    model_class = Wav2Vec2ConformerForXVector
