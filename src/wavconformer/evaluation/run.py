"""A checkpoint over a data set: recordings in, batches through the model, one plain output for each utterance."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.data.rttm import stretches
from wavconformer.data.utterance import Utterance, load_utterance, name_of
from wavconformer.decoding.decoder import decode_all
from wavconformer.decoding.greedy import GreedyDecoder
from wavconformer.decoding.posteriors import log_softmax
from wavconformer.decoding.text import greedy_text
from wavconformer.errors import AudioError, CheckpointError, DataError
from wavconformer.evaluation.journal import Journal
from wavconformer.tasks.scores import no_numbers, outputs
from wavconformer.tasks.search import Search

if TYPE_CHECKING:
    import torch

    from wavconformer.decoding.decoder import Decoder
    from wavconformer.processing import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor

BATCH_SECONDS = 30.0
DEFAULT_SEARCH = Search()
"""That of `load_model`: with the language model that a checkpoint carries, greedy without one."""
_BATCHES_AT_ONCE = 8  # read together and sorted by length, so that little is padded


class Kind(str, Enum):
    """What is scored, named for what the model gives."""

    words = "words"
    classes = "classes"
    verification = "verification"
    diarization = "diarization"


_KINDS = {
    "Wav2Vec2ConformerForCTC": Kind.words,
    "Wav2Vec2ConformerForSequenceClassification": Kind.classes,
    "Wav2Vec2ConformerForXVector": Kind.verification,
    "Wav2Vec2ConformerForAudioFrameClassification": Kind.diarization,
}


@dataclass(frozen=True)
class Failure:
    """An utterance that couldn't be scored, and why."""

    id: str
    why: str


def kind_of(name: str | os.PathLike[str]) -> Kind:
    """What a checkpoint does, by the class that its configuration names.

    Raises CheckpointError for one that does nothing that can be scored.
    """
    architectures = Wav2Vec2ConformerConfig.from_pretrained(name).architectures or ()
    found = next((_KINDS[architecture] for architecture in architectures if architecture in _KINDS), None)
    if found is None:
        raise CheckpointError(
            f"'{name}' is {', '.join(architectures) or 'of no class that its config.json names'}: what can be scored "
            f'is {", ".join(_KINDS)} ("architectures" in config.json).'
        )
    return found


class Runner:
    """A model of any kind, ready for batches.

    Its outputs are plain values: a text, the name of a class, a vector, or the turns as [start, end, number] of each
    speaker, in seconds and columns of the head.
    """

    def __init__(
        self,
        name: str | os.PathLike[str],
        kind: Kind,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        target_lang: str | None = None,
        search: Search = DEFAULT_SEARCH,
    ) -> None:
        """Raises CheckpointError where files are missing or the checkpoint lacks the head, as `Search.load` does."""
        from wavconformer.checkpoint import models
        from wavconformer.checkpoint.pretrained import default_device
        from wavconformer.processing import Wav2Vec2FeatureExtractor

        self.name = str(name)
        self.kind = kind
        self.model: Any
        self.tokenizer: Wav2Vec2CTCTokenizer | None = None
        self.decoder: Decoder | None = None  # of words
        self.extractor: Wav2Vec2FeatureExtractor
        if kind is Kind.words:
            transcriber = search.load(name, device=device, dtype=dtype, target_lang=target_lang)
            self.model = transcriber.model
            self.tokenizer = transcriber.processor.tokenizer
            self.extractor = transcriber.processor.feature_extractor
            self.decoder = transcriber.decoder
            return
        cls = getattr(models, next(architecture for architecture, does in _KINDS.items() if does is kind))
        self.model, info = cls.from_pretrained(
            name, device=device or default_device(), dtype=dtype, output_loading_info=True
        )
        heads = [key for key in info["missing_keys"] if not key.startswith("wav2vec2_conformer.")]
        if heads:
            raise CheckpointError(f"'{name}' lacks {', '.join(heads)}: train this head before it is evaluated.")
        self.extractor = Wav2Vec2FeatureExtractor.from_pretrained(name)

    @property
    def sampling_rate(self) -> int:
        """Samples per second that the model takes."""
        return int(self.extractor.sampling_rate)

    @property
    def least_samples(self) -> int:
        """The fewest samples that the model can use."""
        from wavconformer.model.lengths import least_adapter_frames, least_tdnn_frames

        config = self.model.config
        frames = least_tdnn_frames(config) if self.kind is Kind.verification else 1
        if config.add_adapter and not (self.kind is Kind.verification and config.use_weighted_layer_sum):
            frames = least_adapter_frames(config, frames)
        return int(config.receptive_field + (frames - 1) * config.hop_length)

    def __call__(self, waveforms: Sequence[NDArray[np.float32]]) -> list[Any]:
        """The outputs of mono waveforms (S,) at `sampling_rate`, as each would give alone.

        Raises CheckpointError where the model's scores are not numbers, AudioError where a waveform can't be used or
        all of them need more memory than there is.
        """
        try:
            return self._outputs(waveforms)
        except RuntimeError as error:
            if "memory" not in str(error):
                raise
            seconds = sum(map(len, waveforms)) / self.sampling_rate
            raise AudioError(f"{seconds:.0f} s are too long for this machine's memory: cut it into parts.") from error

    def _outputs(self, waveforms: Sequence[NDArray[np.float32]]) -> list[Any]:
        inputs = self.extractor(
            list(waveforms),
            sampling_rate=self.sampling_rate,
            padding=True,
            return_attention_mask=True,
            return_tensors="np",
        )
        output = outputs(self.model, inputs["input_values"], inputs["attention_mask"])
        scores = output.embeddings if self.kind is Kind.verification else output.logits
        lengths = [int(self.model.feature_lengths(len(waveform))) for waveform in waveforms]
        found: list[NDArray[np.float32]] = []
        for row, length in zip(scores, lengths, strict=True):
            values = row[:length] if row.ndim == 2 else row
            if not values.isfinite().all():
                raise no_numbers(self.name)
            found.append(values.float().cpu().numpy())
        if self.kind is not Kind.words:
            return [self._read(values) for values in found]
        # As `transcribe` does, no words of digital silence.
        sounds = [bool(np.ptp(waveform)) for waveform in waveforms]
        texts = iter(self._texts(list(compress(found, sounds))))
        return [next(texts) if is_sound else "" for is_sound in sounds]

    def _texts(self, logits: Sequence[NDArray[np.float32]]) -> list[str]:
        """The texts of recordings' scores, (T, V) each."""
        assert self.decoder is not None
        if not isinstance(self.decoder, GreedyDecoder):
            words = decode_all(self.decoder, [log_softmax(values) for values in logits])
            return [" ".join(word.text for word in one) for one in words]
        assert self.tokenizer is not None
        return [greedy_text(values.argmax(-1), self.model.blank, self.tokenizer) for values in logits]

    def _read(self, values: NDArray[np.float32]) -> Any:
        """The plain output of one utterance's scores, (T, ·) or (·,), but for words."""
        if self.kind is Kind.classes:
            return self.model.config.id2label[int(values.argmax())]
        if self.kind is Kind.verification:
            return [float(f"{value:.7g}") for value in values]
        frame = self.model.config.hop_length / self.sampling_rate
        # Probability above one half.
        return [[round(start, 3), round(end, 3), column] for start, end, column in stretches(values > 0, frame)]


def load(utterance: Utterance, sampling_rate: int) -> NDArray[np.float32]:
    """Mono samples (S,) of the utterance; AudioError where it can't be read or the recording ends before it."""
    samples = load_utterance(utterance, sampling_rate)
    if utterance.end is not None:
        lacking = utterance.end - utterance.start - len(samples) / sampling_rate
        if lacking > 0.1:  # times in a manifest are rounded: a little beyond the end is no error
            raise AudioError(
                f"{name_of(utterance)} ends {lacking:.2f} s before {utterance.end:g} s: the part from "
                f"{utterance.start:g} s isn't in it."
            )
    return samples


@dataclass(frozen=True)
class Step:
    """An utterance that is done: its output, from this run or an earlier one, or why there is none."""

    utterance: Utterance
    output: Any = None
    failure: Failure | None = None


def run(
    runner: Runner, utterances: Iterable[Utterance], journal: Journal, batch_seconds: float = BATCH_SECONDS
) -> Iterator[Step]:
    """Runs the utterances that the journal doesn't have, and gives one step for each of all, in no order.

    batch_seconds: audio in a batch, padding counted; an utterance that is longer is a batch of its own.

    A recording that can't be read, or is too short or too long, is a step with a failure. Raises CheckpointError where
    the model is broken.
    """
    if not batch_seconds > 0:
        raise ValueError(f"A batch must hold some seconds, not {batch_seconds}.")
    most = round(batch_seconds * runner.sampling_rate)
    waiting: list[tuple[Utterance, NDArray[np.float32]]] = []
    for utterance in utterances:
        output = journal.get(utterance)
        if output is not None:
            yield Step(utterance, output)
            continue
        try:
            waveform = load(utterance, runner.sampling_rate)
            if len(waveform) < runner.least_samples:
                raise AudioError(
                    f"{name_of(utterance)} is {len(waveform) / runner.sampling_rate * 1000:.1f} ms long, but the model "
                    f"needs at least {runner.least_samples / runner.sampling_rate * 1000:.0f} ms of audio."
                )
        except (AudioError, DataError) as error:
            yield _failed(utterance, error)
            continue
        waiting.append((utterance, waveform))
        if sum(len(samples) for _, samples in waiting) >= most * _BATCHES_AT_ONCE:
            yield from _run_all(runner, waiting, journal, most)
            waiting = []
    yield from _run_all(runner, waiting, journal, most)


def _run_all(
    runner: Runner, waiting: list[tuple[Utterance, NDArray[np.float32]]], journal: Journal, most: int
) -> Iterator[Step]:
    waiting.sort(key=lambda item: -len(item[1]))  # the longest first: what memory can't hold shows at once
    start = 0
    while start < len(waiting):
        size = max(1, most // len(waiting[start][1]))
        yield from _run_batch(runner, waiting[start : start + size], journal)
        start += size


def _run_batch(runner: Runner, batch: list[tuple[Utterance, NDArray[np.float32]]], journal: Journal) -> Iterator[Step]:
    """A batch, or its halves where it can't be run whole, down to the utterance that is at fault."""
    try:
        outputs = runner([waveform for _, waveform in batch])
    except AudioError as error:
        if len(batch) == 1:
            utterance = batch[0][0]
            yield _failed(utterance, AudioError(f"{name_of(utterance)}: {error}"))
            return
        half = len(batch) // 2
        yield from _run_batch(runner, batch[:half], journal)
        yield from _run_batch(runner, batch[half:], journal)
        return
    for (utterance, _), output in zip(batch, outputs, strict=True):
        journal.add(utterance, output)
        yield Step(utterance, output)


def _failed(utterance: Utterance, error: Exception) -> Step:
    return Step(utterance, failure=Failure(utterance.id, " ".join(str(error).split())))
