"""Waveforms → model inputs: normalised, cut, padded, masked."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wavconformer.errors import AudioError, CheckpointError
from wavconformer.files import Source, push_folder, read_json, write_json
from wavconformer.processing.batch import BatchFeature, as_array, columns, is_tensor
from wavconformer.processing.padding import (
    check_lengths,
    check_side,
    padded_lengths,
    padding_strategy,
    round_up,
    span,
    truncates,
)

if TYPE_CHECKING:
    from typing_extensions import Self

PREPROCESSOR_FILE = "preprocessor_config.json"
PROCESSOR_FILE = "processor_config.json"

_EPSILON = 1e-7  # keeps silence silent instead of dividing by zero
_MOST_CHANNELS = 8  # 7.1 sound; a "batch" of rows this short is a recording with its channels last


class Wav2Vec2FeatureExtractor:
    """Makes model inputs of waveforms: zero mean and unit variance, truncation, padding and attention mask.

    feature_size: numbers per sample; a waveform has 1.
    sampling_rate: samples per second that the model was trained on.
    padding_value: what fills a padded row.
    return_attention_mask: whether calls give a mask unless told otherwise. With it each row is normalised
        over its real samples; without it over the whole padded row, as models trained so expect.
    do_normalize: whether rows are normalised.
    padding_side: 'right' or 'left'. The models of this package take right padding alone.
    kwargs: settings this class doesn't know; kept, and written back by `to_dict` and `save_pretrained`.

    Results equal those of the class of the same name in transformers, but for these, where that one gives
    what no model can use:

    - output is float32 whatever float dtype comes in (there float16 stays float16, and can overflow);
    - integer, boolean and complex samples are refused (there they come out as float64 or complex);
    - empty recordings, NaN and infinite samples are refused (there they become rows of NaN);
    - lists of tensors and 2-D tensors are batches, like lists of arrays and 2-D arrays;
    - with left padding and a mask, the real samples are normalised, not the first ones of the padded row;
    - rows of unequal lengths with return_tensors='np' are refused (there: an array of objects);
    - with a mask, rows of which some are longer than padding='max_length' makes the others are normalised each by
      itself (there: numpy's error);
    - a call takes the arguments that it lists (there it drops others without a word).
    """

    model_input_names: ClassVar[list[str]] = ["input_values", "attention_mask"]

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: int = 16000,
        padding_value: float = 0.0,
        return_attention_mask: bool = False,
        do_normalize: bool = True,
        padding_side: str = "right",
        **kwargs: Any,
    ) -> None:
        if feature_size != 1:
            raise ValueError(f"feature_size={feature_size}: a waveform has 1 number per sample.")
        if not isinstance(sampling_rate, int) or sampling_rate < 1:
            raise ValueError(f"sampling_rate={sampling_rate!r}: give samples per second, such as 16000.")
        self.feature_size = feature_size
        self.sampling_rate = sampling_rate
        self.padding_value = padding_value
        self.return_attention_mask = return_attention_mask
        self.do_normalize = do_normalize
        self.padding_side = check_side("padding_side", padding_side)
        self._unknown = {
            key: value for key, value in kwargs.items() if key not in ("feature_extractor_type", "processor_class")
        }

    def __call__(
        self,
        raw_speech: Any,
        padding: bool | str = False,
        max_length: int | None = None,
        truncation: bool | str = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        sampling_rate: int | None = None,
    ) -> BatchFeature:
        """Model inputs for one recording or a batch of them.

        raw_speech: float samples in [-1, 1], mono: an array, tensor or list of S numbers, a list of such, or
            a 2-D array or tensor (B, S).
        padding: True or 'longest' pads to the longest row, 'max_length' to `max_length`, False not at all.
        max_length: samples; the target of padding='max_length' and the limit of truncation.
        truncation: whether longer rows are cut to `max_length`.
        pad_to_multiple_of: the padded length, and the limit of truncation, are rounded up to a multiple.
        return_attention_mask: overrides the attribute of that name.
        return_tensors: 'np' or 'pt' for one array or tensor; None for a list of arrays.
        sampling_rate: of `raw_speech`. One that isn't the model's is refused, a missing one warned of.

        Returns `input_values`, float32 (B, S), and, if asked for, `attention_mask`, int32 (B, S), 1 for a
        real sample. Raises AudioError for empty recordings and samples that aren't finite, TypeError for
        what isn't float samples, ValueError for wrong shapes, rates and settings; each names the row.
        """
        self._check_rate(sampling_rate)
        rows = _recordings(raw_speech)
        if return_attention_mask is None:
            return_attention_mask = self.return_attention_mask
        limit = _limit(truncation, max_length, pad_to_multiple_of)
        rows = [row[:limit] for row in rows]
        values, spans = self._laid_out(rows, padding, max_length, pad_to_multiple_of)
        for index, (row, real) in enumerate(zip(values, spans, strict=True)):
            if self.do_normalize:
                _normalise(row[real] if return_attention_mask else row, index)
            else:
                _check_finite(row, index)
        batch = BatchFeature({"input_values": values})
        if return_attention_mask:
            batch["attention_mask"] = _masks(values, spans)
        return _delivered(batch, return_tensors)

    def pad(
        self,
        processed_features: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        padding: bool | str = True,
        max_length: int | None = None,
        truncation: bool | str = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Pads rows of `input_values` that were made one by one, as a data collator needs it; no normalising.

        processed_features: a mapping with `input_values` (a list of rows, or (B, S)), or a list of mappings,
            one for each example. An `attention_mask` is cut and padded along; other entries pass through.
        return_tensors: as in a call; by default the kind of the given rows, 'pt' for tensors, else 'np'.

        The other arguments are those of a call. Raises ValueError where rows or settings don't fit.
        """
        features = columns(processed_features, "input_values")
        given = list(features["input_values"])
        if return_tensors is None:
            return_tensors = "pt" if given and is_tensor(given[0]) else "np"
        if return_attention_mask is None:
            return_attention_mask = self.return_attention_mask
        for key, value in features.items():
            if len(value) != len(given):
                raise ValueError(f"'{key}' has {len(value)} rows, 'input_values' has {len(given)}.")
        limit = _limit(truncation, max_length, pad_to_multiple_of)
        rows = [_waveform(row, index)[:limit] for index, row in enumerate(given)]
        values, spans = self._laid_out(rows, padding, max_length, pad_to_multiple_of)
        batch = BatchFeature({**features, "input_values": values})
        if return_attention_mask or "attention_mask" in features:
            batch["attention_mask"] = _masks(values, spans)
            for mask, real, old in zip(
                batch["attention_mask"], spans, features.get("attention_mask", ()), strict=False
            ):
                mask[real] = as_array(old)[:limit]
        return _delivered(batch, return_tensors)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], **kwargs: Any) -> Self:
        """The feature extractor of a checkpoint, from processor_config.json or preprocessor_config.json.

        name: a folder, or a repository of the Hugging Face Hub.
        kwargs: where the files come from (see `wavconformer.files.Source`); all others override settings.

        Raises CheckpointError where there is no such file or it can't be used.
        """
        source = Source.take(name, kwargs)
        path = source.find(PROCESSOR_FILE)
        settings = None
        if path is not None:
            content = read_json(path)
            settings = content.get("feature_extractor") if isinstance(content, dict) else None
        if settings is None:
            path = source.find(PREPROCESSOR_FILE)
            if path is None:
                raise CheckpointError(
                    f"{source} holds no feature extractor: neither {PREPROCESSOR_FILE} nor {PROCESSOR_FILE} "
                    "with the key 'feature_extractor'."
                )
            settings = read_json(path)
        if not isinstance(settings, dict):
            raise CheckpointError(f"The feature extractor in {path} is no JSON object: {settings!r}.")
        try:
            return cls.from_dict(settings, **kwargs)
        except ValueError as error:
            raise CheckpointError(f"The feature extractor in {path} can't be used: {error}") from error

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> list[Path]:
        """Writes preprocessor_config.json into a folder, made if missing; returns the path."""
        path = Path(save_directory) / PREPROCESSOR_FILE
        write_json(path, self.to_dict())
        return [path]

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Upload feature extractor",
        private: bool | None = None,
        token: str | bool | None = None,
    ) -> str:
        """Saves and uploads to a repository of the Hugging Face Hub; returns the address of the commit."""
        return push_folder(self.save_pretrained, repo_id, commit_message=commit_message, token=token, private=private)

    @classmethod
    def from_dict(cls, feature_extractor_dict: Mapping[str, Any], **kwargs: Any) -> Self:
        """The feature extractor with the settings of a dictionary, overridden by the keyword arguments."""
        return cls(**{**feature_extractor_dict, **kwargs})

    def to_dict(self) -> dict[str, Any]:
        """All settings, unknown ones included, as they stand in a file."""
        known = {key: value for key, value in vars(self).items() if not key.startswith("_")}
        return {**self._unknown, **known, "feature_extractor_type": type(self).__name__}

    def to_json_string(self) -> str:
        """The text of the JSON file."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def __repr__(self) -> str:
        settings = ", ".join(f"{key}={value!r}" for key, value in self.to_dict().items() if key in vars(self))
        return f"{type(self).__name__}({settings})"

    def _check_rate(self, sampling_rate: int | None) -> None:
        if sampling_rate is None:
            warnings.warn(
                f"sampling_rate wasn't given: the audio is taken to have {self.sampling_rate} samples a second. "
                "Pass it, so that a wrong rate is an error and not a wrong result.",
                stacklevel=3,
            )
        elif sampling_rate != self.sampling_rate:
            raise ValueError(
                f"The audio has {sampling_rate} samples a second, the model was trained on {self.sampling_rate}: "
                f"resample it to {self.sampling_rate}."
            )

    def _laid_out(
        self, rows: list[NDArray[Any]], padding: bool | str, max_length: int | None, multiple: int | None
    ) -> tuple[NDArray[np.float32] | list[NDArray[np.float32]], list[slice]]:
        """The rows as float32 with their padding, one array (B, S) where they have one length, and the
        places of the real samples in them.
        """
        strategy = padding_strategy(padding)
        if strategy == "max_length" and max_length is None:
            raise ValueError("padding='max_length' needs max_length.")
        lengths = [len(row) for row in rows]
        widths = padded_lengths(lengths, strategy, max_length, multiple)
        spans = [span(n, width, self.padding_side) for n, width in zip(lengths, widths, strict=True)]
        values: NDArray[np.float32] | list[NDArray[np.float32]]
        if len(set(widths)) == 1:
            values = np.empty((len(rows), widths[0]), np.float32)
        else:
            values = [np.empty(width, np.float32) for width in widths]
        with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite, and is refused as that
            for value, row, real in zip(values, rows, spans, strict=True):
                value[: real.start] = self.padding_value
                value[real] = row
                value[real.stop :] = self.padding_value
        return values, spans


def _recordings(raw_speech: Any) -> list[NDArray[Any]]:
    """The recordings of a call as 1-D float arrays, views where that is possible."""
    if isinstance(raw_speech, (str, bytes, os.PathLike, Mapping)) or raw_speech is None:
        raise TypeError(
            f"raw_speech is of type {type(raw_speech).__name__}: give float samples, as an array, a tensor or a "
            "list (of an audio file, decode it first; of a dataset's audio column, take its 'array')."
        )
    if isinstance(raw_speech, (list, tuple)):
        if not raw_speech:
            raise AudioError("raw_speech is an empty list: there is no recording in it.")
        first = raw_speech[0]
        batched = isinstance(first, (list, tuple)) or getattr(first, "ndim", 0) > 0
        return [_checked(row, index) for index, row in enumerate(raw_speech if batched else [raw_speech])]
    array = as_array(raw_speech)
    if array.ndim == 2:
        if array.shape[1] <= _MOST_CHANNELS < array.shape[0]:
            raise ValueError(
                f"raw_speech has shape {array.shape}, as stereo has with its channels last: mix it down to one "
                "channel. A batch has shape (recordings, samples)."
            )
        return [_checked(row, index) for index, row in enumerate(array)]
    return [_checked(array, 0)]


def _checked(row: Any, index: int) -> NDArray[Any]:
    """A row of at least one sample; finiteness is checked later, where it costs nothing."""
    array = _waveform(row, index)
    if not array.size:
        raise AudioError(f"Row {index} of the audio is an empty recording.")
    return array


def _waveform(row: Any, index: int) -> NDArray[Any]:
    """A row as a 1-D array of floats."""
    try:
        array = as_array(row)
    except ValueError as error:  # numpy's word for lists within the list
        raise ValueError(f"Row {index} of the audio is no plain list of numbers: {error}.") from error
    if array.ndim != 1:
        raise ValueError(
            f"Row {index} of the audio has shape {array.shape}: give mono audio, one number per sample "
            "(stereo is to be mixed down first)."
        )
    if array.dtype.kind != "f" and array.size:
        advice = "scale to float in [-1, 1]" if array.dtype.kind in "iu" else "give float samples in [-1, 1]"
        hint = f" (divide by {-np.iinfo(array.dtype).min})" if array.dtype.kind == "i" else ""
        raise TypeError(f"Row {index} of the audio holds {array.dtype} values: {advice}{hint}.")
    return array


def _limit(truncation: bool | str, max_length: int | None, multiple: int | None) -> int | None:
    """The samples that a row may have, or None for any number."""
    check_lengths(max_length, multiple)
    if not truncates(truncation):
        return None
    if max_length is None:
        raise ValueError("truncation=True needs max_length.")
    return round_up(max_length, multiple)


def _normalise(row: NDArray[np.float32], index: int) -> None:
    """Gives a row zero mean and unit variance, in place; AudioError where its samples aren't finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        row -= row.mean()
        variance = np.square(row).mean()
    if not np.isfinite(variance):  # one bad sample spoils the mean, so this needs no look at each
        raise AudioError(
            f"Row {index} of the audio holds NaN or infinite samples, or such as float32 can't square: "
            "check the recording, and scale it to [-1, 1]."
        )
    row /= np.sqrt(variance + _EPSILON)


def _check_finite(row: NDArray[np.float32], index: int) -> None:
    if not np.isfinite(row).all():
        raise AudioError(f"Row {index} of the audio holds NaN or infinite samples: check the recording.")


def _masks(
    values: NDArray[np.float32] | list[NDArray[np.float32]], spans: list[slice]
) -> NDArray[np.int32] | list[NDArray[np.int32]]:
    """1 for each real sample, 0 for each padded one, in the layout of the values."""
    masks: NDArray[np.int32] | list[NDArray[np.int32]]
    if isinstance(values, np.ndarray):
        masks = np.zeros(values.shape, np.int32)
    else:
        masks = [np.zeros(len(value), np.int32) for value in values]
    for mask, real in zip(masks, spans, strict=True):
        mask[real] = 1
    return masks


def _delivered(batch: BatchFeature, return_tensors: str | None) -> BatchFeature:
    """The batch with its tensors, or with lists of rows where none are asked for."""
    if return_tensors is None:
        return BatchFeature({key: list(value) for key, value in batch.items()})
    return batch.convert_to_tensors(return_tensors)
