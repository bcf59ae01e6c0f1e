"""`wavconformer pretrain`: speech without labels, by telling masked frames from distractors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from rich.console import Console

from wavconformer.errors import ConfigError
from wavconformer.training.guards import check_collapse
from wavconformer.training.loop import Loop, Outcome, Task, train
from wavconformer.training.objectives import Contrastive
from wavconformer.training.recipe import Recipe, read_recipe


def pretrain(
    recipe: Recipe | str | os.PathLike[str],
    overrides: Iterable[str] = (),
    *,
    resume: bool = False,
    console: Console | None = None,
) -> Outcome:
    """Trains on speech alone (arXiv 2006.11477): arguments, folder and errors as with `finetune`.

    A collapse of the codebooks, or of the contrastive task, stops the run with a TrainingError that says what to
    change.
    """
    chosen = recipe if isinstance(recipe, Recipe) else read_recipe(recipe, overrides)
    if chosen.task != "pretrain":
        raise ConfigError(
            f"The recipe's task is {chosen.task}: run it with `wavconformer finetune`, or set task: pretrain."
        )
    return train(chosen, Pretrain(), resume=resume, console=console)


class Pretrain(Task):
    """The Gumbel temperature falls; a collapse stops the run."""

    def before_update(self, loop: Loop, step: int) -> dict[str, float]:
        """Sets the temperature."""
        assert isinstance(loop.objective, Contrastive)
        return {"temperature": loop.objective.set_temperature(step)}

    def check(self, loop: Loop, step: int, metrics: Mapping[str, float]) -> None:
        """Looks for a collapse."""
        settings = loop.recipe.trainer.pretraining
        negatives = int(loop.model.config.num_negatives)
        check_collapse(settings, step, metrics["perplexity"], metrics["accuracy"], negatives)
