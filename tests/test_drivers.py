"""The programs that drive models take ours unchanged: Trainer, accelerate, copying, pickling, compiling, casting."""

from __future__ import annotations

import copy
import io
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
import transformers
from accelerate.state import AcceleratorState, GradientState, PartialState

from model.builders import CLASSES, POSITIONS, build, noise, objective, task_arguments
from wavconformer import (
    CheckpointError,
    Wav2Vec2ConformerConfig,
    Wav2Vec2ConformerForCTC,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)

transformers.logging.set_verbosity_error()

RATE = 16_000
LETTERS = "ABCDE"
WORDS = ("AB", "CAB", "DEED", "BAD", "ACE", "BED")
STEPS = 20


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> Wav2Vec2Processor:
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS]
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.json"
    path.write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    return Wav2Vec2Processor(Wav2Vec2FeatureExtractor(return_attention_mask=True), Wav2Vec2CTCTokenizer(path))


def spelled(text: str, random: np.random.Generator) -> np.ndarray:
    """A tone for each letter, of its own pitch, with a pause after it; silence for a space."""
    parts = []
    for letter in text:
        time = np.arange(random.integers(1_600, 2_400)) / RATE
        pitch = 0 if letter == " " else 300 * (1 + LETTERS.index(letter))
        parts += [np.sin(2 * np.pi * pitch * time), np.zeros(400)]
    audio = np.concatenate(parts)
    return (audio + 0.01 * random.normal(size=len(audio))).astype(np.float32)


@pytest.fixture(scope="module")
def rows(processor: Wav2Vec2Processor) -> list[dict[str, Any]]:
    """48 utterances of one or two words, as a data set hands them over."""
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, size=random.integers(1, 3))) for _ in range(48)]
    return [
        {
            "input_values": processor(spelled(text, random), sampling_rate=RATE).input_values[0],
            "labels": processor(text=text).input_ids,
        }
        for text in texts
    ]


class Collator:
    """Pads a batch, as every CTC fine-tuning script does."""

    def __init__(self, processor: Wav2Vec2Processor) -> None:
        self.processor = processor

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = self.processor.pad(
            [{"input_values": row["input_values"]} for row in rows],
            labels=[{"input_ids": row["labels"]} for row in rows],
            padding=True,
            return_tensors="pt",
        )
        return dict(batch)


def small_model() -> Wav2Vec2ConformerForCTC:
    torch.manual_seed(0)
    return Wav2Vec2ConformerForCTC(
        Wav2Vec2ConformerConfig(
            vocab_size=5 + len(LETTERS),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            conv_dim=[16] * 7,
            conv_bias=True,
            feat_extract_norm="layer",
            num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=2,
            conv_depthwise_kernel_size=7,
            layerdrop=0.0,
            ctc_loss_reduction="mean",
        )
    )


# --- transformers.Trainer


def make_trainer(
    folder: Path, rows: list[dict[str, Any]], processor: Wav2Vec2Processor, **arguments: Any
) -> transformers.Trainer:
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": STEPS,
        "per_device_train_batch_size": 8,
        "learning_rate": 5e-3,
        "logging_steps": 1,
        "save_steps": STEPS // 2,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 0,
    }
    return transformers.Trainer(
        model=small_model(),
        args=transformers.TrainingArguments(**settings | arguments),
        data_collator=Collator(processor),
        train_dataset=rows,
        eval_dataset=rows[:8],
        processing_class=processor,
    )


@pytest.fixture(scope="module")
def trainer(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], processor: Wav2Vec2Processor
) -> transformers.Trainer:
    """A finished run."""
    trainer = make_trainer(tmp_path_factory.mktemp("run"), rows, processor)
    trainer.train()
    return trainer


def losses(trainer: transformers.Trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_a_trainers_run_lowers_the_loss(trainer):
    history = losses(trainer)
    assert len(history) == STEPS
    assert np.isfinite(history).all()
    assert np.mean(history[-3:]) < 0.4 * np.mean(history[:3])


def test_a_trainer_evaluates_and_predicts(trainer, rows):
    metrics = trainer.evaluate()
    assert 0 < metrics["eval_loss"] < losses(trainer)[0]
    predictions = trainer.predict(rows[:3])
    assert predictions.predictions.shape[::2] == (3, 10)
    assert np.isfinite(predictions.metrics["test_loss"])


def test_what_a_trainer_saves_loads_again(trainer, tmp_path):
    """The trainer knows no model of another package than its own: it writes weights and processor, no config.json."""
    trainer.save_model(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {
        "model.safetensors",
        "processor_config.json",
        "tokenizer_config.json",
        "training_args.bin",
        "vocab.json",
    }
    with pytest.raises(CheckpointError, match=r"holds no config\.json\. It holds model\.safetensors"):
        Wav2Vec2ConformerForCTC.from_pretrained(tmp_path)
    model, info = Wav2Vec2ConformerForCTC.from_pretrained(
        tmp_path, config=trainer.model.config, output_loading_info=True
    )
    assert not any(info.values())
    trained = trainer.model.eval()
    with torch.no_grad():
        assert torch.equal(model(noise(1, RATE)).logits, trained(noise(1, RATE)).logits)
    trained.config.save_pretrained(tmp_path)  # makes the folder whole
    again = Wav2Vec2ConformerForCTC.from_pretrained(tmp_path)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in trained.state_dict().items())
    assert Wav2Vec2Processor.from_pretrained(tmp_path).tokenizer.get_vocab()["E"] == 9


def test_a_run_goes_on_where_it_was_stopped(trainer, rows, processor, tmp_path):
    halfway = Path(trainer.args.output_dir) / f"checkpoint-{STEPS // 2}"
    resumed = make_trainer(tmp_path, rows, processor, save_strategy="no")
    resumed.train(resume_from_checkpoint=str(halfway))
    assert resumed.state.global_step == STEPS
    np.testing.assert_allclose(losses(resumed), losses(trainer), rtol=1e-4)


# --- accelerate


@pytest.fixture
def reset_accelerate() -> Iterator[None]:
    """accelerate keeps its settings for the process: they are forgotten before and after."""
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()
    yield
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_accelerate_prepares_steps_and_unwraps(reset_accelerate, rows, processor, tmp_path, precision):
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision=precision)
    model = small_model().train()
    before = copy.deepcopy(model.state_dict())
    batches = torch.utils.data.DataLoader(rows[:8], batch_size=4, collate_fn=Collator(processor))
    prepared, optimizer, loader = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-3), batches)
    for batch in loader:
        output = prepared(**batch)
        assert output.logits.dtype == torch.float32
        accelerator.backward(output.loss)
        accelerator.clip_grad_norm_(prepared.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    after = model.state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    unchanged = before.keys() - changed
    assert {name.split("encoder.")[-1].rsplit(".", 1)[0] for name in unchanged} <= {
        "pos_conv_embed.conv",  # which no forward uses
        "pos_conv_embed.conv.parametrizations.weight",
    }
    assert accelerator.unwrap_model(prepared) is model
    accelerator.unwrap_model(prepared).save_pretrained(
        tmp_path, is_main_process=accelerator.is_main_process, state_dict=accelerator.get_state_dict(prepared)
    )
    read = Wav2Vec2ConformerForCTC.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(read[name], tensor) for name, tensor in after.items())


# --- copies


def outputs_of(model: Any, name: str) -> Any:
    with torch.no_grad():
        return model(noise(2, 8_000), **task_arguments(name, model, 2, 8_000))


def assert_equal(output: Any, other: Any) -> None:
    assert list(output) == list(other)
    assert type(output) is type(other)
    for field, value in output.items():
        assert torch.equal(value, other[field]), field


def torch_saved(model: Any) -> Any:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),  # noqa: S301
    "torch.save": torch_saved,
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", CLASSES)
def test_a_copy_gives_the_same_and_is_its_own(name, how):
    model = build(name, mask_time_prob=0.1, position_embeddings_type="rotary")
    expected = outputs_of(model, name)
    other = COPIES[how](model)
    assert_equal(outputs_of(other, name), expected)
    assert other.config == model.config
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.config.hidden_dropout = 0.9
    assert_equal(outputs_of(model, name), expected)
    assert model.config.hidden_dropout == 0.0


@pytest.mark.parametrize("how", COPIES)
def test_a_loaded_model_is_copied_without_its_file(tmp_path, how):
    model = build("ForCTC", adapter_attn_dim=4)
    model.save_pretrained(tmp_path)
    loaded = Wav2Vec2ConformerForCTC.from_pretrained(tmp_path)
    pickled = len(pickle.dumps(loaded))
    assert pickled < 2 * (tmp_path / "model.safetensors").stat().st_size  # each weight once, not the file each time
    other = COPIES[how](loaded)
    loaded.save_adapter(tmp_path, "fra")
    other.load_adapter("fra")  # remembers where it came from
    for path in tmp_path.iterdir():
        path.unlink()
    assert_equal(outputs_of(other, "ForCTC"), outputs_of(model, "ForCTC"))


@pytest.mark.parametrize("name", CLASSES)
def test_a_state_dict_round_trips(name):
    model, other = build(name, seed=1), build(name, seed=2)
    assert not torch.equal(next(model.parameters()), next(other.parameters()))
    result = other.load_state_dict(model.state_dict(), strict=True)
    assert (result.missing_keys, result.unexpected_keys) == ([], [])
    assert_equal(outputs_of(other, name), outputs_of(model, name))


# --- torch.compile


@pytest.mark.parametrize("position", POSITIONS)
def test_a_compiled_forward_gives_the_same(position):
    torch._dynamo.reset()
    small = {"num_hidden_layers": 1, "conv_dim": (8, 8), "conv_kernel": (10, 8), "conv_stride": (5, 8)}
    model = build("ForCTC", position_embeddings_type=position, **small)
    compiled = torch.compile(model, backend="aot_eager")
    mask = (torch.arange(4_000) < torch.tensor([[4_000], [2_500]])).long()
    for arguments in ({}, {"attention_mask": mask}):
        with torch.no_grad():
            expected = model(noise(2, 4_000), **arguments)
            output = compiled(noise(2, 4_000), **arguments)
        assert type(output) is type(expected)
        torch.testing.assert_close(output.logits, expected.logits, rtol=0, atol=1e-5)
    assert compiled.state_dict().keys() != model.state_dict().keys()  # a prefix, as PyTorch has it
    torch._dynamo.reset()


@pytest.mark.parametrize("position", POSITIONS)
def test_the_whole_forward_is_one_graph_for_all_sizes(position):
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    model = build("ForCTC", position_embeddings_type=position, num_hidden_layers=1)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True)
    for batch, samples in ((2, 6_000), (3, 9_000), (4, 14_321)):
        mask = (torch.arange(samples) < torch.tensor([[samples]] + (batch - 1) * [[samples - 777]])).long()
        with torch.no_grad():
            expected = model(noise(batch, samples), attention_mask=mask)
            output = compiled(noise(batch, samples), attention_mask=mask)
        torch.testing.assert_close(output.logits, expected.logits, rtol=0, atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 1
    torch._dynamo.reset()


# --- gradients


def gradients(model: Any, name: str) -> dict[str, torch.Tensor | None]:
    model.zero_grad(set_to_none=True)
    objective(model(noise(2, 8_000), **task_arguments(name, model, 2, 8_000))).backward()
    return {key: parameter.grad for key, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", ["Model", "ForCTC", "ForXVector"])
@pytest.mark.parametrize("norm", ["group", "layer"])
def test_gradient_checkpointing_changes_no_gradient(name, norm):
    model = build(name, feat_extract_norm=norm).train()
    expected = gradients(model, name)
    statistics = {key: tensor.clone() for key, tensor in model.named_buffers()}
    model.load_state_dict(build(name, feat_extract_norm=norm).state_dict())
    assert not model.is_gradient_checkpointing
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert model.is_gradient_checkpointing
    found = gradients(model, name)
    for key, gradient in expected.items():
        assert (gradient is None) == (found[key] is None), key
        if gradient is not None:
            torch.testing.assert_close(found[key], gradient, rtol=1e-4, atol=1e-5, msg=key)
    # The recomputation counts no batch twice.
    for key, tensor in model.named_buffers():
        torch.testing.assert_close(tensor, statistics[key], msg=key)
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_trainer_turns_gradient_checkpointing_on(rows, processor, tmp_path):
    arguments = {"gradient_checkpointing": True, "max_steps": 1, "save_strategy": "no"}
    trainer = make_trainer(tmp_path, rows, processor, **arguments)
    trainer.train()
    assert trainer.model.is_gradient_checkpointing


def test_clipping_scales_all_gradients():
    model = build("ForCTC").train()
    before = {key: gradient.clone() for key, gradient in gradients(model, "ForCTC").items() if gradient is not None}
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    total = torch.stack([gradient.norm() for gradient in before.values()]).norm()
    torch.testing.assert_close(norm, total)
    assert norm > 0.5
    for key, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, before[key] * 0.5 / total, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", CLASSES)
def test_a_frozen_feature_encoder_has_no_gradients(name):
    model = build(name).train()
    model.freeze_feature_encoder()
    found = gradients(model, name)
    frozen = {key for key in found if "feature_extractor.conv_layers." in key}
    assert len(frozen) > 7
    assert all(found[key] is None for key in frozen)
    used = {key for key in found if key not in frozen and "pos_conv_embed" not in key}
    assert all(found[key] is not None for key in used if "masked_spec_embed" not in key)


@pytest.mark.parametrize("name", CLASSES[1:])
def test_a_frozen_base_model_trains_its_head_alone(name):
    model = build(name).train()
    model.freeze_base_model()
    found = gradients(model, name)
    trained = {key for key, gradient in found.items() if gradient is not None}
    assert trained == {key for key in found if not key.startswith("wav2vec2_conformer.")}
    assert model.num_parameters(only_trainable=True) == sum(found[key].numel() for key in trained)


# --- types


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", CLASSES)
def test_a_cast_model_runs_close_to_the_whole_one(name, dtype):
    model = build(name, position_embeddings_type="rotary")
    expected = outputs_of(model, name)
    cast = model.half() if dtype == torch.float16 else model.to(dtype)
    assert cast is model
    assert cast.dtype == dtype
    output = outputs_of(cast, name)
    for field, value in expected.items():
        assert output[field].isfinite().all(), field
        if value.ndim > 1 and "quantized" not in field:  # a choice may fall otherwise
            assert output[field].dtype == dtype, field
            distance = (output[field].float() - value).norm() / value.norm()
            assert distance < {torch.float16: 0.02, torch.bfloat16: 0.15, torch.float64: 1e-4}[dtype], field


@pytest.mark.parametrize("name", CLASSES)
def test_autocast_runs_and_trains(name):
    model = build(name).train()
    expected = objective(model(noise(2, 8_000), **task_arguments(name, model, 2, 8_000)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective(model(noise(2, 8_000), **task_arguments(name, model, 2, 8_000)))
    assert loss.isfinite()
    if name in ("ForCTC", "ForSequenceClassification", "ForAudioFrameClassification", "ForXVector"):
        torch.testing.assert_close(loss.float(), expected, rtol=0.1, atol=0.05)
    loss.backward()
    found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert {gradient.dtype for gradient in found} == {torch.float32}
    assert all(gradient.isfinite().all() for gradient in found)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_padded_batch_runs_in_half_precision(dtype):
    model = build("ForCTC").to(dtype)
    mask = (torch.arange(8_000) < torch.tensor([[8_000], [5_000]])).long()
    with torch.no_grad():
        logits = model(noise(2, 8_000), attention_mask=mask).logits
    assert logits.dtype == dtype
    assert logits.isfinite().all()
    frames = int(model.feature_lengths(5_000))
    assert (logits[1, frames:].argmax(-1) == model.blank).all()
