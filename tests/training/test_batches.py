from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import pickle
import signal
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tests.data.corpora import RATE, write_audio
from tests.model.builders import SHAPE

import wavconformer
from wavconformer import (
    Wav2Vec2ConformerConfig,
    Wav2Vec2ConformerForCTC,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
)
from wavconformer.data.corpus import Corpus
from wavconformer.data.frames import encoder_frames
from wavconformer.data.prepare import prepare
from wavconformer.data.utterance import Utterance
from wavconformer.errors import DataError
from wavconformer.training import examples as loading
from wavconformer.training.batches import ALONE, Batches, Share, training_batches, validation_batches
from wavconformer.training.examples import Batch
from wavconformer.training.recipe import Augmentation, Data, Recipe, Trainer
from wavconformer.training.starting import Start, class_names

TASKS = ("ctc", "sequence", "frame", "xvector", "pretrain")
MODELS = {
    "ctc": "ForCTC",
    "sequence": "ForSequenceClassification",
    "frame": "ForAudioFrameClassification",
    "xvector": "ForXVector",
    "pretrain": "ForPreTraining",
}
COUNT = 24


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """24 prepared utterances of 0.5 to 1.6 s, with all labels; noise, rooms and an RTTM file beside them."""
    folder = tmp_path_factory.mktemp("corpus")
    rows, turns = [], []
    for number in range(COUNT):
        seconds = 0.5 + 0.05 * number
        write_audio(folder / f"u{number:02d}.wav", seconds, 200 + 10 * number)
        turns.append(f"SPEAKER u{number:02d} 1 0.1 {seconds / 2:.2f} <NA> <NA> s1 <NA> <NA>\n")
        rows.append(
            {
                "id": f"u{number:02d}",
                "audio": f"u{number:02d}.wav",
                "text": "ABAC"[: number % 4 + 1],
                "speaker": f"s{number % 3}",
                "label": "yes" if number % 2 else "no",
            }
        )
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "all.rttm").write_text("".join(turns))
    write_audio(folder / "noise" / "n.wav", 0.7, 90)
    impulse = write_audio(folder / "rooms" / "r.wav", 0.05, 900)
    assert impulse.exists()
    prepare(folder / "all.jsonl", folder / "ready", workers=0)
    return folder


@pytest.fixture(scope="module")
def config() -> Wav2Vec2ConformerConfig:
    return Wav2Vec2ConformerConfig(**SHAPE | {"mask_time_prob": 0.5, "mask_time_min_masks": 2})


EXTRACTOR = Wav2Vec2FeatureExtractor(return_attention_mask=True)
TOKENIZER = Wav2Vec2CTCTokenizer({"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "A": 5, "B": 6, "C": 7})


def recipe_of(folder: Path, task: str = "ctc", **trainer) -> Recipe:
    ready = (str(folder / "ready"),)
    rttm = str(folder / "all.rttm") if task == "frame" else None
    crop = 0.8 if task in ("pretrain", "xvector") else None
    return Recipe(
        task=task,
        data=Data(train=ready, valid=ready, max_seconds=4.0, rttm=rttm, crop_seconds=crop),
        augmentation=Augmentation(
            speed=(0.9, 1.0, 1.1),
            volume_db=(-3, 3),
            noise=str(folder / "noise"),
            reverb=str(folder / "rooms"),
        ),
        trainer=Trainer(**{"batch_seconds": 4.0, "workers": 0, "seed": 5} | trainer),
    )


def start_of(recipe: Recipe, config, tokenizer=TOKENIZER) -> Start:
    return Start(Wav2Vec2ConformerForCTC(config), EXTRACTOR, tokenizer, class_names(recipe), recipe)


def batches_of(recipe: Recipe, config, share: Share = ALONE) -> Batches:
    return training_batches(start_of(recipe, config), share)


def assert_same(one: Batch, other: Batch) -> None:
    assert (one.ids, one.texts, one.seconds, one.skipped) == (other.ids, other.texts, other.seconds, other.skipped)
    assert one.inputs.keys() == other.inputs.keys()
    for key, value in one.inputs.items():
        assert torch.equal(value, other.inputs[key]), key


# --- what the models get


@pytest.mark.parametrize("task", TASKS)
def test_models_take_the_batches_of_their_task(corpus, config, task):
    if task == "xvector":
        config = config.copy(num_labels=3)
    model = getattr(wavconformer, f"Wav2Vec2Conformer{MODELS[task]}")(config).eval()
    for batch in islice(batches_of(recipe_of(corpus, task), config), 3):
        with torch.no_grad():
            output = model(**batch.inputs)
        assert torch.isfinite(output.loss)
        assert len(batch) == len(batch.inputs["input_values"]) == len(batch.texts) > 0
        real = batch.inputs["attention_mask"].sum().item()
        assert real == round(batch.seconds * RATE)
        assert batch.inputs["input_values"].numel() <= 4.0 * RATE * 1.01


def test_labels_of_texts(corpus, config):
    batch = next(iter(batches_of(recipe_of(corpus), config)))
    for row, text in zip(batch.inputs["labels"].tolist(), batch.texts, strict=True):
        assert [label for label in row if label != -100] == TOKENIZER(text)["input_ids"]


def test_joined_utterances_have_one_text(corpus, config):
    recipe = recipe_of(corpus)
    joining = dataclasses.replace(recipe, augmentation=Augmentation(join_probability=1.0, silence_seconds=(0.1, 0.1)))
    apart, together = (
        list(islice(batches_of(one, config), batches_of(one, config).plan.updates)) for one in (recipe, joining)
    )
    silence = 0.0
    for one, other in zip(apart, together, strict=True):
        assert "+".join(other.ids) == "+".join(one.ids)
        assert " ".join(other.texts) == " ".join(one.texts)  # type: ignore[arg-type]
        assert len(other) <= -(-len(one) // 2)
        assert other.utterances == one.utterances == len(one)
        assert not other.skipped
        for row, text in zip(other.inputs["labels"], other.texts, strict=True):
            assert row[row >= 0].tolist() == TOKENIZER(text)["input_ids"]
        silence += 0.1 * (len(one) - len(other))
    plain = dataclasses.replace(recipe, augmentation=Augmentation())
    spoken = sum(batch.seconds for batch in islice(batches_of(plain, config), len(apart)))
    assert sum(batch.seconds for batch in together) > spoken + silence  # and silence before and behind
    held_out = validation_batches(start_of(joining, config))
    assert all("+" not in name for batch in held_out.once() for name in batch.ids)


def test_silence_is_marked_before_noise_unless_the_text_needs_it(corpus, config):
    recipe = recipe_of(corpus)
    surely_silent = Augmentation(silence_seconds=(0.5, 0.5), silence_probability=1.0, noise=str(corpus / "noise"))
    silencing = dataclasses.replace(
        recipe, data=dataclasses.replace(recipe.data, silence_db=20.0), augmentation=surely_silent
    )
    batch = next(iter(batches_of(silencing, config)))
    silent, lengths = batch.inputs["silent"], batch.inputs["attention_mask"].sum(-1)
    for row, length in zip(silent, lengths.tolist(), strict=True):
        frames = encoder_frames(length, config)
        assert row[:10].all() and row[frames - 10 : frames].all()  # half a second, 24 frames, without their edges
        assert not row[frames:].any()
        assert not row[26 : frames - 26].any()
    assert "silent" not in next(iter(batches_of(recipe, config))).inputs
    assert all("silent" not in batch.inputs for batch in validation_batches(start_of(silencing, config)).once())


def test_frames_that_a_text_needs_are_not_silent(tmp_path, config):
    samples = np.zeros(RATE, np.float32)
    samples[:1600] = 0.5
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    (tmp_path / "all.jsonl").write_text(json.dumps({"id": "a", "audio": "a.wav", "text": "ABCABCABCABC"}))
    prepare(tmp_path / "all.jsonl", tmp_path / "ready", workers=0)
    data = Data(train=(str(tmp_path / "ready"),), silence_db=40.0, max_seconds=4.0)
    batch = next(iter(batches_of(Recipe(task="ctc", data=data, trainer=Trainer(workers=0, batch_seconds=4.0)), config)))
    assert not batch.inputs["silent"].any()


def test_labels_of_classes(corpus, config):
    recipe = recipe_of(corpus, "sequence")
    assert class_names(recipe) == ("no", "yes")
    batch = next(iter(batches_of(recipe, config)))
    assert batch.inputs["labels"].tolist() == [int(name[1:]) % 2 for name in batch.ids]
    assert class_names(recipe_of(corpus, "xvector")) == ("no", "yes")  # labels go before speakers
    named = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, labels=("yes", "no", "other")))
    assert class_names(named) == ("yes", "no", "other")


def test_speaker_activity_keeps_up_with_the_speed(corpus, config):
    recipe = recipe_of(corpus, "frame")
    seen = set()
    for batch in islice(batches_of(recipe, config), 8):
        labels, mask = batch.inputs["labels"], batch.inputs["attention_mask"]
        assert labels.shape[2] == config.num_labels
        for row, (name, length) in enumerate(zip(batch.ids, mask.sum(1).tolist(), strict=True)):
            seconds = 0.5 + 0.05 * int(name[1:])
            factor = seconds * RATE / length
            assert min(abs(factor - one) for one in (0.9, 1.0, 1.1)) < 0.01
            seen.add(round(factor, 1))
            expected = round(seconds / 2, 2) / factor / 0.02
            assert abs(labels[row, :, 0].sum().item() - expected) <= 1
            assert labels[row, :, 1:].sum() == 0
    assert seen == {0.9, 1.0, 1.1}


def test_masks_and_negatives(corpus, config):
    batch = next(iter(batches_of(recipe_of(corpus, "pretrain"), config)))
    mask, negatives = batch.inputs["mask_time_indices"], batch.inputs["sampled_negative_indices"]
    rows, frames = mask.shape
    assert mask.dtype == torch.bool
    assert negatives.shape == (rows, frames, config.num_negatives)
    flat = mask.flatten()
    for row in range(rows):
        drawn = negatives[row][mask[row]]
        assert (drawn // frames == row).all()
        assert flat[drawn].all()  # masked frames of the same utterance
        own = torch.arange(frames)[mask[row]] + row * frames
        assert (drawn != own[:, None]).all()
    assert (batch.inputs["attention_mask"].sum(1) <= 0.8 * RATE / 0.9 + 1).all()


def test_what_is_drawn_does_not_depend_on_the_batch(corpus, config):
    examples = batches_of(recipe_of(corpus, "pretrain"), config).examples
    alone, together = examples.batch(3, [7]), examples.batch(3, [2, 7, 20])
    length = int(alone.inputs["attention_mask"].sum())
    frames = alone.inputs["mask_time_indices"].shape[1]
    assert torch.equal(alone.inputs["input_values"][0], together.inputs["input_values"][1, :length])
    assert torch.equal(alone.inputs["mask_time_indices"][0], together.inputs["mask_time_indices"][1, :frames])
    other = examples.batch(4, [7])
    assert other.inputs["input_values"].shape != alone.inputs["input_values"].shape or not torch.equal(
        other.inputs["input_values"], alone.inputs["input_values"]
    )


# --- what can't be used


def test_what_cannot_be_used_is_skipped_and_told(tmp_path, config):
    rows = []
    texts = {"good": (1.0, "AB"), "gone": (0.9, "A"), "long": (0.5, "A" * 20), "mute": (0.8, None), "low": (0.7, "ab")}
    for name, (seconds, text) in texts.items():
        write_audio(tmp_path / f"{name}.wav", seconds)
        rows.append({"id": name, "audio": f"{name}.wav", **({"text": text} if text else {})})
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(tmp_path / "all.jsonl", tmp_path / "ready", workers=0)
    (tmp_path / "gone.wav").unlink()
    recipe = Recipe(data=Data(train=(str(tmp_path / "ready"),)), trainer=Trainer(workers=0))
    examples = batches_of(recipe, config).examples
    batch = examples.batch(0, range(5))
    assert batch.ids == ("good",)
    reasons = {one.id: one.reason for one in batch.skipped}
    assert reasons.keys() == {"gone", "long", "mute", "low"}
    assert "no such file" in reasons["gone"]
    assert reasons["long"] == "its text needs 39 frames, its audio makes 24"
    assert reasons["mute"] == "it has no text"
    assert reasons["low"] == "The vocabulary has a b in upper case alone: prepare with --case upper."
    empty = examples.batch(0, [1, 2])
    assert (len(empty), empty.inputs, empty.seconds, len(empty.skipped)) == (0, {}, 0.0, 2)


def test_of_joined_utterances_the_bad_one_alone_is_skipped(tmp_path, config):
    texts = {"a": "AB", "gone": "A", "c": "BA", "mute": None, "e": "B"}
    for name in texts:
        write_audio(tmp_path / f"{name}.wav", 1.0)
    rows = [{"id": name, "audio": f"{name}.wav", **({"text": text} if text else {})} for name, text in texts.items()]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(tmp_path / "all.jsonl", tmp_path / "ready", workers=0)
    (tmp_path / "gone.wav").unlink()
    recipe = Recipe(
        data=Data(train=(str(tmp_path / "ready"),)),
        augmentation=Augmentation(join_probability=1.0),
        trainer=Trainer(workers=0),
    )
    batch = batches_of(recipe, config).examples.batch(0, range(5))
    assert [one.id for one in batch.skipped] == ["gone", "mute"]
    assert "no such file" in batch.skipped[0].reason and batch.skipped[1].reason == "it has no text"
    assert "+".join(batch.ids).split("+") == ["a", "c", "e"]
    assert batch.utterances == 3


def test_lines_of_a_manifest_that_cannot_be_read_are_skipped_and_told(tmp_path, config):
    for name in "abc":
        write_audio(tmp_path / f"{name}.wav", 1.0)
    rows = [{"id": name, "audio": f"{name}.wav", "text": "A"} for name in "abc"]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(tmp_path / "all.jsonl", tmp_path / "ready", workers=0)
    manifest = tmp_path / "ready" / "manifest.jsonl"
    lines = manifest.read_text().splitlines()
    lines[1] = json.dumps({"id": "b", "seconds": 1.0})
    manifest.write_text("\n".join(lines) + "\n")
    recipe = Recipe(data=Data(train=(str(tmp_path / "ready"),)), trainer=Trainer(workers=0))
    examples = batches_of(recipe, config).examples
    batch = examples.batch(0, range(3))
    assert batch.ids == ("a", "c")
    (skipped,) = batch.skipped
    assert skipped.id == "utterance 1" and f"'{manifest}', utterance 1" in skipped.reason
    manifest.unlink()  # as when a network's disk goes away
    assert all("can't be read any more" in one.reason for one in examples.batch(0, range(3)).skipped)


def test_labels_that_are_none_of_the_classes_are_skipped(corpus, config):
    recipe = recipe_of(corpus, "sequence")
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, labels=("yes", "maybe")))
    batch = batches_of(recipe, config).examples.batch(0, [0, 1])
    assert batch.ids == ("u01",)
    assert batch.skipped[0].reason == "its label 'no' is none of the 2 classes"


def test_recordings_without_turns_are_skipped(corpus, config, tmp_path):
    recipe = recipe_of(corpus, "frame")
    (tmp_path / "few.rttm").write_text("SPEAKER u00 1 0 1 <NA> <NA> x <NA> <NA>\n")
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, rttm=str(tmp_path / "few.rttm")))
    batch = batches_of(recipe, config).examples.batch(0, [0, 1])
    assert batch.ids == ("u00",)
    assert "data.rttm has no recording 'u01'" in batch.skipped[0].reason


def test_a_crop_has_its_own_part_of_the_turns(corpus, config, tmp_path):
    turns = [("a", 0.0, 0.4), ("b", 0.2, 0.9), ("c", 0.5, 0.52), ("a", 0.6, 5.0)]
    (tmp_path / "who.rttm").write_text(
        "".join(
            f"SPEAKER u{number:02d} 1 {start} {end - start} <NA> <NA> {who} <NA> <NA>\n"
            for number in range(24)
            for who, start, end in turns
        )
    )
    recipe = recipe_of(corpus, "frame")
    recipe = dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, rttm=str(tmp_path / "who.rttm"), crop_seconds=0.5),
        augmentation=Augmentation(),
    )
    examples = batches_of(recipe, config.copy(num_labels=2)).examples
    longest = int(np.argmax(examples.corpus.seconds))
    starts = set()
    for epoch in range(6):
        batch = examples.batch(epoch, [longest])
        labels = batch.inputs["labels"][0].numpy()
        assert batch.seconds == pytest.approx(0.5) and labels.shape == (24, 2)
        fits = []
        for start in np.arange(0.0, examples.corpus[longest].seconds - 0.49, 0.001):
            middles = start + 0.02 * np.arange(24) + 0.0125
            spoken = {
                who: np.any([(middles >= begin) & (middles < end) for one, begin, end in turns if one == who], axis=0)
                for who in "ab"  # c says least in any crop, and there are but two outputs
            }
            for order in ("ab", "ba"):
                if all((labels[:, column] == spoken[who]).all() for column, who in enumerate(order)):
                    fits.append(round(float(start), 2))
        assert fits
        starts.add(fits[0])
    assert len(starts) > 3


@pytest.mark.parametrize(
    ("task", "data", "message"),
    [
        ("ctc", {"train": ()}, "data.train names no manifest"),
        ("frame", {"rttm": None}, "needs data.rttm"),
        ("ctc", {"min_seconds": 3.0}, "0 of 24 utterances are between 3 and 4 s long"),
    ],
)
def test_data_that_will_not_do(corpus, config, task, data, message):
    recipe = recipe_of(corpus, task)
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, **data))
    with pytest.raises(DataError, match=message):
        batches_of(recipe, config)


def test_ctc_without_a_tokenizer_is_refused(corpus, config):
    with pytest.raises(DataError, match="CTC needs a tokenizer"):
        training_batches(start_of(recipe_of(corpus), config, tokenizer=None))


# --- position


@pytest.mark.parametrize("task", TASKS)
def test_a_resumed_run_gives_the_same_batches(corpus, config, task):
    recipe = recipe_of(corpus, task)
    unbroken = batches_of(recipe, config)
    length = len(unbroken)
    wanted = list(islice(unbroken, 2 * length + 3))  # into the third epoch
    for stop in (1, length - 1, length, length + 2):
        stopped = batches_of(recipe, config)
        for _ in islice(stopped, stop):
            pass
        state = json.loads(json.dumps(stopped.state_dict()))
        resumed = batches_of(recipe, config)
        resumed.load_state_dict(state)
        for batch, expected in zip(islice(resumed, 3), wanted[stop:], strict=False):
            assert_same(batch, expected)


def test_workers_give_the_same_batches_and_their_lead_is_not_counted(corpus, config):
    alone = batches_of(recipe_of(corpus, "pretrain"), config)
    wanted = list(islice(alone, 9))
    working = batches_of(recipe_of(corpus, "pretrain", workers=2), config)
    for batch, expected in zip(islice(working, 4), wanted, strict=False):
        assert_same(batch, expected)
    resumed = batches_of(recipe_of(corpus, "pretrain", workers=1), config)
    resumed.load_state_dict(working.state_dict())
    for batch, expected in zip(islice(resumed, 5), wanted[4:], strict=True):
        assert_same(batch, expected)


def test_restoring_a_far_position_reads_nothing_before_it(corpus, config, monkeypatch):
    batches = batches_of(recipe_of(corpus), config)
    epoch, update = divmod(1_000_000, batches.plan.updates)
    read, planned = [], []
    monkeypatch.setattr(Corpus, "__getitem__", lambda self, number: read.append(number) or ITEM)
    shuffled = batches.plan._shuffled
    monkeypatch.setattr(batches.plan, "_shuffled", lambda epoch: planned.append(epoch) or shuffled(epoch))
    state = batches.state_dict() | {"epoch": epoch, "update": update}
    assert len(json.dumps(state)) < 200
    batches.load_state_dict(state)
    batch = next(iter(batches))
    assert planned == [epoch]
    assert len(read) == len(batch.ids) + len(batch.skipped)
    assert batches.epoch * batches.plan.updates + batches.update == 1_000_001


ITEM = Utterance(id="x", audio="/none")


def test_nothing_is_drawn_from_global_sources_of_randomness(corpus, config):
    streams = [batches_of(recipe_of(corpus, "pretrain", workers=workers), config) for workers in (0, 1)]
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    for stream in streams:
        for _ in islice(stream, 2):
            pass
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_a_position_in_other_data_is_refused(corpus, config):
    state = batches_of(recipe_of(corpus), config).state_dict()
    for other in (recipe_of(corpus, batch_seconds=9.0), recipe_of(corpus, seed=6), recipe_of(corpus, accumulate=2)):
        with pytest.raises(DataError, match="The data position can't be restored"):
            batches_of(other, config).load_state_dict(state)


# --- several processes


@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (3, 2)])
def test_processes_share_an_epoch(corpus, config, world, accumulate):
    recipe = recipe_of(corpus, accumulate=accumulate)
    processes = [batches_of(recipe, config, Share(rank, world)) for rank in range(world)]
    assert len({len(one) for one in processes}) == 1
    assert len(processes[0]) % accumulate == 0
    ids = [name for one in processes for batch in islice(one, len(one)) for name in batch.ids]
    assert sorted(ids) == [f"u{number:02d}" for number in range(COUNT)]


def test_two_processes_and_two_accumulated_batches_make_the_same_updates(corpus, config):
    two = [batches_of(recipe_of(corpus), config, Share(rank, 2)) for rank in range(2)]
    one = batches_of(recipe_of(corpus, accumulate=2), config)
    assert one.members == 2
    assert len(one) == 2 * len(two[0])
    stream = iter(one)
    for first, second in islice(zip(*two, strict=True), len(two[0]) + 1):
        assert_same(first, next(stream))
        assert_same(second, next(stream))
    resumed = batches_of(recipe_of(corpus, accumulate=2), config)
    resumed.load_state_dict(two[0].state_dict())  # and may go on as another number of processes
    assert_same(next(iter(resumed)), next(stream))


def test_a_position_within_an_update_belongs_to_its_processes(corpus, config):
    one = batches_of(recipe_of(corpus, accumulate=2), config)
    next(iter(one))
    assert one.state_dict()["member"] == 1
    two = batches_of(recipe_of(corpus), config, Share(0, 2))
    with pytest.raises(DataError, match="lies within an update of 1 processes"):
        two.load_state_dict(one.state_dict())


def test_a_rank_that_is_none_is_refused(corpus, config):
    batches = batches_of(recipe_of(corpus), config)
    with pytest.raises(ValueError, match="rank 2 of 2 processes"):
        Batches(batches.examples, batches.plan, Share(2, 2))
    with pytest.raises(ValueError, match="rank 0 of 2 processes doesn't fit a plan with 1 batches"):
        Batches(batches.examples, batches.plan, Share(0, 2))


def test_batches_can_be_made_in_spawned_processes(corpus, config):
    examples = batches_of(recipe_of(corpus), config).examples
    copied = pickle.loads(pickle.dumps(examples))  # noqa: S301 (our own)
    assert_same(copied.batch(0, [3, 4]), examples.batch(0, [3, 4]))


def test_of_a_long_recording_only_the_crop_is_decoded(corpus, config, monkeypatch):
    examples = batches_of(recipe_of(corpus, "pretrain"), config).examples
    seen = []
    load = loading.load_utterance
    monkeypatch.setattr(loading, "load_utterance", lambda one, rate: seen.append(one) or load(one, rate))
    examples.batch(0, [0, COUNT - 1])
    short, long = seen
    assert (short.start, short.end) == (0.0, None)
    assert long.end - long.start == pytest.approx(0.8)
    assert long.start >= 0 and long.end <= 1.65


# --- evaluation


def test_validation_gives_each_utterance_once_as_it_is(corpus, config):
    recipe = recipe_of(corpus)
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, max_seconds=1.0))
    processes = [validation_batches(start_of(recipe, config), Share(rank, 2)) for rank in range(2)]
    seen: dict[str, int] = {}
    for one in processes:
        before = one.state_dict()
        for batch in one.once():
            seen |= dict(zip(batch.ids, batch.inputs["attention_mask"].sum(1).tolist(), strict=True))
        assert one.state_dict() == before
        assert len(list(one.once())) == len(one)
    assert seen == {f"u{number:02d}": round((0.5 + 0.05 * number) * RATE) for number in range(COUNT)}


# --- signals


def test_workers_outlive_the_signals_that_end_a_run(corpus, config):
    stream = iter(batches_of(recipe_of(corpus, workers=1), config))
    first = next(stream)
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGINT)
        os.kill(worker.pid, signal.SIGTERM)
    assert len(next(stream)) and len(first)
    stream.close()


def test_closing_ends_workers_whatever_still_refers_to_them(corpus, config):
    batches = batches_of(recipe_of(corpus, workers=1), config)
    training, held_out = iter(batches), batches.once()
    assert len(next(training)) and len(next(held_out))
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert not multiprocessing.active_children()
    training.close()
    held_out.close()
