from __future__ import annotations

import json
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch
import transformers

import wavconformer
from wavconformer import AudioError, CheckpointError, Transcriber, load_audio
from wavconformer.files import ASSETS
from wavconformer.tasks import company


def test_the_shipped_model_reads_the_samples(transcriber, sample_texts):
    heard = {path: transcriber(path).text for path in sample_texts}
    assert len(heard) == 6
    wrong = {Path(path).stem for path in heard if heard[path] != sample_texts[path]}
    assert wrong <= {"distance", "weather"}
    errors = {path: jiwer.cer(sample_texts[path], heard[path]) for path in heard}
    assert max(errors.values()) < 0.1  # a letter or two


def test_text_is_that_of_the_oracle(transcriber, sample_texts):
    folder = ASSETS / "tiny-en"
    model = transformers.Wav2Vec2ConformerForCTC.from_pretrained(folder, dtype=torch.float32).eval()
    processor = transformers.Wav2Vec2Processor.from_pretrained(folder)
    greedy = wavconformer.Transcriber(transcriber.model, transcriber.processor)
    for path in sample_texts:
        inputs = processor(load_audio(path), sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            ids = model(inputs.input_values).logits.argmax(-1)
        assert greedy(path).text == processor.batch_decode(ids)[0]


def test_words_have_times_in_order(transcriber, sample):
    transcript = transcriber(sample)
    assert transcript.duration == pytest.approx(43_577 / 16_000)
    assert " ".join(word.text for word in transcript.words) == transcript.text == str(transcript)
    edges = [edge for word in transcript.words for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert 0 <= edges[0] < edges[-1] <= transcript.duration
    assert transcript.as_dict()["words"][0] == {
        "text": "SET",
        "start": transcript.words[0].start,
        "end": transcript.words[0].end,
        "probability": transcript.words[0].probability,
    }
    assert 0.5 < transcript.words[0].probability <= 1
    assert transcript.segments[0].words == transcript.words


def test_every_kind_of_source_gives_the_same(transcriber, sample):
    text = transcriber(sample).text
    assert transcriber(str(sample)).text == text
    assert transcriber(sample.read_bytes()).text == text
    with sample.open("rb") as file:
        assert transcriber(file).text == text
    assert transcriber(load_audio(sample), sampling_rate=16_000).text == text


def test_another_rate_gives_the_same_words(transcriber, sample):
    audio = load_audio(sample, sampling_rate=48_000)
    assert transcriber(audio, sampling_rate=48_000).text == transcriber(sample).text


def test_one_call_loads_the_model_once(sample, monkeypatch):
    from wavconformer.tasks import transcribe as module

    calls = []
    real = module.load_model
    module._loaded.cache_clear()
    monkeypatch.setattr(module, "load_model", lambda *a, **k: calls.append(a) or real(*a, **k))
    first = wavconformer.transcribe(sample, device="cpu")
    assert first == wavconformer.transcribe(sample, device="cpu")
    assert len(calls) == 1
    module._loaded.cache_clear()


def test_audio_shorter_than_a_frame_is_refused(transcriber):
    least = transcriber.model.config.receptive_field
    for samples in (1, least - 1):
        with pytest.raises(AudioError, match=f"needs at least {least / 16:.0f} ms"):
            transcriber(np.full(samples, 0.1, np.float32), sampling_rate=16_000)


def test_the_shortest_audio_is_taken(transcriber, random):
    least = random.standard_normal(transcriber.model.config.receptive_field).astype(np.float32)
    assert isinstance(transcriber(least, sampling_rate=16_000).text, str)


@pytest.mark.parametrize("level", [0.0, 0.25])
def test_silence_has_no_words(transcriber, level):
    transcript = transcriber(np.full(32_000, level, np.float32), sampling_rate=16_000)
    assert (transcript.text, transcript.words, transcript.duration) == ("", (), 2.0)


def test_not_a_number_is_refused(transcriber):
    audio = np.zeros(16_000, np.float32)
    audio[8_000] = np.nan
    with pytest.raises(AudioError, match="NaN"):
        transcriber(audio, sampling_rate=16_000)


def test_a_foreign_vocabulary_is_refused(transcriber):
    model = wavconformer.Wav2Vec2ConformerForCTC(wavconformer.Wav2Vec2ConformerConfig.preset("tiny", vocab_size=40))
    with pytest.raises(
        CheckpointError, match="head has 40 tokens, but the vocabulary has none for 8 of them, the first of id 32"
    ):
        Transcriber(model, transcriber.processor)
    shifted = wavconformer.Wav2Vec2ConformerForCTC(
        wavconformer.Wav2Vec2ConformerConfig.preset("tiny", vocab_size=32, pad_token_id=5)
    )
    with pytest.raises(CheckpointError, match="blank is 5"):
        Transcriber(shifted, transcriber.processor)


def test_a_model_without_head_is_refused(tmp_path, transcriber):
    with pytest.warns(UserWarning, match="random values: quantizer"):
        other = wavconformer.Wav2Vec2ConformerForPreTraining.from_pretrained("tiny-en")
    other.save_pretrained(tmp_path)
    transcriber.processor.save_pretrained(tmp_path)
    with (
        pytest.warns(UserWarning, match=r"random values: lm_head\.weight, lm_head\.bias"),
        pytest.raises(CheckpointError, match="no CTC head"),
    ):
        wavconformer.load_model(tmp_path, device="cpu")


def test_scores_that_are_no_numbers_are_an_error(transcriber, sample):
    broken = wavconformer.load_model(device="cpu")
    with torch.no_grad():
        broken.model.lm_head.bias[3] = torch.nan
    with pytest.raises(CheckpointError, match="tiny-en gives NaN or infinite scores"):
        broken(sample)


def test_a_rate_goes_with_an_array_alone(transcriber, sample):
    with pytest.raises(ValueError, match="sampling_rate goes with an array"):
        transcriber(np.zeros(16_000, np.float32))
    with pytest.raises(ValueError, match="sampling_rate goes with an array"):
        transcriber(sample, sampling_rate=16_000)
    for source in (None, [0.1, 0.2]):
        with pytest.raises(TypeError, match="A recording is given as a path, as bytes"):
            transcriber(source, sampling_rate=16_000)


def test_a_device_that_is_not_here_is_named():
    for device in ("foo", "cuda:99"):
        with pytest.raises(ValueError, match=f"The device '{device}' can't be used here"):
            wavconformer.load_model(device=device)


def test_an_unknown_argument_is_refused_with_a_hint():
    with pytest.raises(TypeError, match="'hidden_dropuot': did you mean hidden_dropout"):
        wavconformer.Wav2Vec2ConformerForCTC.from_pretrained("tiny-en", hidden_dropuot=0.3)


def test_an_old_name_of_the_token_is_not_kept():
    model = wavconformer.Wav2Vec2ConformerForCTC.from_pretrained("tiny-en", use_auth_token="secret")
    assert "secret" not in model.config.to_json_string()


def test_a_language_chooses_vocabulary_and_adapters(tmp_path, transcriber, sample):
    config = wavconformer.Wav2Vec2ConformerConfig.preset("tiny", vocab_size=32, adapter_attn_dim=4)
    model = wavconformer.Wav2Vec2ConformerForCTC(config)
    model.save_pretrained(tmp_path)
    model.save_adapter(tmp_path, "fra")
    letters = transcriber.processor.tokenizer.get_vocab()
    for vocabulary in (letters, {"eng": letters, "fra": letters}):
        (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
        transcriber.processor.feature_extractor.save_pretrained(tmp_path)
        french = wavconformer.load_model(tmp_path, device="cpu", target_lang="fra")
        assert french.model.target_lang == "fra"
        assert isinstance(french(sample).text, str)


# --- many


def test_many_give_what_each_gives_alone_in_order(transcriber, sample_texts):
    paths = [*sample_texts, *reversed(sample_texts)]
    expected = [transcriber(path) for path in paths]
    for seconds in (0.5, 5.0, 100.0):
        assert [*transcriber.many(paths, batch_seconds=seconds)] == expected


def test_many_read_no_further_ahead_than_they_must(transcriber, monkeypatch):
    monkeypatch.setattr(company, "AHEAD", 2)
    read = []

    def sources():
        for number in range(50):
            read.append(number)
            yield np.zeros(16_000, np.float32)

    results = transcriber.many(sources(), sampling_rate=16_000, batch_seconds=2.0)
    assert not read
    assert next(results).text == ""
    assert len(read) == 4
    assert len([*results]) == 49


def test_many_with_bad_ones_among_them(transcriber, sample, tmp_path):
    empty, short = tmp_path / "empty.wav", np.zeros(100, np.float32)
    empty.touch()
    results = [*transcriber.many([sample, empty, tmp_path / "missing.wav", sample], on_error="return")]
    assert [type(result).__name__ for result in results] == ["Transcript", "AudioError", "AudioError", "Transcript"]
    assert results[0] == results[3] == transcriber(sample)
    results = transcriber.many([sample, empty])
    assert next(results) == transcriber(sample)  # what was read before isn't lost
    with pytest.raises(AudioError, match="empty"):
        next(results)
    with pytest.raises(ValueError, match="on_error is 'ignore', but must be 'raise' or 'return'"):
        [*transcriber.many([sample], on_error="ignore")]
    loud = np.random.default_rng(0).standard_normal(8_000).astype(np.float32)
    results = [*transcriber.many([loud, short, loud], sampling_rate=16_000, on_error="return")]
    assert isinstance(results[1], AudioError)
    assert "6.2 ms long" in str(results[1])
    with pytest.raises(AudioError, match=r"6.2 ms long"):
        [*transcriber.many([loud, short, loud], sampling_rate=16_000)]


def test_one_of_a_batch_at_fault_takes_no_other_with_it(transcriber, sample, tmp_path, monkeypatch):
    good = Transcriber._run

    def run(self, input_values, attention_mask):
        if input_values.shape[1] > 45_000:
            raise RuntimeError("not enough memory: you tried to allocate")
        return good(self, input_values, attention_mask)

    monkeypatch.setattr(Transcriber, "_run", run)
    random = np.random.default_rng(0)
    sources = [random.standard_normal(size).astype(np.float32) for size in (44_000, 45_500, 44_500)]
    results = [*transcriber.many(sources, sampling_rate=16_000, batch_seconds=60, on_error="return")]
    assert [type(result).__name__ for result in results] == ["Transcript", "AudioError", "Transcript"]
    assert "too long to go through the model at once" in str(results[1])


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_a_batch_of_no_length(transcriber, seconds):
    with pytest.raises(ValueError, match=r"batch_seconds is .*, but must be positive"):
        [*transcriber.many([], batch_seconds=seconds)]
