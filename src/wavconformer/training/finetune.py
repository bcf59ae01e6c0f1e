"""`wavconformer finetune`: a head, and as much of the model as wanted, on labelled speech."""

from __future__ import annotations

import os
from collections.abc import Iterable

from rich.console import Console

from wavconformer.errors import ConfigError
from wavconformer.training.loop import Outcome, Task, train
from wavconformer.training.recipe import Recipe, read_recipe


def finetune(
    recipe: Recipe | str | os.PathLike[str],
    overrides: Iterable[str] = (),
    *,
    resume: bool = False,
    console: Console | None = None,
) -> Outcome:
    """Trains on labels: transcripts, classes, speakers, or who speaks when.

    recipe: a recipe, or its YAML file. overrides: settings over those of the file, as "optim.lr=3e-4".
    resume: go on from the newest checkpoint in the run's folder. console: where progress is shown.

    The run's folder gets the recipe, checkpoints, metrics.jsonl, curves.png, and at the end `model`, a checkpoint.
    Ctrl-C and SIGTERM end it after a checkpoint: see `Outcome.stopped_by`.

    Raises ConfigError, DataError and CheckpointError for what can't be used, TrainingError where the run goes wrong.
    """
    chosen = recipe if isinstance(recipe, Recipe) else read_recipe(recipe, overrides)
    if chosen.task == "pretrain":
        raise ConfigError("The recipe's task is pretrain: run it with `wavconformer pretrain`.")
    return train(chosen, Task(), resume=resume, console=console)
