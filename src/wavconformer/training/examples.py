"""From utterances to what a model is called with, for each task: padded tensors, labels, masks, negatives.

All that is drawn for an utterance depends on the seed, the epoch and the utterance alone, or where utterances are
joined on their batch: not on the worker, or what came before.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavconformer.audio import AudioWarning
from wavconformer.data.corpus import Corpus
from wavconformer.data.examine import outside_vocabulary
from wavconformer.data.frames import ctc_frames, encoder_frames, output_frames
from wavconformer.data.rttm import Turn, activity, read_rttm, turns_by_recording
from wavconformer.data.utterance import Utterance, load_utterance
from wavconformer.decoding.activity import SpeakerLabels
from wavconformer.errors import AudioError, DataError
from wavconformer.model.masking import compute_mask_indices, sample_negative_indices
from wavconformer.training.augmentation import Augmenter
from wavconformer.training.silence import silent_frames
from wavconformer.training.starting import Start

IGNORED = -100  # label that no loss counts


@dataclass(frozen=True)
class Skipped:
    """An utterance that its batch had to do without, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """What a model is called with, and what it is made of.

    inputs: keyword arguments of the task's model: input_values, attention_mask (B, S), and by task
        ctc: labels (B, L), -100 beyond a text's end, and with data.silence_db silent (B, T), frames that hear nothing;
        sequence and xvector: labels (B,); frame: labels (B, T, K) of 0.0 and 1.0;
        pretrain: mask_time_indices (B, T) and sampled_negative_indices (B, T, N).
    ids, texts: of the utterances (B), "a+b" where two are joined. seconds: of sound, padding not counted.
    utterances: how many there are, joined ones counted each.
    skipped: utterances of the plan that aren't in it. Where all are, the batch is empty: `len(batch)` is 0, and so
        are `inputs`.
    """

    inputs: dict[str, Tensor]
    ids: tuple[str, ...]
    texts: tuple[str | None, ...]
    seconds: float
    utterances: int
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> Batch:
        """The batch with its tensors on a device."""
        return replace(self, inputs={key: value.to(device, non_blocking=True) for key, value in self.inputs.items()})

    def pin_memory(self) -> Batch:
        """The batch in memory that an accelerator copies from at once; DataLoader asks for it."""
        return replace(self, inputs={key: value.pin_memory() for key, value in self.inputs.items()})


@dataclass
class _Example:
    """One utterance, ready: samples (S,), and by task ids with silent frames (T,), a class, activity (T, K), or a mask
    (T,) with negatives.
    """

    utterance: Utterance
    samples: NDArray[np.float32]
    ids: list[int] = field(default_factory=list)
    silent: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    label: int = 0
    active: NDArray[np.float32] | None = None
    mask: NDArray[np.bool_] | None = None
    negatives: NDArray[np.int32] | None = None


class _Unusable(Exception):
    """Why an utterance can't be in a batch."""


class Examples:
    """Makes batches of a corpus' utterances.

    start: the recipe, the model's configuration, and what makes inputs and labels.
    is_training: whether audio is augmented, and cropped for all tasks; else for pretraining and frames alone.

    Raises DataError where the task needs what isn't given, or files that aren't there.
    """

    def __init__(self, start: Start, corpus: Corpus, *, is_training: bool = True) -> None:
        recipe = start.recipe
        self.corpus = corpus
        self.task = recipe.task
        self.seed = recipe.trainer.seed
        self.crop_seconds = recipe.data.crop_seconds if is_training or self.task in ("pretrain", "frame") else None
        self.augmenter = Augmenter(recipe.augmentation) if is_training else None
        self._silence_db = recipe.data.silence_db if is_training else None
        self._config = start.model.config
        self._extractor = start.feature_extractor
        self._tokenizer = start.tokenizer
        self._classes = {name: number for number, name in enumerate(start.labels)}
        self._speakers = len(SpeakerLabels.of(self._config).names) if self.task == "frame" else 0
        self._turns: dict[str, list[Turn]] = {}
        if self.task == "ctc" and self._tokenizer is None:
            raise DataError("CTC needs a tokenizer to make labels of texts: set data.vocabulary, or model.init.")
        if self._silence_db is not None and self._config.add_adapter:
            raise DataError("data.silence_db knows the encoder's frames: not for a model with add_adapter.")
        if self.task in ("sequence", "xvector") and not self._classes:
            raise DataError(f"The task {self.task} needs class names: the corpus has none, nor has data.labels.")
        if self.task == "frame":
            if recipe.data.rttm is None:
                raise DataError("The task frame needs data.rttm, a file or folder that says who speaks when.")
            self._turns = turns_by_recording(read_rttm(recipe.data.rttm))

    def __getitem__(self, key: tuple[int, NDArray[np.int64]]) -> Batch:
        """The batch of the utterances with those numbers, in that epoch: (epoch, numbers)."""
        return self.batch(*key)

    def batch(self, epoch: int, numbers: Iterable[int]) -> Batch:
        """The batch of the utterances with those numbers, in that epoch."""
        examples, skipped, utterances = [], [], 0
        groups = self._groups(epoch, [int(number) for number in numbers])[::-1]
        while groups:
            group = groups.pop()
            names = [f"utterance {number}" for number in group]
            random = np.random.default_rng((self.seed, epoch, group[0]))
            try:
                members = [self.corpus[number] for number in group]
                names = [member.id for member in members]
                examples.append(self._example(members, random))
                utterances += len(group)
            except (AudioError, DataError, _Unusable) as error:
                if len(group) > 1:  # joined: one of them needn't take the others along
                    groups += [[number] for number in reversed(group)]
                else:
                    skipped += [Skipped(name, str(error)) for name in names]
        return Batch(
            inputs=self._inputs(examples) if examples else {},
            ids=tuple(example.utterance.id for example in examples),
            texts=tuple(example.utterance.text for example in examples),
            seconds=sum(len(example.samples) for example in examples) / self._extractor.sampling_rate,
            utterances=utterances,
            skipped=tuple(skipped),
        )

    def _groups(self, epoch: int, numbers: list[int]) -> list[list[int]]:
        """The utterances of a batch that become one example each."""
        if self.augmenter is None or self.task != "ctc" or not numbers:
            return [[number] for number in numbers]
        return self.augmenter.group(numbers, np.random.default_rng((self.seed, epoch, numbers[0], len(numbers))))

    def _example(self, utterances: list[Utterance], random: np.random.Generator) -> _Example:
        rate = self._extractor.sampling_rate
        parts = [self._sound(utterance, random) for utterance in utterances]
        utterance, samples = parts[0]
        if self.augmenter is not None and len(parts) > 1:
            if not all(one.text for one in utterances):
                raise _Unusable("one of them has no text")
            texts = [one.text or "" for one in utterances]
            utterance = replace(utterance, id="+".join(one.id for one in utterances), text=" ".join(texts))
            samples = self.augmenter.join([part for _, part in parts], random)
        clean, factor = samples, 1.0
        if self.augmenter is not None:
            augmented = self.augmenter(samples, random)
            samples, factor, clean = augmented.samples, augmented.factor, augmented.clean
        example = _Example(utterance, samples)
        frames = encoder_frames(len(samples), self._config)
        if not frames:
            raise _Unusable(f"it lasts {len(samples) / rate:.3f} s, too short for a frame")
        if self.task == "ctc":
            self._transcribe(example)
            self._mark_silence(example, clean)
        elif self.task == "frame":
            self._mark_speakers(example, frames, factor)
        elif self.task == "pretrain":
            self._mask(example, frames, random)
        else:
            name = utterance.label if self.task == "sequence" else utterance.label or utterance.speaker
            if name not in self._classes:
                raise _Unusable(f"its label {name!r} is none of the {len(self._classes)} classes")
            example.label = self._classes[name]
        return example

    def _sound(self, utterance: Utterance, random: np.random.Generator) -> tuple[Utterance, NDArray[np.float32]]:
        """The samples (S,) of an utterance, and the stretch of it that they are."""
        if self.crop_seconds is not None and (utterance.seconds or 0.0) > self.crop_seconds:
            utterance = _cropped(utterance, self.crop_seconds, random)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AudioWarning)  # told of when the corpus was prepared
            return utterance, load_utterance(utterance, self._extractor.sampling_rate)

    def _transcribe(self, example: _Example) -> None:
        if not example.utterance.text or self._tokenizer is None:
            raise _Unusable("it has no text")
        example.ids = list(self._tokenizer(example.utterance.text)["input_ids"])
        outside = outside_vocabulary(self._tokenizer, example.utterance.text, example.ids)
        if outside:
            raise _Unusable(outside)
        needed, frames = ctc_frames(example.ids), output_frames(len(example.samples), self._config)
        if needed > frames:
            raise _Unusable(f"its text needs {needed} frames, its audio makes {frames}")

    def _mark_silence(self, example: _Example, clean: NDArray[np.float32]) -> None:
        """Where the text can't be, if what remains is enough for it."""
        if self._silence_db is not None:
            hop, field = self._config.inputs_to_logits_ratio, self._config.receptive_field
            rate = self._extractor.sampling_rate
            silent = silent_frames(clean, rate, self._silence_db, hop=hop, field=field)
            if (~silent).sum() >= ctc_frames(example.ids):
                example.silent = silent

    def _mark_speakers(self, example: _Example, frames: int, factor: float) -> None:
        utterance, rate = example.utterance, self._extractor.sampling_rate
        names = (utterance.id, Path(utterance.audio).stem if isinstance(utterance.audio, str) else "")
        turns = next((self._turns[name] for name in names if name in self._turns), None)
        if turns is None:
            raise _Unusable(f"data.rttm has no recording '{names[0]}' or '{names[1]}'")
        hop = self._config.inputs_to_logits_ratio / rate * factor
        if self.crop_seconds is not None:
            turns = _of_the_most_talkative(turns, utterance.start, utterance.start + frames * hop, self._speakers)
        try:
            example.active = activity(
                turns,
                frames,
                self._speakers,
                start=utterance.start,
                hop=hop,
                window=self._config.receptive_field / rate * factor,
            )
        except DataError as error:
            raise _Unusable(str(error)) from error

    def _mask(self, example: _Example, frames: int, random: np.random.Generator) -> None:
        config = self._config
        if frames < config.mask_time_length:
            raise _Unusable(f"its {frames} frames are fewer than a masked span, {config.mask_time_length}")
        mask = compute_mask_indices(
            (1, frames),
            config.mask_time_prob,
            config.mask_time_length,
            min_masks=config.mask_time_min_masks,
            generator=random,
        )
        if mask.sum() < 2:
            raise _Unusable("fewer than two of its frames are masked, and there are no negatives")
        example.mask = mask[0]
        example.negatives = sample_negative_indices((1, frames), config.num_negatives, mask, random)[0]

    def _inputs(self, examples: list[_Example]) -> dict[str, Tensor]:
        inputs: dict[str, Any] = dict(
            self._extractor(
                [example.samples for example in examples],
                sampling_rate=self._extractor.sampling_rate,
                padding=True,
                return_attention_mask=True,
                return_tensors="pt",
            )
        )
        rows, frames = len(examples), encoder_frames(inputs["input_values"].shape[1], self._config)
        if self.task == "ctc":
            labels = torch.full((rows, max(len(example.ids) for example in examples)), IGNORED)
            for row, example in zip(labels, examples, strict=True):
                row[: len(example.ids)] = torch.tensor(example.ids)
            inputs["labels"] = labels
            if self._silence_db is not None:
                inputs["silent"] = _stacked([example.silent for example in examples], frames)
        elif self.task == "frame":
            inputs["labels"] = _stacked([example.active for example in examples], frames)
        elif self.task == "pretrain":
            inputs["mask_time_indices"] = _stacked([example.mask for example in examples], frames)
            negatives = _stacked([example.negatives for example in examples], frames).long()
            inputs["sampled_negative_indices"] = negatives + frames * torch.arange(rows)[:, None, None]
        else:
            inputs["labels"] = torch.tensor([example.label for example in examples])
        return inputs


def _of_the_most_talkative(turns: list[Turn], start: float, end: float, count: int) -> list[Turn]:
    """The turns of those who speak longest between two times; others that a crop happens to have are left out."""
    spoken: dict[str, float] = {}
    for turn in turns:
        heard = min(turn.end, end) - max(turn.start, start)
        if heard > 0:
            spoken[turn.speaker] = spoken.get(turn.speaker, 0.0) + heard
    kept = sorted(spoken, key=lambda name: -spoken[name])[:count]
    return [turn for turn in turns if turn.speaker in kept]


def _cropped(utterance: Utterance, seconds: float, random: np.random.Generator) -> Utterance:
    """A random stretch of an utterance, of that length; the rest needn't be decoded."""
    start = utterance.start + random.uniform(0.0, (utterance.seconds or 0.0) - seconds)
    return replace(utterance, start=start, end=start + seconds)


def _stacked(arrays: Sequence[NDArray[Any] | None], frames: int) -> Tensor:
    """Arrays (T, …) in one tensor (B, frames, …), zeros behind their ends."""
    given = [array for array in arrays if array is not None]
    stacked = np.zeros((len(given), frames, *given[0].shape[1:]), given[0].dtype)
    for row, array in zip(stacked, given, strict=True):
        row[: len(array)] = array
    return torch.from_numpy(stacked)
