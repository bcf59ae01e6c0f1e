"""lhotse's manifests and its Shar folders."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from wavconformer.data.utterance import Utterance
from wavconformer.errors import DataError


def read_cuts(path: Path) -> Iterator[Utterance]:
    """The utterances of a manifest of cuts; each supervision of a cut is one, a cut without is one without text."""
    for cut in _items(path):
        yield from _of_cut(cut, path)


def read_recordings(recordings: Path, supervisions: Path | None) -> Iterator[Utterance]:
    """The utterances of a manifest of recordings with the supervisions that belong to them.

    Memory stays flat where both are in one order.
    """
    waiting: dict[str, list[Any]] = {}
    groups = iter(()) if supervisions is None else _grouped(_items(supervisions))
    for recording in _items(recordings):
        while recording.id not in waiting:
            group = next(groups, None)
            if group is None:
                break
            waiting.setdefault(group[0].recording_id, []).extend(group)
        segments = waiting.pop(recording.id, [])
        audio = _audio(recording, range(recording.num_channels), recordings)
        if not segments:
            yield Utterance(id=recording.id, audio=audio)
        for segment in segments:
            _check_channels(recording, segment.channel, segment.id, recordings)
            yield _utterance(segment, audio=audio, start=segment.start, end=segment.end)


def read_shar(folder: Path) -> Iterator[Utterance]:
    """The utterances of a Shar folder; each has the place of its recording in the shard, and nothing is unpacked."""
    cuts, shards = shar_files(folder)
    for manifest, shard in zip(cuts, shards, strict=True):
        members = _pairs(shard)
        for cut in _items(manifest):
            member = next(members, None)
            if member is None:
                raise DataError(f"'{shard}' ends before the cut '{cut.id}' of '{manifest.name}': it is cut off.")
            if str(Path(member.name).with_suffix("")) != cut.id:
                raise DataError(f"'{shard}': '{member.name}' stands where the recording of the cut '{cut.id}' must be.")
            if member.name.endswith(".nodata"):
                raise DataError(f"'{shard}': the cut '{cut.id}' has no recording in it.")
            place: dict[str, Any] = {"audio": str(shard), "offset": member.offset_data, "size": member.size}
            _check_channels(cut.recording, cut.channel, cut.id, manifest)
            segments = cut.supervisions
            if len(segments) == 1 and _covers(segments[0], cut):
                yield _utterance(segments[0], id=cut.id, **place)
            elif not segments:
                yield Utterance(id=cut.id, **place)
            else:
                for segment in segments:
                    start, end = max(0.0, segment.start), min(segment.end, cut.duration)
                    yield _utterance(segment, start=start, end=end, **place)


def count_shar(folder: Path) -> int:
    """How many utterances a Shar folder has, by its manifests alone."""
    return sum(max(1, len(cut.supervisions)) for manifest in shar_files(folder)[0] for cut in _items(manifest))


def shar_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The manifests of cuts and the shards of recordings of a Shar folder."""
    cuts, shards = sorted(folder.glob("cuts.*.jsonl*")), sorted(folder.glob("recording.*.tar"))
    if len(cuts) != len(shards):
        raise DataError(
            f"'{folder}' holds {len(cuts)} files cuts.*.jsonl and {len(shards)} files recording.*.tar: there must be "
            "a shard of recordings, not packed further, for each of cuts."
        )
    return cuts, shards


def kind_of_item(item: dict[str, Any]) -> str | None:
    """What a line of a JSONL manifest of lhotse's holds: 'cuts', 'recordings' or 'supervisions'; None if not its."""
    if "Cut" in str(item.get("type", "")):
        return "cuts"
    if "sources" in item and "sampling_rate" in item:
        return "recordings"
    return "supervisions" if "recording_id" in item and "duration" in item else None


def _items(path: Path) -> Iterator[Any]:
    try:
        from lhotse.serialization import load_manifest_lazy
    except ImportError as error:
        raise DataError(f"'{path}' needs lhotse to be read ({error}): pip install 'wavconformer[train]'.") from error
    try:
        yield from load_manifest_lazy(path)
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, OSError) as error:
        raise DataError(
            f"'{path}' can't be read as a manifest of lhotse's ({error or type(error).__name__})."
        ) from error


def _grouped(segments: Iterable[Any]) -> Iterator[list[Any]]:
    """Neighbours of one recording together."""
    group: list[Any] = []
    for segment in segments:
        if group and segment.recording_id != group[0].recording_id:
            yield group
            group = []
        group.append(segment)
    if group:
        yield group


def _of_cut(cut: Any, path: Path) -> Iterator[Utterance]:
    if getattr(cut, "recording", None) is None:
        raise DataError(
            f"'{path}': '{cut.id}', a {type(cut).__name__}, has no recording of its own. Mixed cuts and those with "
            "features alone can't be read: save their audio first (CutSet.save_audios, or to_shar)."
        )
    audio = _audio(cut.recording, cut.channel, path)
    _check_channels(cut.recording, cut.channel, cut.id, path)
    segments = cut.supervisions
    if not segments:
        yield Utterance(id=cut.id, audio=audio, **_stretch(cut, cut.start, cut.end))
    elif len(segments) == 1 and _covers(segments[0], cut):
        yield _utterance(segments[0], id=cut.id, audio=audio, **_stretch(cut, cut.start, cut.end))
    else:
        for segment in segments:  # whose times count from the cut's start
            start, end = max(cut.start, cut.start + segment.start), min(cut.end, cut.start + segment.end)
            yield _utterance(segment, audio=audio, start=start, end=end)


def _covers(segment: Any, cut: Any) -> bool:
    return bool(abs(segment.start) < 0.01 and abs(segment.end - cut.duration) < 0.01)


def _stretch(cut: Any, start: float, end: float) -> dict[str, Any]:
    """Of the recording; nothing where it is all of it."""
    whole = start == 0 and abs(end - cut.recording.duration) < 0.01
    return {} if whole else {"start": start, "end": end}


def _utterance(segment: Any, **place: Any) -> Utterance:
    label = (segment.custom or {}).get("label")
    known = {
        "id": segment.id,
        "text": segment.text,
        "speaker": segment.speaker,
        "label": None if label is None else str(label),
    }
    return Utterance(**{**known, **place})


def _audio(recording: Any, channels: Any, path: Path) -> str | bytes:
    if recording.transforms:
        raise DataError(
            f"'{path}': the recording '{recording.id}' is to be transformed when it is read: save it so "
            "(CutSet.save_audios), or leave that to the recipe's augmentation."
        )
    if len(recording.sources) != 1 or recording.sources[0].type not in ("file", "memory"):
        kinds = ", ".join(sorted({source.type for source in recording.sources}))
        raise DataError(
            f"'{path}': the recording '{recording.id}' must have one source, a file, and not {kinds}: commands and "
            "addresses in a manifest are never followed. Save it as a file first."
        )
    source = recording.sources[0].source
    if isinstance(source, bytes):
        return source
    beside = path.parent / source
    return str(beside if not Path(source).exists() and beside.exists() else source)


def _check_channels(recording: Any, channel: Any, name: str, path: Path) -> None:
    """Refuses a part of the channels: they are mixed down, and the others would be heard too."""
    chosen = channel if isinstance(channel, list) else [channel]
    if len(recording.channel_ids) > len(chosen):
        raise DataError(
            f"'{path}': '{name}' is channel {', '.join(map(str, chosen))} of the {len(recording.channel_ids)} of its "
            "recording, and channels are mixed down here. Save it by itself first (CutSet.save_audios, or to_shar)."
        )


def _pairs(shard: Path) -> Iterator[tarfile.TarInfo]:
    """The recordings in a shard, each of which has its description behind it."""
    try:
        with tarfile.open(shard, "r:") as tar:
            for number, member in enumerate(tar):
                tar.members = []  # type: ignore[attr-defined]  # it would remember them all
                if number % 2 == 0:
                    yield member
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"'{shard}' can't be read as a tar file ({error}).") from error
