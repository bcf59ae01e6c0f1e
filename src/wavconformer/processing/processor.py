"""The feature extractor and the tokenizer of a model in one: audio and text in, inputs and labels out."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavconformer.files import SOURCE_ARGUMENTS, push_folder, write_json
from wavconformer.processing.batch import BatchFeature
from wavconformer.processing.feature_extractor import PROCESSOR_FILE, Wav2Vec2FeatureExtractor
from wavconformer.processing.tokenizer import Wav2Vec2CTCTokenizer

if TYPE_CHECKING:
    from typing_extensions import Self


def _arguments(function: Callable[..., Any], *besides: str) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters) - {"self", "kwargs", *besides}


_AUDIO_ARGUMENTS = _arguments(Wav2Vec2FeatureExtractor.__call__, "raw_speech")
_TEXT_ARGUMENTS = _arguments(Wav2Vec2CTCTokenizer.__call__, "text")
_AUDIO_SETTINGS = _arguments(Wav2Vec2FeatureExtractor.__init__)


class Wav2Vec2Processor:
    """A feature extractor for audio and a tokenizer for text, behind one call.

    feature_extractor: makes `input_values` of waveforms.
    tokenizer: makes labels of texts, and texts of ids.

    Raises TypeError where the two are something else. As the class of the same name in transformers, but:
    settings of the tokenizer's file never change the feature extractor's (there a "return_attention_mask" in
    tokenizer_config.json, as older checkpoints have it, takes the mask away), and unknown arguments of a call
    are refused.
    """

    def __init__(self, feature_extractor: Wav2Vec2FeatureExtractor, tokenizer: Wav2Vec2CTCTokenizer) -> None:
        if not callable(getattr(feature_extractor, "pad", None)) or hasattr(feature_extractor, "batch_decode"):
            raise TypeError(f"feature_extractor is a {type(feature_extractor).__name__}, which isn't one.")
        if not hasattr(tokenizer, "batch_decode"):
            raise TypeError(f"tokenizer is a {type(tokenizer).__name__}, which isn't one.")
        self.feature_extractor = feature_extractor
        self.tokenizer = tokenizer

    @property
    def model_input_names(self) -> list[str]:
        """The entries that a call can give to a model."""
        return [*self.feature_extractor.model_input_names, "labels"]

    def __call__(
        self,
        audio: Any = None,
        text: str | Sequence[str] | None = None,
        *,
        audio_kwargs: Mapping[str, Any] | None = None,
        text_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Model inputs of recordings, ids of texts, or both together.

        audio: recordings, as `Wav2Vec2FeatureExtractor` takes them.
        text: texts, as `Wav2Vec2CTCTokenizer` takes them.
        kwargs: arguments of either; those that both have, such as `padding` and `return_tensors`, go to both.
        audio_kwargs, text_kwargs: arguments of one alone; here `max_length` for audio leaves texts whole.

        Returns what the one that was needed returns; with both, that of the audio and the ids as `labels`
        (padded with `pad_token_id`). Raises TypeError for unknown arguments, ValueError for ones given twice
        or where there is neither audio nor text, and what the two raise.
        """
        if audio is None and text is None:
            raise ValueError("There is nothing to process: give audio, text, or both.")
        unknown = kwargs.keys() - _AUDIO_ARGUMENTS - _TEXT_ARGUMENTS
        if unknown:
            raise TypeError(
                f"Neither feature extractor nor tokenizer knows {', '.join(sorted(unknown))}: they know "
                f"{', '.join(sorted(_AUDIO_ARGUMENTS | _TEXT_ARGUMENTS))}."
            )
        for_audio = _merged("audio_kwargs", kwargs, audio_kwargs, _AUDIO_ARGUMENTS)
        for_text = _merged("text_kwargs", kwargs, text_kwargs, _TEXT_ARGUMENTS)
        if audio is None:
            return self.tokenizer(text, **for_text)
        batch = self.feature_extractor(audio, **for_audio)
        if text is not None:
            batch["labels"] = self.tokenizer(text, **for_text)["input_ids"]
        return batch

    def pad(self, input_features: Any = None, labels: Any = None, **kwargs: Any) -> BatchFeature:
        """Pads rows of `input_values`, of label `input_ids`, or both, as a data collator needs it.

        input_features: what `Wav2Vec2FeatureExtractor.pad` takes.
        labels: what `Wav2Vec2CTCTokenizer.pad` takes.
        kwargs: arguments of these two.

        Returns the batch of the one that was needed; with both, that of the audio and the ids as `labels`.
        """
        if input_features is None and labels is None:
            raise ValueError("There is nothing to pad: give input_features, labels, or both.")
        if input_features is None:
            return self.tokenizer.pad(labels, **kwargs)
        batch = self.feature_extractor.pad(input_features, **kwargs)
        if labels is not None:
            batch["labels"] = self.tokenizer.pad(labels, **kwargs)["input_ids"]
        return batch

    def decode(self, *args: Any, **kwargs: Any) -> Any:
        """The text of one row of ids; `Wav2Vec2CTCTokenizer.decode` says how."""
        return self.tokenizer.decode(*args, **kwargs)

    def batch_decode(self, *args: Any, **kwargs: Any) -> Any:
        """The texts of many rows of ids; `Wav2Vec2CTCTokenizer.batch_decode` says how."""
        return self.tokenizer.batch_decode(*args, **kwargs)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], **kwargs: Any) -> Self:
        """The processor of a checkpoint, of either layout: the feature extractor's and the tokenizer's files.

        name: a folder, or a repository of the Hugging Face Hub.
        kwargs: where the files come from (see `wavconformer.files.Source`), and settings to override: those
            of the feature extractor go there, the others, and `padding_side`, to the tokenizer.

        Raises CheckpointError where files are missing or can't be used.
        """
        place = {key: kwargs.pop(key) for key in SOURCE_ARGUMENTS if key in kwargs}
        for_audio = {key: value for key, value in kwargs.items() if key in _AUDIO_SETTINGS}
        for_text = {k: value for k, value in kwargs.items() if k not in for_audio or k == "padding_side"}
        return cls(
            Wav2Vec2FeatureExtractor.from_pretrained(name, **place, **for_audio),
            Wav2Vec2CTCTokenizer.from_pretrained(name, **place, **for_text),
        )

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> list[Path]:
        """Writes the tokenizer's files and processor_config.json into a folder, made if missing.

        Returns the paths.
        """
        folder = Path(save_directory)
        paths = self.tokenizer.save_pretrained(folder, processor_class=type(self).__name__)
        write_json(folder / PROCESSOR_FILE, self.to_dict())
        return [*paths, folder / PROCESSOR_FILE]

    def to_dict(self) -> dict[str, Any]:
        """The content of processor_config.json: the feature extractor's settings."""
        return {
            "feature_extractor": self.feature_extractor.to_dict(),
            "processor_class": type(self).__name__,
        }

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Upload processor",
        private: bool | None = None,
        token: str | bool | None = None,
    ) -> str:
        """Saves and uploads to a repository of the Hugging Face Hub; returns the address of the commit."""
        return push_folder(self.save_pretrained, repo_id, commit_message=commit_message, token=token, private=private)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.feature_extractor!r}, {self.tokenizer!r})"


def _merged(
    name: str, common: Mapping[str, Any], own: Mapping[str, Any] | None, known: frozenset[str]
) -> dict[str, Any]:
    """The arguments for one of the two: its own, and those of the common ones that it knows."""
    own = own or {}
    merged = {key: value for key, value in common.items() if key in known}
    twice = merged.keys() & own.keys()
    if twice:
        raise ValueError(f"{', '.join(sorted(twice))}: given in {name} and beside it; give it once.")
    return {**merged, **own}
