"""The model card of a run's final folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wavconformer.files import write_text
from wavconformer.training.recipe import Recipe, recipe_text

_TASKS = {
    "ctc": "Speech to text: a CTC model of letters or other tokens.",
    "sequence": "One class for each utterance.",
    "frame": "Who speaks in each frame.",
    "xvector": "A vector for each utterance that says who speaks.",
    "pretrain": "Pretrained on speech without labels, to be fine-tuned; it transcribes nothing yet.",
}


def write_card(
    folder: Path,
    recipe: Recipe,
    *,
    hours: float,
    utterances: int,
    heard: float,
    step: int,
    scores: Mapping[str, Any],
    parameters: int,
    trained: int,
) -> None:
    """Writes README.md: what was trained on what, with which recipe, and what it scores.

    hours, utterances: of the training data. heard: hours that were processed. step: of the weights.
    parameters, trained: of the model, and those of them that training changed.
    """
    data, start = recipe.data, recipe.model.init or f"random weights, shape '{recipe.model.preset}'"
    rows = "\n".join(f"| {name} | {value:.4g} |" for name, value in scores.items() if isinstance(value, (int, float)))
    held = f"On {', '.join(f'`{name}`' for name in data.valid)}, held out during training:" if data.valid else ""
    table = f"{held}\n\n| | |\n|---|---|\n{rows}" if rows else "It was not evaluated during training."
    text = f"""---
library_name: wavconformer
tags: [wav2vec2-conformer, {recipe.task}]
---

# Trained with wavconformer

{_TASKS[recipe.task]}

## Data

{utterances:,} utterances, {hours:.2f} hours, of {", ".join(f"`{name}`" for name in data.train)}. {heard:.2f} hours of
audio were processed, in {step:,} updates.

## Model

It started from {start}. {parameters:,} parameters, {trained:,} of them trained.

## Scores

{table}

Error rates are of texts as they are, without normalisation; intervals (low, high) are of 95 %.

## Recipe

```yaml
{recipe_text(recipe).rstrip()}
```
"""
    write_text(folder / "README.md", text)
