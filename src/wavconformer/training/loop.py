"""The loop that pretraining and fine-tuning share: updates, evaluations, checkpoints, and what may go wrong.

An update is `trainer.accumulate` batches of each process; its loss is divided by counts over all of them (see
`objectives`), so that the result doesn't depend on how it is parted.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Hashable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from wavconformer.errors import ConfigError, TrainingError
from wavconformer.files import is_disk_full
from wavconformer.training.batches import Share, training_batches, validation_batches
from wavconformer.training.card import write_card
from wavconformer.training.checkpoints import Checkpoints
from wavconformer.training.examples import Batch, Skipped
from wavconformer.training.guards import NonFinite, SkippedShare, StopSignal, stop_signals
from wavconformer.training.learner import Learned, Learner
from wavconformer.training.metrics import MetricsLog, StepLog, draw_curves, require_matplotlib
from wavconformer.training.processes import Processes
from wavconformer.training.progress import Silent, View, watching
from wavconformer.training.randomness import random_state, set_seed
from wavconformer.training.recipe import RECIPE_FILE, Recipe, write_recipe
from wavconformer.training.resuming import check_same, restore_state, saved_step, write_state
from wavconformer.training.starting import start
from wavconformer.training.validation import METRICS, Best, require_scorer, validate
from wavconformer.training.window import Window

MODEL_FOLDER = "model"
SKIPPED_FILE = "skipped.jsonl"


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    folder: the run's. step: updates that are done. model: the final checkpoint's folder; None where the run was
    stopped before its end. scores: of the held-out data, of the weights in `model`. stopped_by: the signal.
    saved: the update of the newest checkpoint, 0 where there is none; less than `step` where weights aren't finite.
    """

    folder: Path
    step: int
    model: Path | None
    scores: dict[str, float]
    stopped_by: str | None = None
    saved: int = 0


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
    """One run, from its recipe to the final folder.

    step: updates that are done. audio: seconds of sound that were processed.
    """

    def __init__(self, recipe: Recipe, task: Task, *, resume: bool = False) -> None:
        _check(recipe)
        self.recipe = recipe
        self.task = task
        self.folder = Path(recipe.logging.folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigError(f"logging.folder '{self.folder}' is a file: name a folder for the run.")
        self.checkpoints = Checkpoints(self.folder, recipe.trainer.keep_last)
        latest = self.checkpoints.latest() if resume else None
        if not resume and self.checkpoints.all():
            raise ConfigError(
                f"'{self.folder}' holds a run already: go on with --resume, or set logging.folder to another one."
            )
        if latest is not None:
            check_same(recipe, self.folder / RECIPE_FILE)
        set_seed(recipe.trainer.seed)
        self.start = start(recipe, latest)
        self.model = self.start.model
        self.processes = Processes(recipe, self.model)
        self.learner = Learner(recipe, self.start, self.processes)
        self.objective = self.learner.objective
        mine = Share(self.processes.rank, self.processes.count, pin_memory=self.processes.device.type == "cuda")
        self.batches = training_batches(self.start, mine)
        self.held_out = validation_batches(self.start, mine) if recipe.data.valid else None
        self.step = 0
        self.audio = 0.0
        self.best = Best(recipe.trainer.best)
        self.non_finite = NonFinite(recipe.trainer.bad_steps)
        self.share = SkippedShare(recipe.trainer.max_skipped, self.batches.plan.utterances)
        set_seed(recipe.trainer.seed + 1 + self.processes.rank)
        self.mask_generator = np.random.default_rng((recipe.trainer.seed, self.processes.rank))
        backbone: Any = self.model.base_model
        backbone.mask_generator = self.mask_generator
        if latest is not None:
            restore_state(latest, self)
        self.window = Window()
        self._begun = 0.0
        self._held_out_told = False
        self._is_between = False  # two updates: whether what there is can be saved
        self._saved = self.step
        self.view: View = Silent()
        self.log: MetricsLog | None = None
        self.skipped: StepLog | None = None

    @property
    def hours(self) -> float:
        """Hours of the training data."""
        return float(self.batches.examples.corpus.seconds.sum(dtype=np.float64)) / 3600

    # --- the run

    def run(self, console: Console | None = None) -> Outcome:
        """Goes through the updates that are left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stop = stack.enter_context(stop_signals())
            for batches in filter(None, (self.batches, self.held_out)):
                stack.callback(batches.close)
            stack.enter_context(warnings.catch_warnings())
            # Of the depthwise convolutions, whose gradients are copied all the same.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
            if self.processes.is_main:
                require_matplotlib()
                write_recipe(self.recipe, self.folder)
                self.log = MetricsLog(self.folder, tensorboard=self.recipe.logging.tensorboard, step=self.step)
                stack.callback(self.log.close)
                self.skipped = StepLog(self.folder / SKIPPED_FILE, self.step)
                if console is not None:
                    self.view = stack.enter_context(watching(console, self.recipe.trainer.max_steps, self.step))
                self._introduce()
            try:
                stopped_by = self._updates(stop)
            except ConnectionError as error:
                if not self.recipe.trainer.workers:
                    raise
                # A process that loads data has ended while it was handing a batch over.
                raise self._without_worker(error) from error
            except OSError as error:
                if not is_disk_full(error) or not self.processes.is_main:
                    raise
                raise self._without_room() from error
            except RuntimeError as error:
                if not str(error).startswith("DataLoader worker"):
                    raise
                raise self._without_worker(error) from error
            if stopped_by is not None:
                return Outcome(self.folder, self.step, None, self.best.metrics, stopped_by, self._saved)
            return self._finish()

    def _introduce(self) -> None:
        plan = self.batches.plan
        count = sum(value.numel() for value in self.learner.parameters)
        said = (
            f"{plan.utterances:,} utterances, {self.hours:.2f} h, {plan.updates:,} updates an epoch; "
            f"{count:,} of {self.model.num_parameters():,} parameters are trained"
        )
        if self.step:
            said += f"; going on from update {self.step}"
        if plan.left_out:
            said += f"; {plan.left_out:,} utterances are shorter or longer than data.min_seconds and max_seconds say"
        self.view.say(f"{said}.")

    def _updates(self, stop: StopSignal) -> str | None:
        """Makes updates until the last, or a signal; the signal's name."""
        trainer = self.recipe.trainer
        batches = iter(self.batches)
        self.model.train()
        while self.step < trainer.max_steps:
            self._is_between = False
            self._begun = time.perf_counter()  # waiting for data is part of an update
            members = [next(batches) for _ in range(self.batches.members)]
            stopped = self._update(members, is_stopped=stop.name is not None)
            self.step += 1
            is_last = self.step == trainer.max_steps
            good = self.non_finite.in_a_row == 0
            if not good and (is_last or stopped):  # what the updates before came to isn't to be lost
                good = self.learner.is_sound()
            self._is_between = good
            if self.step % self.recipe.logging.every == 0 or is_last:
                self._log_window()
            self.view.step(self.step, self.window.shown)
            evaluates = self.held_out is not None and (self.step % trainer.eval_every == 0 or is_last)
            if evaluates and good:
                self._evaluate()
            if self._saved != self.step and good and (self.step % trainer.save_every == 0 or is_last or stopped):
                self._save()
            if stopped:
                return stop.name or "SIGTERM"
        return None

    def _without_room(self) -> TrainingError:
        """Saves what can be on a disk that is full, and says so."""
        self.checkpoints.prune(1)
        if self._is_between and self.processes.count == 1:
            self._save()
        return TrainingError(
            f"The disk that '{self.folder}' is on is full, at update {self.step}. {self.checkpoints.kept()} "
            "Make room, and go on with --resume."
        )

    def _without_worker(self, error: Exception) -> TrainingError:
        return TrainingError(
            f"A process that loads data has ended behind update {self.step}: {error} Perhaps memory was short: "
            f"lower trainer.workers or trainer.batch_seconds. {self.checkpoints.kept()} Go on with --resume."
        )

    # --- an update

    def _update(self, members: list[Batch], *, is_stopped: bool) -> bool:
        """One update of these batches of this process; whether some process was asked to stop."""
        self.learner.make_ready(self.step)
        divisors = sorted(set(self.objective.divisors.values()))
        skipped = [one for batch in members for one in batch.skipped]
        own: dict[Hashable, float] = {
            "utterances": sum(batch.utterances for batch in members),
            "skipped": len(skipped),
            "seconds": sum(batch.seconds for batch in members),
            "stopped": is_stopped,
        }
        for number, batch in enumerate(members):
            own["empty", number] = not len(batch)
            counted = self.objective.counts(batch.inputs) if len(batch) else {}
            own |= {(name, number): counted.get(name, 0.0) for name in divisors}
        summed = self.processes.sum(own)
        self._note_skipped(skipped, int(summed["utterances"]), int(summed["skipped"]))
        # Processes wait for each other in every pass: a batch that is empty in one of them is left out by all.
        used = [number for number in range(len(members)) if not summed["empty", number]]
        counts = {name: sum(summed[name, number] for number in used) for name in divisors}
        extra = self.task.before_update(self, self.step)
        if used:
            batches = [members[number] for number in used]
            learned = self.learner.learn(self.step, batches, counts)
            if learned.is_finite:
                self.non_finite.passed()
                self.window.add(learned, counts, extra)
            else:
                self._note_non_finite(batches, learned)
            self.audio += summed["seconds"]
            self.window.add_time(summed["seconds"], time.perf_counter() - self._begun)
        return summed["stopped"] > 0

    def _note_non_finite(self, batches: list[Batch], learned: Learned) -> None:
        ids = self.processes.gather([name for batch in batches for name in batch.ids])
        if self.log is not None:
            said = {"reason": "not finite", "loss": learned.loss, "grad_norm": learned.norm, "utterances": ids}
            self.log.write("skipped", self.step + 1, said)
        self.view.say(f"Update {self.step + 1} is left out: loss {learned.loss:g}, gradient {learned.norm:g}.")
        self.non_finite.failed(self.step + 1, ids, self.checkpoints.kept())

    def _note_skipped(self, own: list[Skipped], utterances: int, skips: int) -> None:
        if skips:
            found = self.processes.gather(own)
            self.share.note(found)
            if not self.share.skipped:
                self.view.say(
                    f"'{found[0].id}' is skipped: {found[0].reason.rstrip('.')}. {SKIPPED_FILE} lists all such."
                )
            if self.skipped is not None:
                for one in found:
                    self.skipped.write(self.step + 1, {"id": one.id, "reason": one.reason})
        self.share.count(utterances, skips)

    def _note_held_out(self, skipped: list[Skipped]) -> None:
        """Tells once which utterances the evaluations do without."""
        if not skipped or self.skipped is None or self._held_out_told:
            return
        self._held_out_told = True
        self.view.say(
            f"'{skipped[0].id}' of the held-out data is skipped: {skipped[0].reason.rstrip('.')}. "
            f"{SKIPPED_FILE} lists all such."
        )
        for one in skipped:
            self.skipped.write(self.step, {"id": one.id, "reason": one.reason, "held_out": True})

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

    # --- between updates

    def _evaluate(self) -> None:
        """Evaluates on the held-out data; a better result is saved."""
        assert self.held_out is not None
        with self.learner.averaged():
            metrics, skipped = validate(self.objective, self.held_out, self.start, self.processes)
            self.learner.make_ready(self.step)
            if self.log is not None:
                self.log.write("valid", self.step, metrics)
            shown = ", ".join(f"{key} {value:.4g}" for key, value in metrics.items() if key != "utterances")
            self.view.say(f"held out, update {self.step}: {shown}")
        self._note_held_out(skipped)
        if not self.best.improves(metrics, self.step):
            return
        path = self._save()
        if self.processes.is_main:
            self.checkpoints.set_best(path, metrics)
            self.checkpoints.prune(self.recipe.trainer.keep_last)

    def _save(self) -> Path:
        """Writes a checkpoint, by the main process."""
        states = self.processes.gather([random_state(self.mask_generator)])

        def write(folder: Path) -> None:
            self.learner.save(folder)
            write_state(folder, self, states)

        if self.processes.is_main:
            self.checkpoints.save(self.step, write)
        self.processes.wait()
        self._saved = self.step
        return self.checkpoints.path(self.step)

    def _finish(self) -> Outcome:
        """The final folder: the best weights where there was an evaluation, else the last ones; card and curves."""
        place = self.folder / MODEL_FOLDER
        if self.processes.is_main:
            path = self.checkpoints.best() or self.checkpoints.latest()
            step = self.step
            if path is not None:
                step = saved_step(path)
                self.learner.take_best(path)
            self.start.save(place)
            write_card(
                place,
                self.recipe,
                hours=self.hours,
                utterances=len(self.batches.examples.corpus),
                heard=self.audio / 3600,
                step=step,
                scores=self.best.metrics,
                parameters=self.model.num_parameters(),
                trained=sum(value.numel() for value in self.learner.parameters),
            )
            draw_curves(self.folder)
            if self.share.skipped:
                said = f"{self.share.skipped:,} of {self.share.seen:,} utterances were skipped"
                self.view.say(f"{said}; '{self.folder / SKIPPED_FILE}' says why.")
            self.view.say(f"The model of update {step} is in '{place}'.")
        self.processes.wait()
        return Outcome(self.folder, self.step, place, self.best.metrics, saved=self._saved)


def _check(recipe: Recipe) -> None:
    """Refuses what can't be meant, before anything is loaded."""
    known = METRICS[recipe.task]
    if recipe.data.valid and recipe.trainer.best not in known:
        raise ConfigError(
            f"trainer.best is {recipe.trainer.best}, but the task {recipe.task} is evaluated by {', '.join(known)}."
        )
    if recipe.data.valid:
        require_scorer(recipe.task)
