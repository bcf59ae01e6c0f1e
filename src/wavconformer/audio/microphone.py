"""The microphone, as samples that come in by themselves."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavconformer.errors import AudioError, WavConformerError

_BLOCK_SECONDS = 0.05
_MOST_SECONDS = 60.0


class Microphone:
    """A recording device that is open: iterate over it for samples (S,), float32, until it is closed.

    What has come in since the last time is one chunk. If nobody takes it for a minute, the newest is lost.

    rate: samples per second. lost: seconds that were lost, here or in the device.
    """

    def __init__(self, device: str | int | None = None, rate: int = 16_000) -> None:
        """device: its number, or part of its name; the system's own choice by default.

        rate: that is asked for. Where the device hasn't it, its own is taken.

        Raises WavConformerError where sounddevice or PortAudio is missing, AudioError where no device can be opened.
        """
        sounddevice = _sounddevice()
        self.lost = 0.0
        self._blocks: queue.Queue[NDArray[np.float32]] = queue.Queue(round(_MOST_SECONDS / _BLOCK_SECONDS))
        self._closed = False
        try:
            self.rate = rate
            try:
                self._stream = self._open(sounddevice, device)
            except sounddevice.PortAudioError:
                self.rate = int(sounddevice.query_devices(device, "input")["default_samplerate"])
                self._stream = self._open(sounddevice, device)
        except (sounddevice.PortAudioError, ValueError) as error:
            names = [str(found["name"]) for found in sounddevice.query_devices() if found["max_input_channels"] > 0]
            there = f"There are: {'; '.join(names)}." if names else "None is connected."
            which = "No recording device" if device is None else f"The recording device '{device}'"
            raise AudioError(
                f"{which} can be opened ({error}). {there} Raw samples can come through a pipe: "
                "wavconformer listen - --rate 16000."
            ) from error

    def _open(self, sounddevice: Any, device: str | int | None) -> Any:
        stream = sounddevice.InputStream(
            samplerate=self.rate,
            blocksize=round(_BLOCK_SECONDS * self.rate),
            device=device,
            channels=1,
            dtype="float32",
            callback=self._take,
        )
        stream.start()
        return stream

    def _take(self, samples: NDArray[np.float32], count: int, time: Any, status: Any) -> None:
        """Called by the device, in a thread of its own, which must not wait."""
        if status:
            self.lost += _BLOCK_SECONDS
        try:
            self._blocks.put_nowait(samples[:, 0].copy())
        except queue.Full:
            self.lost += count / self.rate

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        while not self._closed:
            try:
                blocks = [self._blocks.get(timeout=1.0)]
            except queue.Empty:
                if not self._stream.active:
                    raise AudioError("The recording device has stopped: is it still connected?") from None
                continue
            while not self._blocks.empty():
                blocks.append(self._blocks.get_nowait())
            yield np.concatenate(blocks)

    def close(self) -> None:
        """Stops recording."""
        self._closed = True
        self._stream.close()


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise WavConformerError(
            "The microphone needs another package: pip install 'wavconformer[listen]'. Raw samples can come through a "
            "pipe without it: wavconformer listen - --rate 16000."
        ) from error
    except OSError as error:  # the wheels for Linux bring no PortAudio
        raise WavConformerError(
            f"The microphone needs the library PortAudio ({error}): install it, on Debian with "
            "`apt install libportaudio2`."
        ) from error
    return sounddevice
