"""What all requests share: the model, the decoders, the places; and how one request's work is done with them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from wavconformer.serve.admission import Admission
from wavconformer.serve.batcher import Batcher, RequestTranscriber
from wavconformer.serve.decoders import Decoders, Decoding
from wavconformer.serve.failures import refused
from wavconformer.serve.metrics import Metrics
from wavconformer.serve.models import FurtherModels
from wavconformer.serve.settings import Settings
from wavconformer.serve.uploads import Upload, Uploads
from wavconformer.serve.work import Reason, Work
from wavconformer.tasks.transcribe import Transcriber

Result = TypeVar("Result")

# Decoding processes that are there before they are needed.
_WARM = 2


class Service:
    """The model with all round it. models: those that tasks need besides."""

    def __init__(
        self,
        transcriber: Transcriber,
        settings: Settings,
        *,
        languages: tuple[str, ...] = (),
        models: Mapping[str, str] | None = None,
    ) -> None:
        """`transcriber`: it decodes all requests but those with hot words of their own.

        languages: further ones of the model's adapters. models: places of further models, by kind, as `FurtherModels`
        takes them.

        Raises as `Batcher` and `FurtherModels` do.
        """
        self.models = FurtherModels(models or {})
        self.settings = settings
        self.metrics = Metrics()
        self.name = transcriber.name
        self.created = int(time.time())
        self.batcher = Batcher(
            transcriber,
            window_seconds=settings.window_milliseconds / 1000,
            languages=languages,
            workers=settings.workers,
            on_batch=self.metrics.heard,
            on_loss=self.metrics.workers.inc,
        )
        self.decoders = Decoders(settings.decoder_megabytes, on_loss=self.metrics.decoders.inc)
        self.decoders.warm(_WARM)
        self.uploads = Uploads(settings)
        self.admission = Admission(settings.concurrency, settings.queue)
        self.streams = Admission(settings.streams, what="live streams") if settings.streams else None
        self._stopping = asyncio.Event()
        self._works: set[Work] = set()
        self._threads = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="requests")
        self._listeners = ThreadPoolExecutor(max(1, settings.streams), thread_name_prefix="streams")
        self.metrics.gauge("requests_inside", "Requests that are worked on or wait.", lambda: len(self.admission))
        self.metrics.gauge("requests_refused", "Requests that found no place.", lambda: self.admission.refused)
        self.metrics.gauge("waveforms_waiting", "Waveforms that wait for the model.", lambda: len(self.batcher))
        self.metrics.gauge("upload_bytes", "Bytes of bodies that are held.", lambda: self.uploads.held)

    @property
    def stopping(self) -> bool:
        """Whether new requests are to go elsewhere."""
        return self._stopping.is_set()

    def finish(self) -> None:
        """Takes nothing new from now on. What runs goes on; live streams end with the words that they have heard."""
        self._stopping.set()

    async def until_stopping(self) -> None:
        """Returns when nothing new is taken any more."""
        await self._stopping.wait()

    def stop(self, reason: Reason = Reason.STOPPING) -> None:
        """Ends the work of all requests."""
        for work in list(self._works):
            work.stop(reason)

    def close(self) -> None:
        """Ends it all, when what runs has come to its end."""
        self.stop()
        self._threads.shutdown()
        self._listeners.shutdown()
        self.batcher.close()
        self.decoders.close()

    async def perform(self, request: Request, function: Callable[[Work], Result]) -> Result:
        """What a function gives that runs in a thread, when there is a place; it ends early if the client leaves.

        Raises Failure (429) where there is no place, Stopped where it had to stop, and what the function raises.
        """
        with self.admission.place(), self.working() as work:
            running = self._threads.submit(_checked, work, function)
            async with _watched(request, work):
                return await _finished(running, work)

    async def stream(
        self, request: Request, function: Callable[[Work, Callable[[Result], None]], None]
    ) -> AsyncIterator[Result]:
        """As `perform`, for a function that tells one thing after another."""
        loop = asyncio.get_running_loop()
        told: asyncio.Queue[Result | None] = asyncio.Queue()

        def tell(thing: Result | None) -> None:
            loop.call_soon_threadsafe(told.put_nowait, thing)

        with self.admission.place(), self.working() as work:
            running = self._threads.submit(_checked, work, lambda work: function(work, tell))
            running.add_done_callback(lambda _: tell(None))
            try:
                async with _watched(request, work):
                    while (thing := await told.get()) is not None:
                        yield thing
                    await _finished(running, work)
            finally:
                work.stop(Reason.GONE)  # where whoever listened has left before the end
                with suppress(Exception):
                    await asyncio.shield(asyncio.wrap_future(running))

    @contextmanager
    def working(self, seconds: float | None = -1.0) -> Iterator[Work]:
        """A request's work, which ends with the server. seconds: that it may take, by default what is set."""
        work = Work(self.settings.timeout_seconds if seconds == -1.0 else seconds)
        self._works.add(work)
        try:
            yield work
        finally:
            self._works.discard(work)

    def run(self, function: Callable[[], Result]) -> Future[Result]:
        """Runs a live stream's function in a thread."""
        return self._listeners.submit(function)


@dataclass
class Visit:
    """One request's work on its files, in a thread. progress: is told the seconds that are done, and of how many."""

    service: Service
    work: Work
    uploads: Mapping[str, Upload]
    most_seconds: float
    progress: Callable[[float, float | None], None] = lambda seconds, duration: None
    noted: dict[str, object] = field(default_factory=dict)

    def transcriber(self, language: str | None = None, hotwords: Mapping[str, float] | None = None) -> Transcriber:
        """The model, for this request. Raises Failure for a language or a hot word that can't be used."""
        return request_transcriber(self.service, self.work, language, hotwords)

    def model(self, kind: str) -> AbstractContextManager[Any]:
        """A further model, as `FurtherModels.use` gives it."""
        return self.service.models.use(kind, self.work)

    @contextmanager
    def decoded(self, rate: int, name: str = "file") -> Iterator[Decoding]:
        """The samples of one of its files at a rate. Raises as `Decoders.decode` does."""
        upload = self.uploads[name]
        with self.service.decoders.decode(
            upload.descriptor(), upload.name, rate, self.work, most_seconds=self.most_seconds
        ) as decoding:
            decoding.blocks = self._heard(decoding.blocks, decoding.duration, rate)
            yield decoding

    def _heard(
        self, blocks: Iterator[NDArray[np.float32]], duration: float | None, rate: int
    ) -> Iterator[NDArray[np.float32]]:
        heard = 0
        for block in blocks:
            heard += len(block)
            yield block
            self.progress(heard / rate, duration)
        self.noted["audio_seconds"] = round(heard / rate, 3)


def request_transcriber(
    service: Service, work: Work, language: str | None, hotwords: Mapping[str, float] | None
) -> Transcriber:
    """The model, for one request. Raises Failure for a language or a hot word that can't be used."""
    known = service.batcher.languages
    if language is not None and language not in known:
        has = f"it has {', '.join(known)}" if known else "it has one language"
        raise refused(f"The model has no language '{language}' here: {has}.", "target_lang")
    transcriber = RequestTranscriber(service.batcher, language, work)
    if hotwords:
        try:
            transcriber.decoder = transcriber.beam_decoder(hotwords=hotwords)
        except ValueError as error:
            raise refused(str(error), "hotwords") from None
    return transcriber


def _checked(work: Work, function: Callable[[Work], Result]) -> Result:
    work.check()
    return function(work)


async def _finished(running: Future[Result], work: Work) -> Result:
    """What the thread gives. It is always waited for: the files that it reads are closed after it."""
    future = asyncio.wrap_future(running)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        work.stop(Reason.STOPPING)
        with suppress(Exception):
            await future
        raise


class _watched:
    """Ends a request's work when its client leaves."""

    def __init__(self, request: Request, work: Work) -> None:
        self._request, self._work = request, work

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._watch())

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _watch(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._work.stop(Reason.GONE)
