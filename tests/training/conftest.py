from __future__ import annotations

from pathlib import Path

import pytest
from tests.training.synthetic import make_corpus


@pytest.fixture(scope="session")
def tones(tmp_path_factory) -> Path:
    """A prepared corpus of eight utterances of one second."""
    return make_corpus(tmp_path_factory.mktemp("tones"))
