"""How a run is taken up again: what a checkpoint holds beside the model, and what may have changed since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from wavconformer.errors import ConfigError
from wavconformer.files import read_json, write_json
from wavconformer.training.randomness import set_random_state
from wavconformer.training.recipe import Recipe, read_recipe
from wavconformer.training.sections import plain

if TYPE_CHECKING:
    from wavconformer.training.loop import Loop

STATE_FILE = "training.json"
TENSORS_FILE = "training.pt"
# What may change when a run goes on; all else would make another run of it.
_FREE = (
    "logging",
    "data.valid",
    "trainer.max_steps",
    "trainer.accumulate",  # as far as the plan of batches allows it
    "trainer.workers",
    "trainer.save_every",
    "trainer.eval_every",
    "trainer.keep_last",
    "trainer.bad_steps",
    "trainer.max_skipped",
    "trainer.pretraining.least_perplexity",
    "trainer.pretraining.least_accuracy",
    "trainer.pretraining.watch_after",
)


def write_state(folder: Path, loop: Loop, states: list[dict[str, Any]]) -> None:
    """Writes where a run is into a checkpoint's folder. states: `random_state` of each process."""
    tensors = {**loop.learner.state_dict(), **{key: [state[key] for state in states] for key in ("torch", "cuda")}}
    with (folder / TENSORS_FILE).open("wb") as file:
        torch.save(tensors, file)
    ema = loop.learner.ema
    write_json(
        folder / STATE_FILE,
        {
            "step": loop.step,
            "position": loop.batches.state_dict(),
            "audio_seconds": loop.audio,
            "seen": loop.share.seen,
            "skipped": loop.share.skipped,
            "best": loop.best.score,
            "scores": loop.best.metrics,
            "best_step": loop.best.step,
            "ema_updates": 0 if ema is None else ema.updates,
            "random": [{key: state[key] for key in ("numpy", "python", "masks")} for state in states],
        },
    )


def restore_state(folder: Path, loop: Loop) -> None:
    """Puts a run where a checkpoint left it, whose whole weights the model was made of."""
    state = read_json(folder / STATE_FILE)
    tensors = torch.load(folder / TENSORS_FILE, map_location="cpu", weights_only=True)
    loop.learner.restore(folder, tensors, int(state["ema_updates"]))
    loop.batches.load_state_dict(state["position"])
    loop.step, loop.audio = int(state["step"]), float(state["audio_seconds"])
    loop.share.seen, loop.share.skipped = int(state["seen"]), int(state["skipped"])
    loop.best.score, loop.best.metrics = state["best"], state["scores"]
    loop.best.step = state.get("best_step")
    if loop.best.step == loop.step and loop.processes.is_main:  # a run that was killed just before it said so
        loop.checkpoints.set_best(folder, loop.best.metrics)
    rank = loop.processes.rank
    if rank < len(state["random"]):  # of a further process than there were, what it has is as good
        own = {key: tensors[key][rank] for key in ("torch", "cuda")}
        set_random_state({**state["random"][rank], **own}, loop.mask_generator)


def saved_step(folder: Path) -> int:
    """Updates that a checkpoint's run had made."""
    return int(read_json(folder / STATE_FILE)["step"])


def check_same(recipe: Recipe, file: Path) -> None:
    """Refuses to go on with another recipe than the run's, but for what may change.

    file: the run's own recipe. Raises ConfigError, which names what has changed.
    """
    if not file.is_file():
        return
    now, before = dict(_dotted(plain(recipe))), dict(_dotted(plain(read_recipe(file))))
    changed = sorted(
        name
        for name in now.keys() | before.keys()
        if now.get(name) != before.get(name) and not any(name == free or name.startswith(f"{free}.") for free in _FREE)
    )
    if changed:
        told = ", ".join(f"{name} ({before.get(name)} → {now.get(name)})" for name in changed[:5])
        raise ConfigError(
            f"The run in '{file.parent}' was started with another recipe: {told}. Go on with its own, or start a new "
            "run in another logging.folder, with model.init for its weights."
        )


def _dotted(content: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", value
