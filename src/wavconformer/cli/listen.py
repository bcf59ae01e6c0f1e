"""`wavconformer listen`."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.cells import cell_len, set_cell_size

from wavconformer.cli.app import app
from wavconformer.cli.options import (
    ALPHA,
    BEAM,
    BETA,
    DEVICE,
    ENGINE,
    HOTWORD,
    LM,
    MODEL,
    QUANTIZATION,
    TARGET_LANG,
    THREADS,
    Engine,
    Quantization,
    Vad,
    loaded,
    search_of,
)
from wavconformer.cli.terminal import complain, warn
from wavconformer.errors import AudioError

if TYPE_CHECKING:
    from io import BufferedReader
    from typing import TypeAlias

    import numpy as np
    from numpy.typing import NDArray

    from wavconformer.audio.microphone import Microphone
    from wavconformer.tasks.events import LiveEvent
    from wavconformer.tasks.streaming import StreamingTranscriber

    _Samples: TypeAlias = NDArray[np.float32]

_LINE_SECONDS = 20.0  # an utterance that goes on for so long begins another line
_DIM, _PLAIN, _CLEAR = "\x1b[2m", "\x1b[0m", "\r\x1b[K"


class LiveFormat(str, Enum):
    """Of what `listen` prints."""

    txt = "txt"
    json = "json"


class SampleFormat(str, Enum):
    """Of raw samples."""

    u8 = "u8"
    s16le = "s16le"
    s16be = "s16be"
    s32le = "s32le"
    s32be = "s32be"
    f32le = "f32le"
    f32be = "f32be"
    f64le = "f64le"
    f64be = "f64be"


@app.command()
def listen(
    context: typer.Context,
    source: Annotated[
        Path | None,
        typer.Argument(help="'-' for raw samples from standard input, or a pipe or file of them; else the microphone."),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="The same as '-'.")] = False,
    rate: Annotated[int, typer.Option(min=1_000, help="Samples per second.")] = 16_000,
    channels: Annotated[int, typer.Option(min=1, help="Interleaved channels of raw samples.")] = 1,
    sample_format: Annotated[
        SampleFormat, typer.Option(help="Of raw samples, as FFmpeg names it.")
    ] = SampleFormat.s16le,
    microphone: Annotated[
        str | None, typer.Option(metavar="NAME", help="Recording device, by number or part of its name.")
    ] = None,
    format: Annotated[
        LiveFormat, typer.Option(help="Text, a line for each utterance; or an object in a line for each event.")
    ] = LiveFormat.txt,
    partial_seconds: Annotated[
        float, typer.Option(min=0, help="Partial words are at most so old; 0: only those that are final.")
    ] = 0.6,
    window_seconds: Annotated[
        float, typer.Option(min=0.3, help="Words are made final in such steps; longer ones cost less.")
    ] = 0.5,
    context_seconds: Annotated[float, typer.Option(min=0, help="Audio before a step that the model hears.")] = 8.0,
    lookahead_seconds: Annotated[float, typer.Option(min=0, help="Audio after a step that it hears.")] = 0.5,
    pause_seconds: Annotated[float, typer.Option(min=0.2, help="A pause from so long on ends an utterance.")] = 0.5,
    vad: Annotated[
        Vad, typer.Option(help="What finds the pauses; auto: silero where it is installed. energy is a second later.")
    ] = Vad.auto,
    model: Annotated[str | None, MODEL] = None,
    device: Annotated[str | None, DEVICE] = None,
    target_lang: Annotated[str | None, TARGET_LANG] = None,
    quantization: Annotated[Quantization | None, QUANTIZATION] = None,
    engine: Annotated[Engine | None, ENGINE] = None,
    lm: Annotated[str | None, LM] = None,
    alpha: Annotated[float | None, ALPHA] = None,
    beta: Annotated[float | None, BETA] = None,
    beam: Annotated[int | None, BEAM] = None,
    hotword: Annotated[list[str] | None, HOTWORD] = None,
    threads: Annotated[int | None, THREADS] = None,
) -> None:
    """Turn speech into text while it is spoken, from the microphone or from raw samples in a pipe.

    Ctrl-C ends it; what was still open is then printed.
    """
    search = search_of(lm, alpha, beta, beam, hotword)
    if microphone is not None and (raw or source is not None):
        raise typer.BadParameter("--microphone names a device, but the samples are to come from a pipe.")
    if raw and source not in (None, Path("-")):
        raise typer.BadParameter(f"--raw reads standard input; leave it out to read '{source}'.")
    with ExitStack() as stack:
        if raw or source is not None:
            chunks, actual_rate = _piped(stack, source, channels, sample_format), rate
        else:
            from wavconformer.audio.microphone import Microphone

            name = int(microphone) if microphone is not None and microphone.isdecimal() else microphone
            opened = Microphone(name, rate)
            stack.callback(opened.close)
            chunks, actual_rate = _recorded(opened), opened.rate
        transcriber = loaded(model, device, target_lang, quantization, engine, threads, search)
        from wavconformer.tasks.streaming import StreamingTranscriber

        live = StreamingTranscriber(
            transcriber,
            sampling_rate=actual_rate,
            partial_seconds=partial_seconds or None,
            window_seconds=window_seconds,
            context_seconds=context_seconds,
            lookahead_seconds=lookahead_seconds,
            pause_seconds=pause_seconds,
            vad=vad.value,
        )
        printer = _Events() if format is LiveFormat.json else _Screen() if sys.stdout.isatty() else _Lines()
        failure = _listen(live, chunks, printer)
    if not printer.has_words and (live.heard or failure is None):
        warn(f"No words in {live.heard:.1f} s of audio.")
    if failure is not None:
        if context.obj["debug"]:
            raise failure
        complain(failure)
        raise typer.Exit(1)


def _piped(stack: ExitStack, source: Path | None, channels: int, sample_format: SampleFormat) -> Iterator[_Samples]:
    from wavconformer.audio.pcm import read_pcm

    if source in (None, Path("-")):
        pipe = cast("BufferedReader", sys.stdin.buffer)
    else:
        pipe = stack.enter_context(source.open("rb"))
    return read_pcm(pipe, channels=channels, sample_format=sample_format.value)


def _recorded(microphone: Microphone) -> Iterator[_Samples]:
    told = 0.0
    for chunk in microphone:
        if microphone.lost > told:
            told = microphone.lost
            warn(f"{told:.1f} s of sound are lost: this machine can't keep up. Longer --window-seconds cost less.")
        yield chunk


def _listen(live: StreamingTranscriber, chunks: Iterable[_Samples], printer: _Printer) -> AudioError | None:
    """Prints what is said until the samples end, fail or are interrupted; the failure."""
    failure = None
    with _Interrupt() as interrupt:
        try:
            for chunk in interrupt.until(chunks):
                printer.show(live.feed(chunk))
        except AudioError as error:  # what was heard before it isn't lost
            failure = error
        printer.show(live.close())
        printer.finish()
    return failure


class _Interrupt:
    """Ctrl-C once ends the samples, and nothing in the middle; twice ends everything."""

    def __init__(self) -> None:
        self._asked = self._waits = False

    def __enter__(self) -> _Interrupt:
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._waits or self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def until(self, chunks: Iterable[_Samples]) -> Iterator[_Samples]:
        """The chunks that come before it."""
        iterator = iter(chunks)
        while not self._asked:
            try:
                self._waits = True
                chunk = next(iterator)
            except (StopIteration, KeyboardInterrupt):
                return
            finally:
                self._waits = False
            yield chunk


class _Printer(ABC):
    """Prints events as they come. has_words: whether any were final."""

    has_words = False

    def show(self, events: list[LiveEvent]) -> None:
        """Prints them, so that a reader has them at once."""
        for event in events:
            self.has_words = self.has_words or event.kind == "final"
            self._write(event)
        if events:
            sys.stdout.flush()

    @abstractmethod
    def _write(self, event: LiveEvent) -> None: ...

    def finish(self) -> None:  # noqa: B027 - most have nothing to do
        """Nothing more will come."""


class _Events(_Printer):
    """An object in a line for each."""

    def _write(self, event: LiveEvent) -> None:
        typer.echo(json.dumps(event.as_dict(), ensure_ascii=False))


class _Lines(_Printer):
    """Final words alone, a line for each utterance; one that doesn't end is broken."""

    def __init__(self) -> None:
        self._begun: float | None = None  # when the first word of the line was spoken

    def _write(self, event: LiveEvent) -> None:
        if event.kind == "end":
            self.finish()
        elif event.kind == "final":
            if self._begun is not None and event.segment.end - self._begun > _LINE_SECONDS:
                self.finish()
            typer.echo(event.text if self._begun is None else f" {event.text}", nl=False)
            self._begun = event.segment.start if self._begun is None else self._begun

    def finish(self) -> None:
        if self._begun is not None:
            typer.echo()
            self._begun = None


class _Screen(_Printer):
    """Final words, and dimmed behind them those that may yet change, in place, in lines as wide as the terminal."""

    def __init__(self) -> None:
        self._line = ""

    def _write(self, event: LiveEvent) -> None:
        if event.kind == "end":
            self._draw("")
            self.finish()
        elif event.kind == "partial":
            self._draw(event.text)
        else:
            for word in event.words:
                longer = f"{self._line} {word.text}".lstrip()
                if self._line and cell_len(longer) > self._width:
                    self._draw("")
                    self.finish()
                    longer = word.text
                self._line = longer
            self._draw("")

    @property
    def _width(self) -> int:
        return shutil.get_terminal_size().columns - 1

    def _draw(self, partial: str) -> None:
        room = max(0, self._width - cell_len(self._line) - bool(self._line))
        shown = set_cell_size(partial, room).rstrip() if cell_len(partial) > room else partial
        space = " " if self._line and shown else ""
        sys.stdout.write(f"{_CLEAR}{self._line}{space}{_DIM}{shown}{_PLAIN}" if shown else f"{_CLEAR}{self._line}")

    def finish(self) -> None:
        if self._line:
            sys.stdout.write("\n")
            self._line = ""
