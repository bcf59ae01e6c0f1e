"""The loop that pretraining and fine-tuning share: updates, evaluations, checkpoints, and what may go wrong.

One process or several (`accelerate launch`, torchrun) by DDP. An update is `trainer.accumulate` batches of each
process; its loss is divided by counts over all of them (see `objectives`), so that the result doesn't depend on how it
is parted.
"""

from __future__ import annotations

import json
import os
import random
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from wavconformer.checkpoint.weights import save_tensors
from wavconformer.errors import CheckpointError, ConfigError, TrainingError
from wavconformer.files import read_json, write_json
from wavconformer.model.batch_norm import FrameBatchNorm
from wavconformer.training.batches import Batches, training_batches, validation_batches
from wavconformer.training.card import write_card
from wavconformer.training.checkpoints import Checkpoints, is_disk_full, random_state, set_random_state
from wavconformer.training.examples import Batch
from wavconformer.training.guards import NonFinite, SkippedShare, StopSignal, stop_signals
from wavconformer.training.metrics import MetricsLog, draw_curves
from wavconformer.training.objectives import objective_of
from wavconformer.training.optimization import MovingAverage, make_optimizer, rate
from wavconformer.training.progress import Silent, View, watching
from wavconformer.training.recipe import RECIPE_FILE, Recipe, read_recipe, write_recipe
from wavconformer.training.sections import plain
from wavconformer.training.starting import start
from wavconformer.training.validation import METRICS, validate

MODEL_FOLDER = "model"
SKIPPED_FILE = "skipped.jsonl"
STATE_FILE = "training.json"
TENSORS_FILE = "training.pt"
TRAINED_FILE = "trained.safetensors"
EMA_FILE = "ema.safetensors"
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


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    folder: the run's. step: updates that are done. model: the final checkpoint's folder; None where the run was
    stopped before its end. scores: of the held-out data, of the weights in `model`. stopped_by: the signal.
    """

    folder: Path
    step: int
    model: Path | None
    scores: dict[str, float]
    stopped_by: str | None = None


class Task:
    """What a kind of training adds to the loop; this one adds nothing."""

    def before_update(self, loop: Loop, step: int) -> dict[str, float]:
        """Sets what changes from update to update; what it returns is logged."""
        return {}

    def check(self, loop: Loop, step: int, metrics: Mapping[str, float]) -> None:
        """Looks at the measures of the last updates; raises TrainingError to stop the run."""


def train(recipe: Recipe, task: Task, *, resume: bool = False, console: Console | None = None) -> Outcome:
    """Runs a recipe to its end.

    resume: go on from the newest checkpoint in the run's folder, if there is one.
    console: where progress is shown; None for nowhere.

    Raises ConfigError and DataError for what can't be run, TrainingError where it goes wrong on the way.
    """
    return Loop(recipe, task, resume=resume).run(console)


class Loop:
    """One run, from its recipe to the final folder."""

    def __init__(self, recipe: Recipe, task: Task, *, resume: bool = False) -> None:
        _check(recipe)
        self.recipe = recipe
        self.task = task
        self.folder = Path(recipe.logging.folder)
        self.checkpoints = Checkpoints(self.folder, recipe.trainer.keep_last)
        self.step = 0
        self.audio = 0.0  # seconds that were processed
        self.scores: dict[str, float] = {}
        self.best: float | None = None
        latest = self.checkpoints.latest() if resume else None
        if not resume and self.checkpoints.all():
            raise ConfigError(
                f"'{self.folder}' holds a run already: go on with --resume, or set logging.folder to another one."
            )
        if latest is not None:
            _check_same(recipe, self.folder / RECIPE_FILE)
        _seed(recipe.trainer.seed)
        self.start = start(recipe, latest)
        self.model = self.start.model
        self.accelerator = _accelerator(recipe, self.model)
        self.objective = objective_of(recipe.task, self.model, recipe.trainer.pretraining)
        # In whole weights the optimizer's order of parameters is the model's.
        optimizer = make_optimizer(self.model, recipe.optim)
        self.objective.to(self.accelerator.device)
        self.wrapped, self.optimizer = self.accelerator.prepare(self.objective, optimizer)
        self.parameters = [value for value in self.model.parameters() if value.requires_grad]
        self.encoder = [value for value in self.model.base_model.parameters() if value.requires_grad]
        self.ema = None if recipe.trainer.ema is None else MovingAverage(self.model, recipe.trainer.ema)
        self.batches = self._batches(training_batches)
        self.held_out = self._batches(validation_batches) if recipe.data.valid else None
        self.non_finite = NonFinite(recipe.trainer.bad_steps)
        self.share = SkippedShare(recipe.trainer.max_skipped, self.batches.plan.utterances)
        _seed(recipe.trainer.seed + 1 + self.rank)
        self.mask_generator = np.random.default_rng((recipe.trainer.seed, self.rank))
        backbone: Any = self.model.base_model
        backbone.mask_generator = self.mask_generator
        if latest is not None:
            self._restore(latest)
        self.window = _Window()
        self._begun = 0.0
        self._is_between = False  # two updates: whether what there is can be saved
        self.view: View = Silent()
        self.log: MetricsLog | None = None

    @property
    def rank(self) -> int:
        """The number of this process."""
        return int(self.accelerator.process_index)

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        return bool(self.accelerator.is_main_process)

    def _batches(self, make: Any) -> Batches:
        batches: Batches = make(
            self.recipe,
            self.model.config,
            self.start.feature_extractor,
            self.start.tokenizer,
            rank=self.rank,
            world=self.accelerator.num_processes,
            pin_memory=self.accelerator.device.type == "cuda",
        )
        return batches

    def _gather(self, items: list[Any]) -> list[Any]:
        """The lists of all processes, one behind the other."""
        if self.accelerator.num_processes == 1:
            return items
        from accelerate.utils import gather_object

        gathered: list[Any] = gather_object(items)
        return gathered

    def _sum(self, values: list[float]) -> list[float]:
        """Each number summed over the processes."""
        if self.accelerator.num_processes == 1:
            return values
        # Counts stay exact in float64, which MPS alone doesn't have, and MPS has no several processes.
        tensor = torch.tensor(values, dtype=torch.float64, device=self.accelerator.device)
        summed: list[float] = self.accelerator.reduce(tensor, "sum").tolist()
        return summed

    # --- the run

    def run(self, console: Console | None = None) -> Outcome:
        """Goes through the updates that are left."""
        trainer = self.recipe.trainer
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stop = stack.enter_context(stop_signals())
            stack.enter_context(warnings.catch_warnings())
            # Of the depthwise convolutions, whose gradients are copied all the same.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
            if self.is_main:
                write_recipe(self.recipe, self.folder)
                self.log = MetricsLog(self.folder, tensorboard=self.recipe.logging.tensorboard, step=self.step)
                stack.callback(self.log.close)
                if console is not None:
                    self.view = stack.enter_context(watching(console, trainer.max_steps, self.step))
                self._introduce()
            try:
                stopped_by = self._updates(stop)
            except OSError as error:
                if not is_disk_full(error) or not self.is_main:
                    raise
                self.checkpoints.prune(1)
                if self._is_between and self.accelerator.num_processes == 1:
                    self._save()
                raise TrainingError(
                    f"The disk that '{self.folder}' is on is full, at update {self.step}. {self.checkpoints.kept()} "
                    "Make room, and go on with --resume."
                ) from error
            if stopped_by is not None:
                return Outcome(self.folder, self.step, None, self.scores, stopped_by)
            return self._finish()

    def _introduce(self) -> None:
        plan = self.batches.plan
        count = sum(value.numel() for value in self.parameters)
        said = (
            f"{plan.utterances:,} utterances, {self.hours:.2f} h, {plan.updates:,} updates an epoch; "
            f"{count:,} of {self.model.num_parameters():,} parameters are trained"
        )
        if self.step:
            said += f"; going on from update {self.step}"
        if plan.left_out:
            said += f"; {plan.left_out:,} utterances are shorter or longer than data.min_seconds and max_seconds say"
        self.view.say(f"{said}.")

    @property
    def hours(self) -> float:
        """Hours of the training data."""
        return float(self.batches.examples.corpus.seconds.sum(dtype=np.float64)) / 3600

    def _updates(self, stop: StopSignal) -> str | None:
        """Makes updates until the last, or a signal; the signal's name."""
        trainer = self.recipe.trainer
        batches = iter(self.batches)
        self.model.train()
        saved = self.step
        while self.step < trainer.max_steps:
            self._is_between = False
            self._begun = time.perf_counter()  # waiting for data is part of an update
            members = [next(batches) for _ in range(self.batches.members)]
            stopped = self._update(members, is_stopped=stop.name is not None)
            self.step += 1
            self._is_between = self.non_finite.in_a_row == 0
            is_last = self.step == trainer.max_steps
            if self.step % self.recipe.logging.every == 0 or is_last:
                self._log_window()
            self.view.step(self.step, self.window.shown)
            good = self.non_finite.in_a_row == 0
            evaluates = self.held_out is not None and (self.step % trainer.eval_every == 0 or is_last)
            if evaluates and good and self._evaluate():
                saved = self.step
            if saved != self.step and good and (self.step % trainer.save_every == 0 or is_last or stopped):
                self._save()
                saved = self.step
            if stopped:
                return stop.name or "SIGTERM"
        return None

    # --- an update

    def _update(self, members: list[Batch], *, is_stopped: bool) -> bool:
        """One update of these batches of this process; whether some process was asked to stop."""
        self._prepare_modules()
        divisors = sorted(set(self.objective.divisors.values()))
        empty = [float(not len(batch)) for batch in members]
        counted = [self.objective.counts(batch.inputs) if len(batch) else {} for batch in members]
        own = [one.get(name, 0.0) for one in counted for name in divisors]
        skipped = [one for batch in members for one in batch.skipped]
        rest = [
            float(sum(map(len, members))),
            float(len(skipped)),
            sum(batch.seconds for batch in members),
            float(is_stopped),
        ]
        summed = self._sum(empty + own + rest)
        utterances, skips, seconds, stops = summed[-4:]
        self._note_skipped(skipped, int(utterances), int(skips))
        # Processes wait for each other in every pass: a batch that is empty in one of them is left out by all.
        used = [number for number in range(len(members)) if not summed[number]]
        rows = [summed[len(members) + number * len(divisors) :][: len(divisors)] for number in used]
        counts = {name: sum(row[index] for row in rows) for index, name in enumerate(divisors)}
        extra = self.task.before_update(self, self.step)
        if used:
            self._learn([members[number] for number in used], counts, extra)
            self.audio += seconds
            self.window.add_time(seconds, time.perf_counter() - self._begun)
        return stops > 0

    def _prepare_modules(self) -> None:
        trainer = self.recipe.trainer
        if trainer.freeze_encoder_steps:
            for parameter in self.encoder:
                parameter.requires_grad_(self.step >= trainer.freeze_encoder_steps)
        if trainer.freeze_batch_norm or self.start.is_small:
            for module in self.model.modules():
                if isinstance(module, FrameBatchNorm):
                    module.eval()

    def _learn(self, batches: list[Batch], counts: dict[str, float], extra: Mapping[str, float]) -> None:
        """Forward and backward passes, and the optimizer's step unless something isn't finite."""
        world = self.accelerator.num_processes
        # A pass that goes wrong leaves its mark in the running statistics too.
        buffers = {name: value.clone() for name, value in self.model.named_buffers()}
        totals: dict[str, Tensor] = {}
        for number, batch in enumerate(batches):
            is_last = number == len(batches) - 1
            with nullcontext() if is_last else self.accelerator.no_sync(self.wrapped):
                sums, measured = self.wrapped(batch.to(self.accelerator.device).inputs)
                # DDP averages gradients over the processes: times their number that is a sum.
                self.accelerator.backward(self.objective.total(sums, counts) * world)
            for name, value in (*sums.items(), *((key, measured[key]) for key in _MEASURED if key in measured)):
                totals[name] = totals.get(name, torch.zeros((), device=value.device)) + value.detach().float()
        names = list(totals)
        summed = dict(zip(names, self._sum([float(totals[name]) for name in names]), strict=True))
        if "perplexity" in summed:
            summed["perplexity"] /= world * len(batches)
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.recipe.trainer.clip_norm)
        loss = sum(
            weight * summed[term] / max(counts[self.objective.divisors[term]], 1.0)
            for term, weight in self.objective.weights.items()
        )
        norm = float(norm) if norm is not None else 0.0
        is_loss_finite = bool(np.isfinite(loss))
        # With float16 the gradients' scale is too high now and then: the scaler leaves out the step and lowers it.
        scaler = self.accelerator.scaler
        is_scale_high = scaler is not None and scaler.get_scale() >= 1
        if is_loss_finite and (np.isfinite(norm) or is_scale_high):
            factor = rate(self.recipe.schedule, self.step, self.recipe.trainer.max_steps)
            for group in self.optimizer.param_groups:
                group["lr"] = self.recipe.optim.lr * factor
            self.optimizer.step()
            self.optimizer.zero_grad()
            if self.ema is not None:
                self.ema.update(self.model)
            self.non_finite.passed()
            self.window.add(summed, counts, norm, {"lr": self.recipe.optim.lr * factor, **extra})
        else:
            if scaler is not None:
                scaler.update()
            self.optimizer.zero_grad()
            with torch.no_grad():
                for name, value in self.model.named_buffers():
                    value.copy_(buffers[name])
            self._note_non_finite(batches, float(loss), norm)

    def _note_non_finite(self, batches: list[Batch], loss: float, norm: float) -> None:
        ids = self._gather([name for batch in batches for name in batch.ids])
        if self.log is not None:
            said = {"reason": "not finite", "loss": loss, "grad_norm": norm, "utterances": ids}
            self.log.write("skipped", self.step + 1, said)
        self.view.say(f"Update {self.step + 1} is left out: loss {loss:g}, gradient {norm:g}.")
        self.non_finite.failed(self.step + 1, ids, self.checkpoints.kept())

    def _note_skipped(self, own: list[Any], utterances: int, skips: int) -> None:
        if skips:
            found = self._gather(own)
            self.share.note(found)
            if self.is_main:
                with (self.folder / SKIPPED_FILE).open("a", encoding="utf-8") as file:
                    for one in found:
                        line = {"step": self.step + 1, "id": one.id, "reason": one.reason}
                        file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self.share.count(utterances, skips)

    def _log_window(self) -> None:
        metrics = self.window.close(self.objective)
        if not metrics:
            return
        metrics["epoch"] = self.batches.epoch + self.batches.update / max(self.batches.plan.updates, 1)
        if self.share.skipped:
            metrics["skipped"] = self.share.skipped
        if self.log is not None:
            self.log.write("train", self.step, metrics)
        self.task.check(self, self.step, metrics)

    # --- evaluation

    def _evaluate(self) -> bool:
        """Evaluates; a better result is saved. Whether it was."""
        assert self.held_out is not None
        # Random numbers of the training go on as if nothing had happened between.
        averaged = nullcontext() if self.ema is None else self.ema.in_place_of(self.model)
        with averaged:
            metrics = validate(self.objective, self.held_out, self.start, self.accelerator.device, self._gather)
            self._prepare_modules()
            if self.log is not None:
                self.log.write("valid", self.step, metrics)
            shown = ", ".join(f"{key} {value:.4g}" for key, value in metrics.items() if key != "utterances")
            self.view.say(f"held out, update {self.step}: {shown}")
        name = self.recipe.trainer.best
        if name not in metrics:
            return False
        score = -metrics[name] if name == "accuracy" else metrics[name]
        if not np.isfinite(score) or (self.best is not None and score >= self.best):
            return False
        self.best, self.scores = score, metrics
        path = self._save()
        if self.is_main:
            self.checkpoints.set_best(path, metrics)
            self.checkpoints.prune(self.recipe.trainer.keep_last)
        return True

    # --- checkpoints

    def _save(self) -> Path:
        """Writes a checkpoint, by the main process."""
        states = self._gather([random_state(self.mask_generator)])
        path = self.checkpoints.path(self.step)
        if self.is_main:
            self.checkpoints.save(self.step, lambda folder: self._write(folder, states))
        self.accelerator.wait_for_everyone()
        return path

    def _write(self, folder: Path, states: list[dict[str, Any]]) -> None:
        self.start.save(folder)
        if self.start.is_small:
            save_tensors(self.start.trained(), folder / TRAINED_FILE)
        if self.ema is not None:
            kept = self.ema.tensors
            if self.start.is_small:
                kept = {name: kept[name] for name in self.start.trainable}
            save_tensors(kept, folder / EMA_FILE)
        tensors = {
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict(),
            "torch": [state["torch"] for state in states],
            "cuda": [state["cuda"] for state in states],
        }
        with (folder / TENSORS_FILE).open("wb") as file:
            torch.save(tensors, file)
        write_json(
            folder / STATE_FILE,
            {
                "step": self.step,
                "position": self.batches.state_dict(),
                "audio_seconds": self.audio,
                "seen": self.share.seen,
                "skipped": self.share.skipped,
                "best": self.best,
                "scores": self.scores,
                "ema_updates": 0 if self.ema is None else self.ema.updates,
                "random": [{key: state[key] for key in ("numpy", "python", "masks")} for state in states],
            },
        )

    def _restore(self, path: Path) -> None:
        """Takes up a checkpoint whose whole weights the model was made of."""
        state = read_json(path / STATE_FILE)
        tensors = torch.load(path / TENSORS_FILE, map_location="cpu", weights_only=True)
        if self.start.is_small:
            self._load(load_file(path / TRAINED_FILE))
        self.optimizer.load_state_dict(tensors["optimizer"])
        if self.accelerator.scaler is not None and tensors["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(tensors["scaler"])
        if self.ema is not None:
            self.ema = MovingAverage(self.model, self.ema.decay)
            if (path / EMA_FILE).is_file():
                self.ema.load(load_file(path / EMA_FILE), int(state["ema_updates"]))
        self.batches.load_state_dict(state["position"])
        self.step, self.audio = int(state["step"]), float(state["audio_seconds"])
        self.share.seen, self.share.skipped = int(state["seen"]), int(state["skipped"])
        self.best, self.scores = state["best"], state["scores"]
        if self.rank < len(state["random"]):  # of a further process than there were, what it has is as good
            own = {key: tensors[key][self.rank] for key in ("torch", "cuda")}
            set_random_state({**state["random"][self.rank], **own}, self.mask_generator)

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts these weights into the model, which may have others besides."""
        _, unexpected = self.model.load_state_dict(tensors, strict=False)
        if unexpected:
            raise CheckpointError(f"The checkpoint holds weights that the model doesn't have: {unexpected[:5]}.")

    def _finish(self) -> Outcome:
        """The final folder: the best weights where there was an evaluation, else the last ones; card and curves."""
        place = self.folder / MODEL_FOLDER
        if self.is_main:
            path = self.checkpoints.best() or self.checkpoints.latest()
            step = self.step
            if path is not None:
                step = int(read_json(path / STATE_FILE)["step"])
                weights = EMA_FILE if self.ema is not None else TRAINED_FILE if self.start.is_small else None
                self._load(load_file(path / weights) if weights else _whole(path))
            self.start.save(place)
            write_card(
                place,
                self.recipe,
                hours=self.hours,
                utterances=len(self.batches.examples.corpus),
                heard=self.audio / 3600,
                step=step,
                scores=self.scores,
                parameters=self.model.num_parameters(),
                trained=sum(value.numel() for value in self.parameters),
            )
            draw_curves(self.folder)
            self.view.say(f"The model of update {step} is in '{place}'.")
        self.accelerator.wait_for_everyone()
        return Outcome(self.folder, self.step, place, self.scores)


_MEASURED = ("perplexity", "right")


class _Window:
    """What happened since the last line of metrics."""

    def __init__(self) -> None:
        self.shown: dict[str, float] = {}
        self._clear()

    def _clear(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, float] = {}
        self._norm = 0.0
        self._updates = 0
        self._extra: dict[str, float] = {}
        self._audio = self._time = 0.0

    def add_time(self, audio: float, seconds: float) -> None:
        self._audio += audio
        self._time += seconds

    def add(
        self, sums: Mapping[str, float], counts: Mapping[str, float], norm: float, extra: Mapping[str, float]
    ) -> None:
        for target, values in ((self._sums, sums), (self._counts, counts)):
            for name, value in values.items():
                target[name] = target.get(name, 0.0) + value
        self._norm += norm
        self._updates += 1
        self._extra = dict(extra)

    def close(self, objective: Any) -> dict[str, float]:
        """The means over the window, which begins anew; empty where no update was made."""
        if not self._updates:
            return {}
        weights = objective.weights
        terms = {
            term: self._sums[term] / max(self._counts[divisor], 1.0) for term, divisor in objective.divisors.items()
        }
        metrics = {"loss": sum(weights[term] * value for term, value in terms.items())}
        if len(terms) > 1:
            metrics |= terms
        if "right" in self._sums:
            metrics["accuracy"] = self._sums["right"] / max(self._counts["masked"], 1.0)
            metrics["perplexity"] = self._sums["perplexity"] / self._updates
        metrics |= {"grad_norm": self._norm / self._updates, **self._extra}
        metrics["audio_seconds_per_second"] = self._audio / max(self._time, 1e-9)
        self._clear()
        self.shown = metrics
        return metrics


def _whole(path: Path) -> dict[str, Tensor]:
    """All weights of a checkpoint that the loop wrote, in one piece or in several."""
    return {name: value for file in sorted(path.glob("model*.safetensors")) for name, value in load_file(file).items()}


def _check(recipe: Recipe) -> None:
    """Refuses what can't be meant, before anything is loaded."""
    known = METRICS[recipe.task]
    if recipe.data.valid and recipe.trainer.best not in known:
        raise ConfigError(
            f"trainer.best is {recipe.trainer.best}, but the task {recipe.task} is evaluated by {', '.join(known)}."
        )


def _check_same(recipe: Recipe, file: Path) -> None:
    """Refuses to go on with another recipe than the run's, but for what may change."""
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


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (what others draw from by default)
    torch.manual_seed(seed)


def _accelerator(recipe: Recipe, model: Any) -> Any:
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.utils import DistributedDataParallelKwargs, DistributedType
    except ImportError as error:
        raise ConfigError(f"Training needs accelerate ({error}): pip install 'wavconformer[train]'.") from error
    trainer, config = recipe.trainer, model.config
    # Weights without a gradient in some update: of dropped layers, of masks that weren't drawn, of a frozen encoder.
    masked = model.base_model.masked_spec_embed
    may_stay_unmasked = recipe.task != "pretrain" and masked is not None and masked.requires_grad
    unused = bool(config.layerdrop or trainer.freeze_encoder_steps or may_stay_unmasked)
    precision = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}[trainer.precision]
    # accelerate keeps the precision of a process's first run for all of them.
    AcceleratorState._reset_state()
    try:
        accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision=precision,
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused)],
        )
    except ValueError as error:
        raise ConfigError(f"trainer.precision={trainer.precision} can't be had here: {error}") from error
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise ConfigError(
            f"{accelerator.distributed_type.value} isn't supported: checkpoints are of whole weights. Use several "
            "processes with a copy each (accelerate launch --multi_gpu, or torchrun)."
        )
    if os.environ.get("WORLD_SIZE", "1") != str(accelerator.num_processes):
        raise ConfigError("The processes that were launched don't find each other: launch with accelerate or torchrun.")
    return accelerator
