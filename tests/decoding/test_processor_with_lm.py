from __future__ import annotations

import inspect
import json
import shutil

import pytest
import torch
import transformers
from transformers.models.wav2vec2_with_lm.processing_wav2vec2_with_lm import (
    Wav2Vec2DecoderWithLMOutput as TheirOutput,
)

import wavconformer
from wavconformer import (
    AutoProcessor,
    BeamSettings,
    CheckpointError,
    Wav2Vec2Processor,
    Wav2Vec2ProcessorWithLM,
    beam_decoder,
)
from wavconformer.files import ASSETS
from wavconformer.lm.arpa import read_arpa, write_arpa
from wavconformer.lm.kneser_ney import estimate

LINES = ["SET AN ALARM FOR TWENTY THREE MINUTES", "TURN OFF THE HEATER", "SET A TIMER FOR TWENTY THREE SECONDS"]
LABELS = ["", "<s>", "</s>", "⁇", " ", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]


@pytest.fixture(scope="module")
def lm():
    return estimate((line.split() for line in LINES), 3).model


@pytest.fixture(scope="module")
def plain():
    return Wav2Vec2Processor.from_pretrained("tiny-en")


@pytest.fixture
def folder(tmp_path, lm):
    """A checkpoint's processor as pyctcdecode lays its language model out."""
    place = tmp_path / "checkpoint"
    shutil.copytree(ASSETS / "tiny-en", place, ignore=shutil.ignore_patterns("*.safetensors", "language_model"))
    (place / "alphabet.json").write_text(json.dumps({"labels": LABELS, "is_bpe": False}))
    (place / "language_model").mkdir()
    write_arpa(lm, place / "language_model" / "3gram.arpa")
    (place / "language_model" / "unigrams.txt").write_text("\n".join(sorted({*" ".join(LINES).split()})))
    attributes = {"alpha": 0.7, "beta": 0.3, "unk_score_offset": -5.0, "score_boundary": False}
    (place / "language_model" / "attrs.json").write_text(json.dumps(attributes))
    return place


@pytest.fixture(scope="module")
def logits(hesitant):
    """Of two sample recordings, (T, V) each: with one letter wrong, and with none."""
    transcriber = wavconformer.load_model(hesitant, device="cpu")
    found = []
    for name in ("timer", "heater"):
        inputs = transcriber.processor(
            wavconformer.load_audio(ASSETS / "samples" / f"{name}.flac"), sampling_rate=16_000, return_tensors="pt"
        )
        with torch.no_grad():
            found.append(transcriber.model(**inputs).logits[0])
    return found


def test_a_checkpoint_is_named_as_a_language_model(folder, plain, logits):
    decoder = beam_decoder(plain.tokenizer, folder)
    assert decoder.lm.order == 3
    assert decoder.settings == BeamSettings(alpha=0.7, beta=0.3, unk_score_offset=-5.0, score_boundary=False)
    assert beam_decoder(plain.tokenizer, folder, settings=BeamSettings(alpha=1.0)).settings == BeamSettings(alpha=1.0)
    log_probs = torch.log_softmax(logits[0], -1).numpy()
    assert decoder.hypotheses(log_probs)[0].text == AutoProcessor.from_pretrained(folder).decode(logits[0]).text
    shutil.rmtree(folder / "language_model")
    with pytest.raises(CheckpointError, match=r"has no language_model/: give the file of a language model"):
        beam_decoder(plain.tokenizer, folder)


def test_the_model_that_ships_has_a_language_model(plain, logits, run, sample_texts):
    decoder = beam_decoder(plain.tokenizer, "tiny-en")
    assert decoder.lm.order == 3
    assert decoder.settings.alpha == 0.7
    # One of letters alone gets a processor for letters alone.
    assert not isinstance(AutoProcessor.from_pretrained("tiny-en"), wavconformer.Wav2Vec2ProcessorWithLM)
    code, out, _ = run("transcribe", *sample_texts, "--lm", "tiny-en")
    assert code == 0
    assert [line.split("\t")[1] for line in out.splitlines()] == list(sample_texts.values())


def test_the_command_takes_a_checkpoint_as_a_language_model(folder, sample, run, monkeypatch):
    heard = {}
    whole = wavconformer.Transcriber.stream

    def stream(self, *arguments, **options):
        heard["settings"] = self.decoder.settings
        return whole(self, *arguments, **options)

    monkeypatch.setattr(wavconformer.Transcriber, "stream", stream)
    code, out, _ = run("transcribe", sample, "--lm", folder, "--beta", "0.4")
    assert (code, out) == (0, "SET A TIMER FOR TWENTY THREE SECONDS\n")
    assert heard["settings"] == BeamSettings(alpha=0.7, beta=0.4, unk_score_offset=-5.0, score_boundary=False)


def test_a_folder_of_pyctcdecode_is_read_and_corrects(folder, plain, logits):
    processor = AutoProcessor.from_pretrained(folder)
    assert isinstance(processor, Wav2Vec2ProcessorWithLM)
    assert processor.decoder.settings == BeamSettings(alpha=0.7, beta=0.3, unk_score_offset=-5.0, score_boundary=False)
    assert processor.language_model.order == 3
    assert plain.decode(logits[0].argmax(-1)) != LINES[2]
    output = processor.decode(logits[0])
    assert output.text == LINES[2]
    assert output["lm_score"] < output["logit_score"] < 0
    assert set(output) == {"text", "logit_score", "lm_score"}
    assert len(output) == 3


def test_batches_words_and_n_best(folder, logits):
    processor = Wav2Vec2ProcessorWithLM.from_pretrained(folder)
    longest = max(map(len, logits))
    batch = torch.full((2, longest, logits[0].shape[-1]), -100.0)
    for row, one in zip(batch, logits, strict=True):
        row[: len(one)] = one
    singly = [processor.decode(one.numpy(), output_word_offsets=True) for one in logits]
    together = processor.batch_decode(batch.numpy(), output_word_offsets=True, num_processes=2)
    assert together.text == [one.text for one in singly]
    assert together.word_offsets == [one.word_offsets for one in singly]
    assert together.lm_score == pytest.approx([one.lm_score for one in singly])
    offsets = singly[0].word_offsets
    assert " ".join(word["word"] for word in offsets) == singly[0].text
    assert all(0 <= word["start_offset"] < word["end_offset"] <= len(logits[0]) for word in offsets)
    assert isinstance(offsets[0]["start_offset"], int)
    widely = {"n_best": 3, "token_min_logp": -10.0, "beam_prune_logp": -30.0}  # however sure the model is
    many = processor.batch_decode(logits, **widely)
    assert [len(texts) for texts in many.text] == [3, 3]
    assert many.lm_score[0] == sorted(many.lm_score[0], reverse=True)
    assert processor.decode(logits[0], **widely).text == many.text[0]


def test_settings_of_a_call_hold_for_it_alone(folder, logits):
    processor = Wav2Vec2ProcessorWithLM.from_pretrained(folder, alpha=0.5, beta=None)
    assert (processor.decoder.settings.alpha, processor.decoder.settings.beta) == (0.5, 0.3)
    with_lm = processor.decode(logits[0])
    without = processor.decode(logits[0], alpha=0.0, beta=0.0, unk_score_offset=0.0)
    assert without.text != with_lm.text
    assert without.lm_score == pytest.approx(without.logit_score)
    assert processor.decode(logits[0]).text == with_lm.text
    hot = processor.decode(logits[0], hotwords=["SEKONDS", " "], hotword_weight=30.0, lm_score_boundary=True)
    assert hot.text.endswith("SEKONDS")
    assert processor.decode(logits[0], beam_width=1, beam_prune_logp=-1.0, token_min_logp=-1.0).text
    with pytest.raises(ValueError, match="list of words"):
        processor.decode(logits[0], hotwords="SEKONDS")


def test_what_is_saved_loads_again(folder, tmp_path, logits, lm, plain):
    processor = Wav2Vec2ProcessorWithLM.from_pretrained(folder)
    paths = processor.save_pretrained(tmp_path / "saved")
    assert {str(path.relative_to(tmp_path / "saved")) for path in paths} >= {
        "alphabet.json", "language_model/attrs.json", "language_model/unigrams.txt", "language_model/3gram.arpa"
    }  # fmt: skip
    assert json.loads((tmp_path / "saved/alphabet.json").read_text()) == {"is_bpe": False, "labels": LABELS}
    again = AutoProcessor.from_pretrained(tmp_path / "saved")
    assert again.decoder.settings == processor.decoder.settings
    assert again.decode(logits[0]).text == LINES[2]
    # A model that was made here is written; without one there is no folder.
    made = Wav2Vec2ProcessorWithLM(plain.feature_extractor, plain.tokenizer, beam_decoder(plain.tokenizer, lm))
    made.save_pretrained(tmp_path / "made")
    assert read_arpa(tmp_path / "made/language_model/lm.arpa").counts == lm.counts
    bare = Wav2Vec2ProcessorWithLM(plain.feature_extractor, plain.tokenizer, beam_decoder(plain.tokenizer))
    bare.save_pretrained(tmp_path / "bare")
    assert not (tmp_path / "bare/language_model").exists()
    again = AutoProcessor.from_pretrained(tmp_path / "bare")
    assert again.language_model is None
    assert again.decode(logits[1]).text.startswith("TURN OFF THE HEATER IN THE ")


def test_what_is_saved_again_takes_the_place_of_another_language_model(folder, tmp_path, lm, plain):
    processor = Wav2Vec2ProcessorWithLM.from_pretrained(folder)
    processor.save_pretrained(tmp_path)
    made = Wav2Vec2ProcessorWithLM(plain.feature_extractor, plain.tokenizer, beam_decoder(plain.tokenizer, lm))
    made.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert again.language_model.path == tmp_path / "language_model" / "lm.arpa"
    again.save_pretrained(tmp_path)  # in its own place
    assert AutoProcessor.from_pretrained(tmp_path).language_model.counts == lm.counts
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_other_names_of_files(folder):
    place = folder / "language_model"
    (place / "3gram.arpa").rename(place / "lm.arpa.gz")
    for name in ("unigrams.txt", "attrs.json"):
        (place / name).unlink()
    processor = Wav2Vec2ProcessorWithLM.from_pretrained(folder, unigram_encoding="utf-8")
    assert processor.decoder.settings == BeamSettings()
    (folder / "language_model/lm.arpa.gz").rename(folder / "language_model/lm")
    with pytest.raises(CheckpointError, match=r"must hold one language model.*has none"):
        Wav2Vec2ProcessorWithLM.from_pretrained(folder)


def test_names_and_arguments_are_those_of_transformers():
    theirs = transformers.Wav2Vec2ProcessorWithLM
    for method in ("decode", "batch_decode"):
        ours = inspect.signature(getattr(Wav2Vec2ProcessorWithLM, method)).parameters
        known = inspect.signature(getattr(theirs, method)).parameters
        assert list(ours) == list(known)
        assert [one.default for one in ours.values()] == [one.default for one in known.values()]
    assert list(inspect.signature(Wav2Vec2ProcessorWithLM).parameters) == list(inspect.signature(theirs).parameters)
    for name in ("from_pretrained", "save_pretrained", "pad", "__call__", "language_model"):
        assert hasattr(Wav2Vec2ProcessorWithLM, name) and hasattr(theirs, name)
    fields = wavconformer.Wav2Vec2DecoderWithLMOutput.__dataclass_fields__
    assert list(fields) == list(TheirOutput.__dataclass_fields__)


def broken(folder, change: str) -> None:
    alphabet, lm = folder / "alphabet.json", folder / "language_model"
    if change == "no labels":
        alphabet.write_text("[]")
    elif change == "bpe":
        alphabet.write_text(json.dumps({"labels": LABELS, "is_bpe": True}))
    elif change == "other blank":
        alphabet.write_text(json.dumps({"labels": [*LABELS[1:5], "", *LABELS[5:]], "is_bpe": False}))
    elif change == "other order":
        alphabet.write_text(json.dumps({"labels": [*LABELS[:5], *LABELS[:4:-1]], "is_bpe": False}))
    elif change == "missing":
        alphabet.write_text(json.dumps({"labels": LABELS[:-1], "is_bpe": False}))
    elif change == "two models":
        shutil.copyfile(lm / "3gram.arpa", lm / "other.arpa")
    elif change == "attributes":
        (lm / "attrs.json").write_text("[1]")
    elif change == "alpha":
        (lm / "attrs.json").write_text('{"alpha": "much"}')
    elif change == "model":
        (lm / "3gram.arpa").write_text("nothing")
    elif change == "case":
        write_arpa(estimate((line.lower().split() for line in LINES), 2).model, lm / "3gram.arpa")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no labels", "'labels', a list"),
        ("bpe", "word pieces"),
        ("other blank", "blank"),
        ("other order", "'Z' .*'E'"),
        ("missing", "'Z'"),
        ("two models", "3gram.arpa, other.arpa"),
        ("attributes", "no JSON object"),
        ("alpha", "attrs.json"),
        ("model", "neither an ARPA"),
        ("case", "lower case"),
    ],
)
def test_a_checkpoint_that_does_not_fit_together_is_refused(folder, change, message):
    broken(folder, change)
    with pytest.raises(CheckpointError, match=message):
        Wav2Vec2ProcessorWithLM.from_pretrained(folder)


def test_other_decoders_are_refused(plain):
    with pytest.raises(TypeError, match="must be a BeamDecoder"):
        Wav2Vec2ProcessorWithLM(plain.feature_extractor, plain.tokenizer, None)
    other = wavconformer.BeamDecoder([None, "A"], 0)
    with pytest.raises(CheckpointError, match="isn't the tokenizer's"):
        Wav2Vec2ProcessorWithLM(plain.feature_extractor, plain.tokenizer, other)
    with pytest.raises(CheckpointError, match=r"no alphabet\.json"):
        Wav2Vec2ProcessorWithLM.from_pretrained("tiny-en")
