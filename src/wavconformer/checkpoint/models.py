"""The public classes: the models of `wavconformer.model` under the Hugging Face names, with files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

from wavconformer.checkpoint import adapters
from wavconformer.checkpoint.loading import LoadingInfo
from wavconformer.checkpoint.pretrained import PreTrained
from wavconformer.files import Source
from wavconformer.model.backbone import Backbone
from wavconformer.model.heads import (
    ForAudioFrameClassification,
    ForCTC,
    ForSequenceClassification,
    ForXVector,
)
from wavconformer.model.pretraining import ForPreTraining

Wav2Vec2ConformerPreTrainedModel = PreTrained


class Wav2Vec2ConformerModel(PreTrained, Backbone):
    """The bare model: waveforms (B, S) to frames (B, T, D), without a head.

    It also reads the backbone out of any task model's checkpoint.
    """


class Wav2Vec2ConformerForCTC(PreTrained, ForCTC):
    """Speech to text: scores of every token at every frame, and the CTC loss.

    `processor.batch_decode(logits.argmax(-1))` reads the text. Where `adapter_attn_dim` is configured,
    `from_pretrained(..., target_lang="fra")` and `load_adapter` choose the language.
    """

    backbone_class = Wav2Vec2ConformerModel
    model_arguments: ClassVar[tuple[str, ...]] = ("target_lang",)

    def _after_loading(self, source: Source, info: LoadingInfo, **model_arguments: Any) -> None:
        self._source = source
        if self.config.adapter_attn_dim is None:
            return
        lacks_adapters = any(".adapter_layer." in name for name in info.new)
        if model_arguments.get("target_lang") is None and not lacks_adapters:
            return
        # The default language may have no file of its own: its weights are then the checkpoint's.
        language = self.target_lang or "eng"
        has_file = any(source.find(f"adapter.{language}{suffix}") for suffix in (".safetensors", ".bin"))
        if language != "eng" or has_file:
            self.load_adapter(language)
            info.new = [name for name in info.new if name not in adapters.adapter_state(self)]

    def load_adapter(
        self,
        target_lang: str,
        force_load: bool = True,
        *,
        use_safetensors: bool | None = None,
        **source_arguments: Any,
    ) -> None:
        """Puts another language's adapters and head into the model, from where the model was loaded.

        target_lang: the <lang> of adapter.<lang>.safetensors (or .bin). The tokenizer needs
            `set_target_lang` with the same name.
        force_load: False does nothing where that language is set already.
        source_arguments: as in `from_pretrained`, where they differ from those the model was loaded with.

        Raises ValueError where the model has no adapters or no place to read them from; CheckpointError where
        there is no file for that language or it doesn't fit.
        """
        if not force_load and target_lang == self.target_lang:
            return
        source = getattr(self, "_source", None)
        if source is None or source_arguments:
            place = str(source.name) if source is not None else self.config.name_or_path
            if not place:
                raise ValueError("This model wasn't loaded from anywhere: load it with from_pretrained first.")
            source = Source.take(place, source_arguments)
        adapters.load_adapter(self, source, target_lang, use_safetensors)

    def save_adapter(self, folder: str | os.PathLike[str], target_lang: str | None = None) -> Path:
        """Writes this language's adapters and head to adapter.<target_lang>.safetensors and returns its path."""
        return adapters.save_adapter(self, folder, target_lang or self.target_lang or "eng")


class Wav2Vec2ConformerForSequenceClassification(PreTrained, ForSequenceClassification):
    """One answer for an utterance: keyword, language, emotion; or numbers to predict."""

    backbone_class = Wav2Vec2ConformerModel


class Wav2Vec2ConformerForAudioFrameClassification(PreTrained, ForAudioFrameClassification):
    """An answer for every frame: who speaks when."""

    backbone_class = Wav2Vec2ConformerModel


class Wav2Vec2ConformerForXVector(PreTrained, ForXVector):
    """A vector for each utterance that says who speaks; compare two by their cosine."""

    backbone_class = Wav2Vec2ConformerModel


class Wav2Vec2ConformerForPreTraining(PreTrained, ForPreTraining):
    """Self-supervised pretraining with the contrastive loss over quantized features."""

    backbone_class = Wav2Vec2ConformerModel


# All of them by name, each with the output that it is exported with and compared by.
MAIN_OUTPUT = {
    "Wav2Vec2ConformerModel": "last_hidden_state",
    "Wav2Vec2ConformerForCTC": "logits",
    "Wav2Vec2ConformerForSequenceClassification": "logits",
    "Wav2Vec2ConformerForAudioFrameClassification": "logits",
    "Wav2Vec2ConformerForXVector": "embeddings",
    "Wav2Vec2ConformerForPreTraining": "projected_states",
}
