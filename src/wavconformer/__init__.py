"""wavconformer: the Wav2Vec2-Conformer speech models as one whole, fast, exact package.

    import wavconformer
    print(wavconformer.transcribe("talk.mp3").text)

The classes have their Hugging Face names, arguments, outputs and files. Everything is loaded when first used:
importing the package doesn't import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Where each public name lives.
_HOMES = {
    "wavconformer.config": ["Wav2Vec2ConformerConfig"],
    "wavconformer.errors": ["AudioError", "CheckpointError", "ConfigError", "DataError", "WavConformerError"],
    "wavconformer.checkpoint.models": [
        "Wav2Vec2ConformerForAudioFrameClassification",
        "Wav2Vec2ConformerForCTC",
        "Wav2Vec2ConformerForPreTraining",
        "Wav2Vec2ConformerForSequenceClassification",
        "Wav2Vec2ConformerForXVector",
        "Wav2Vec2ConformerModel",
        "Wav2Vec2ConformerPreTrainedModel",
    ],
    "wavconformer.model.outputs": [
        "CausalLMOutput",
        "SequenceClassifierOutput",
        "TokenClassifierOutput",
        "Wav2Vec2ConformerBaseModelOutput",
        "Wav2Vec2ConformerForPreTrainingOutput",
        "XVectorOutput",
    ],
    "wavconformer.model.masking": ["compute_mask_indices", "sample_negative_indices"],
    "wavconformer.processing": [
        "BatchFeature",
        "Wav2Vec2CTCTokenizer",
        "Wav2Vec2CTCTokenizerOutput",
        "Wav2Vec2FeatureExtractor",
        "Wav2Vec2Processor",
    ],
    "wavconformer.auto": [
        "AutoConfig",
        "AutoFeatureExtractor",
        "AutoModel",
        "AutoModelForAudioClassification",
        "AutoModelForAudioFrameClassification",
        "AutoModelForAudioXVector",
        "AutoModelForCTC",
        "AutoModelForPreTraining",
        "AutoProcessor",
        "AutoTokenizer",
    ],
    "wavconformer.audio": ["load_audio", "stream_audio"],
    "wavconformer.tasks.transcribe": ["Transcript", "load_model", "transcribe"],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
# The Hugging Face names of two functions that the documented pretraining example imports.
_ALIASES = {
    "_compute_mask_indices": "compute_mask_indices",
    "_sample_negative_indices": "sample_negative_indices",
}

__all__ = [*sorted(_HOME_OF), "__version__"]  # noqa: PLE0604

if TYPE_CHECKING:
    from wavconformer.audio import load_audio, stream_audio
    from wavconformer.auto import (
        AutoConfig,
        AutoFeatureExtractor,
        AutoModel,
        AutoModelForAudioClassification,
        AutoModelForAudioFrameClassification,
        AutoModelForAudioXVector,
        AutoModelForCTC,
        AutoModelForPreTraining,
        AutoProcessor,
        AutoTokenizer,
    )
    from wavconformer.checkpoint.models import (
        Wav2Vec2ConformerForAudioFrameClassification,
        Wav2Vec2ConformerForCTC,
        Wav2Vec2ConformerForPreTraining,
        Wav2Vec2ConformerForSequenceClassification,
        Wav2Vec2ConformerForXVector,
        Wav2Vec2ConformerModel,
        Wav2Vec2ConformerPreTrainedModel,
    )
    from wavconformer.config import Wav2Vec2ConformerConfig
    from wavconformer.errors import AudioError, CheckpointError, ConfigError, DataError, WavConformerError
    from wavconformer.model.masking import compute_mask_indices, sample_negative_indices
    from wavconformer.model.outputs import (
        CausalLMOutput,
        SequenceClassifierOutput,
        TokenClassifierOutput,
        Wav2Vec2ConformerBaseModelOutput,
        Wav2Vec2ConformerForPreTrainingOutput,
        XVectorOutput,
    )
    from wavconformer.processing import (
        BatchFeature,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2CTCTokenizerOutput,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2Processor,
    )
    from wavconformer.tasks.transcribe import Transcript, load_model, transcribe


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(_ALIASES.get(name, name))
    if home is None:
        raise AttributeError(f"module 'wavconformer' has no attribute '{name}'")
    value = getattr(importlib.import_module(home), _ALIASES.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
