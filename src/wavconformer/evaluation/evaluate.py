"""`wavconformer evaluate`, whole: a checkpoint or its hypotheses, a data set, and what comes of both."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wavconformer import __version__
from wavconformer.data.rttm import Turn, read_rttm, write_rttm
from wavconformer.data.utterance import Utterance, source_of
from wavconformer.decoding.beam import BeamDecoder
from wavconformer.errors import DataError
from wavconformer.evaluation.data import locate, utterances
from wavconformer.evaluation.hypotheses import ids_by_name, match, read_hypotheses
from wavconformer.evaluation.journal import Journal, fingerprint
from wavconformer.evaluation.run import BATCH_SECONDS, DEFAULT_SEARCH, Failure, Kind, Runner, kind_of, run
from wavconformer.files import write_json, write_text
from wavconformer.scoring.classes import ClassScores, score_classes
from wavconformer.scoring.diarization import DiarizationScores, require_pyannote, score_diarization
from wavconformer.scoring.intervals import CONFIDENCE, RESAMPLES
from wavconformer.scoring.verification import (
    P_TARGETS,
    Trial,
    VerificationScores,
    read_scores,
    read_trials,
    require_both_kinds,
    score_verification,
)
from wavconformer.scoring.words import Normalisation, WordScores, require_jiwer, score_words
from wavconformer.tasks.search import Search, described

if TYPE_CHECKING:
    import torch

Scores = WordScores | ClassScores | VerificationScores | DiarizationScores

# What each kind of output is written to, in the output folder.
BY = "speaker"
"""The column that word errors are broken down by, unless another is named."""

JOURNALS = {
    Kind.words: "hypotheses.jsonl",
    Kind.classes: "predictions.jsonl",
    Kind.verification: "embeddings.jsonl",
    Kind.diarization: "turns.jsonl",
}


@dataclass(frozen=True)
class Evaluation:
    """What came out.

    model: its name, or the file of its hypotheses. data: what it was evaluated on. by: what words are grouped by.
    scored: the number of utterances, trials or recordings that were. failures: what couldn't be, and why. left_out:
    trials that a failed recording is part of. unused: names in the hypotheses that the data doesn't know. recordings:
    the scored utterances by id. decoding: how a model's words were searched for.
    """

    kind: Kind
    model: str
    data: str
    by: str
    scores: Scores
    scored: int
    failures: tuple[Failure, ...]
    left_out: int
    unused: tuple[str, ...]
    recordings: dict[str, Utterance]
    decoding: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "wavconformer": __version__,
            "kind": self.kind.value,
            "model": self.model,
            "data": self.data,
            "decoding": self.decoding,
            "confidence": CONFIDENCE,
            "by": self.by,
            "scored": self.scored,
            "scores": self.scores.as_dict(),
            "failures": [vars(failure) for failure in self.failures],
            "trials_left_out": self.left_out,
            "unused_hypotheses": list(self.unused),
        }

    def save(self, folder: str | os.PathLike[str], *, worst: int = 20) -> list[Path]:
        """Writes results.json and report.html into a folder, and returns their paths. worst: utterances shown."""
        from wavconformer.evaluation.report import page

        place = Path(folder)
        write_json(place / "results.json", self.as_dict())
        write_text(place / "report.html", page(self, place, worst=worst))
        return [place / "results.json", place / "report.html"]


@dataclass(frozen=True)
class Watch:
    """Who is told how it goes: start with what is done and how many there are of it, step after each."""

    start: Callable[[str, int], None] = lambda doing, total: None
    step: Callable[[], None] = lambda: None
    failed: Callable[[Failure], None] = lambda failure: None


def evaluate(
    model: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    hypotheses: str | os.PathLike[str] | None = None,
    trials: str | os.PathLike[str] | None = None,
    rttm: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    normalise: Normalisation | str = Normalisation.standard,
    by: str = BY,
    p_targets: Sequence[float] | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
    limit: int | None = None,
    batch_seconds: float = BATCH_SECONDS,
    device: torch.device | str | None = None,
    dtype: str | None = None,
    target_lang: str | None = None,
    search: Search = DEFAULT_SEARCH,
    resamples: int = RESAMPLES,
    seed: int = 0,
    watch: Watch | None = None,
) -> Evaluation:
    """Scores a checkpoint, or hypotheses that exist already, on a data set.

    model: a folder, Hub repository or the checkpoint that ships along; its class says what is scored. Or
    hypotheses: a file in its place: texts or classes as `read_hypotheses` takes them, scores of the trials, or RTTM.
    data: what `locate` takes; for trials the folder, or the manifest, that their names refer to.
    root: where `data` is looked for. trials: a trial list. rttm: the true turns.
    output: a folder for what the model gives, from which a later run of the same model goes on.
    normalise, by, resamples, seed: of word error rates. p_targets: priors of the detection costs, NIST's by default.
    collar, skip_overlap: of the diarization error rate. limit: take the first utterances or trials alone.
    batch_seconds: audio in a batch. device, dtype, target_lang: as in `load_model`. search: how words are searched for,
    by default as `load_model` does it.

    Writes no results: `Evaluation.save` does. Recordings that can't be read are among the failures.

    Raises DataError where the data can't be used or nothing of it could be scored, CheckpointError where the model
    can't, ValueError for arguments that don't go together.
    """
    if (model is None) == (hypotheses is None):
        raise ValueError("Give a model or a file of hypotheses, one of the two.")
    watch = watch or Watch()
    work = _Work(
        model=None if model is None else os.fspath(model),
        hypotheses=None if hypotheses is None else Path(hypotheses),
        data=None if data is None else locate(os.fspath(data), None if root is None else os.fspath(root)),
        root=Path(root) if root is not None else None,
        output=None if output is None else Path(output),
        limit=limit,
        watch=watch,
        batch_seconds=batch_seconds,
        settings={"device": device, "dtype": dtype, "target_lang": target_lang, "search": search},
        failures=[],
    )
    kind = work.kind(trials, rttm)
    if search != DEFAULT_SEARCH and (kind is not Kind.words or model is None):
        raise ValueError(f"'{work.name}' isn't searched for words: leave the language model and hot words out.")
    # What would stop the scoring stops it now, not when the model is done.
    if kind is Kind.words:
        require_jiwer()
    elif kind is Kind.diarization:
        require_pyannote()
    unused: list[str] = []
    recordings: dict[str, Utterance] = {}
    scores: Scores
    left_out = 0
    if kind is Kind.verification:
        assert trials is not None
        wanted = read_trials(os.fspath(trials))[:limit]
        require_both_kinds([trial.target for trial in wanted])
        scored = work.scored_trials(wanted, Path(trials).parent)
        count, left_out = len(scored), len(wanted) - len(scored)
        scores = score_verification(
            [score for _, score in scored], [trial.target for trial, _ in scored], p_targets=p_targets or P_TARGETS
        )
    elif kind is Kind.diarization:
        assert rttm is not None
        references = read_rttm(os.fspath(rttm))
        names = list(dict.fromkeys(turn.recording for turn in references))[:limit]
        heard, extents = work.turns(names)
        known = set(names) - {failure.id for failure in work.failures}
        scores = score_diarization(
            [turn for turn in references if turn.recording in known],
            [turn for turn in heard if turn.recording in known or turn.recording not in names],
            collar=collar,
            skip_overlap=skip_overlap,
            extents=extents,
        )
        count = len(scores.recordings)
    else:
        items = work.utterances()
        if kind is Kind.words:
            _check_column(by, items)
        labels, classes = work.labels(items) if kind is Kind.classes else ({}, None)
        outputs, unused = work.outputs(kind, items)
        recordings = {item.id: item for item in items if item.id in outputs}
        count = len(recordings)
        if not recordings:
            raise DataError(_nothing(len(items), work.failures))
        items = list(recordings.values())
        if kind is Kind.words:
            scores = score_words(
                [item.text or "" for item in items],
                [outputs[item.id] for item in items],
                ids=[item.id for item in items],
                groups=[item.group(by) for item in items],
                normalise=normalise,
                resamples=resamples,
                seed=seed,
            )
        else:
            scores = score_classes([labels[item.id] for item in items], [outputs[item.id] for item in items], classes)
    return Evaluation(
        kind=kind,
        model=work.name,
        data=os.fspath(data if data is not None else trials or rttm or ""),
        by=by,
        scores=scores,
        scored=count,
        failures=tuple(work.failures),
        left_out=left_out,
        unused=tuple(unused),
        recordings=recordings,
        decoding=work.decoding,
    )


@dataclass
class _Work:
    """The arguments of an evaluation, and what failed so far."""

    model: str | None
    hypotheses: Path | None
    data: Path | None
    root: Path | None
    output: Path | None
    limit: int | None
    watch: Watch
    batch_seconds: float
    settings: dict[str, Any]
    failures: list[Failure]
    decoding: str | None = None

    @property
    def name(self) -> str:
        """What is scored."""
        return self.model if self.model is not None else str(self.hypotheses)

    def kind(self, trials: Any, rttm: Any) -> Kind:
        """What is to be scored, by the model or by what is given; ValueError where that doesn't fit together."""
        if trials is not None and rttm is not None:
            raise ValueError("Give trials or an RTTM file, one of the two.")
        given = Kind.verification if trials is not None else Kind.diarization if rttm is not None else None
        if self.model is not None:
            kind = kind_of(self.model)
        elif given is not None:
            kind = given
        else:
            kind = Kind.words if any(item.text is not None for item in self.utterances()) else Kind.classes
        if kind is Kind.verification and trials is None:
            raise ValueError(f"'{self.name}' tells speakers apart: give a trial list (--trials).")
        if kind is Kind.diarization and rttm is None:
            raise ValueError(f"'{self.name}' says who speaks when: give the true turns (--rttm).")
        if given is not None and kind is not given:
            raise ValueError(f"'{self.name}' gives {kind.value}, which go with neither a trial list nor RTTM.")
        return kind

    def utterances(self) -> list[Utterance]:
        """The data set, as far as it is wanted."""
        if self.data is None:
            raise ValueError("Give the data to evaluate on (--data).")
        return list(islice(utterances(self.data), self.limit))

    def fail(self, identifier: str, why: str) -> None:
        failure = Failure(identifier, why)
        self.failures.append(failure)
        self.watch.failed(failure)

    def outputs(self, kind: Kind, items: Sequence[Utterance]) -> tuple[dict[str, Any], list[str]]:
        """The outputs for utterances by id, without those that failed, and the hypotheses' names that aren't known."""
        column = "text" if kind is Kind.words else "label"
        lacking = next((item for item in items if getattr(item, column) is None), None)
        if lacking is not None and kind in (Kind.words, Kind.classes):
            raise DataError(f"'{self.data}': the utterance '{lacking.id}' has no {column} to compare with.")
        if self.hypotheses is not None:
            matched, unused = match(read_hypotheses(self.hypotheses), items)
            for item in items:
                if item.id not in matched:
                    self.fail(item.id, f"'{item.id}' has no hypothesis in '{self.hypotheses}'.")
            return matched, unused
        return self.run(kind, items), []

    def run(self, kind: Kind, items: Sequence[Utterance]) -> dict[str, Any]:
        """What the model gives for utterances, by id, without those that failed."""
        assert self.model is not None
        self.watch.start(f"loading {self.model}", 0)
        path = None if self.output is None else self.output / JOURNALS[kind]
        runner = Runner(self.model, kind, **self.settings)
        mark = self._mark(runner) if path is not None else ""
        self.decoding = None if runner.decoder is None else described(runner.decoder)
        outputs = {}
        with Journal(path, mark) as journal:
            self.watch.start("evaluating", len(items))
            for step in run(runner, items, journal, self.batch_seconds):
                if step.failure is None:
                    outputs[step.utterance.id] = step.output
                else:
                    self.fail(step.failure.id, step.failure.why)
                self.watch.step()
        return outputs

    def _mark(self, runner: Runner) -> str:
        """The fingerprint of all that decides what the model gives."""
        assert self.model is not None
        settings = {key: str(value) for key, value in self.settings.items() if key == "dtype" and value is not None}
        beside = []
        if isinstance(runner.decoder, BeamDecoder):
            settings["search"] = str((sorted(runner.decoder.hotwords.weights.items()), runner.decoder.settings))
            if runner.decoder.lm is not None and runner.decoder.lm.path is not None:
                beside.append(runner.decoder.lm.path)
        return fingerprint(self.model, self.settings["target_lang"], beside=beside, **settings)

    def labels(self, items: Sequence[Utterance]) -> tuple[dict[str, str], list[str] | None]:
        """The true class of each utterance by id, and the model's classes in its order, None without a model."""
        labels = {item.id: item.label for item in items if item.label is not None}
        if self.model is None:
            return labels, None
        from wavconformer.config import Wav2Vec2ConformerConfig

        names = dict(Wav2Vec2ConformerConfig.from_pretrained(self.model).id2label or {})
        # A manifest may have the classes' numbers in place of their names.
        by_number = {str(number): name for number, name in names.items() if str(number) not in names.values()}
        labels = {identifier: by_number.get(label, label) for identifier, label in labels.items()}
        order = [names[index] for index in sorted(names)]
        foreign = next((identifier for identifier, label in labels.items() if label not in order), None)
        if foreign is not None:
            raise DataError(
                f"'{self.data}': the label of '{foreign}', '{labels[foreign]}', is none of the model's classes "
                f"{', '.join(order)}."
            )
        return labels, order

    def scored_trials(self, trials: Sequence[Trial], beside: Path) -> list[tuple[Trial, float]]:
        """Each trial with its score, without those that have none. beside: where recordings are by default."""
        if self.hypotheses is not None:
            scores = read_scores(self.hypotheses)
            for trial in trials:
                if (trial.enrolment, trial.test) not in scores:
                    self.fail(
                        f"{trial.enrolment} {trial.test}",
                        f"'{trial.enrolment}' and '{trial.test}' have no score in '{self.hypotheses}'.",
                    )
        else:
            scores = self._similarities(trials, beside)
        found = [
            (trial, scores[trial.enrolment, trial.test]) for trial in trials if (trial.enrolment, trial.test) in scores
        ]
        if not found:
            raise DataError(_nothing(len(trials), self.failures))
        return found

    def _similarities(self, trials: Sequence[Trial], beside: Path) -> dict[tuple[str, str], float]:
        """The cosine of both recordings' vectors, for each pair."""
        names = list(dict.fromkeys(name for trial in trials for name in (trial.enrolment, trial.test)))
        vectors = self.run(Kind.verification, self._named(names, beside))
        place = {name: number for number, name in enumerate(vectors)}
        if not place:
            return {}
        matrix = np.array(list(vectors.values()), dtype=np.float64)
        matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), np.finfo(np.float64).tiny)
        pairs = [(trial.enrolment, trial.test) for trial in trials if trial.enrolment in place and trial.test in place]
        first, second = (np.array([place[pair[side]] for pair in pairs], dtype=np.int64) for side in (0, 1))
        cosines = np.einsum("nd,nd->n", matrix[first], matrix[second])
        return dict(zip(pairs, cosines.tolist(), strict=True))

    def turns(self, names: Sequence[str]) -> tuple[list[Turn], dict[str, tuple[float, float]] | None]:
        """The turns found in recordings, by their names, and how far these extend where that is known."""
        if self.hypotheses is not None:
            return read_rttm(self.hypotheses), None
        from wavconformer.audio import probe

        items = self._named(names, Path())
        outputs = self.run(Kind.diarization, items)
        found = [
            Turn(name, start, end, f"speaker{column}")
            for name, turns in outputs.items()
            for start, end, column in turns
        ]
        if self.output is not None:
            write_rttm(self.output / "hypothesis.rttm", found)
        lengths = {item.id: probe(source_of(item)).duration for item in items if item.id in outputs}
        return found, {name: (0.0, length) for name, length in lengths.items() if length is not None}

    def _named(self, names: Sequence[str], beside: Path) -> list[Utterance]:
        """The utterances that names mean: ids or files of a manifest, else files below the data, root or `beside`."""
        if self.data is not None and self.data.is_file():
            by_id = {item.id: item for item in utterances(self.data)}
            known = ids_by_name(list(by_id.values()))
            foreign = [name for name in names if name not in known]
            if foreign:
                raise DataError(
                    f"'{self.data}' has no utterance '{foreign[0]}' ({len(foreign)} of {len(names)} are missing)."
                )
            return [replace(by_id[known[name]], id=name) for name in names]
        folder = self.data or self.root or beside
        return [Utterance(id=name, audio=str(_with_suffix(folder / name))) for name in names]


def _with_suffix(path: Path) -> Path:
    """The file of that name, whose suffix may be left out; the path itself where there is none."""
    if path.is_file() or not path.parent.is_dir():
        return path
    from wavconformer.data.sources.folder import AUDIO_SUFFIXES

    candidates = (path.with_name(path.name + suffix) for suffix in sorted(AUDIO_SUFFIXES))
    return next((candidate for candidate in candidates if candidate.is_file()), path)


def _check_column(by: str, items: Sequence[Utterance]) -> None:
    """Refuses a column that no utterance has, unless nobody asked for it."""
    if by == BY or not items or any(item.group(by) is not None for item in items):
        return
    known = sorted({name for item in items for name in ("speaker", "label", *item.others) if item.group(name)})
    near = difflib.get_close_matches(by, known, n=1)
    advice = f"Did you mean {near[0]}?" if near else f"There are {', '.join(known) or 'none'}."
    raise DataError(f"No utterance has a column '{by}' to break scores down by. {advice}")


def _nothing(count: int, failures: Sequence[Failure]) -> str:
    first = f" The first: {failures[0].why}" if failures else ""
    return f"None of {count} could be scored.{first}"
