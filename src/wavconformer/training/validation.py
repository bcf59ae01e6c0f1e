"""The held-out data through the model: losses and the task's scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavconformer.data.rttm import Turn, stretches
from wavconformer.decoding.activity import SpeakerLabels
from wavconformer.decoding.text import greedy_text
from wavconformer.scoring.classes import score_classes
from wavconformer.scoring.diarization import require_pyannote, score_diarization
from wavconformer.scoring.verification import det_curve, equal_error_rate
from wavconformer.scoring.words import Normalisation, require_jiwer, score_words
from wavconformer.training.batches import Batches
from wavconformer.training.examples import Batch, Skipped
from wavconformer.training.objectives import Objective
from wavconformer.training.processes import Processes
from wavconformer.training.recipe import Task
from wavconformer.training.starting import Start

RESAMPLES = 1000  # of the intervals of error rates
MOST_VECTORS = 2000  # of which every pair is a trial

METRICS: dict[str, tuple[str, ...]] = {
    "ctc": ("loss", "wer", "cer"),
    "sequence": ("loss", "accuracy"),
    "frame": ("loss", "der"),
    "xvector": ("loss", "eer"),
    "pretrain": ("loss", "accuracy"),
}
"""What the best checkpoint of each task can be told by; of accuracy the highest is best, of others the lowest."""


@dataclass
class Best:
    """The best evaluation of a run so far.

    name: what it is told by. score: the lower the better; metrics: all. step: updates before it.
    """

    name: str
    score: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    step: int | None = None

    def improves(self, metrics: dict[str, float], step: int) -> bool:
        """Whether an evaluation is better than all before it, whose place it then takes."""
        if self.name not in metrics:
            return False
        score = -metrics[self.name] if self.name == "accuracy" else metrics[self.name]
        if not np.isfinite(score) or (self.score is not None and score >= self.score):
            return False
        self.score, self.metrics, self.step = score, metrics, step
        return True


@dataclass
class Held:
    """What one process found out on its share of the held-out data."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    items: list[Any] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    utterances: int = 0
    usage: Any = None  # (G, E) how often each code was chosen


def require_scorer(task: Task) -> None:
    """Raises an error where what scores the task is missing: at a run's beginning, not at its first evaluation."""
    if task == "ctc":
        require_jiwer()
    elif task == "frame":
        require_pyannote()


def validate(
    objective: Objective, batches: Batches, start: Start, processes: Processes
) -> tuple[dict[str, float], list[Skipped]]:
    """Losses and scores on held-out data, all processes together, the same in each; and what was skipped."""
    held = Held()
    was_training = objective.training
    objective.eval()
    try:
        with torch.no_grad():
            for batch in batches.once():
                held.skipped += batch.skipped
                if len(batch):
                    _take_in(held, objective, batch.to(processes.device), start)
    finally:
        objective.train(was_training)
    shares: list[Held] = processes.gather([held])
    sums = _added([share.sums for share in shares])
    counts = _added([share.counts for share in shares])
    metrics: dict[str, float] = {"utterances": sum(share.utterances for share in shares)}
    skipped = [one for share in shares for one in share.skipped]
    if skipped:
        metrics["skipped"] = len(skipped)
    if not metrics["utterances"]:
        return metrics, skipped
    weights = objective.weights
    terms = {
        term: value / max(counts[objective.divisors[term]], 1.0) for term, value in sums.items() if term in weights
    }
    metrics["loss"] = sum(weights[term] * value for term, value in terms.items())
    if len(terms) > 1:
        metrics |= terms
    items = [item for share in shares for item in share.items]
    if start.recipe.task == "pretrain":
        metrics["accuracy"] = sums["right"] / max(counts["masked"], 1.0)
        metrics["perplexity"] = code_perplexity(sum(share.usage for share in shares if share.usage is not None))
    else:
        metrics |= _SCORES[start.recipe.task](items, start)
    return metrics, skipped


def code_perplexity(usage: Any) -> float:
    """Sum over the groups of exp(entropy) of how often each code was chosen (G, E)."""
    shares = usage / np.maximum(usage.sum(-1, keepdims=True), 1)
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(-1)
    return float(np.exp(entropy).sum())


def _added(parts: list[dict[str, float]]) -> dict[str, float]:
    return {key: sum(part.get(key, 0.0) for part in parts) for part in parts for key in part}


def _take_in(held: Held, objective: Objective, batch: Batch, start: Start) -> None:
    sums, measured = objective(batch.inputs)
    held.utterances += len(batch)
    for term, value in sums.items():
        held.sums[term] = held.sums.get(term, 0.0) + float(value)
    for name, count in objective.counts(batch.inputs).items():
        held.counts[name] = held.counts.get(name, 0.0) + count
    task = start.recipe.task
    if task == "pretrain":
        held.sums["right"] = held.sums.get("right", 0.0) + float(measured["right"])
        config = start.model.config
        if held.usage is None:
            held.usage = np.zeros((config.num_codevector_groups, config.num_codevectors_per_group), np.int64)
        for group, codes in enumerate(measured["codes"].T.cpu().numpy()):
            held.usage[group] += np.bincount(codes, minlength=config.num_codevectors_per_group)
    elif task == "ctc":
        held.items += _texts(objective, batch, measured["logits"], start)
    elif task == "sequence":
        named = start.model.config.id2label or {}
        truth, found = batch.inputs["labels"].tolist(), measured["logits"].argmax(-1).tolist()
        held.items += [(named[one], named[other]) for one, other in zip(truth, found, strict=True)]
    elif task == "xvector":
        vectors = measured["embeddings"].float().cpu().numpy()
        held.items += list(zip(batch.inputs["labels"].tolist(), vectors, strict=True))
    else:
        held.items += _turns(objective, batch, measured["logits"])


def _texts(objective: Objective, batch: Batch, logits: Tensor, start: Start) -> list[tuple[str, str, str]]:
    assert start.tokenizer is not None
    lengths = objective.frame_lengths(batch.inputs).tolist()
    best = logits.argmax(-1).cpu().numpy()
    found = [
        greedy_text(row[:length], objective.model.blank, start.tokenizer)
        for row, length in zip(best, lengths, strict=True)
    ]
    return [
        (name, text or "", hypothesis) for name, text, hypothesis in zip(batch.ids, batch.texts, found, strict=True)
    ]


def _turns(objective: Objective, batch: Batch, logits: Tensor) -> list[tuple[list[Turn], list[Turn], float]]:
    """True turns and those found, of each recording, and its length in seconds, from frames."""
    found = []
    hop = objective.model.config.hop_length / 16_000
    lengths = objective.frame_lengths(batch.inputs).tolist()
    speakers = SpeakerLabels.of(objective.model.config)
    for number, (name, length) in enumerate(zip(batch.ids, lengths, strict=True)):
        labels = batch.inputs["labels"][number, :length].cpu().numpy()
        sides = (labels > 0.5, speakers.active(logits[number, :length].float().cpu().numpy()))
        true, heard = (
            [Turn(name, begin, end, f"speaker{column}") for begin, end, column in stretches(side, hop)]
            for side in sides
        )
        found.append((true, heard, length * hop))
    return found


def _score_texts(items: list[tuple[str, str, str]], start: Start) -> dict[str, float]:
    scores = score_words(
        [reference for _, reference, _ in items],
        [hypothesis for _, _, hypothesis in items],
        normalise=Normalisation.none,
        resamples=RESAMPLES,
    )
    found = {"wer": scores.wer.value, "cer": scores.cer.value}
    if scores.wer.interval is not None:
        found |= {"wer_low": scores.wer.interval.low, "wer_high": scores.wer.interval.high}
    return found


def _score_classes(items: list[tuple[str, str]], start: Start) -> dict[str, float]:
    return {"accuracy": score_classes([one for one, _ in items], [other for _, other in items]).accuracy}


def _score_speakers(items: list[tuple[int, Any]], start: Start) -> dict[str, float]:
    """EER over all pairs; none where no speaker is there twice, or one alone."""
    items = items[:MOST_VECTORS]
    speakers = np.array([speaker for speaker, _ in items])
    vectors = np.stack([vector for _, vector in items]).astype(np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    first, second = np.triu_indices(len(items), 1)
    targets = speakers[first] == speakers[second]
    if targets.all() or not targets.any():
        return {}
    return {"eer": equal_error_rate(det_curve((vectors @ vectors.T)[first, second], targets))[0]}


def _score_turns(items: list[tuple[list[Turn], list[Turn], float]], start: Start) -> dict[str, float]:
    spoken = [item for item in items if item[0]]  # where nobody speaks there is no rate
    if not spoken:
        return {}
    scores = score_diarization(
        [turn for true, _, _ in spoken for turn in true],
        [turn for _, heard, _ in spoken for turn in heard],
        extents={true[0].recording: (0.0, length) for true, _, length in spoken},
    )
    return {"der": scores.rate}


_SCORES: dict[str, Callable[[list[Any], Start], dict[str, float]]] = {
    "ctc": _score_texts,
    "sequence": _score_classes,
    "xvector": _score_speakers,
    "frame": _score_turns,
}
