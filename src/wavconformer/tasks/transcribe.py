"""Speech to text: a recording in, its words out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wavconformer.audio import SAMPLE_RATE, AudioSource
from wavconformer.audio.vad import has_speech, voice_detector
from wavconformer.audio.windows import Cutting, Window, Windower
from wavconformer.checkpoint.onnx_graph import OnnxModel, wants_onnx
from wavconformer.decoding.decoder import Decoder, decode_all
from wavconformer.decoding.greedy import GreedyDecoder
from wavconformer.decoding.joining import Frames, Joiner
from wavconformer.decoding.posteriors import log_softmax
from wavconformer.decoding.symbols import symbols_of
from wavconformer.decoding.transcript import Segment, Transcript, segments
from wavconformer.decoding.utterances import UtteranceDecoder
from wavconformer.decoding.words import Word
from wavconformer.errors import CheckpointError, DataError
from wavconformer.files import DEFAULT_MODEL, Source, read_json
from wavconformer.processing.vocabulary import is_nested
from wavconformer.tasks.batching import batches
from wavconformer.tasks.company import Company, Failure, OnError, batch_seconds_of
from wavconformer.tasks.recording import LongRecording, Recording, describe, open_recording
from wavconformer.tasks.scores import refuse_short, scores

if TYPE_CHECKING:
    import torch

    from wavconformer.checkpoint.models import Wav2Vec2ConformerForCTC
    from wavconformer.decoding.beam import BeamDecoder, BeamSettings
    from wavconformer.lm import LanguageModel
    from wavconformer.processing import Wav2Vec2Processor


# Batches of windows are multiples of this long, so that they have few shapes: oneDNN and PyTorch keep what they have
# prepared for each, some 2 MB in all, and an hour of speech has a thousand lengths.
STEP_SECONDS = 0.5

# A recording with a word of such a probability is speech, whatever a detector says. Of noise and music models make
# words too, but are unsure of them: the shipped one gives 0.3 at most, and more than 0.9 to some word of speech.
_SURE = 0.8

LogProbs = NDArray[np.float32]


class SegmentStream(Iterator[Segment]):
    """The segments of a recording, each as soon as it is found.

    Whoever doesn't want the rest may drop it, or call `close()`: the recording is then closed, and nothing more of it
    is read.
    """

    def __init__(self, found: Iterator[Segment], recording: Recording | LongRecording) -> None:
        self._found = found
        self._recording = recording

    def __next__(self) -> Segment:
        return next(self._found)

    @property
    def duration(self) -> float:
        """Seconds of audio that have been read; at the end, all of them."""
        if isinstance(self._recording, Recording):
            return self._recording.duration
        return self._recording.heard / self._recording.rate

    @property
    def problems(self) -> tuple[str, ...]:
        """What of the recording could not be decoded, as far as it has been read."""
        return tuple(self._recording.problems)

    def close(self) -> None:
        """Ends it before its end."""
        self._found = iter(())
        if isinstance(self._recording, LongRecording):
            self._recording.close()


class Transcriber:
    """A CTC model with its processor, ready to transcribe."""

    def __init__(
        self,
        model: Wav2Vec2ConformerForCTC | OnnxModel,
        processor: Wav2Vec2Processor,
        name: str = "the model",
        *,
        decoder: Decoder | None = None,
    ) -> None:
        """`decoder`: what makes words of the model's scores; greedy by default (`load_model` sets its own).

        Raises CheckpointError where the vocabulary and the model's head don't belong together.
        """
        self.model = model
        self.processor = processor
        self.name = name
        self.blank = model.config.pad_token_id or 0
        head = model.config.vocab_size or 0
        if processor.tokenizer.pad_token_id != self.blank:
            raise CheckpointError(
                f"{name}: the tokenizer's padding token has the id {processor.tokenizer.pad_token_id}, but the model's "
                f"blank is {self.blank} (pad_token_id in config.json). They must be the same."
            )
        unnamed = sorted(set(range(head)) - set(processor.tokenizer.get_vocab().values()))
        if unnamed:
            raise CheckpointError(
                f"{name}: the model's head has {head} tokens, but the vocabulary has none for {len(unnamed)} of them, "
                f"the first of id {unnamed[0]}: vocab.json isn't that of these weights."
            )
        marks = {processor.tokenizer.pad_token, processor.tokenizer.bos_token, processor.tokenizer.eos_token}
        self._symbols = symbols_of(processor.tokenizer, silent=marks, count=head)
        self.decoder = decoder or GreedyDecoder(self._symbols, self.blank, self._seconds_per_frame)
        self._own: BeamDecoder | None = None  # with the language model that it was loaded with

    def beam_decoder(
        self,
        lm: LanguageModel | str | os.PathLike[str] | bool | None = True,
        *,
        hotwords: Mapping[str, float] | Iterable[str] | None = None,
        settings: BeamSettings | None = None,
    ) -> BeamDecoder:
        """A decoder for this model, with a language model and hot words. Set it as `decoder`.

        lm: by default the one that the model was loaded with, if any; None or False for none; or another, the file of
            one, or a checkpoint that has one. hotwords, settings: as `wavconformer.beam_decoder` takes them.

        Raises as `wavconformer.beam_decoder` does.
        """
        from wavconformer.decoding.processor_with_lm import beam_decoder

        if lm is True and self._own is not None:
            return self._own.using(hotwords or (), **({} if settings is None else vars(settings)))
        return beam_decoder(
            self.processor.tokenizer,
            None if isinstance(lm, bool) else lm,
            hotwords=hotwords,
            settings=settings,
            seconds_per_frame=self._seconds_per_frame,
            count=len(self._symbols),
        )

    def use_language_model(
        self, lm: LanguageModel | str | os.PathLike[str] | None, settings: BeamSettings | None = None
    ) -> None:
        """Decodes with a language model from now on, by default by its own settings. Raises as `beam_decoder` does."""
        self.decoder = self._own = self.beam_decoder(lm, settings=settings)

    def use_language_model_of(self, other: Transcriber) -> None:
        """Decodes with the language model that another was loaded with, if any. Raises as `beam_decoder` does."""
        if other._own is not None:
            self.use_language_model(other._own.lm, other._own.settings)

    def use_own_language_model(self, source: Source) -> None:
        """Decodes with the language model that a checkpoint on this machine carries, if it does.

        Raises CheckpointError where it is broken, or doesn't fit the model.
        """
        from wavconformer.decoding.processor_with_lm import own_language_model

        try:
            found = own_language_model(source)
            if found is not None:
                self.use_language_model(*found)
        except (CheckpointError, DataError) as error:
            raise CheckpointError(f"{error} To decode without it: lm=False, or --lm none.") from error

    @property
    def sampling_rate(self) -> int:
        """Samples per second that the model takes, 16,000."""
        return int(self.processor.feature_extractor.sampling_rate)

    @property
    def _seconds_per_frame(self) -> float:
        return self.model.config.hop_length / self.sampling_rate

    def __call__(
        self,
        source: AudioSource,
        *,
        sampling_rate: int | None = None,
        batch_seconds: float | None = None,
        **cutting: Any,
    ) -> Transcript:
        """Transcribes one recording of any length.

        The arguments are those of `stream`, which gives the same segments one by one.

        Digital silence gives an empty text. Raises AudioError where the recording can't be read, is shorter than one
        frame (25 ms), or needs more memory than there is; CheckpointError where the model's scores are not numbers.
        """
        stream = self.stream(source, sampling_rate=sampling_rate, batch_seconds=batch_seconds, **cutting)
        found = list(stream)
        return Transcript.of(found, stream.duration, stream.problems)

    def stream(
        self,
        source: AudioSource,
        *,
        sampling_rate: int | None = None,
        batch_seconds: float | None = None,
        **cutting: Any,
    ) -> SegmentStream:
        """Transcribes one recording of any length while it is read, in memory that doesn't grow with it.

        source: path, bytes, file object, or, with their `sampling_rate`, a mono array or an iterable of such arrays.
        batch_seconds: of audio that go through the model at once, by default what suits the device.
        cutting: window_seconds, context_seconds, pause_seconds and vad, as `wavconformer.Cutting` has them. A recording
            of at most one and a half windows goes through the model whole, and no pauses are sought in it; but where
            the model is sure of no word and the detector hears nobody there is no text.

        Yields segments in order. Raises as `__call__` does, once the segments before the fault have come out.
        """
        settings = Cutting(**cutting)
        most = batch_seconds_of(self.model, batch_seconds)
        recording = self._open(source, sampling_rate, settings)
        found = (
            iter(self.together([recording], settings.vad)[0].segments)
            if isinstance(recording, Recording)
            else self._listen(recording, settings, most)
        )
        return SegmentStream(found, recording)

    def _open(self, source: AudioSource, source_rate: int | None, cutting: Cutting) -> Recording | LongRecording:
        return open_recording(source, self.sampling_rate, source_rate, longest=cutting.longest_seconds)

    def _listen(self, recording: LongRecording, cutting: Cutting, most: float) -> Iterator[Segment]:
        """The segments of a recording that comes in window by window."""
        utterances = self.utterances(self.decoder)
        for window, log_probs in self.windows(recording, cutting, most):
            yield from utterances.feed(Frames(log_probs, window.first_frame), closed=window.closed)
        yield from utterances.finish()
        if recording.failure is not None:
            raise recording.failure

    def utterances(self, decoder: Decoder) -> UtteranceDecoder:
        """What makes words of the frames of windows, fresh for a recording."""
        delimiters = [number for number, symbol in enumerate(self._symbols) if symbol == " "]
        least = round(Cutting().window_seconds / self._seconds_per_frame)
        return UtteranceDecoder(decoder, Joiner(delimiters, self.blank, least=least))

    def windower(self, cutting: Cutting) -> Windower:
        """What cuts a recording into windows, fresh for one. Raises WavConformerError where a detector is missing."""
        config = self.model.config
        return Windower(
            cutting,
            rate=self.sampling_rate,
            hop=config.hop_length,
            field=config.receptive_field,
            detector=voice_detector(cutting.vad, self.sampling_rate),
        )

    def hears(self, window: Window) -> bool:
        """Whether a window has a frame, and isn't digital silence, of which a model makes what it likes."""
        return len(window.samples) >= self.model.config.receptive_field and bool(np.ptp(window.samples))

    def frames_of(self, window: Window, name: str) -> tuple[LogProbs, LogProbs]:
        """Log-probabilities (T, V) of a window's own frames, and of those after them that its samples hold.

        Raises CheckpointError where they are not numbers.
        """
        (log_probs,) = self.log_probs_of([window.samples], name, round(STEP_SECONDS * self.sampling_rate))
        config = self.model.config
        count = (len(window.samples) - config.receptive_field) // config.hop_length + 1
        kept = window.kept
        return log_probs[kept].copy(), log_probs[kept.stop : count].copy()

    def windows(
        self, recording: LongRecording, cutting: Cutting, batch_seconds: float | None = None
    ) -> Iterator[tuple[Window, LogProbs]]:
        """The windows of a recording in which there is sound, each with the log-probabilities (T, V) of its own frames.

        An error in reading ends them: it is the recording's `failure`.
        """
        most = batch_seconds_of(self.model, batch_seconds)
        with closing(recording.blocks()) as blocks:
            for group in self._groups(blocks, cutting, most):
                yield from zip(group, self._window_scores(group, recording, most), strict=True)

    def _groups(self, blocks: Iterator[NDArray[np.float32]], cutting: Cutting, most: float) -> Iterator[list[Window]]:
        """The windows of a recording in which there is sound, in order, so many as go through the model at once.

        They wait for more of them until twice as much audio has been read, no longer: nobody knows when it comes.
        """
        windower = self.windower(cutting)
        samples = most * self.sampling_rate
        group: list[Window] = []
        begun = 0
        for windows in _windows(windower, blocks):
            for window in filter(self.hears, windows):
                if group and sum(len(other.samples) for other in group) + len(window.samples) > samples:
                    yield group
                    group = []
                if not group:
                    begun = windower.heard
                group.append(window)
            if group and windower.heard - begun >= 2 * samples:
                yield group
                group = []
        if group:
            yield group

    def _window_scores(self, windows: Sequence[Window], recording: LongRecording, most: float) -> list[LogProbs]:
        """Log-probabilities (T, V) of the windows' own frames, without those of their context."""
        lengths = [len(window.samples) / self.sampling_rate for window in windows]
        scores: dict[int, LogProbs] = {}
        for group in batches(lengths, most):
            waveforms = [windows[number].samples for number in group]
            made = self.log_probs_of(waveforms, recording.name, round(STEP_SECONDS * self.sampling_rate))
            for number, log_probs in zip(group, made, strict=True):
                scores[number] = log_probs[windows[number].kept].copy()  # so that the batch needn't be kept for it
        return [scores[number] for number in range(len(windows))]

    def many(
        self,
        sources: Iterable[AudioSource],
        *,
        sampling_rate: int | None = None,
        batch_seconds: float | None = None,
        on_error: OnError = "raise",
        on_progress: Callable[[int, float], None] | None = None,
        **cutting: Any,
    ) -> Iterator[Transcript | Failure]:
        """Transcribes recordings, those of like length together; the results come in the order of the sources.

        sources, sampling_rate, cutting: as `stream` takes them. Short recordings are read some minutes of audio ahead,
            no further, and a long one when it is its turn.
        batch_seconds: of audio that go through the model at once, by default what suits the device. What is computed
            for a recording doesn't depend on its company.
        on_error: "return" gives a recording's error in its place, and the others go on.
        on_progress: is told, while a long recording is heard, its number and the seconds that have been read.
        """
        most = batch_seconds_of(self.model, batch_seconds)
        settings = Cutting(**cutting)

        def alone(recording: LongRecording, tell: Callable[[float], None]) -> Transcript:
            stream, found = SegmentStream(self._listen(recording, settings, most), recording), []
            for segment in stream:
                found.append(segment)
                tell(stream.duration)
            return Transcript.of(found, stream.duration, stream.problems)

        company: Company[Transcript] = Company(
            self.model,
            open=lambda source: self._open(source, sampling_rate, settings),
            together=lambda recordings: self.together(recordings, settings.vad),
            alone=alone,
            most=most,
            on_error=on_error,
        )
        yield from company(sources, on_progress)

    def together(self, recordings: Sequence[Recording], vad: str = "auto") -> list[Transcript]:
        """Transcribes recordings in one batch. Raises as `__call__` does, for any of them.

        vad: what is asked whether anybody speaks, as `wavconformer.Cutting` has it, where the model is sure of no word.
        """
        refuse_short(recordings, self.model.config.receptive_field, self.sampling_rate)
        sounds = [bool(np.ptp(recording.waveform)) for recording in recordings]
        heard = list(compress(recordings, sounds))
        names = " and ".join(recording.name for recording in heard)
        words = iter(self.words_of([recording.waveform for recording in heard], names) if heard else [])
        return [
            self._transcript(recording, next(words) if is_sound else (), vad)
            for recording, is_sound in zip(recordings, sounds, strict=True)
        ]

    def _transcript(self, recording: Recording, words: tuple[Word, ...], vad: str) -> Transcript:
        is_sure = any(word.probability is None or word.probability >= _SURE for word in words)
        if words and not is_sure and not has_speech(recording.waveform, vad, self.sampling_rate):
            words = ()
        return Transcript.of(segments(words), recording.duration, recording.problems)

    def words_of(self, waveforms: Sequence[NDArray[np.float32]], names: str) -> list[tuple[Word, ...]]:
        """The words of each waveform (S,), whatever it holds. Arguments and errors are those of `log_probs_of`."""
        return decode_all(self.decoder, self.log_probs_of(waveforms, names))

    def log_probs_of(
        self, waveforms: Sequence[NDArray[np.float32]], names: str, multiple: int | None = None
    ) -> list[LogProbs]:
        """Log-probabilities (T, V) of each waveform (S,), as one batch; frames beyond its end are certainly blank.

        All that a transcriber computes comes from here, or from `words_of`: a subclass may have it computed elsewhere.

        names: what messages call the recordings. multiple: the length of the batch is a multiple of so many samples.

        Raises AudioError where a waveform can't be used, CheckpointError where the scores are not numbers.
        """
        extractor = self.processor.feature_extractor
        return scores(self._run, extractor, waveforms, model=self.name, names=names, multiple=multiple)

    def _run(self, input_values: NDArray[np.float32], attention_mask: NDArray[np.integer]) -> tuple[LogProbs, bool]:
        """Log-probabilities (B, T, V), and whether all scores are numbers."""
        if isinstance(self.model, OnnxModel):
            scores = self.model(input_values, attention_mask)
            return log_softmax(scores), bool(np.isfinite(scores).all())
        import torch

        device = self.model.device
        is_whole = len(input_values) == 1 and bool(attention_mask.all())
        with torch.inference_mode():
            logits = self.model(
                torch.from_numpy(input_values).to(device),
                attention_mask=None if is_whole else torch.from_numpy(attention_mask).to(device),
            ).logits
            log_probs: LogProbs = torch.log_softmax(logits.float(), -1).cpu().numpy()
            return log_probs, bool(logits.isfinite().all())


def _windows(windower: Windower, blocks: Iterable[NDArray[np.float32]]) -> Iterator[list[Window]]:
    """Those that are complete with each block, and at the end those that remain."""
    for block in blocks:
        yield windower.feed(block)
    yield windower.finish()


def load_model(
    name: str | os.PathLike[str] | None = None,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    quantization: str | None = None,
    engine: str | None = None,
    threads: int | None = None,
    target_lang: str | None = None,
    lm: str | os.PathLike[str] | bool | None = True,
    **source: Any,
) -> Transcriber:
    """A CTC model with its processor, and with its language model where it carries one.

    name: a folder, a Hub repository, or the checkpoint that ships with the package (None or "tiny-en").
    device: where it runs; the fastest at hand by default. dtype: of the weights, float32 by default.
    quantization: "int8" for the fastest on a CPU, which it then runs on.
    engine: "torch", or "onnx" for the graph that `wavconformer export` wrote; by default what a folder here holds.
    threads: of the CPU; all cores by default. PyTorch's are those of the whole process.
    target_lang: the language, where the model has adapters for several.
    lm: by default words are searched for with the language model that a checkpoint carries beside its weights (the
        folder language_model, as `Wav2Vec2ProcessorWithLM` writes it), by its own settings. False or None: greedy
        decoding. A file, or a checkpoint: with that one. A repository's own isn't downloaded unless it is named here.
    source: revision, cache_dir, token and the like, as in `from_pretrained`.

    Where a language model can't be read for want of the package kenlm there is a UserWarning, and decoding is greedy.

    Raises CheckpointError where files are missing or don't fit together, and as `beam_decoder` does for an `lm`.
    """
    place = DEFAULT_MODEL if name is None else name
    transcriber = _loaded_model(place, device, dtype, quantization, engine, threads, target_lang, source)
    if lm is True:
        transcriber.use_own_language_model(Source.take(place, dict(source)))
    elif lm is not None and lm is not False:
        transcriber.use_language_model(lm)
    return transcriber


def _loaded_model(
    place: str | os.PathLike[str],
    device: torch.device | str | None,
    dtype: torch.dtype | str | None,
    quantization: str | None,
    engine: str | None,
    threads: int | None,
    target_lang: str | None,
    source: dict[str, Any],
) -> Transcriber:
    """What `load_model` gives, as yet without a language model."""
    from wavconformer.processing import Wav2Vec2Processor

    processor = Wav2Vec2Processor.from_pretrained(place, **_language(place, target_lang, source), **source)
    if wants_onnx(engine, Source.take(place, dict(source))):
        if quantization is not None or target_lang is not None or str(device or "cpu") != "cpu" or dtype is not None:
            raise ValueError(
                "The engine 'onnx' runs a graph as it was written, on the CPU: leave device, dtype and target_lang "
                "out, and give quantization to `wavconformer export`."
            )
        graph = OnnxModel.from_pretrained(place, threads=threads, **source)
        if graph.architecture != "Wav2Vec2ConformerForCTC":
            raise CheckpointError(f"'{place}' is a graph of a {graph.architecture}: it can't transcribe.")
        return Transcriber(graph, processor, str(place))
    from wavconformer.checkpoint.models import Wav2Vec2ConformerForCTC
    from wavconformer.checkpoint.pretrained import default_device

    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    model_arguments: dict[str, Any] = {} if target_lang is None else {"target_lang": target_lang}
    model, info = Wav2Vec2ConformerForCTC.from_pretrained(
        place,
        dtype=dtype,
        device=device or ("cpu" if quantization else default_device()),
        quantization=quantization,
        output_loading_info=True,
        **model_arguments,
        **source,
    )
    require_head(place, info)
    return Transcriber(model, processor, str(place))


def require_head(name: str | os.PathLike[str], info: dict[str, Any]) -> None:
    """Raises CheckpointError where, by its loading info, a checkpoint holds no CTC head."""
    if any(key.startswith("lm_head") for key in info["missing_keys"]):
        raise CheckpointError(f"'{name}' holds no CTC head (lm_head): it can't transcribe before it is fine-tuned.")


def _language(name: str | os.PathLike[str], target_lang: str | None, source: dict[str, Any]) -> dict[str, str]:
    """The tokenizer's argument for a language: none where one vocabulary serves all."""
    if target_lang is None:
        return {}
    vocabulary = read_json(Source.take(name, dict(source)).require("vocab.json"))
    return {"target_lang": target_lang} if is_nested(vocabulary) else {}


@lru_cache(maxsize=1)
def _loaded(name: str | None, device: str | None, target_lang: str | None, lm: str | bool) -> Transcriber:
    return load_model(name, device=device, target_lang=target_lang, lm=lm)


def transcribe(
    source: AudioSource,
    *,
    model: Transcriber | str | os.PathLike[str] | None = None,
    sampling_rate: int | None = None,
    device: torch.device | str | None = None,
    target_lang: str | None = None,
    lm: str | os.PathLike[str] | bool | None = True,
    batch_seconds: float | None = None,
    **cutting: Any,
) -> Transcript:
    """Transcribes one recording of any length; of many, load the model once with `load_model` and call it.

    source: path, bytes, file object, or, with their `sampling_rate`, a mono array or an iterable of such arrays.
    model: what `load_model` gave, or a name for it; the checkpoint that ships with the package by default.
    device, target_lang, lm: as `load_model` takes them; a model that is given has its own.
    batch_seconds, cutting: as `Transcriber.stream` takes them: window_seconds, context_seconds, pause_seconds, vad.

    The model named last is kept for the next call. Raises AudioError and CheckpointError.
    """
    if not isinstance(model, Transcriber):
        name = None if model is None else os.fspath(model)
        own = bool(lm) if lm is None or isinstance(lm, bool) else os.fspath(lm)
        model = _loaded(name, None if device is None else str(device), target_lang, own)
    elif device is not None or target_lang is not None or lm is not True:
        raise ValueError("device, target_lang and lm go with a model's name: one that is loaded has its own.")
    return model(source, sampling_rate=sampling_rate, batch_seconds=batch_seconds, **cutting)


__all__ = [
    "SAMPLE_RATE",
    "Cutting",
    "Segment",
    "SegmentStream",
    "Transcriber",
    "Transcript",
    "describe",
    "load_model",
    "transcribe",
]
