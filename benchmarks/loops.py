"""A training loop beside `transformers.Trainer`: the same model, the same batches, update for update."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers

import wavconformer.files
from benchmarks.timing import Comparison
from wavconformer.data.prepare import prepare
from wavconformer.training.examples import Batch
from wavconformer.training.loop import Loop, Task, train
from wavconformer.training.recipe import Augmentation, Data, Logging, Model, Optim, Recipe, Trainer

TINY = wavconformer.files.ASSETS / "tiny-en"
SAMPLES = wavconformer.files.ASSETS / "samples"
REPEATS = 40  # of the sample recordings, which are few
UPDATES = 8  # of which the first isn't timed
LEARNING_RATE = 1e-5
SECONDS = 40.0  # of audio in a batch
# As tiny-en was trained, but for noise and rooms, which change no length.
VARIED = Augmentation(
    speed=(0.9, 1.0, 1.0, 1.1), silence_seconds=(0.0, 0.7), silence_probability=0.4, join_probability=0.15
)


class Clock(Task):
    """When each update began."""

    def __init__(self) -> None:
        self.begun: list[float] = []

    def before_update(self, loop: Loop, step: int) -> dict[str, float]:
        """Called in each update, when its batches are there."""
        self.begun.append(time.perf_counter())
        return {}


class TheirClock(transformers.TrainerCallback):
    """The same for theirs."""

    def __init__(self) -> None:
        self.begun: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.begun.append(time.perf_counter())


class Loaded(torch.utils.data.IterableDataset[dict[str, torch.Tensor]]):
    """The batches that ours trains on, each decoded and augmented when it is asked for, as ours does it."""

    def __init__(self, recipe: Recipe) -> None:
        self.stream = iter(Loop(recipe, Task()).batches)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return (batch.inputs for batch in self.stream)


def loop(runs: int) -> Iterator[Comparison]:
    """Updates with the same data: its loading, which is ours for both, the optimizer and logging are included."""
    for precision in ("float32", "bfloat16"):
        for augmentation in (Augmentation(), VARIED):
            yield _loop(runs, precision, augmentation)


def _loop(runs: int, precision: str, augmentation: Augmentation) -> Comparison:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = _corpus(folder)
        batches = _batches(_recipe(corpus, folder, precision, augmentation))
        times: list[tuple[float, float]] = []
        for run in range(runs + 1):
            theirs_took = _theirs(_recipe(corpus, folder, precision, augmentation), folder / f"theirs{run}")
            ours_took = _ours(_recipe(corpus, folder / f"ours{run}", precision, augmentation))
            if run:  # the first only warms up
                times.append((theirs_took, ours_took))
    timed = batches[1:-1]
    audio = sum(batch.seconds for batch in timed)
    values = sum(batch.inputs["attention_mask"].numel() for batch in timed)
    real = sum(int(batch.inputs["attention_mask"].sum()) for batch in timed)
    theirs, ours = (median(taken) for taken in zip(*times, strict=True))
    ratio = median(other / own for other, own in times)
    kind = "recordings as they are" if augmentation == Augmentation() else "augmented as for tiny-en"
    rates = f"{audio / theirs:.0f} and {audio / ours:.0f} audio-seconds a second"
    case = f"training loop in {precision}, {kind}, {1 - real / values:.0%} padding: {rates}"
    return Comparison(case, theirs, ours, ratio, runs)


def _corpus(folder: Path) -> Path:
    lines = (line.split("\t") for line in (SAMPLES / "transcripts.tsv").read_text().splitlines()[1:])
    texts = {file: text for file, _, text in lines}
    rows = [
        {"id": f"{file}-{number}", "audio": str(SAMPLES / file), "text": text}
        for number in range(REPEATS)
        for file, text in texts.items()
    ]
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(folder / "all.jsonl", folder / "corpus", vocabulary=str(TINY / "vocab.json"), workers=0)
    return folder / "corpus"


def _recipe(corpus: Path, folder: Path, precision: str, augmentation: Augmentation) -> Recipe:
    return Recipe(
        data=Data(train=(str(corpus),), vocabulary=str(TINY / "vocab.json")),
        model=Model(init=str(TINY)),
        augmentation=augmentation,
        optim=Optim(lr=LEARNING_RATE),
        trainer=Trainer(max_steps=UPDATES, batch_seconds=SECONDS, workers=0, precision=precision),
        logging=Logging(folder=str(folder), every=1, tensorboard=False),
    )


def _batches(recipe: Recipe) -> list[Batch]:
    stream = iter(Loop(recipe, Task()).batches)
    return [next(stream) for _ in range(UPDATES)]


def _ours(recipe: Recipe) -> float:
    clock = Clock()
    train(recipe, clock)
    return clock.begun[-1] - clock.begun[1]


def _theirs(recipe: Recipe, folder: Path) -> float:
    model = transformers.Wav2Vec2ConformerForCTC.from_pretrained(TINY, dtype=torch.float32, attn_implementation="sdpa")
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=UPDATES,
        per_device_train_batch_size=1,
        learning_rate=LEARNING_RATE,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=recipe.trainer.precision == "bfloat16",
        disable_tqdm=True,
    )
    clock = TheirClock()
    trainer = transformers.Trainer(
        model=model,
        args=arguments,
        train_dataset=Loaded(recipe),
        data_collator=lambda items: items[0],
        callbacks=[clock],
    )
    trainer.train()
    return clock.begun[-1] - clock.begun[1]
