"""LoRA and a language's adapter beside a frozen checkpoint: word error rate before and after, and bytes saved.

    python -m benchmarks.adapt CORPUS... [--model tiny-en] [--case lower] [--kinds lora adapter] [--steps 300]

CORPUS is what `wavconformer prepare` wrote, of another voice, place or kind of text than the model was trained on. A
share of its sentences is trained on and the rest evaluated; no sentence is in both. With --case lower (the default)
or upper the texts are changed and the vocabulary is one of their own characters, so the model gets a new head; with
keep the model's vocabulary and head stay. Word error rates take letters in any case as equal, so that the rate before
is the model's own. Intervals are 95 %, by bootstrap over utterances.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from wavconformer.data.corpus import Corpus
from wavconformer.data.prepare import prepare
from wavconformer.evaluation.evaluate import evaluate
from wavconformer.training.finetune import finetune
from wavconformer.training.merge import merge
from wavconformer.training.metrics import read_metrics
from wavconformer.training.recipe import Data, Logging, Lora, Model, Optim, Recipe, Schedule, Trainer

KINDS: dict[str, dict[str, Any]] = {
    "lora": {"lora": Lora(rank=8)},
    "adapter": {"adapter": "new"},
    "full": {},
}


def split(corpora: list[Path], share: float, folder: Path) -> tuple[Path, Path]:
    """Two tables of the utterances, parted by sentence: so large a share to train on, and the rest."""
    utterances = list(Corpus.open(*corpora))
    sentences = sorted({one.text for one in utterances if one.text})
    chosen = set(np.random.default_rng(0).permutation(sentences)[: round(share * len(sentences))])
    paths = folder / "train.jsonl", folder / "rest.jsonl"
    for path, is_train in zip(paths, (True, False), strict=True):
        lines = [json.dumps(one.as_dict()) for one in utterances if (one.text in chosen) == is_train]
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return paths


def recipe_of(kind: str, arguments: argparse.Namespace, corpus: Path, run: Path) -> Recipe:
    vocabulary = None if arguments.case == "keep" else str(corpus / "vocab.json")
    return Recipe(
        data=Data(train=(str(corpus),), vocabulary=vocabulary, max_seconds=arguments.batch_seconds),
        model=Model(init=arguments.model, **KINDS[kind]),
        optim=Optim(lr=arguments.lr, weight_decay=0.0),
        schedule=Schedule(warmup=0.1, hold=0.5),
        trainer=Trainer(
            max_steps=arguments.steps,
            batch_seconds=arguments.batch_seconds,
            workers=0,
            save_every=arguments.steps,
            freeze_feature_encoder=True,
        ),
        logging=Logging(folder=str(run), every=max(1, arguments.steps // 10), tensorboard=False),
    )


def rate(model: str | Path, data: Path) -> str:
    """The word error rate of a checkpoint, with its interval."""
    wer = evaluate(model, data, device="cpu").scores.wer
    interval = "" if wer.interval is None else f" ({wer.interval.low:.1%} to {wer.interval.high:.1%})"
    return f"{wer.value:.1%}{interval}"


def weight(folder: Path) -> int:
    """Bytes of a folder's weights."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", type=Path, nargs="+", metavar="CORPUS")
    parser.add_argument("--model", default="tiny-en", help="the checkpoint that is adapted")
    parser.add_argument("--case", choices=["lower", "upper", "keep"], default="lower")
    parser.add_argument("--kinds", choices=list(KINDS), nargs="+", default=["lora", "adapter"])
    parser.add_argument("--share", type=float, default=0.7, help="of the sentences, to train on")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-seconds", type=float, default=20.0)
    parser.add_argument("--lr", type=float, default=3e-3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, rest = split(arguments.corpora, arguments.share, folder)
        vocabulary = arguments.model if arguments.case == "keep" else "build"
        report = prepare(train, folder / "train", vocabulary=vocabulary, case=arguments.case, workers=0)
        held = prepare(rest, folder / "rest", workers=0)
        print(f"{report.accepted} utterances, {report.seconds / 60:.1f} min, to train on; {held.accepted} to evaluate")
        print(f"{arguments.model} as it is: WER {rate(arguments.model, folder / 'rest')}", flush=True)
        for kind in arguments.kinds:
            outcome = finetune(recipe_of(kind, arguments, folder / "train", folder / kind))
            assert outcome.model is not None
            whole = outcome.model if kind == "full" else merge(outcome.model, folder / f"{kind}-whole")
            losses = [line["loss"] for line in read_metrics(outcome.folder) if line["kind"] == "train"]
            print(
                f"{kind}: WER {rate(whole, folder / 'rest')}, training loss {losses[0]:.2f} → {losses[-1]:.2f}, ",
                end="",
            )
            print(f"{weight(outcome.model):,} bytes saved of {weight(whole):,} of a whole checkpoint", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
