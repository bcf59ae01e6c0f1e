"""A language model for the words of every request."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from wavconformer.decoding.processor_with_lm import find_language_model
from wavconformer.errors import DataError
from wavconformer.lm.kneser_ney import estimate
from wavconformer.serve.service import Service
from wavconformer.serve.settings import Settings


def test_every_request_has_its_words(start, sample_texts, monkeypatch):
    lm, beam = find_language_model("tiny-en")
    with start(service={"lm": lm, "beam": beam}) as server:
        assert server.service.search(None).settings == beam
        monkeypatch.setattr("wavconformer.decoding.beam.Lexicon", None)  # no request puts its words in order again

        def text(path, **fields):
            answer = server.post("/v1/audio/transcriptions", Path(path), model="tiny-en", **fields).json()
            return answer.get("text", answer)

        assert {path: text(path) for path in sample_texts} == sample_texts
        (distance,) = (path for path in sample_texts if "LONDON" in sample_texts[path])
        assert text(distance, hotwords="LODON=30").endswith(" LODON")
        assert text(distance) == sample_texts[distance]
        assert text(distance, hotwords="лондон")["error"]["param"] == "hotwords"


def test_one_that_does_not_fit_is_told_at_the_start(transcriber, tmp_path):
    lower = estimate([["lower", "case"]], 2).model
    before = threading.active_count()
    with pytest.raises(DataError, match="lm build --case upper"):
        Service(transcriber, Settings(folder=tmp_path), lm=lower)
    assert threading.active_count() == before
