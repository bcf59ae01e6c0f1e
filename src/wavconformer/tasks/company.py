"""Many recordings through a model: those of like length together, the results in the order of the sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from wavconformer.audio import AudioSource
from wavconformer.checkpoint.onnx_graph import OnnxModel
from wavconformer.errors import WavConformerError
from wavconformer.tasks.batching import ACCELERATOR_SECONDS, CPU_SECONDS, batches
from wavconformer.tasks.recording import LongRecording, Recording
from wavconformer.tasks.side_by_side import side_by_side

if TYPE_CHECKING:
    from wavconformer.checkpoint.pretrained import PreTrained

# Batches' worth of audio that are read before the first of them runs: enough to find company of like length.
AHEAD = 20
AHEAD_SECONDS = 600.0

Result = TypeVar("Result")
Failure = WavConformerError | OSError | ValueError
"""What is wrong with a recording."""
_FAILURES = (WavConformerError, OSError, ValueError)
OnError = Literal["raise", "return"]


def batch_seconds_of(model: PreTrained | OnnxModel, wanted: float | None = None) -> float:
    """Seconds of audio that go through the model at once: those wanted, or what suits its device.

    Raises ValueError where they aren't positive.
    """
    if wanted is None:
        return CPU_SECONDS if _is_cpu(model) else ACCELERATOR_SECONDS
    if not wanted > 0:
        raise ValueError(f"batch_seconds is {wanted}, but must be positive.")
    return wanted


def _is_cpu(model: PreTrained | OnnxModel) -> bool:
    return isinstance(model, OnnxModel) or model.device.type == "cpu"


@dataclass(frozen=True)
class Company(Generic[Result]):
    """How a task hears recordings.

    model: on a CPU several batches go through it side by side. open: reads a source, whole where it is short.
    together: the results of short recordings in one batch. alone: the result of a long one; it tells the second
    argument the seconds that have been read. most: seconds of audio in a batch. on_error: "return" gives a recording's
    error in its place, and the others go on.
    """

    model: PreTrained | OnnxModel
    open: Callable[[AudioSource], Recording | LongRecording]
    together: Callable[[Sequence[Recording]], Sequence[Result]]
    alone: Callable[[LongRecording, Callable[[float], None]], Result]
    most: float
    on_error: OnError = "raise"

    def __post_init__(self) -> None:
        if self.on_error not in ("raise", "return"):
            raise ValueError(f"on_error is {self.on_error!r}, but must be 'raise' or 'return'.")

    def __call__(
        self, sources: Iterable[AudioSource], on_progress: Callable[[int, float], None] | None = None
    ) -> Iterator[Result | Failure]:
        """The result of each source, in order.

        Short recordings are read some minutes of audio ahead, no further, and a long one when it is its turn.
        on_progress: is told, while a long recording is heard, its number and the seconds that have been read.
        """
        enough = max(self.most, min(AHEAD * self.most, AHEAD_SECONDS))
        window: list[Recording | Failure] = []
        ahead = 0.0
        for number, source in enumerate(sources):
            try:
                recording = self.open(source)
            except _FAILURES as error:
                if self.on_error == "raise":
                    yield from self._window(window)  # what was read before it isn't lost
                    raise
                window.append(error)
                continue
            if isinstance(recording, LongRecording):
                yield from self._window(window)
                window, ahead = [], 0.0
                yield self._long(recording, number, on_progress)
                continue
            window.append(recording)
            ahead += recording.duration
            if ahead >= enough:
                yield from self._window(window)
                window, ahead = [], 0.0
        yield from self._window(window)

    def _long(
        self, recording: LongRecording, number: int, on_progress: Callable[[int, float], None] | None
    ) -> Result | Failure:
        def tell(seconds: float) -> None:
            if on_progress is not None:
                on_progress(number, seconds)

        try:
            return self.alone(recording, tell)
        except _FAILURES as error:
            if self.on_error == "raise":
                raise
            return error

    def _window(self, items: list[Recording | Failure]) -> Iterator[Result | Failure]:
        results: dict[int, Result | Failure] = {}
        numbers = [number for number, item in enumerate(items) if isinstance(item, Recording)]
        recordings = [item for item in items if isinstance(item, Recording)]
        groups = batches([recording.duration for recording in recordings], self.most)

        def attempt(group: Sequence[int]) -> list[Result | Failure]:
            return self._attempt([recordings[place] for place in group])

        is_torch_on_cpu = not isinstance(self.model, OnnxModel) and _is_cpu(self.model)
        attempts = side_by_side(attempt, groups) if is_torch_on_cpu else map(attempt, groups)
        for group, found in zip(groups, attempts, strict=True):
            for place, result in zip(group, found, strict=True):
                results[numbers[place]] = result
        for number, item in enumerate(items):
            yield results[number] if isinstance(item, Recording) else item

    def _attempt(self, recordings: list[Recording]) -> list[Result | Failure]:
        """All together; where that fails each alone, so that only the one at fault has the error."""
        try:
            return [*self.together(recordings)]
        except WavConformerError as error:
            if len(recordings) > 1:
                return [result for recording in recordings for result in self._attempt([recording])]
            if self.on_error == "raise":
                raise
            return [error]
