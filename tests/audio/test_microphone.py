"""The microphone, with a device that is none."""

from __future__ import annotations

import builtins
import sys
import types

import numpy as np
import pytest

from wavconformer import AudioError, WavConformerError
from wavconformer.audio.microphone import Microphone


class PortAudioError(Exception):
    pass


class Device:
    """What sounddevice opens; `speak` is what its own thread would do."""

    rates = (16_000, 48_000)

    def __init__(self, *, samplerate, blocksize, device, channels, dtype, callback) -> None:
        if samplerate not in self.rates:
            raise PortAudioError("Invalid sample rate")
        if device == "nobody":
            raise ValueError("No input device matching 'nobody'")
        assert (channels, dtype) == (1, "float32")
        self.size, self._callback = blocksize, callback
        self.active = False

    def start(self) -> None:
        self.active = True

    def close(self) -> None:
        self.active = False

    def speak(self, value: float, status: str = "") -> None:
        block = np.full((self.size, 1), value, np.float32)
        self._callback(block, self.size, None, status)
        block[:] = np.nan  # the device's own buffer, which it uses again


@pytest.fixture
def sounddevice(monkeypatch) -> types.ModuleType:
    module = types.ModuleType("sounddevice")
    module.PortAudioError, module.InputStream = PortAudioError, Device
    devices = [{"name": "Loudspeaker", "max_input_channels": 0}, {"name": "Headset", "max_input_channels": 1}]
    module.query_devices = lambda device=None, kind=None: devices if kind is None else {"default_samplerate": 48_000.0}
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


def test_what_has_come_in_is_one_chunk(sounddevice):
    microphone = Microphone()
    microphone._stream.speak(0.25)
    microphone._stream.speak(0.5)
    chunks = iter(microphone)
    assert next(chunks).tolist() == [0.25] * 800 + [0.5] * 800
    microphone._stream.speak(0.75)
    assert next(chunks).tolist() == [0.75] * 800
    assert microphone.lost == 0
    microphone.close()
    assert list(chunks) == []
    assert not microphone._stream.active


def test_a_device_of_another_rate(sounddevice, monkeypatch):
    monkeypatch.setattr(Device, "rates", (48_000,))
    microphone = Microphone("Headset")
    assert (microphone.rate, microphone._stream.size) == (48_000, 2_400)


def test_what_is_lost_is_counted(sounddevice):
    microphone = Microphone()
    for _ in range(1_200):
        microphone._stream.speak(0.1)
    assert microphone.lost == 0
    microphone._stream.speak(0.1)
    microphone._stream.speak(0.1, status="input overflow")
    assert microphone.lost == pytest.approx(0.15)


def test_a_device_that_stops_is_told_of(sounddevice, monkeypatch):
    import queue

    microphone = Microphone()
    waits = []

    def nothing(timeout):
        waits.append(timeout)
        microphone._stream.active = len(waits) < 3
        raise queue.Empty

    monkeypatch.setattr(microphone._blocks, "get", nothing)
    with pytest.raises(AudioError, match="has stopped"):
        next(iter(microphone))
    assert len(waits) == 3


def test_no_device(sounddevice, monkeypatch):
    with pytest.raises(AudioError, match=r"'nobody' can be opened.*There are: Headset\."):
        Microphone("nobody")
    monkeypatch.setattr(Device, "rates", ())
    sounddevice.query_devices = lambda device=None, kind=None: [] if kind is None else {"default_samplerate": 48_000.0}
    with pytest.raises(
        AudioError, match=r"No recording device can be opened.*None is connected.*listen - --rate 16000"
    ):
        Microphone()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ImportError("none"), r"pip install 'wavconformer\[listen\]'"),
        (OSError("PortAudio library not found"), "libportaudio2"),
    ],
)
def test_what_is_missing_is_named(monkeypatch, error, message):
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name == "sounddevice":
            raise error
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(WavConformerError, match=message):
        Microphone()
