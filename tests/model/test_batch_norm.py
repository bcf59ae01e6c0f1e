"""Batch normalisation counts real frames, those of all processes, once."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wavconformer.model.batch_norm import FrameBatchNorm

from .builders import NORMS, POSITIONS, assert_same_gradients, build, noise, objective, pad, task_arguments
from .processes import step, train

LENGTHS = torch.tensor([7, 1, 12, 4])
MASK = torch.arange(12) < LENGTHS[:, None]


def build_norms(size: int = 6, momentum: float = 0.1) -> tuple[FrameBatchNorm, nn.BatchNorm1d]:
    ours, torchs = FrameBatchNorm(size, momentum=momentum), nn.BatchNorm1d(size, momentum=momentum)
    with torch.no_grad():
        torchs.weight.copy_(noise(size, seed=1))
        torchs.bias.copy_(noise(size, seed=2))
        torchs.running_mean.copy_(noise(size, seed=3))
        torchs.running_var.copy_(noise(size, seed=4).square() + 0.1)
    ours.load_state_dict(torchs.state_dict())
    return ours, torchs


def assert_same_state(ours: nn.Module, theirs: nn.Module, tolerance: float = 1e-5) -> None:
    expected = theirs.state_dict()
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("momentum", [0.1, 0.5])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("masked", [True, False], ids=["padded", "full"])
def test_equals_that_of_torch_over_the_real_frames(masked: bool, training: bool, momentum: float) -> None:
    ours, torchs = build_norms(momentum=momentum)
    ours.train(training)
    torchs.train(training)
    mask = MASK if masked else torch.ones_like(MASK)
    x = (3 + 2 * noise(4, 12, 6)).requires_grad_()
    frames = x.detach()[mask].requires_grad_()
    weights = noise(int(mask.sum()), 6, seed=5)
    for _ in range(3):
        found, expected = ours(x, mask if masked else None)[mask], torchs(frames)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert x.grad is not None
    assert frames.grad is not None
    torch.testing.assert_close(x.grad[mask], frames.grad, rtol=1e-4, atol=1e-5)
    assert (x.grad[~mask] == 0).all()
    assert_same_gradients_of(ours, torchs)
    assert_same_state(ours, torchs)
    assert ours.num_batches_tracked == (3 if training else 0)


def assert_same_gradients_of(ours: nn.Module, theirs: nn.Module) -> None:
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-4, atol=1e-4, msg=name)


def test_what_padding_holds_changes_nothing() -> None:
    x = noise(4, 12, 6)
    norms = [build_norms()[0].train() for _ in range(2)]
    quiet = norms[0](x, MASK)
    loud = norms[1](x.masked_fill(~MASK[..., None], 1e4), MASK)
    assert torch.equal(quiet[MASK], loud[MASK])
    assert_same_state(norms[0], norms[1], tolerance=0)


def test_a_single_frame_gives_no_nan() -> None:
    norm = build_norms()[0].train()
    assert norm(noise(1, 1, 6), None).isfinite().all()
    assert norm.running_var.isfinite().all()


def test_half_precision_keeps_its_statistics() -> None:
    norm = build_norms()[0].to(torch.float16).train()
    x = (100 + noise(1, 70_000, 6)).half()
    found = norm(x, (torch.arange(70_000) < 69_000)[None])
    assert found.dtype == torch.float16
    assert found.isfinite().all()
    assert norm.running_var.isfinite().all()


@pytest.mark.parametrize("norm", NORMS)
def test_the_models_statistics_are_those_of_the_real_frames(norm: str) -> None:
    model = build("Model", feat_extract_norm=norm).train()
    inputs: list[Tensor] = []
    batch_norm = model.encoder.layers[0].conv_module.batch_norm
    batch_norm.register_forward_hook(lambda module, arguments, output: inputs.append(arguments[0].detach()))
    expected_mean, expected_variance = batch_norm.running_mean.clone(), batch_norm.running_var.clone()
    values, mask = pad([noise(4000), noise(8000), noise(2500)], filler=2.0)
    model(values, attention_mask=mask)
    lengths = model.feature_lengths(mask.sum(-1))
    real = torch.cat([row[:length] for row, length in zip(inputs[0], lengths, strict=True)])
    expected_mean.lerp_(real.mean(0), 0.1)
    expected_variance.lerp_(real.var(0), 0.1)
    torch.testing.assert_close(batch_norm.running_mean, expected_mean)
    torch.testing.assert_close(batch_norm.running_var, expected_variance)


# --- gradient checkpointing


@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("name", ["ForCTC", "ForPreTraining"])
def test_gradient_checkpointing_changes_nothing(name: str, position: str | None, padded: bool) -> None:
    plain = build(name, position_embeddings_type=position).train()
    checkpointed = copy.deepcopy(plain)
    checkpointed.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert checkpointed.is_gradient_checkpointing
    assert not plain.is_gradient_checkpointing
    arguments: dict[str, Any] = task_arguments(name, plain, 2, 8000)
    values, arguments["attention_mask"] = pad([noise(8000), noise(6500 if padded else 8000)])
    losses = []
    for model in (plain, checkpointed):
        torch.manual_seed(0)
        losses.append(model(values, **arguments).loss)
        losses[-1].backward()
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-6, atol=0)
    assert_same_gradients(checkpointed, plain, tolerance=1e-4)
    assert_same_state(checkpointed, plain, tolerance=0)
    assert checkpointed.wav2vec2_conformer.encoder.layers[0].conv_module.batch_norm.num_batches_tracked == 1

    checkpointed.gradient_checkpointing_disable()
    assert not checkpointed.is_gradient_checkpointing


def test_gradient_checkpointing_repeats_the_dropout() -> None:
    dropouts: dict[str, Any] = {
        "hidden_dropout": 0.3,
        "attention_dropout": 0.3,
        "activation_dropout": 0.3,
        "layerdrop": 0.3,
    }
    plain = build("Model", num_hidden_layers=4, **dropouts).train()
    checkpointed = copy.deepcopy(plain)
    checkpointed.gradient_checkpointing_enable()
    for model in (plain, checkpointed):
        torch.manual_seed(3)
        objective(model(noise(2, 6000))).backward()
    assert_same_gradients(checkpointed, plain, tolerance=1e-4)


# --- two processes

HALVES = ([8000, 5000], [3000, 4000])


def ctc_batch(lengths: list[int]) -> dict[str, Tensor]:
    values, mask = pad([noise(length, seed=length) for length in lengths])
    labels = torch.tensor([[1 + length // 1000, 2] for length in lengths])
    return {"input_values": values, "attention_mask": mask, "labels": labels}


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    plain = build("ForCTC").train()
    checkpointed = copy.deepcopy(plain)
    checkpointed.gradient_checkpointing_enable()
    dropping = build("ForCTC", num_hidden_layers=6, layerdrop=0.5).train()
    return {"plain": plain, "checkpointed": checkpointed, "dropping": dropping}


@pytest.fixture(scope="module")
def results(models: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes got that trained on half of the utterances."""
    folder = tmp_path_factory.mktemp("processes")
    halves = [ctc_batch(half) for half in HALVES]
    jobs = {name: (model, [halves] * (4 if name == "dropping" else 1)) for name, model in models.items()}
    torch.save(jobs, folder / "jobs.pt")
    processes = torch.multiprocessing.spawn(train, (folder,), nprocs=2, join=False)
    try:
        # join comes back when the first of them has ended, too
        assert processes.join(timeout=60) or processes.join(timeout=60), "the two processes wait for each other"
    finally:
        for process in processes.processes:
            process.kill()
    return [torch.load(folder / f"results.{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("kind", ["plain", "checkpointed"])
def test_two_processes_are_as_one(kind: str, models: dict[str, Any], results: list[dict[str, Any]]) -> None:
    whole = step(copy.deepcopy(models["plain"]), ctc_batch([*HALVES[0], *HALVES[1]]))
    halves = [result[kind][0] for result in results]
    torch.testing.assert_close(halves[0]["loss"] + halves[1]["loss"], whole["loss"], rtol=1e-5, atol=0)
    for rank, half in enumerate(halves):
        logits = whole["logits"][2 * rank : 2 * rank + 2, : half["logits"].shape[1]]
        torch.testing.assert_close(half["logits"], logits, rtol=0, atol=1e-4)
        for name, buffer in whole["buffers"].items():
            torch.testing.assert_close(half["buffers"][name], buffer, rtol=1e-5, atol=1e-6, msg=name)
    rounding = 1e-6 * max(gradient.abs().max().item() for gradient in whole["gradients"].values())
    for name, gradient in whole["gradients"].items():
        difference = (halves[0]["gradients"][name] + halves[1]["gradients"][name] - gradient).abs().max().item()
        assert difference <= max(1e-3 * gradient.abs().max().item(), rounding), name


def test_two_processes_drop_the_same_layers(results: list[dict[str, Any]]) -> None:
    """Their batch norms wait for each other: if they dropped others, they would wait for ever, or mix layers up."""
    counts = [
        [[int(b) for name, b in taken["buffers"].items() if "num_batches" in name] for taken in result["dropping"]]
        for result in results
    ]
    assert counts[0] == counts[1]
    assert 0 < sum(counts[0][-1]) < 4 * 6
