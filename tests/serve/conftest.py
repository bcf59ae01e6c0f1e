"""Servers for the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serve.servers import Running, running, wav

from wavconformer import Transcriber, load_audio
from wavconformer.files import samples


@pytest.fixture(scope="module")
def server(transcriber: Transcriber, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One for all tests of a module."""
    with running(transcriber, tmp_path_factory.mktemp("jobs")) as server:
        yield server


@pytest.fixture
def start(transcriber: Transcriber, tmp_path: Path) -> Callable[..., Any]:
    """Starts one with other settings."""
    return lambda **settings: running(transcriber, tmp_path / "jobs", **settings)


@pytest.fixture(scope="session")
def long_sample() -> bytes:
    """The shipped samples one after the other, twice, with pauses: 40 s of float32 in a wav."""
    pieces: list[Any] = []
    for path in samples():
        pieces += [load_audio(path), np.zeros(16_000, np.float32)]
    return wav(np.tile(np.concatenate(pieces), 2))
