"""The one model, and what the threads of all requests want it to compute: gathered, in batches."""

from __future__ import annotations

import copy
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, compress, takewhile
from typing import Any, TypeVar

import numpy as np

from wavconformer.checkpoint.onnx_graph import OnnxModel
from wavconformer.decoding.decoder import decode_all
from wavconformer.decoding.words import Word
from wavconformer.errors import ConfigError, WavConformerError
from wavconformer.processing.vocabulary import is_nested
from wavconformer.serve.work import Work
from wavconformer.serve.worker import CAN_FORK, Hear, Heard, Waveform, Worker, WorkerLost
from wavconformer.tasks.batching import ACCELERATOR_SECONDS, CPU_SECONDS, batches
from wavconformer.tasks.side_by_side import MOST
from wavconformer.tasks.transcribe import LogProbs, Transcriber

Wanted = TypeVar("Wanted")

# oneDNN and PyTorch keep what they have prepared for each shape of a product, a thousand of them if nothing else is
# said. Most of those for the lines of packed utterances, whose lengths are few, fit into a hundred; to prepare one anew
# takes half a millisecond.
_CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "96", "LRU_CACHE_CAPACITY": "16"}
# Waveforms on which it is tried out what a batch costs by itself, in seconds, and the most that it is thought to cost.
_TRIALS = (0.25, 1.5)
_MOST_BURDEN = 2.0


@dataclass(eq=False)
class _Item:
    """One waveform (S,) that waits for its scores, or spelled out, for its words."""

    waveform: Waveform
    name: str
    language: str | None
    work: Work
    spelled: bool = False
    heard: Future[Heard] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)


class Batcher:
    """Runs a model for many threads.

    On a CPU several batches are computed side by side, each on some of the cores, and each in a process of its own
    where that can be. Each is an equal share, the oldest first, of the waveforms that wait, those that are being
    computed, and those that are likely to come: of who is expected, and of as many as were just answered, who may ask
    again. A batch waits for its share `window_seconds`, and as long after each answer, no longer; where nobody is
    likely to come it doesn't wait.

    By a graph, and on an accelerator, padding is computed like sound: there only those of like length go together, so
    like that their padding costs less than one batch more would.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        *,
        window_seconds: float,
        languages: Sequence[str] = (),
        workers: int | None = None,
        on_batch: Callable[[int, float, float], None] = lambda size, seconds, took: None,
        on_loss: Callable[[], None] = lambda: None,
    ) -> None:
        """`languages`: that may be asked for, besides the one that the model was loaded with.

        on_batch: is told of each batch how many went, their seconds of audio, and the seconds that it took.
        on_loss: is told of each process that ended by itself.

        Raises CheckpointError and ValueError where the model has no adapter for a language, CheckpointError where its
        scores are not numbers.
        """
        for name, value in _CACHES.items():  # read when the first batch is computed
            os.environ.setdefault(name, value)
        self._first = transcriber
        self.language = _language(transcriber)
        self._languages = {self.language: transcriber}
        for language in languages:
            self._languages[language] = _with_language(transcriber, language)
        _use(transcriber, self.language)
        self._window = window_seconds
        self._on_batch = on_batch
        self._items: list[_Item] = []
        self._changed = threading.Condition()
        self._running = 0
        self._computed = 0
        self._expected: set[Work] = set()
        self._returns: list[float] = []
        self._answered = -math.inf
        self._closed = False
        is_graph = isinstance(transcriber.model, OnnxModel)
        is_cpu = isinstance(transcriber.model, OnnxModel) or transcriber.model.device.type == "cpu"
        self._packs = is_cpu and not is_graph
        self._most = CPU_SECONDS if is_cpu else ACCELERATOR_SECONDS
        _trial(transcriber, _TRIALS[0])
        self._burden = 0.0 if self._packs else _burden(transcriber)
        count, threads = workers or 1, None
        if not isinstance(transcriber.model, OnnxModel) and is_cpu:
            import torch

            from wavconformer.model.layers import prepack

            prepack(transcriber.model)
            cores = torch.get_num_threads()
            count = workers or min(cores, MOST)
            threads = max(1, cores // count)
        self._count = count
        self._workers = [Worker(self._hear, threads, on_loss) for _ in range(count)] if threads and CAN_FORK else []
        self._threads = [
            threading.Thread(target=self._run, args=(hear, threads), name=f"batches-{number}", daemon=True)
            for number, hear in enumerate(self._workers or [self._hear] * count)
        ]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        """Waveforms that wait."""
        return len(self._items)

    def close(self) -> None:
        """Ends its processes at once, even one that hangs, and its threads when they have done what waits.

        Nobody may be waiting for scores any more: from a process none would come.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.stop()
        for thread in self._threads:
            thread.join()
        for worker in self._workers:
            worker.end()

    @property
    def languages(self) -> tuple[str, ...]:
        """Those that may be asked for by name."""
        return tuple(language for language in self._languages if language is not None)

    def transcriber(self, language: str | None = None) -> Transcriber:
        """The model's transcriber for one of its languages, by default for the one that it was loaded with."""
        return self._languages[self.language if language is None else language]

    @contextmanager
    def expecting(self, work: Work) -> Iterator[None]:
        """Within the block a work is expected to ask for scores, until it does."""
        with self._changed:
            self._expected.add(work)
            self._has_returned()
        try:
            yield
        finally:
            self._expect_no_more(work)

    def scores(self, waveforms: Sequence[Waveform], name: str, language: str | None, work: Work) -> list[LogProbs]:
        """Log-probabilities (T, V) of each waveform (S,), when its turn has come. The thread waits for them.

        Raises Stopped where the work has to stop, and what the model's `Transcriber` raises.
        """
        return self._heard(waveforms, name, language, work, spelled=False)

    def words(
        self, waveforms: Sequence[Waveform], name: str, language: str | None, work: Work
    ) -> list[tuple[Word, ...]]:
        """The words of each waveform (S,), as the model's `Transcriber` decodes it. Otherwise as `scores`."""
        return self._heard(waveforms, name, language, work, spelled=True)

    def _heard(
        self, waveforms: Sequence[Waveform], name: str, language: str | None, work: Work, *, spelled: bool
    ) -> list[Any]:
        work.check()
        language = self.language if language is None else language
        items = [_Item(waveform, name, language, work, spelled) for waveform in waveforms]
        with self._changed:
            if work in self._expected:
                self._expected.discard(work)
            else:
                self._has_returned()
            self._items += items
            self._changed.notify_all()
        try:
            return [work.wait(item.heard) for item in items]
        finally:
            for item in items:
                item.heard.cancel()

    def _expect_no_more(self, work: Work) -> None:
        with self._changed:
            if work in self._expected:
                self._expected.discard(work)
                self._changed.notify_all()

    def _has_returned(self) -> None:
        """Somebody is here: of those who were answered one less is to come."""
        if self._returns:
            self._returns.pop(0)

    # The threads

    def _run(self, hear: Hear, threads: int | None) -> None:
        if threads is not None:
            import torch

            torch.set_num_threads(threads)
        while True:
            group = self._next()
            if group is None:
                return
            answers: list[tuple[_Item, Heard | Exception]] = []
            try:
                answers = self._compute(group, hear)
            finally:  # before anybody is answered, who could be back at once
                with self._changed:
                    self._running -= 1
                    self._computed -= len(group)
                    self._answered = time.monotonic()
                    self._returns += [self._answered + self._window] * len({item.work for item in group})
                    self._changed.notify_all()
            for item, answer in answers:
                if isinstance(answer, Exception):
                    item.heard.set_exception(answer)
                else:
                    item.heard.set_result(answer)

    def _next(self) -> list[_Item] | None:
        """The next batch, with the model in its language; None where there is none and none will come."""
        with self._changed:
            while True:
                self._items = [item for item in self._items if not (item.heard.cancelled() or item.work.over())]
                if not self._items:
                    if self._closed:
                        return None
                    self._changed.wait()
                    continue
                oldest = self._items[0]
                share, patience = self._share(oldest)
                group = self._company(oldest)[:share]
                if patience > 0 and len(group) < share and not self._is_full(group):
                    self._changed.wait(patience)
                    continue
                # A process puts its own model into the language.
                if not self._workers and oldest.language != self._now():
                    if self._running:
                        self._changed.wait()
                        continue
                    _use(self._first, oldest.language)
                self._items = [item for item in self._items if item not in group]
                self._running += 1
                self._computed += len(group)
                return group

    def _share(self, oldest: _Item) -> tuple[int, float]:
        """How many of all go in one batch, and the seconds that those which are there may wait for the rest."""
        now = time.monotonic()
        self._returns = [until for until in self._returns if until > now]
        likely = len(self._expected) + len(self._returns)
        share = math.ceil((len(self._items) + self._computed + likely) / self._count)
        if not likely:
            return share, 0.0
        until = max(oldest.arrived, self._answered) + self._window
        return share, (until if self._expected else min(until, self._returns[0])) - now

    def _company(self, oldest: _Item) -> list[_Item]:
        """The waiting items that go with the oldest."""
        able = [item for item in self._items if item.language == oldest.language]
        seconds = self._seconds(able)
        if self._packs:
            fitting = takewhile(lambda total: total <= self._most, accumulate(seconds))
            return able[: max(1, len(list(fitting)))]
        groups = batches(seconds, self._most, self._burden)
        group = next(group for group in groups if 0 in group)
        return [able[number] for number in sorted(group)]  # of which the first go, where it is more than a share

    def _is_full(self, group: list[_Item]) -> bool:
        able = sum(item.language == group[0].language for item in self._items)
        if self._packs and able > len(group):  # they go as they came, and the next is too long to join
            return True
        seconds = self._seconds(group)
        held = sum(seconds) if self._packs else max(seconds) * len(seconds)
        return held + max(seconds) > self._most

    def _seconds(self, items: list[_Item]) -> list[float]:
        return [len(item.waveform) / self._first.sampling_rate for item in items]

    def _compute(self, group: list[_Item], hear: Hear) -> list[tuple[_Item, Heard | Exception]]:
        """The scores of each that is still wanted, or its error."""
        # A future that is cancelled now stays so; another can't be cancelled any more.
        group = [item for item in group if item.heard.set_running_or_notify_cancel()]
        if not group:
            return []
        begun = time.monotonic()
        answers = self._attempt(group, hear)
        self._on_batch(len(group), sum(self._seconds(group)), time.monotonic() - begun)
        return list(zip(group, answers, strict=True))

    def _attempt(self, group: list[_Item], hear: Hear, *, again: bool = True) -> list[Heard | Exception]:
        """Where a batch fails, each goes alone. again: one whose process ends, too."""
        names = " and ".join(dict.fromkeys(item.name for item in group))
        waveforms, spelled = [item.waveform for item in group], [item.spelled for item in group]
        try:
            return [*hear(waveforms, spelled, names, group[0].language)]
        except WavConformerError as error:
            if len(group) == 1:
                return [error]
        except WorkerLost as error:
            if not again:
                return [error]
            again = False
        except Exception as error:  # noqa: BLE001 - theirs who wait: this thread serves others
            return [error] * len(group)
        return [answer for item in group for answer in self._attempt([item], hear, again=again)]

    def _hear(
        self, waveforms: Sequence[Waveform], spelled: Sequence[bool], names: str, language: str | None
    ) -> list[Heard]:
        _use(self._first, language)
        transcriber = self._languages[language]
        log_probs = transcriber.log_probs_of(waveforms, names)
        words = iter(decode_all(transcriber.decoder, [*compress(log_probs, spelled)]))
        return [next(words) if wanted else scores for scores, wanted in zip(log_probs, spelled, strict=True)]

    def _now(self) -> str | None:
        return _language(self._first)


class RequestTranscriber(Transcriber):
    """A transcriber of the one model, for one request: what it computes goes through the batcher, while it may."""

    def __init__(self, batcher: Batcher, language: str | None, work: Work) -> None:
        # A view of the one there is: the model and all that was worked out of its vocabulary are the same.
        vars(self).update(vars(batcher.transcriber(language)))
        self._batcher, self._language, self._work = batcher, language, work

    def log_probs_of(self, waveforms: Sequence[Waveform], names: str, multiple: int | None = None) -> list[LogProbs]:
        """As the one model gives them, in whatever company."""
        return self._ended(self._batcher.scores, waveforms, names)

    def words_of(self, waveforms: Sequence[Waveform], names: str) -> list[tuple[Word, ...]]:
        """Found beside the scores, unless this request has hot words of its own."""
        if self.decoder is not self._batcher.transcriber(self._language).decoder:
            return super().words_of(waveforms, names)
        return self._ended(self._batcher.words, waveforms, names)

    def _ended(
        self,
        ask: Callable[[Sequence[Waveform], str, str | None, Work], list[Wanted]],
        waveforms: Sequence[Waveform],
        names: str,
    ) -> list[Wanted]:
        try:
            return ask(waveforms, names, self._language, self._work)
        except CancelledError:
            self._work.check()
            raise


def _burden(transcriber: Transcriber, clock: Callable[[], float] = time.monotonic) -> float:
    """What a batch costs, whatever it holds: as much as so many seconds of audio.

    A second of this model's audio, and nothing of it, are tried out: weights are read and operators called for each
    batch, which is more than a second's worth for a small model, and a third of one for the large shape.
    """
    costs = []
    for seconds in _TRIALS:
        took = []
        for _ in range(3):
            begun = clock()
            _trial(transcriber, seconds)
            took.append(clock() - begun)
        costs.append(min(took))
    (short, long), (less, more) = _TRIALS, costs
    second = (more - less) / (long - short)
    return min(_MOST_BURDEN, max(0.0, less / second - short)) if second > 0 else 0.0


def _trial(transcriber: Transcriber, seconds: float) -> None:
    """Runs the model on noise."""
    noise = np.random.default_rng(0).normal(0, 0.1, round(seconds * transcriber.sampling_rate))
    transcriber.log_probs_of([noise.astype(np.float32)], "a trial")


def _language(transcriber: Transcriber) -> str | None:
    return None if isinstance(transcriber.model, OnnxModel) else transcriber.model.target_lang


def _use(transcriber: Transcriber, language: str | None) -> None:
    """Puts the model into a language."""
    if isinstance(transcriber.model, OnnxModel) or language in (None, transcriber.model.target_lang):
        return
    transcriber.model.load_adapter(language)


def _with_language(transcriber: Transcriber, language: str) -> Transcriber:
    """A transcriber of the same model for another language, which the model then is in."""
    if isinstance(transcriber.model, OnnxModel):
        raise ConfigError(f"{transcriber.name} is a graph: it has the one language that it was exported with.")
    transcriber.model.load_adapter(language)
    processor = copy.deepcopy(transcriber.processor)
    if is_nested(processor.tokenizer.vocab):
        processor.tokenizer.set_target_lang(language)
    other = Transcriber(transcriber.model, processor, transcriber.name)
    other.use_language_model_of(transcriber)
    return other
