"""The processor: equal to transformers' for audio, texts and both, in both directions of files."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from wavconformer.errors import AudioError, CheckpointError
from wavconformer.processing import (
    BatchEncoding,
    BatchFeature,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
    processor,
)

transformers.logging.set_verbosity_error()

RATE = 16000
LETTERS = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, **{c: 5 + i for i, c in enumerate("ETAOINSHRD'")}}


def noise(*lengths: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [(0.1 * random.normal(size=n)).astype(np.float32) for n in lengths]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Our processor and transformers', with a mask."""
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.json"
    path.write_text(json.dumps(LETTERS))
    return (
        Wav2Vec2Processor(Wav2Vec2FeatureExtractor(return_attention_mask=True), Wav2Vec2CTCTokenizer(path)),
        transformers.Wav2Vec2Processor(
            transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True),
            transformers.Wav2Vec2CTCTokenizer(str(path)),
        ),
    )


def outcome(function: Any, *args: Any, **kwargs: Any) -> Any:
    try:
        return function(*args, **kwargs)
    except ValueError:
        return ValueError


def assert_same(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, type):
        assert ours is theirs
        return
    assert list(ours) == list(theirs)
    for key, expected in theirs.items():
        assert type(ours[key]) is type(expected)
        for row, other in zip(ours[key], expected, strict=True):
            assert getattr(row, "dtype", None) == getattr(other, "dtype", None)
            np.testing.assert_allclose(np.asarray(row), np.asarray(other), rtol=1e-6, atol=1e-6)


@given(
    lengths=st.lists(st.integers(1, 200), min_size=1, max_size=3),
    words=st.lists(st.sampled_from(["TEA", "A NOTE", "ß", "<s>"]), min_size=3, max_size=3),
    given_ones=st.sampled_from(["audio", "text", "both"]),
    options=st.fixed_dictionaries(
        {},
        optional={
            "padding": st.sampled_from([True, "longest"]),
            "truncation": st.booleans(),
            "pad_to_multiple_of": st.integers(1, 8),
            "return_tensors": st.sampled_from(["np", "pt"]),
            "return_attention_mask": st.booleans(),
            "padding_side": st.sampled_from(["left", "right"]),
            "audio_kwargs": st.just({"max_length": 64}),
            "text_kwargs": st.just({"max_length": 8}),
        },
    ),
)
@settings(max_examples=150, deadline=None)
@pytest.mark.filterwarnings("ignore:`max_length` is ignored")
def test_a_call_equals_transformers(pair, lengths, words, given_ones, options):
    if "padding" not in options:
        lengths, words = lengths[:1], words[:1]  # rows of unequal lengths are the tests' of the two parts
    inputs: dict[str, Any] = {"audio": noise(*lengths), "text": words[: len(lengths)]}
    if given_ones != "both":
        inputs = {given_ones: inputs[given_ones]}
    calls = [outcome(one, **copy.deepcopy(inputs), sampling_rate=RATE, **options) for one in pair]
    assert_same(*calls)


def test_a_lone_recording_and_text(pair):
    for options in ({}, {"return_tensors": "pt"}):
        assert_same(*(one(noise(30)[0], "TEA", sampling_rate=RATE, **options) for one in pair))
        assert_same(*(one(text="TEA", **options) for one in pair))
    assert isinstance(pair[0](noise(30), sampling_rate=RATE), BatchFeature)
    assert isinstance(pair[0](text="TEA"), BatchEncoding)


@pytest.mark.parametrize("which", ["audio", "labels", "both"])
def test_pad_equals_transformers(pair, which):
    inputs = {"input_features": [{"input_values": row} for row in noise(9, 5)], "labels": {"input_ids": [[5], [6, 7]]}}
    if which == "audio":
        del inputs["labels"]
    if which == "labels":
        del inputs["input_features"]
    for options in ({}, {"pad_to_multiple_of": 4, "return_tensors": "pt"}):
        assert_same(*(one.pad(**copy.deepcopy(inputs), **options) for one in pair))
    if which == "audio":
        assert_same(*(one.pad(copy.deepcopy(inputs["input_features"]), padding=True) for one in pair))


def test_decoding_is_the_tokenizer_s(pair):
    frames = np.array([[5, 5, 0, 6, 4], [7, 4, 4, 0, 7]])
    assert pair[0].batch_decode(frames) == pair[1].batch_decode(frames) == ["ET", "A A"]
    assert pair[0].decode(frames[0], output_char_offsets=True).text == "ET"


def test_a_data_collator_and_the_names_of_inputs(pair):
    assert pair[0].model_input_names == pair[1].model_input_names == ["input_values", "attention_mask", "labels"]
    collate = transformers.DataCollatorWithPadding(pair[0].tokenizer, return_tensors="pt")
    assert collate([{"input_ids": [5]}, {"input_ids": [6, 7]}])["input_ids"].tolist() == [[5, 0], [6, 7]]


# Where we differ on purpose


def test_the_tokenizer_s_file_does_not_take_the_mask_away(tmp_path: Path):
    files = {
        "vocab": LETTERS,
        "config": {"model_type": "wav2vec2-conformer"},
        "preprocessor_config": {"return_attention_mask": True, "feature_extractor_type": "Wav2Vec2FeatureExtractor"},
        "tokenizer_config": {"return_attention_mask": False, "do_normalize": True, "pad_token": "<pad>"},
    }
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert "attention_mask" in Wav2Vec2Processor.from_pretrained(tmp_path)(noise(40), sampling_rate=RATE)
    theirs = transformers.Wav2Vec2Processor.from_pretrained(tmp_path)
    assert "attention_mask" not in theirs(noise(40), sampling_rate=RATE)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "nothing to process"),
        ({"audio": noise(9), "samplig_rate": 1}, TypeError, "knows samplig_rate: they know .*sampling_rate"),
        (
            {"audio": noise(9), "sampling_rate": RATE, "audio_kwargs": {"sampling_rate": 1}},
            ValueError,
            "sampling_rate: ",
        ),
        ({"text": "A", "padding": True, "text_kwargs": {"padding": 1}}, ValueError, "padding: given in text_kwargs"),
        ({"audio": noise(9), "sampling_rate": 8000}, ValueError, "8000"),
        ({"audio": [np.array([np.nan])], "sampling_rate": RATE}, AudioError, "Row 0"),
        ({"text": 5}, TypeError, "not int"),
    ],
)
def test_bad_input_is_refused(pair, arguments, error, message):
    with pytest.raises(error, match=message):
        pair[0](**arguments)


def test_a_missing_rate_is_warned_of_where_it_is_missing(pair):
    with pytest.warns(UserWarning, match="sampling_rate wasn't given"):
        pair[0](noise(40))


def test_there_must_be_something_to_pad(pair):
    with pytest.raises(ValueError, match="nothing to pad"):
        pair[0].pad()


def test_the_parts_must_be_such(pair):
    tokenizer, extractor = pair[0].tokenizer, pair[0].feature_extractor
    with pytest.raises(TypeError, match="feature_extractor is a Wav2Vec2CTCTokenizer"):
        Wav2Vec2Processor(tokenizer, extractor)
    with pytest.raises(TypeError, match="tokenizer is a Wav2Vec2FeatureExtractor"):
        Wav2Vec2Processor(extractor, extractor)
    with pytest.raises(TypeError, match="feature_extractor is a NoneType"):
        Wav2Vec2Processor(None, tokenizer)


# Files


def test_our_folder_loads_in_transformers_and_theirs_in_ours(pair, tmp_path: Path):
    folders = [tmp_path / "ours", tmp_path / "theirs"]
    for one, folder in zip(pair, folders, strict=True):
        one.save_pretrained(folder)
    assert sorted(path.name for path in folders[0].iterdir()) == sorted(path.name for path in folders[1].iterdir())
    for name in ("processor_config.json", "vocab.json", "tokenizer_config.json"):
        assert (folders[0] / name).read_text() == (folders[1] / name).read_text()
    expected = pair[1](noise(40, 20), ["TEA", "A"], sampling_rate=RATE, padding=True, return_tensors="pt")
    for folder in folders:
        for make in (transformers.AutoProcessor, Wav2Vec2Processor):
            one = make.from_pretrained(folder)
            assert_same(
                one(noise(40, 20), ["TEA", "A"], sampling_rate=RATE, padding=True, return_tensors="pt"), expected
            )


def test_a_folder_in_the_old_layout(pair, tmp_path: Path):
    pair[0].feature_extractor.save_pretrained(tmp_path)
    pair[0].tokenizer.save_pretrained(tmp_path)
    assert not (tmp_path / "processor_config.json").exists()
    assert Wav2Vec2Processor.from_pretrained(tmp_path).to_dict() == pair[0].to_dict()


def test_arguments_override_the_settings_of_the_part_they_belong_to(pair, tmp_path: Path):
    pair[0].save_pretrained(tmp_path / "sub")
    one = Wav2Vec2Processor.from_pretrained(
        tmp_path, subfolder="sub", return_attention_mask=False, do_lower_case=True, padding_side="left"
    )
    assert not one.feature_extractor.return_attention_mask
    assert one.tokenizer.do_lower_case
    assert one.feature_extractor.padding_side == one.tokenizer.padding_side == "left"


def test_a_folder_without_one_of_the_parts_is_refused(pair, tmp_path: Path):
    with pytest.raises(CheckpointError, match="holds no feature extractor"):
        Wav2Vec2Processor.from_pretrained(tmp_path)
    pair[0].feature_extractor.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"holds no vocab\.json"):
        Wav2Vec2Processor.from_pretrained(tmp_path)


def test_push_to_hub_uploads_what_save_writes(pair, monkeypatch, tmp_path: Path):
    def push(save, repo_id, *, commit_message, token, private):
        save(tmp_path)
        return f"{repo_id} {commit_message} {token} {private}"

    monkeypatch.setattr(processor, "push_folder", push)
    assert pair[0].push_to_hub("me/model", private=False) == "me/model Upload processor None False"
    assert Wav2Vec2Processor.from_pretrained(tmp_path).to_dict() == pair[0].to_dict()


def test_it_shows_its_parts(pair):
    assert "Wav2Vec2FeatureExtractor(" in repr(pair[0])
    assert "Wav2Vec2CTCTokenizer(" in repr(pair[0])


def test_importing_and_using_it_for_arrays_needs_no_torch():
    code = (
        "import sys, numpy as np; from wavconformer.processing import *\n"
        "p = Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), Wav2Vec2CTCTokenizer({'<pad>': 0, '<unk>': 1, 'A': 2}))\n"
        "assert p(np.ones(9), 'A', sampling_rate=16000, return_tensors='np').labels.tolist() == [[2]]\n"
        "assert p.batch_decode([[2, 2, 0]]) == ['A']\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_takes_tensors_of_a_model(pair):
    logits = torch.nn.functional.one_hot(torch.tensor([[5, 5, 0, 6], [6, 4, 6, 0]]), 16).float()
    assert pair[0].batch_decode(logits.argmax(-1)) == ["ET", "T T"]
    with pytest.raises(TypeError, match="of logits, take argmax"):
        pair[0].batch_decode(logits[:, :, 0])
