"""The feature extractor: equal to transformers' on any batch and setting, and clear about what it can't use."""

from __future__ import annotations

import copy
import json
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wavconformer.errors import AudioError, CheckpointError
from wavconformer.processing import BatchFeature, Wav2Vec2FeatureExtractor, feature_extractor

transformers.logging.set_verbosity_error()

RATE = 16000


def noise(*lengths: int, seed: int = 0, scale: float = 0.1) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [(scale * random.normal(size=n) + 0.01).astype(np.float32) for n in lengths]


def outcome(extract: Any, *args: Any, **kwargs: Any) -> Any:
    """The features, or the class of the error."""
    try:
        return extract(*args, **kwargs)
    except (ValueError, TypeError) as error:
        return type(error)


def is_ragged(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == object


def assert_same(ours: Any, theirs: Any, return_tensors: str | None) -> None:
    """Equal entries, rows of equal dtype and shape, numbers to float32 rounding."""
    if isinstance(theirs, type):
        assert ours is theirs
        return
    if return_tensors and any(is_ragged(value) for value in theirs.values()):  # a deviation
        assert ours is ValueError
        return
    assert ours.keys() == theirs.keys()
    for key, expected in theirs.items():
        if return_tensors:
            assert type(ours[key]) is type(expected)
        assert len(ours[key]) == len(expected)
        for row, other in zip(ours[key], expected, strict=True):
            assert row.dtype == other.dtype
            np.testing.assert_allclose(np.asarray(row), np.asarray(other), rtol=1e-6, atol=1e-6)


lengths = st.integers(1, 900)
batches = st.builds(
    lambda sizes, seed, scale: noise(*sizes, seed=seed, scale=scale),
    st.one_of(st.lists(lengths, min_size=1, max_size=4), st.builds(lambda n, b: [n] * b, lengths, st.integers(1, 3))),
    st.integers(0, 99),
    st.sampled_from([1e-3, 0.1, 1.0]),
)
containers = {
    "arrays": lambda rows: rows,
    "tuple": tuple,
    "float64": lambda rows: [row.astype(np.float64) for row in rows],
    "lists": lambda rows: [row.tolist() for row in rows],
    "one": lambda rows: rows[0],
    "one list": lambda rows: rows[0].tolist(),
    "one tensor": lambda rows: torch.from_numpy(rows[0]),
    "2-D": lambda rows: np.stack([row[: min(map(len, rows))] for row in rows]),
    "strided": lambda rows: [row[::2] for row in rows],
}
paddings = st.fixed_dictionaries(
    {},
    optional={
        "padding": st.sampled_from([True, False, "longest", "max_length", "do_not_pad"]),
        "max_length": st.integers(1, 1200),
        "truncation": st.booleans(),
        "pad_to_multiple_of": st.integers(1, 300),
        "return_attention_mask": st.booleans(),
        "return_tensors": st.sampled_from(["np", "pt"]),
    },
)


@given(
    rows=batches,
    container=st.sampled_from(list(containers)),
    options=paddings,
    masked=st.booleans(),
    normalised=st.booleans(),
    padding_value=st.sampled_from([0.0, 0.5]),
)
@example(noise(3, 5, 4), "arrays", {"padding": "max_length", "max_length": 4}, True, True, 0.0)
@settings(max_examples=300, deadline=None)
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_a_call_equals_transformers(rows, container, options, masked, normalised, padding_value):
    made = {"return_attention_mask": masked, "do_normalize": normalised, "padding_value": padding_value}
    ours, theirs = Wav2Vec2FeatureExtractor(**made), transformers.Wav2Vec2FeatureExtractor(**made)
    audio = containers[container](rows)
    if container == "2-D" and audio.shape[1] <= 8 < audio.shape[0]:
        return
    given_back = outcome(ours, audio, sampling_rate=RATE, **options)
    expected = outcome(theirs, copy.deepcopy(audio), sampling_rate=RATE, **options)
    if expected is ValueError and stay_unequal(rows, container, options, masked=masked, normalised=normalised):
        alone = [theirs([row], sampling_rate=RATE, **options) for row in containers[container](rows)]
        expected = {key: [one[key][0] for one in alone] for key in alone[0]}
    assert_same(given_back, expected, options.get("return_tensors"))


def stay_unequal(rows: list[np.ndarray], container: str, options: dict[str, Any], *, masked: bool, normalised: bool):
    """Whether padding leaves rows of unequal lengths to be normalised by their mask, as a list: the other deviation."""
    is_padded = options.get("padding") == "max_length" and not options.get("truncation")
    if not (is_padded and normalised and options.get("return_attention_mask", masked)):
        return False
    if "max_length" not in options or options.get("return_tensors") or container in ("one", "one list", "one tensor"):
        return False
    multiple = options.get("pad_to_multiple_of", 1)
    width = -(-options["max_length"] // multiple) * multiple
    return len({max(width, len(row)) for row in containers[container](rows)}) > 1


@given(
    rows=batches,
    kind=st.sampled_from(["arrays", "lists", "float64"]),
    by_example=st.booleans(),
    with_labels=st.booleans(),
    options=paddings,
)
@settings(max_examples=150, deadline=None)
def test_pad_equals_transformers(rows, kind, by_example, with_labels, options):
    rows = containers[kind](rows)
    labels = {"labels": [[1, 2, 3]] * len(rows)} if with_labels else {}
    features: Any = {"input_values": rows, **labels}
    if by_example:
        features = [dict(zip(features, values, strict=True)) for values in zip(*features.values(), strict=True)]
    assert_same(
        outcome(Wav2Vec2FeatureExtractor().pad, copy.deepcopy(features), **options),
        outcome(transformers.Wav2Vec2FeatureExtractor().pad, copy.deepcopy(features), **options),
        options.get("return_tensors", "np"),
    )


def test_pad_pads_a_given_mask_along_and_keeps_tensors_tensors():
    rows = [torch.from_numpy(row) for row in noise(5, 3)]
    features = [{"input_values": row, "attention_mask": torch.ones(len(row), dtype=torch.int32)} for row in rows]
    features[0]["attention_mask"][4] = 0
    batch = Wav2Vec2FeatureExtractor().pad(features, pad_to_multiple_of=4)
    assert isinstance(batch.input_values, torch.Tensor)
    assert batch.input_values.shape == (2, 8)
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]]
    expected = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True).pad(features, pad_to_multiple_of=4)
    assert torch.equal(batch.input_values, expected.input_values)
    assert torch.equal(batch.attention_mask, expected.attention_mask)


def test_left_padding_without_normalising_equals_transformers():
    rows = noise(7, 4)
    for make in (Wav2Vec2FeatureExtractor, transformers.Wav2Vec2FeatureExtractor):
        extractor = make(padding_side="left", do_normalize=False, return_attention_mask=True)
        batch = extractor(rows, padding=True, sampling_rate=RATE, return_tensors="np")
        assert batch["attention_mask"].tolist() == [[1] * 7, [0] * 3 + [1] * 4]
        assert np.array_equal(batch["input_values"][1], [0, 0, 0, *rows[1]])


# Where we differ on purpose


def test_left_padding_normalises_the_real_samples():
    rows = noise(300, 100)
    extractor = Wav2Vec2FeatureExtractor(padding_side="left", return_attention_mask=True)
    batch = extractor(rows, padding=True, sampling_rate=RATE, return_tensors="np")
    alone = extractor(rows[1], sampling_rate=RATE, return_tensors="np")
    assert np.array_equal(batch.input_values[1, 200:], alone.input_values[0])
    assert not batch.input_values[1, :200].any()


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.longdouble, ">f4"])
def test_every_float_dtype_gives_float32(dtype):
    row = noise(400)[0]
    values = Wav2Vec2FeatureExtractor()(row.astype(dtype), sampling_rate=RATE, return_tensors="np").input_values
    expected = Wav2Vec2FeatureExtractor()(row, sampling_rate=RATE, return_tensors="np").input_values
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, expected, atol=1e-2 if dtype is np.float16 else 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_tensors_are_batches_like_arrays(dtype):
    rows = torch.from_numpy(np.stack(noise(50, 50))).to(dtype)
    expected = Wav2Vec2FeatureExtractor()(rows.float().numpy(), sampling_rate=RATE, return_tensors="pt").input_values
    for audio in (rows, list(rows), rows.requires_grad_()):
        values = Wav2Vec2FeatureExtractor()(audio, sampling_rate=RATE, return_tensors="pt").input_values
        torch.testing.assert_close(values, expected, atol=1e-6, rtol=0)


def test_the_given_audio_is_left_alone():
    row = noise(100)[0]
    before = row.copy()
    for normalised in (True, False):
        values = Wav2Vec2FeatureExtractor(do_normalize=normalised)(row, sampling_rate=RATE).input_values[0]
        values[:] = 7
    assert np.array_equal(row, before)


def test_silence_stays_silent():
    values = Wav2Vec2FeatureExtractor()(np.zeros(400), sampling_rate=RATE).input_values[0]
    assert not values.any()


BAD_AUDIO = {
    "int16": (np.zeros(9, np.int16), TypeError, "Row 0 .*int16.*scale to float in .-1, 1. .divide by 32768"),
    "uint8": (np.zeros(9, np.uint8), TypeError, "Row 0 .*uint8.*scale to float"),
    "int list": ([1, 2, 3], TypeError, "Row 0 .*int64.*scale to float"),
    "bool": (np.zeros(9, bool), TypeError, "Row 0 .*bool.*give float samples"),
    "complex": ([np.zeros(9), np.zeros(9, complex)], TypeError, "Row 1 .*complex128.*give float samples"),
    "text in a row": ([np.zeros(9), ["a", "b"]], TypeError, "Row 1 .*give float samples"),
    "None in a row": ([[0.5, None]], TypeError, "Row 0 .*object"),
    "path": ("a.wav", TypeError, "of type str.*decode"),
    "dataset's audio": ({"array": np.zeros(9)}, TypeError, "'array'"),
    "None": (None, TypeError, "NoneType"),
    "number": (0.5, ValueError, r"Row 0 .*shape \(\)"),
    "no row": ([], AudioError, "empty list"),
    "empty": (np.zeros(0), AudioError, "Row 0 .*empty"),
    "empty row": ([np.zeros(4), []], AudioError, "Row 1 .*empty"),
    "3-D": (np.zeros((1, 2, 9)), ValueError, r"shape \(1, 2, 9\).*mono"),
    "stereo": ([np.zeros((2, 9))], ValueError, r"Row 0 .*shape \(2, 9\).*mono"),
    "channels last": (np.zeros((900, 2)), ValueError, r"shape \(900, 2\).*channels last"),
    "nested": ([np.zeros(4), [0.1, [0.2]]], ValueError, "Row 1 .*no plain list"),
    "NaN": ([np.ones(4), np.array([0.1, np.nan])], AudioError, "Row 1 .*NaN"),
    "infinite": (np.array([0.1, np.inf]), AudioError, "Row 0 .*infinite"),
    "beyond float32": (np.array([0.1, 1e300]), AudioError, "Row 0 .*infinite"),
    "beyond squares": (np.array([0.1, 1e30], np.float32), AudioError, "Row 0 .*square"),
}


@pytest.mark.parametrize("name", BAD_AUDIO)
def test_bad_audio_is_refused(name):
    audio, error, message = BAD_AUDIO[name]
    with pytest.raises(error, match=message):
        Wav2Vec2FeatureExtractor()(audio, sampling_rate=RATE)


@pytest.mark.parametrize("name", ["NaN", "infinite", "beyond float32"])
def test_samples_that_are_not_finite_are_refused_without_normalising_too(name):
    audio, error, message = BAD_AUDIO[name]
    with pytest.raises(error, match=message):
        Wav2Vec2FeatureExtractor(do_normalize=False)(audio, sampling_rate=RATE)


BAD_SETTINGS = {
    "padding": ({"padding": "most"}, "padding='most' is unknown"),
    "max_length missing": ({"padding": "max_length"}, "needs max_length"),
    "truncation without limit": ({"truncation": True}, "needs max_length"),
    "truncation": ({"truncation": "some", "max_length": 4}, "truncation='some' is unknown"),
    "max_length": ({"padding": "max_length", "max_length": 0}, "max_length=0"),
    "multiple": ({"padding": True, "pad_to_multiple_of": 0}, "pad_to_multiple_of=0"),
    "tensors": ({"return_tensors": "tf"}, "return_tensors='tf' is unknown"),
    "ragged np": ({"return_tensors": "np"}, r"unequal lengths \(4, 6\).*padding=True"),
    "ragged pt": ({"return_tensors": "pt"}, r"unequal lengths \(4, 6\).*padding=True"),
    "rate": ({"sampling_rate": 8000}, "8000 samples a second.*16000.*resample"),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_bad_settings_are_refused(name):
    options, message = BAD_SETTINGS[name]
    with pytest.raises(ValueError, match=message):
        Wav2Vec2FeatureExtractor()(noise(4, 6), **{"sampling_rate": RATE, **options})


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([], "an empty list"),
        (noise(4), "a list"),
        ({"labels": [1]}, "needs 'input_values'.*labels"),
        ([{"input_values": [0.1]}, {"labels": [1]}], "Example 1 has the keys"),
        ({"input_values": noise(4, 4), "labels": [[1]]}, "'labels' has 1 rows, 'input_values' has 2"),
        ({"input_values": noise(4, 4), "labels": [[1], [1, 2]]}, "'labels' have unequal lengths"),
        ({"input_values": noise(4)[0]}, r"Row 0 .*shape \(\)"),
    ],
)
def test_what_pad_refuses(features, message):
    with pytest.raises(ValueError, match=message):
        Wav2Vec2FeatureExtractor().pad(features)


def test_a_missing_rate_is_warned_of_and_a_given_one_is_not():
    with pytest.warns(UserWarning, match="sampling_rate wasn't given.*16000") as caught:
        Wav2Vec2FeatureExtractor()(noise(400)[0])
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Wav2Vec2FeatureExtractor()(noise(400)[0], sampling_rate=RATE)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"feature_size": 80}, "feature_size=80"),
        ({"sampling_rate": "16k"}, "sampling_rate='16k'"),
        ({"sampling_rate": 0}, "sampling_rate=0"),
        ({"padding_side": "both"}, "padding_side='both'"),
    ],
)
def test_what_no_feature_extractor_can_be(setting, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Wav2Vec2FeatureExtractor(**setting)


# Files

SETTINGS = {
    "do_normalize": False,
    "feature_size": 1,
    "padding_side": "left",
    "padding_value": 0.5,
    "return_attention_mask": True,
    "sampling_rate": 8000,
    "something_new": {"of": ["later", 1]},
}


def test_our_folder_loads_in_transformers_and_theirs_in_ours(tmp_path: Path):
    ours, theirs = Wav2Vec2FeatureExtractor(**SETTINGS), transformers.Wav2Vec2FeatureExtractor(**SETTINGS)
    assert ours.to_dict() == theirs.to_dict()
    assert json.loads(ours.to_json_string()) == ours.to_dict()
    assert ours.save_pretrained(tmp_path / "ours") == [tmp_path / "ours" / "preprocessor_config.json"]
    theirs.save_pretrained(tmp_path / "theirs")
    for name in ("ours", "theirs"):
        assert transformers.AutoFeatureExtractor.from_pretrained(tmp_path / name).to_dict() == theirs.to_dict()
        assert Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / name).to_dict() == ours.to_dict()


def test_the_new_place_goes_before_the_old_one(tmp_path: Path):
    old = {"sampling_rate": 8000, "processor_class": "Wav2Vec2Processor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "Wav2Vec2Processor"}))
    assert Wav2Vec2FeatureExtractor.from_pretrained(tmp_path).sampling_rate == 8000
    assert "processor_class" not in Wav2Vec2FeatureExtractor.from_pretrained(tmp_path).to_dict()
    (tmp_path / "processor_config.json").write_text(json.dumps({"feature_extractor": {"sampling_rate": 44100}}))
    assert Wav2Vec2FeatureExtractor.from_pretrained(tmp_path).sampling_rate == 44100


def test_arguments_override_the_file(tmp_path: Path):
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "sub")
    made = Wav2Vec2FeatureExtractor.from_pretrained(tmp_path, subfolder="sub", return_attention_mask=True)
    assert made.return_attention_mask
    assert made.sampling_rate == RATE


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no feature extractor: neither preprocessor_config.json nor processor_config.json"),
        ({"preprocessor_config.json": "[]"}, "no JSON object"),
        ({"preprocessor_config.json": "{"}, "not valid JSON"),
        ({"preprocessor_config.json": '{"sampling_rate": -1}'}, "preprocessor_config.json can't be used: sampling"),
        ({"processor_config.json": '{"feature_extractor": 3}'}, "no JSON object"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(files, message, tmp_path: Path):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(CheckpointError, match=message):
        Wav2Vec2FeatureExtractor.from_pretrained(tmp_path)


def test_push_to_hub_uploads_what_save_writes(monkeypatch, tmp_path: Path):
    def push(save, repo_id, *, commit_message, token, private):
        save(tmp_path)
        return f"{repo_id} {commit_message} {token} {private}"

    monkeypatch.setattr(feature_extractor, "push_folder", push)
    address = Wav2Vec2FeatureExtractor(**SETTINGS).push_to_hub("me/model", token="secret", private=True)
    assert address == "me/model Upload feature extractor secret True"
    assert Wav2Vec2FeatureExtractor.from_pretrained(tmp_path).to_dict().items() >= SETTINGS.items()


def test_it_shows_its_settings():
    assert "sampling_rate=8000" in repr(Wav2Vec2FeatureExtractor(**SETTINGS))


# The batch


def test_a_batch_is_a_dictionary_with_attributes():
    batch = BatchFeature({"input_values": [[1.0, 2.0]]}, "np")
    assert batch.input_values is batch["input_values"]
    assert batch.input_values.shape == (1, 2)
    with pytest.raises(AttributeError, match="no 'labels'; it holds input_values"):
        _ = batch.labels
    for other in (pickle.loads(pickle.dumps(batch)), copy.deepcopy(batch)):  # noqa: S301
        assert type(other) is BatchFeature
        assert np.array_equal(other.input_values, batch.input_values)


def test_to_moves_tensors_and_changes_the_dtype_of_floating_ones_alone():
    batch = BatchFeature(
        {"x": torch.ones(2), "mask": torch.ones(2, dtype=torch.int32), "rows": [torch.ones(1)], "n": 3}
    )
    assert batch.to(torch.float16) is batch
    assert (batch.x.dtype, batch.mask.dtype, batch.rows[0].dtype) == (torch.float16, torch.int32, torch.float16)
    batch.to("meta", non_blocking=True)
    assert {batch.x.device.type, batch.mask.device.type, batch.rows[0].device.type} == {"meta"}
    assert batch.n == 3
    batch = BatchFeature({"x": torch.ones(2), "mask": torch.ones(2, dtype=torch.int32)})
    batch.to(device="meta", dtype=torch.float64)
    assert (batch.x.dtype, batch.mask.dtype) == (torch.float64, torch.int32)
    assert batch.mask.device.type == "meta"


def test_conversion_takes_numbers_and_leaves_texts():
    tensor = torch.ones(2)
    batch = BatchFeature(
        {"a": [tensor, tensor], "b": ["x", "yy"], "c": np.ones(2), "d": tensor, "e": None, "f": [1, 2]}
    )
    batch.convert_to_tensors("pt")
    assert batch.a.shape == (2, 2)
    assert batch.b == ["x", "yy"]
    assert batch.e is None
    assert batch.c.tolist() == [1, 1]
    assert batch.d is tensor
    assert batch.f.tolist() == [1, 2]
