"""Who speaks when: a recording in, turns out."""

from __future__ import annotations

import math
import os
import secrets
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wavconformer.audio import AudioSource
from wavconformer.data.rttm import stretches
from wavconformer.decoding.clusters import Voices, assign, group
from wavconformer.decoding.diarization import Diarization
from wavconformer.decoding.stitching import NOBODY, smoothed, stitch
from wavconformer.decoding.transcript import SpeakerTurn
from wavconformer.errors import CheckpointError
from wavconformer.files import Source
from wavconformer.tasks.embedding import Embedder
from wavconformer.tasks.heads import architecture_of, refuse_other_head
from wavconformer.tasks.listening import Listener, Local
from wavconformer.tasks.recording import LongRecording, describe, open_recording
from wavconformer.tasks.verification import finite_threshold

if TYPE_CHECKING:
    import torch

    from wavconformer.tasks.speakers import SpeakerStore

Samples = NDArray[np.float32]

DIARIZATION_MODEL = "diarize"
"""The diarization model that ships with the package."""

# What only models with another head have.
_OTHER_HEADS = ("lm_head.", "projector.", "tdnn.", "objective.", "project_hid.")


@dataclass(frozen=True)
class DiarizationSettings:
    """How a recording is cut, and what becomes of what its windows say.

    window_seconds: as long as the frame head hears at once; about what it was trained on.
    step_seconds: from one window to the next; shorter steps are slower and surer.
    piece_seconds: what somebody says in a window is cut into pieces of about so long, each with a voice.
    threshold: cosine distance from which on voices are those of different speakers.
    clear_seconds: pieces with less sound in which nobody else speaks found no speaker but only join one.
    speaker_seconds: who speaks less in all, each moment counted as often as windows hear it, is no speaker apart.
    gap_seconds: a rest up to so long doesn't end a turn. turn_seconds: shorter turns are left out.
    """

    window_seconds: float = 10.0
    step_seconds: float = 5.0
    piece_seconds: float = 1.5
    threshold: float = 0.65
    clear_seconds: float = 1.0
    speaker_seconds: float = 3.0
    gap_seconds: float = 0.25
    turn_seconds: float = 0.1

    def __post_init__(self) -> None:
        if not 1.0 <= self.window_seconds < math.inf:
            raise ValueError(f"window_seconds is {self.window_seconds}, but must be a number from 1 on.")
        if not 0.1 <= self.step_seconds <= self.window_seconds:
            raise ValueError(f"step_seconds is {self.step_seconds}, but must be between 0.1 and window_seconds.")
        if not 0.1 <= self.piece_seconds < math.inf:
            raise ValueError(f"piece_seconds is {self.piece_seconds}, but must be a number from 0.1 on.")
        if not 0.0 <= self.threshold <= 2.0:
            raise ValueError(f"threshold is {self.threshold}, but cosine distances lie between 0 and 2.")
        for name in ("clear_seconds", "speaker_seconds", "gap_seconds", "turn_seconds"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be a number from 0 on.")


@dataclass(frozen=True)
class _Voice:
    """A speaker: the mean vector (D,), if one was needed, and the seconds that it was made of."""

    vector: NDArray[np.float32] | None
    seconds: float


class Diarizer(Listener):
    """A frame head and a speaker model, ready to tell who speaks when.

    In each window of a recording the frame head says who speaks, overlaps included; the speaker model makes vectors of
    what each one says, of the frames where nobody else speaks; the vectors of all windows are grouped into speakers;
    and what overlapping windows say of a frame is put together. (As pyannote.audio 2.1, H. Bredin, Interspeech 2023,
    but that what somebody says in a window has several vectors.)
    """

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] | None = None,
        *,
        speaker_model: str | os.PathLike[str] | None = None,
        device: torch.device | str | None = None,
        threads: int | None = None,
        **source: Any,
    ) -> Diarizer:
        """The models of folders or Hub repositories; those that ship with the package by default.

        model: with the frame head. speaker_model: with the x-vector head; it is loaded once it is needed, for a
        recording of a single window isn't. device: where they run; the fastest at hand by default. threads: of the
        CPU, for the whole process. source: revision, token and the like, as in `from_pretrained`, of `model`.

        Raises CheckpointError where files are missing, and for a checkpoint without the head of its task.
        """
        from wavconformer.auto import feature_extractor
        from wavconformer.checkpoint.models import Wav2Vec2ConformerForAudioFrameClassification
        from wavconformer.checkpoint.pretrained import default_device

        if threads is not None:
            import torch

            torch.set_num_threads(threads)
        place = DIARIZATION_MODEL if model is None else model
        device = device or default_device()
        folder = Source.take(place, dict(source))
        head = Wav2Vec2ConformerForAudioFrameClassification.__name__
        refuse_other_head(place, architecture_of(folder), task="`diarize`", head=head)
        extractor = feature_extractor(folder, **source)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*start from random values", category=UserWarning)
            loaded, info = Wav2Vec2ConformerForAudioFrameClassification.from_pretrained(
                place, device=device, output_loading_info=True, ignore_mismatched_sizes=True, **source
            )
        lost = [*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])]
        others = [key for key in info["unexpected_keys"] if key.startswith(_OTHER_HEADS)]
        if others or any(key.startswith("classifier.") for key in lost):
            raise CheckpointError(
                f"'{place}' holds no frame head (classifier): it can't tell who speaks before it is fine-tuned with "
                "task: frame."
            )

        if lost:
            raise CheckpointError(
                f"'{place}' lacks weights of its shape, or has them in another: {', '.join(lost[:3])}. Its config.json "
                "and its weights don't belong together."
            )

        def load_embedder() -> Embedder:
            return Embedder.load(speaker_model, device=device)

        return cls(loaded, extractor, load_embedder, str(place))

    def __call__(
        self,
        source: AudioSource,
        *,
        speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
        store: SpeakerStore | None = None,
        enroll: bool = True,
        store_threshold: float | None = None,
        sampling_rate: int | None = None,
        batch_seconds: float | None = None,
        progress: Callable[[float], None] = lambda seconds: None,
        **settings: Any,
    ) -> Diarization:
        """Tells who speaks when in one recording of any length, in memory that hardly grows with it.

        The arguments are those of `wavconformer.diarize`. Raises as it does.
        """
        chosen = DiarizationSettings(**settings)
        bounds = _bounds(speakers, min_speakers, max_speakers)
        if batch_seconds is not None and not batch_seconds > 0:
            raise ValueError(f"batch_seconds is {batch_seconds}, but must be positive.")
        if store_threshold is not None:
            finite_threshold(store_threshold)
        if store is not None and store.embedder.name != self.embedder.name:
            raise ValueError(
                f"The store '{store.place}' is of another speaker model: SpeakerStore(place, model=diarizer.embedder)."
            )
        recording = open_recording(source, self.sampling_rate, sampling_rate, longest=0.0)
        assert isinstance(recording, LongRecording)  # for none is so short
        if store is not None:  # before hours are heard in vain
            if enroll:
                store.make()
            store.check(store_threshold)
        local = self.listen(
            recording,
            chosen.window_seconds,
            chosen.step_seconds,
            chosen.piece_seconds,
            bounds=bounds if store is None else None,
            batch_seconds=batch_seconds,
            progress=progress,
        )
        owners, voices = self._speakers(local, chosen, bounds)
        names: list[str | None] = [None] * len(voices)
        if store is not None:
            names = _known(voices, store, chosen.speaker_seconds if enroll else math.inf, store_threshold, source)
        turns = self._turns(local, owners, names, chosen, recording.heard)
        duration = recording.heard / recording.rate
        return Diarization(turns, duration, tuple(recording.problems))

    # Speakers

    def _speakers(
        self, local: Sequence[Local], settings: DiarizationSettings, bounds: tuple[int, int | None]
    ) -> tuple[list[NDArray[np.int64]], list[_Voice]]:
        """Of each window the speaker (T, K) that each column stands for, frame by frame, and the speakers."""
        pieces = [(number, piece) for number, one in enumerate(local) for piece in one.pieces]
        if not pieces:
            return self._unheard(local)
        voices = Voices(
            np.stack([piece.vector for _, piece in pieces]),
            np.array([piece.seconds for _, piece in pieces], np.float32),
            np.array([number for number, _ in pieces], np.int64),
            np.array([(piece.start, piece.stop) for _, piece in pieces], np.int64),
        )
        vectors = group(
            voices, settings.threshold, *bounds, clear=settings.clear_seconds, small=settings.speaker_seconds
        )
        labels = assign(voices, vectors)
        owners = [owners_of(one, labels[voices.windows == number]) for number, one in enumerate(local)]
        seconds = np.bincount(labels, voices.seconds, len(vectors))
        return owners, [_Voice(*one) for one in zip(vectors, seconds.tolist(), strict=True)]

    def _unheard(self, local: Sequence[Local]) -> tuple[list[NDArray[np.int64]], list[_Voice]]:
        """As `_speakers`, where no voices were made: of a single window each column is somebody."""
        owners = [np.full(one.heard.active.shape, NOBODY) for one in local]
        count = 0
        for number, one in enumerate(local[:1]):
            for column in np.flatnonzero(one.heard.active.any(0)).tolist():
                owners[number][:, column] = count
                count += 1
        return owners, [_Voice(None, 0.0)] * count

    def _turns(
        self,
        local: Sequence[Local],
        owners: Sequence[NDArray[np.int64]],
        names: Sequence[str | None],
        settings: DiarizationSettings,
        samples: int,
    ) -> tuple[SpeakerTurn, ...]:
        """Turns in the order of their starts, in which speakers without a name are numbered."""
        hop, rate = self.model.config.hop_length, self.sampling_rate
        frames = self._frames(samples)
        active = stitch([one.heard for one in local], owners, len(names), frames)
        per_second = rate / hop
        active = smoothed(
            active, round(settings.gap_seconds * per_second), math.ceil(settings.turn_seconds * per_second)
        )
        found = []
        for start, end, speaker in stretches(active, 1.0):
            since = 0.0 if start == 0 else (start * hop + self._lead) / rate
            until = samples / rate if end == frames else (end * hop + self._lead) / rate
            found.append((round(since, 3), round(until, 3), speaker))
        found.sort()
        unknown = [speaker for speaker in dict.fromkeys(one[2] for one in found) if names[speaker] is None]
        called = dict(enumerate(names)) | {speaker: f"speaker{number}" for number, speaker in enumerate(unknown, 1)}
        return tuple(SpeakerTurn(start, end, str(called[speaker])) for start, end, speaker in found)


def owners_of(local: Local, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The speaker (T, K) that each column of a window stands for: that of the nearest piece. labels: of the pieces."""
    owners = np.full(local.heard.active.shape, NOBODY)
    for column in {piece.column for piece in local.pieces}:
        own = [(piece, label) for piece, label in zip(local.pieces, labels, strict=True) if piece.column == column]
        middles = [(one.stop + other.start) // 2 for (one, _), (other, _) in pairwise(own)]
        for (_, label), start, stop in zip(own, [0, *middles], [*middles, len(owners)], strict=True):
            owners[start:stop, column] = label
    return owners


def _bounds(speakers: int | None, least: int | None, most: int | None) -> tuple[int, int | None]:
    """The fewest and the most speakers, which there may be."""
    if speakers is not None and not (least is None and most is None):
        raise ValueError("speakers is their exact number: leave min_speakers and max_speakers out.")
    for name, value in (("speakers", speakers), ("min_speakers", least), ("max_speakers", most)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}, but must be at least 1.")
    if least is not None and most is not None and least > most:
        raise ValueError(f"min_speakers is {least}, more than max_speakers, {most}.")
    return (speakers, speakers) if speakers is not None else (least or 1, most)


def _known(
    voices: Sequence[_Voice], store: SpeakerStore, least: float, threshold: float | None, source: AudioSource
) -> list[str | None]:
    """The names of voices; an unknown one of at least so many seconds is enrolled under a new name.

    Two voices that the store takes for one person are one: then clustering has parted them.
    """
    vectors = np.array([voice.vector for voice in voices], np.float32).reshape(len(voices), -1)
    names: list[str | None] = [None] * len(voices)
    if len(voices):
        names = [None if match is None else match.name for match in store.names(vectors, threshold=threshold)]
    for number, voice in enumerate(voices):
        if names[number] is None and voice.seconds >= least:
            # By chance, not by number: two processes that enrol at once must not give two people one name.
            name = f"speaker-{secrets.token_hex(3)}"
            store.add(name, vectors[number : number + 1], [describe(source).strip("'")])
            names[number] = name
    return names


@lru_cache(maxsize=1)
def _loaded(model: str | None, speaker_model: str | None, device: str | None) -> Diarizer:
    return Diarizer.load(model, speaker_model=speaker_model, device=device)


def diarize(
    source: AudioSource,
    speakers: int | None = None,
    *,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    model: Diarizer | str | os.PathLike[str] | None = None,
    speaker_model: str | os.PathLike[str] | None = None,
    store: SpeakerStore | str | os.PathLike[str] | None = None,
    enroll: bool = True,
    store_threshold: float | None = None,
    sampling_rate: int | None = None,
    device: torch.device | str | None = None,
    batch_seconds: float | None = None,
    progress: Callable[[float], None] = lambda seconds: None,
    **settings: Any,
) -> Diarization:
    """Tells who speaks when in one recording of any length; of many, load the models once with `Diarizer.load`.

    source: path, bytes, file object, or, with their `sampling_rate`, a mono array (S,) or an iterable of such arrays.
    speakers: how many there are, where that is known; min_speakers, max_speakers: bounds of it. Fewer come out where
        fewer are heard.
    model: what `Diarizer.load` gave, or a name for it; the checkpoint that ships with the package by default.
    speaker_model: a name for what tells voices apart; the one that ships with the package by default.
    store: a `SpeakerStore`, or the place of one, whose people are called by their names; without one speakers are
        numbered. enroll: whether voices that it doesn't know are added, so that they keep their name in other
        recordings. store_threshold: score from which on a voice is known, by default the speaker model's calibration.
    batch_seconds: of audio that go through the model at once, by default what suits the device.
    progress: is told the seconds of audio that are done.
    settings: window_seconds, step_seconds, threshold and the others, as `DiarizationSettings` has them.

    The models named last are kept for the next call. Silence gives no turns. Raises AudioError where the recording
    can't be read or is shorter than one frame, CheckpointError where a model can't be used, ValueError for numbers of
    speakers that contradict each other.
    """
    if isinstance(model, Diarizer):
        if device is not None or speaker_model is not None:
            raise ValueError("device and speaker_model go with a model's name: one that is loaded has its own.")
    else:
        names = [None if one is None else os.fspath(one) for one in (model, speaker_model)]
        model = _loaded(names[0], names[1], None if device is None else str(device))
    if isinstance(store, (str, os.PathLike)):
        from wavconformer.tasks.speakers import SpeakerStore

        store = SpeakerStore(store, model=model.embedder)
    return model(
        source,
        speakers=speakers,
        min_speakers=min_speakers,
        max_speakers=max_speakers,
        store=store,
        enroll=enroll,
        store_threshold=store_threshold,
        sampling_rate=sampling_rate,
        batch_seconds=batch_seconds,
        progress=progress,
        **settings,
    )
