"""A language model for the words of every request."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from pathlib import Path

import pytest
import torch
from tests.serve.servers import running

import wavconformer
from wavconformer.errors import DataError
from wavconformer.serve.batcher import Batcher, RequestTranscriber
from wavconformer.serve.service import Service
from wavconformer.serve.settings import Settings
from wavconformer.serve.work import Work


@pytest.fixture(scope="module")
def with_lm():
    return wavconformer.load_model(device="cpu")


def test_every_request_has_its_words(with_lm, tmp_path, sample_texts, monkeypatch):
    with running(with_lm, tmp_path) as server:
        monkeypatch.setattr("wavconformer.decoding.beam.Lexicon", None)  # no request puts its words in order again

        def text(path, **fields):
            answer = server.post("/v1/audio/transcriptions", Path(path), model="tiny-en", **fields).json()
            return answer.get("text", answer)

        assert {path: text(path) for path in sample_texts} == sample_texts
        (distance,) = (path for path in sample_texts if "LONDON" in sample_texts[path])
        assert text(distance, hotwords="LODON=30").endswith(" LODON")
        assert text(distance) == sample_texts[distance]
        assert text(distance, hotwords="лондон")["error"]["param"] == "hotwords"


def test_words_are_found_beside_the_scores(with_lm, sample, monkeypatch):
    """In the processes of the model, to the last bit what it gives alone."""
    expected = with_lm(sample)
    with closing(Batcher(with_lm, window_seconds=0.0)) as batcher:
        own = RequestTranscriber(batcher, None, Work())
        with monkeypatch.context() as patch:
            patch.setattr("wavconformer.decoding.beam._Search", None)  # there is none in this process
            patch.setattr("wavconformer.tasks.transcribe.decode_all", None)
            assert own(sample) == expected
        waveform = wavconformer.load_audio(sample)
        ((words, scores),) = zip(
            batcher.words([waveform], "it", None, Work()), batcher.scores([waveform], "it", None, Work()), strict=True
        )
        assert words == expected.words
        assert with_lm.decoder(scores) == words
        own.decoder = own.beam_decoder(hotwords=["LODON"])
        assert own(sample).text == expected.text  # found here


def test_languages_share_a_language_model_and_one_that_does_not_fit_is_told_at_the_start(with_lm, tmp_path):
    torch.manual_seed(0)
    config = wavconformer.Wav2Vec2ConformerConfig.preset("tiny", vocab_size=32, adapter_attn_dim=4)
    model = wavconformer.Wav2Vec2ConformerForCTC(config)
    model.save_pretrained(tmp_path)
    for language in ("eng", "fra", "low"):
        model.save_adapter(tmp_path, language)
    with_lm.processor.save_pretrained(tmp_path)
    flat = with_lm.processor.tokenizer.get_vocab()
    lower = {token if len(token) > 1 else token.lower(): index for token, index in flat.items()}
    (tmp_path / "vocab.json").write_text(json.dumps({"eng": flat, "fra": flat, "low": lower}))
    loaded = wavconformer.load_model(tmp_path, device="cpu", target_lang="eng", lm="tiny-en")
    with closing(Batcher(loaded, window_seconds=0.0, languages=("fra",))) as batcher:
        assert batcher.transcriber("fra").decoder.lm is loaded.decoder.lm
        assert batcher.transcriber("fra").decoder.settings == loaded.decoder.settings
    before = threading.active_count()
    with pytest.raises(DataError, match="lm build --case lower"):
        Service(loaded, Settings(folder=tmp_path), languages=("low",))
    assert threading.active_count() == before
