"""A corpus examined and made ready: the manifest that the trainer reads, and a report of what was refused and why.

While it runs, each finding is a line of a journal, in the order of the source. So a run that was interrupted goes on
behind the last line, and memory holds what is under way alone.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import signal
import threading
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from wavconformer.data.corpus import write_index
from wavconformer.data.examine import (
    BUILD,
    SPECIAL_TOKENS,
    Case,
    Examiner,
    Finding,
    Refused,
    Rules,
    written,
)
from wavconformer.data.manifest import MANIFEST_FILE, Manifest, open_manifest
from wavconformer.data.shards import ShardWriter, shard_number
from wavconformer.data.utterance import Utterance
from wavconformer.errors import DataError
from wavconformer.files import atomic, is_disk_full, write_json, write_text
from wavconformer.processing import Wav2Vec2CTCTokenizer

REFUSED_FILE = "refused.jsonl"
REPORT_FILE = "report.json"
READABLE_FILE = "report.txt"
_JOURNAL = ".journal.jsonl"
_CHUNK = 16  # utterances that a worker gets at once
_AHEAD = 3  # chunks under way, for each worker
_EXAMPLES = 10  # of each reason, in the readable report

Progress = Callable[[int, int], Any]
"""Called with how many utterances were examined, and how many there are."""


@dataclass
class Report:
    """What was found in a corpus.

    source, kind: where it is, and what it comes as. accepted, refused: utterances. seconds: sound of the accepted
    ones, shortest and longest of them. with_text, speakers: utterances with text; how many different speakers.
    labels, rates, characters, reasons: how often there is each label, sampling rate, character and reason.
    examples: of each reason some of the refused.
    """

    source: str
    kind: str
    accepted: int = 0
    refused: int = 0
    seconds: float = 0.0
    shortest: float | None = None
    longest: float | None = None
    with_text: int = 0
    speakers: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    rates: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        """The readable report."""
        total = self.accepted + self.refused
        lines = [
            f"{self.source} ({self.kind})",
            f"{self.accepted:,} of {total:,} utterances accepted, {self.seconds / 3600:,.2f} hours",
        ]
        if self.accepted:
            lines.append(
                f"lengths        {self.shortest:.2f} to {self.longest:.2f} s, "
                f"{self.seconds / self.accepted:.2f} s on average"
            )
            lines.append(f"recorded at    {', '.join(f'{rate} Hz: {n:,}' for rate, n in self.rates.most_common())}")
            lines.append(f"with text      {self.with_text:,}")
            lines.append(f"speakers       {self.speakers:,}")
        if self.labels:
            some = ", ".join(f"{label}: {n:,}" for label, n in self.labels.most_common(20))
            lines.append(f"labels         {some}{', …' if len(self.labels) > 20 else ''}")
        if self.characters:
            some = " ".join(character for character, _ in self.characters.most_common(200))
            lines.append(f"characters     {some}")
        lines.append("")
        lines.append(f"{self.refused:,} refused{':' if self.refused else ''}")
        for reason, count in self.reasons.most_common():
            lines.append(f"  {reason}: {count:,}")
            lines += [f"    {example}" for example in self.examples[reason]]
            if count > len(self.examples[reason]):
                lines.append(f"    … and {count - len(self.examples[reason]):,} more, in {REFUSED_FILE}")
        return "\n".join(lines)


def prepare(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    vocabulary: str | None = None,
    case: Case = "keep",
    split: float | None = None,
    pack: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Examines every utterance of a corpus, and writes a folder that the trainer reads.

    source: whatever `open_manifest` opens.
    folder: gets manifest.jsonl with its index, refused.jsonl, report.json and report.txt; recordings that had no file
        of their own go into shards in it.
    vocabulary: "build" to make a vocab.json of the texts' characters; or a vocab.json, or a checkpoint's name, that
        texts are checked against; None to leave texts unchecked.
    case: "upper" or "lower" to change the texts' letters.
    split: seconds; longer utterances without text are parted into equal stretches no longer than that, for pretraining.
    pack: copy recordings into shards, large tar files, which spares a file system millions of small files. Those of
        which a stretch alone is used stay where they are.
    workers: processes; one for each core by default, 0 for none besides this one.

    A run that was interrupted, by Ctrl-C or a crash, goes on where it stopped when it is called again.

    Raises DataError where the source is no corpus or can't be read, where the folder holds a half-done run of
    something else, and where nothing at all is accepted; CheckpointError for a vocabulary that can't be used.
    """
    if split is not None and not split > 0:
        raise ValueError(f"split must be a positive number of seconds, not {split}.")
    manifest, place = open_manifest(source), Path(folder)
    rules = Rules(vocabulary, case)
    examiner = Examiner(rules)  # which raises here if the vocabulary is amiss
    if manifest.path.resolve() in (place.resolve(), (place / MANIFEST_FILE).resolve()):
        raise DataError(f"'{place}' is the source itself: give another folder to write to.")
    place.mkdir(parents=True, exist_ok=True)
    heading = {"source": str(manifest.path.resolve()), "kind": manifest.kind, "pack": pack, **asdict(rules)}
    journal = _Journal(place, heading)
    total = manifest.count()
    count = _cores() if workers is None else workers
    try:
        with closing(journal):
            utterances = _behind(manifest, journal)
            if progress is not None:
                progress(journal.done, total)
            for utterance, finding in _examined(utterances, rules, examiner, count):
                journal.add(utterance, finding)
                if progress is not None:
                    progress(journal.done, total)
        report = _finish(place, journal, Report(str(manifest.path), manifest.kind), vocabulary == BUILD, split)
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise DataError(
            f"The disk that '{place}' is on is full, after {journal.done:,} of {total:,} utterances. Make room, and "
            "give the same command again: it goes on from there."
        ) from error
    if not report.accepted:
        reasons = ", ".join(f"{reason}: {n}" for reason, n in report.reasons.most_common()) or "it is empty"
        raise DataError(f"Nothing of '{source}' can be used ({reasons}). {place / READABLE_FILE} says more.")
    return report


class _Journal:
    """Findings so far, a line each, behind a line that says of what; and the shards of recordings without a file."""

    def __init__(self, folder: Path, heading: dict[str, Any]) -> None:
        self.path = folder / _JOURNAL
        self.done = 0
        self.last_id: str | None = None
        self._folder = folder
        self._pack = bool(heading["pack"])
        self._absolute = Path(os.path.abspath(folder))  # noqa: PTH100 (links stay as they are)
        shard, stop, end = 0, 0, 0
        if self.path.is_file():
            with self.path.open("rb") as file:
                for line in file:
                    entry = _parsed(line)
                    if entry is None:  # cut off: all behind it was never finished
                        break
                    if not end and entry != heading:
                        raise DataError(
                            f"'{folder}' holds a half-done run of {entry.get('source')}, or with other settings. "
                            f"Give another folder, or delete {self.path} to give that run up."
                        )
                    if end:
                        self.done += 1
                        self.last_id = entry["id"]
                        if entry.get("packed"):
                            shard, stop = shard_number(Path(entry["audio"])), entry["offset"] + entry["size"]
                    end += len(line)
        self._file: IO[bytes] = self.path.open("r+b" if end else "wb")
        self._file.truncate(end)
        self._file.seek(end)
        if not end:
            self._clear()
            self._write(heading)
        self._shards = ShardWriter(folder, shard, stop)

    def add(self, utterance: Utterance, finding: Finding) -> None:
        """Notes a finding, and keeps the recording if it has no file of its own."""
        if isinstance(finding, Refused):
            entry = asdict(finding)
        else:
            ready, data = finding.utterance, self._without_file(utterance)
            if data is not None:
                shard, offset = self._shards.write(ready.id, data)
                ready = replace(ready, audio=str(shard), offset=offset, size=len(data))
                self._shards.flush()  # before the line that tells of it
            entry = {**ready.as_dict(self._absolute), "rate": finding.rate}
            if data is not None:
                entry["packed"] = True
        self._write(entry)
        self.done += 1

    def _without_file(self, utterance: Utterance) -> bytes | None:
        """The recording of an utterance where it has no file of its own, or shall have none."""
        if isinstance(utterance.audio, bytes):
            return utterance.audio
        is_whole = utterance.offset is None and not utterance.start and utterance.end is None
        return Path(utterance.audio).read_bytes() if self._pack and is_whole else None

    def entries(self) -> Iterator[dict[str, Any]]:
        """All findings, one after another."""
        with self.path.open("rb") as file:
            next(file)
            yield from map(json.loads, file)

    def close(self) -> None:
        """What was noted stays."""
        self._file.close()
        self._shards.close()

    def _clear(self) -> None:
        """Takes away the shards of a former run, which would be written over, and what speaks of them."""
        shards = list(self._folder.glob("audio.*.tar"))
        for path in [self._folder / MANIFEST_FILE, *shards] if shards else []:
            path.unlink(missing_ok=True)

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
        self._file.flush()


def _parsed(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _behind(manifest: Manifest, journal: _Journal) -> Iterator[Utterance]:
    """The utterances that the journal doesn't have yet."""
    utterances = iter(manifest)
    if journal.done:
        last = next(islice(utterances, journal.done - 1, None), None)
        if last is None or written(last.id) != journal.last_id:
            raise DataError(
                f"'{manifest.path}' has changed since it was prepared in part. Delete {journal.path} to begin anew."
            )
    return utterances


# The workers


def _cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # of Linux alone
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _examined(
    utterances: Iterator[Utterance], rules: Rules, examiner: Examiner, workers: int
) -> Iterator[tuple[Utterance, Finding]]:
    """Each utterance with what is found of it, in order."""
    if not workers:
        for utterance in utterances:
            yield utterance, examiner(utterance)
        return
    waiting: deque[tuple[list[Utterance], Future[list[Finding]]]] = deque()
    with ExitStack() as stack:
        pool = _pool(stack, rules, workers)
        while True:
            while len(waiting) < workers * _AHEAD and (chunk := list(islice(utterances, _CHUNK))):
                waiting.append((chunk, pool.submit(_examine, chunk)))
            if not waiting:
                return
            chunk, future = waiting.popleft()
            try:
                findings = future.result()
            except BrokenProcessPool:  # a recording that makes a decoder crash takes its worker along
                findings = [_alone(utterance, rules) for utterance in chunk]
                pool = _pool(stack, rules, workers)
                waiting = deque((later, pool.submit(_examine, later)) for later, _ in waiting)
            yield from zip(chunk, findings, strict=True)


def _alone(utterance: Utterance, rules: Rules) -> Finding:
    """What is found of an utterance by a worker of its own, which may crash."""
    with ExitStack() as stack:
        try:
            return _pool(stack, rules, 1).submit(_examine, [utterance]).result()[0]
        except BrokenProcessPool:
            audio = "" if isinstance(utterance.audio, bytes) else utterance.audio
            return Refused(written(utterance.id), audio, "unreadable", "Reading it crashes the decoder: make it anew.")


def _pool(stack: ExitStack, rules: Rules, workers: int) -> ProcessPoolExecutor:
    # Started anew and not forked: threads of the parent's libraries don't survive a fork.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start, (rules,))
    stack.callback(pool.shutdown, wait=True, cancel_futures=True)
    return pool


_examiner: Examiner | None = None  # of a worker process


def _start(rules: Rules) -> None:
    global _examiner
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal; the parent sees to the end
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _examiner = Examiner(rules)


def _end_with_parent() -> None:
    """Ends a worker whose parent was killed: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _examine(chunk: list[Utterance]) -> list[Finding]:
    assert _examiner is not None
    return [_examiner(utterance) for utterance in chunk]


# The end


def _finish(folder: Path, journal: _Journal, report: Report, builds: bool, split: float | None) -> Report:
    """Writes the files of a journal that is complete, and takes the journal away."""
    twice = _given_twice(journal)
    seen: set[str] = set()
    speakers: set[str] = set()
    offsets, seconds, offset = array("q"), array("f"), 0
    with (
        atomic(folder / MANIFEST_FILE) as manifest_path,
        atomic(folder / REFUSED_FILE) as refused_path,
        manifest_path.open("wb") as manifest,
        refused_path.open("wb") as refused,
    ):
        for entry in journal.entries():
            if entry["id"] in seen:
                reason, detail = "given twice", "Its id was another utterance's before: ids must differ."
                entry = {"id": entry["id"], "audio": entry["audio"], "reason": reason, "detail": detail}
            if entry["id"] in twice and "reason" not in entry:
                seen.add(entry["id"])
            if "reason" in entry:
                refused.write(_line(entry))
                _count_refused(report, entry)
                continue
            for part in _parts(entry, split):
                _count_accepted(report, part, speakers)
                line = _line({key: value for key, value in part.items() if key not in ("rate", "packed")})
                manifest.write(line)
                offsets.append(offset)
                seconds.append(part["seconds"])
                offset += len(line)
    report.speakers = len(speakers)
    write_index(folder / MANIFEST_FILE, offsets, seconds)
    if builds and report.accepted:
        build_tokenizer(report.characters).save_pretrained(folder)
    write_json(folder / REPORT_FILE, vars(report))
    write_text(folder / READABLE_FILE, f"{report}\n")
    journal.path.unlink()
    return report


def _parts(entry: dict[str, Any], split: float | None) -> Iterator[dict[str, Any]]:
    """An accepted utterance, or its stretches where it has no text and is longer than `split` seconds."""
    if split is None or "text" in entry or entry["seconds"] <= split:
        yield entry
        return
    first, count = entry.get("start", 0.0), math.ceil(entry["seconds"] / split)
    length = entry["seconds"] / count
    for number in range(count):
        start, end = round(first + number * length, 4), round(first + (number + 1) * length, 4)
        stretch = {"start": start, "end": end, "seconds": round(end - start, 4)}
        yield {**entry, "id": f"{entry['id']}-{number:05d}", **stretch}


def build_tokenizer(characters: Counter[str]) -> Wav2Vec2CTCTokenizer:
    """A tokenizer of these characters, in their order, behind the special tokens; '|' stands for the space."""
    tokens = [*SPECIAL_TOKENS, *sorted(character for character in characters if character != " ")]
    return Wav2Vec2CTCTokenizer({token: index for index, token in enumerate(tokens)})


def _given_twice(journal: _Journal) -> set[str]:
    """Ids that more than one accepted utterance has; found by eight bytes of each, so that memory stays small."""

    def short(name: str) -> int:
        return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little", signed=True)

    hashes = np.sort(np.fromiter((short(entry["id"]) for entry in journal.entries() if "rate" in entry), np.int64))
    repeated = {int(one) for one in hashes[1:][hashes[1:] == hashes[:-1]]}
    if not repeated:
        return set()
    names = Counter(entry["id"] for entry in journal.entries() if "rate" in entry and short(entry["id"]) in repeated)
    return {name for name, count in names.items() if count > 1}


def _count_accepted(report: Report, entry: dict[str, Any], speakers: set[str]) -> None:
    length = entry["seconds"]
    report.accepted += 1
    report.seconds += length
    report.shortest = length if report.shortest is None else min(length, report.shortest)
    report.longest = length if report.longest is None else max(length, report.longest)
    report.rates[str(entry["rate"])] += 1
    if "text" in entry:
        report.with_text += 1
        report.characters.update(entry["text"])
    if "speaker" in entry:
        speakers.add(entry["speaker"])
    if "label" in entry:
        report.labels[entry["label"]] += 1


def _count_refused(report: Report, entry: dict[str, Any]) -> None:
    report.refused += 1
    report.reasons[entry["reason"]] += 1
    examples = report.examples.setdefault(entry["reason"], [])
    if len(examples) < _EXAMPLES:
        examples.append(f"{entry['id']}: {entry['detail']}")


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=False).encode() + b"\n"
