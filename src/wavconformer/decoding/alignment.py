"""A text laid along a recording: lines, words and characters with their times, and how well each fits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavconformer.decoding.evidence import Evidence
from wavconformer.decoding.lattice import Lattice, Path, best_path, may_skip, viterbi
from wavconformer.decoding.spelling import WILDCARD, Spelling

# Nats that a frame of audio without text costs between two lines, beyond the model's own best guess: more than silence
# (a blank, which costs nothing there), less than to lay a text on it that isn't said.
STAR = 0.5
# Nats that a line costs, for each of its labels, that is left out because it isn't said.
LEFT_OUT = 4.0
# Nats that a silent frame within a word costs: words have no long pauses, though CTC would allow it for nothing.
HALT = 0.1
# The same between words: a line has pauses, but a word belongs to its neighbours rather than to the line before.
PAUSE = 0.1
# Nats that a frame of a word costs besides where nothing sounds.
QUIET = 1.0
# Less foreign speech than this, in seconds of frames that aren't silent, isn't told of.
LEAST_UNTRANSCRIBED = 0.2

# Nats of the cubic mean of a line's labels at which its score is 1 / e: a score of 0.15 parts lines that are said from
# such that aren't best, whether the model hears badly or well.
_SCALE = 2.5

# Frames before a line's first word and after its last, for each label of their longest reading, in which other readings
# of these are tried.
_AROUND = 5

# Frames between the lines that are heard, at most, in which the readings of one that isn't are tried: each try goes
# through all of them.
_LONGEST_GAP = 3_000

# The columns of the costs before those of the vocabulary's labels.
_PAUSE, _HALT, _BORDER, _WILD = range(4)


@dataclass(frozen=True)
class AlignedCharacter:
    """A character of the text as written, and when it is heard, in seconds.

    is_interpolated: it has no label of its own (a mark, a digit that was read out): its time is that between others.
    """

    text: str
    start: float
    end: float
    is_interpolated: bool = False


@dataclass(frozen=True)
class AlignedWord:
    """A word as written, with the marks at its sides, and when it is heard, in seconds.

    score: from 0 to 1, how well the audio fits it; None for a word that the vocabulary can't spell.
    is_interpolated: its time is guessed: such a word, or one of a line that isn't heard.
    """

    text: str
    start: float
    end: float
    score: float | None
    characters: tuple[AlignedCharacter, ...]
    is_interpolated: bool = False


@dataclass(frozen=True)
class AlignedLine:
    """A line of the text and when it is heard, in seconds.

    number: that of the line in the text, from 1. score: from 0 to 1, how well the audio fits it; 0 where it isn't heard
    at all; None where no word of it can be spelled. is_interpolated: it isn't heard: its time is that between others.
    """

    number: int
    text: str
    start: float
    end: float
    score: float | None
    words: tuple[AlignedWord, ...]
    is_interpolated: bool = False


@dataclass(frozen=True)
class Untranscribed:
    """A stretch of speech, in seconds, that the text doesn't have."""

    start: float
    end: float


@dataclass(frozen=True)
class Alignment:
    """A text and when each part of it is heard.

    lines: in their order; those in which nothing is said are left out. score: the mean of the lines' scores, each
    weighed by its length. untranscribed: speech before, between and after the lines that no line has.
    duration: seconds of audio. is_optimal: whether it is proven that no other alignment fits better; else none does
    that the search kept in sight.
    """

    lines: tuple[AlignedLine, ...]
    score: float
    untranscribed: tuple[Untranscribed, ...]
    duration: float
    is_optimal: bool

    @property
    def words(self) -> tuple[AlignedWord, ...]:
        """Those of all lines."""
        return tuple(word for line in self.lines for word in line.words)

    @property
    def text(self) -> str:
        """The lines, one below the other."""
        return "\n".join(line.text for line in self.lines)

    def bad_lines(self, threshold: float) -> tuple[AlignedLine, ...]:
        """Lines whose score is below the threshold."""
        return tuple(line for line in self.lines if line.score is not None and line.score < threshold)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class SpelledLine:
    """A line, its number in the text from 1, and its words as they are spelled; at least one."""

    number: int
    text: str
    words: tuple[Spelling, ...]


class LineLattice:
    """The lattice of a text's lines, with what may be heard between them.

    Within a line it is that of CTC, with the delimiter between words. Before, between and after the lines stands one
    state each, the border, whose frames may be blank, delimiter or, for `STAR`, anything: audio without text. From
    border to border a jump leaves the line between out, for `LEFT_OUT` a label. A wildcard's frames may be anything,
    too.
    """

    def __init__(
        self, lines: Sequence[SpelledLine], labels: Sequence[int], delimiter: int | None, *, may_leave_out: bool = True
    ) -> None:
        self.lines = lines
        self._delimiter = None if delimiter is None else list(labels).index(delimiter)
        column = {label: place + _WILD for place, label in enumerate(labels)} | {WILDCARD: _WILD}
        columns = [_BORDER]
        borders = [0]
        self.first: list[list[int]] = []  # of each line's words the state of the first label
        for line in lines:
            places: list[int] = []
            for word in line.words:
                if places and delimiter is not None:
                    columns += [column[delimiter], _PAUSE]
                places.append(len(columns))
                for label in word.labels:
                    columns += [column[label], _HALT]
                columns[-1] = _PAUSE
            columns[-1] = _BORDER
            self.first.append(places)
            borders.append(len(columns) - 1)
        self.borders = np.array(borders)
        lengths = np.diff(self.borders) / 2
        array = np.array(columns, np.int64)
        skips = may_skip(array, array >= _WILD)
        if may_leave_out:
            self.lattice = Lattice(array, skips, self.borders[:-1], self.borders[1:], LEFT_OUT * lengths)
        else:
            self.lattice = Lattice(array, skips)

    def costs(self, evidence: Evidence) -> NDArray[np.float32]:
        """(T, U) costs of the lattice's columns."""
        costs = np.empty((len(evidence), _WILD + len(evidence.labels)), np.float32)
        costs[:, _PAUSE] = evidence.costs[:, 0] + PAUSE
        costs[:, _BORDER] = np.minimum(self._silence(evidence), STAR)
        costs[:, _WILD] = STAR
        costs[:, _WILD + 1 :] = evidence.costs[:, 1:]
        costs[:, _HALT] = evidence.costs[:, 0] + HALT
        costs[evidence.is_quiet, _HALT] += QUIET
        if self._delimiter is None:
            costs[evidence.is_quiet, _WILD:] += QUIET
        else:
            costs[evidence.is_quiet, _WILD : _WILD + self._delimiter] += QUIET
            costs[evidence.is_quiet, _WILD + self._delimiter + 1 :] += QUIET
        return costs

    def paid(self, evidence: Evidence, path: Path) -> NDArray[np.float32]:
        """(T,) what the frames of a path say against the labels that it has there, nothing for a wildcard."""
        column = self.lattice.columns[path.states]
        found: NDArray[np.float32] = evidence.costs[np.arange(len(evidence)), (column - _WILD).clip(min=0)]
        return np.where(column == _WILD, np.float32(0), found)

    def is_speech(self, evidence: Evidence, path: Path) -> NDArray[np.bool_]:
        """(T,) whether a frame is audio between lines that isn't silent."""
        is_border = self.lattice.columns[path.states] == _BORDER
        heard: NDArray[np.bool_] = is_border & (self._silence(evidence) > STAR)
        return heard

    def _silence(self, evidence: Evidence) -> NDArray[np.float32]:
        blank = evidence.costs[:, 0]
        return blank if self._delimiter is None else np.minimum(blank, evidence.costs[:, self._delimiter])


def labels_of(lines: Sequence[SpelledLine], blank: int, delimiter: int | None) -> tuple[int, ...]:
    """The labels that it takes to align lines, in any reading: the blank first."""
    spellings = [spelling for line in lines for word in line.words for spelling in (word, *word.others)]
    labels = {label for spelling in spellings for label in spelling.labels} - {WILDCARD, blank}
    return (blank, *sorted(labels | (set() if delimiter is None else {delimiter})))


def align_lines(lines: Sequence[SpelledLine], evidence: Evidence, delimiter: int | None) -> Alignment:
    """Lays lines along a recording.

    evidence: of all labels that `labels_of` gives. delimiter: the label between words, if there is one.

    Words with several readings are laid along in their first; where another fits the frames round the word better, all
    is done once more with that.

    Raises ValueError where there are not more frames than lines.
    """
    found = _Found(LineLattice(lines, evidence.labels, delimiter), evidence)
    chosen = [_read_best(line, number, found, delimiter) for number, line in enumerate(lines)]
    if any(new is not old for new, old in zip(chosen, lines, strict=True)):
        found = _Found(LineLattice(chosen, evidence.labels, delimiter), evidence)
    return _Reader(found).alignment()


class _Found:
    """The best path of lines through a recording's frames."""

    def __init__(self, lattice: LineLattice, evidence: Evidence) -> None:
        self.lattice = lattice
        self.evidence = evidence
        self.path = best_path(lattice.costs(evidence), lattice.lattice, usual=STAR)
        states = np.arange(len(lattice.lattice))
        self._from = np.searchsorted(self.path.states, states, "left")
        self._to = np.searchsorted(self.path.states, states, "right")

    def frames(self, state: int) -> tuple[int, int]:
        """The first frame of a state and the one after its last; of a state that is left out the two are equal."""
        return int(self._from[state]), int(self._to[state])

    def is_left_out(self, number: int) -> bool:
        start, end = self.frames(self.lattice.first[number][0])
        return start == end

    def gap(self, number: int) -> tuple[int, int]:
        """The frames that a line which is left out may be heard in: those between its neighbours that are heard."""
        before = next((one for one in range(number - 1, -1, -1) if not self.is_left_out(one)), None)
        after = next((one for one in range(number + 1, len(self.lattice.lines)) if not self.is_left_out(one)), None)
        return (
            0 if before is None else self.word_frames(before, -1)[1],
            len(self.path.states) if after is None else self.word_frames(after, 0)[0],
        )

    def word_frames(self, number: int, place: int) -> tuple[int, int]:
        """Those of a line's word."""
        first = self.lattice.first[number][place]
        last = first + 2 * (len(self.lattice.lines[number].words[place].labels) - 1)
        return self.frames(first)[0], self.frames(last)[1]


def _read_best(line: SpelledLine, number: int, found: _Found, delimiter: int | None) -> SpelledLine:
    """The line with each word in the reading that fits best the frames from the word before it to that behind it.

    A line that is left out, maybe because its first readings aren't said, has all frames up to its neighbours.
    """
    if not any(word.others for word in line.words):
        return line
    is_left_out = found.is_left_out(number)
    gap = found.gap(number) if is_left_out else (0, 0)
    if gap[1] - gap[0] > _LONGEST_GAP:
        return line
    words = list(line.words)
    for place, word in enumerate(line.words):
        if not word.others:
            continue
        if is_left_out:
            before, after = words[:place], words[place + 1 :]
            start, end = gap
        else:
            before, after = words[max(0, place - 1) : place], words[place + 1 : place + 2]
            around = _AROUND * max(len(reading.labels) for reading in (word, *word.others))
            start = found.word_frames(number, max(0, place - 1))[0] - (0 if before else around)
            end = found.word_frames(number, min(place + 1, len(words) - 1))[1] + (0 if after else around)
        evidence = found.evidence.part(max(0, start), end)
        costs = {}
        for reading in (word, *word.others):
            part = SpelledLine(0, "", (*before, reading, *after))
            lattice = LineLattice([part], evidence.labels, delimiter, may_leave_out=False)
            if lattice.lattice.least_frames()[:2].min() < len(evidence):
                costs[reading] = viterbi(lattice.costs(evidence), lattice.lattice).cost
        words[place] = min(costs, key=lambda reading: costs[reading], default=word)
    if words == list(line.words):
        return line
    return SpelledLine(line.number, line.text, tuple(words))


class _Reader:
    """Reads times and scores from a path."""

    def __init__(self, found: _Found) -> None:
        self.found = found
        self.lines = found.lattice.lines
        self._seconds = found.evidence.seconds_per_frame
        self._paid = np.concatenate([[0.0], np.cumsum(found.lattice.paid(found.evidence, found.path), dtype=float)])
        self._speech = np.flatnonzero(found.lattice.is_speech(found.evidence, found.path))
        self._sound = np.flatnonzero(~found.evidence.is_quiet)

    def alignment(self) -> Alignment:
        lines: list[AlignedLine] = []
        untranscribed: list[Untranscribed] = []
        waiting: list[int] = []
        end = 0
        for number in [*range(len(self.lines)), None]:
            if number is not None and self.found.is_left_out(number):
                waiting.append(number)
                continue
            start = len(self.found.path.states) if number is None else self.found.word_frames(number, 0)[0]
            speech = self._speech[slice(*np.searchsorted(self._speech, [end, start]))]
            if len(speech) * self._seconds >= LEAST_UNTRANSCRIBED:
                untranscribed.append(Untranscribed(self._at(speech[0]), self._at(speech[-1] + 1)))
            gap = (int(speech[0]), int(speech[-1]) + 1) if len(speech) else (end, end)
            lines += self._left_out(waiting, *gap)
            waiting = []
            if number is not None:
                lines.append(self._line(number))
                end = self.found.word_frames(number, -1)[1]
        duration = round(self.found.evidence.duration, 3)
        return Alignment(tuple(lines), _mean(lines), tuple(untranscribed), duration, self.found.path.is_optimal)

    def _at(self, frame: float) -> float:
        return round(float(frame) * self._seconds, 3)

    def _line(self, number: int) -> AlignedLine:
        line = self.lines[number]
        heard = [self._label_costs(number, place) for place in range(len(line.words))]
        words = tuple(self._word(word, number, place, heard[place]) for place, word in enumerate(line.words))
        score = _score(np.concatenate(heard))
        return AlignedLine(line.number, line.text, words[0].start, words[-1].end, score, words)

    def _label_frames(self, number: int, place: int) -> list[tuple[int, int]]:
        """Those of each label of a line's word."""
        first = self.found.lattice.first[number][place]
        count = len(self.lines[number].words[place].labels)
        return [self.found.frames(first + 2 * label) for label in range(count)]

    def _sounding(self, number: int, place: int) -> list[tuple[int, int]]:
        """The frames of each label of a word, without silence at its edges: a model may name a letter before it sounds.

        Where nothing sounds before the next word they are as they are.
        """
        frames = self._label_frames(number, place)
        start, end = frames[0][0], frames[-1][1]
        is_last = place == len(self.lines[number].words) - 1
        until = end if is_last else self.found.word_frames(number, place + 1)[0]
        sound = self._sound[slice(*np.searchsorted(self._sound, [start, until]))]
        if not len(sound):
            return frames
        first = int(sound[0])
        last = int(sound[sound < end].max(initial=first)) + 1
        inside = [(min(max(one, first), last), min(max(other, first), last)) for one, other in frames]
        final = inside[-1][0]
        return [*inside[:-1], (final, max(inside[-1][1], min(final + 1, last)))]

    def _label_costs(self, number: int, place: int) -> NDArray[np.float64]:
        """What the audio says against each label of a word, wildcards left out: from its first frame to the next's."""
        words = self.lines[number].words
        edges = [start for start, _ in self._label_frames(number, place)]
        is_last = place == len(words) - 1
        edges.append(self.found.word_frames(number, place if is_last else place + 1)[1 if is_last else 0])
        costs = np.diff(self._paid[edges])
        return costs[[label != WILDCARD for label in words[place].labels]]

    def _word(self, word: Spelling, number: int, place: int, costs: NDArray[np.float64]) -> AlignedWord:
        frames = self._sounding(number, place)
        start, end = frames[0][0], frames[-1][1]
        heard: list[tuple[int, int] | None] = [None] * len(word.text)
        for label, sign, span in zip(word.labels, word.places, frames, strict=True):
            if sign is not None and label != WILDCARD:
                known = heard[sign]
                heard[sign] = span if known is None else (known[0], span[1])
        characters = self._characters(word.text, heard, start, end)
        return AlignedWord(
            word.text, self._at(start), self._at(end), _score(costs), characters, is_interpolated=word.is_wildcard
        )

    def _characters(
        self, text: str, heard: Sequence[tuple[int, int] | None], start: float, end: float
    ) -> tuple[AlignedCharacter, ...]:
        """Of each character its time; those that aren't heard share the time between those that are."""
        found: list[AlignedCharacter] = []
        place = 0
        while place < len(text):
            span = heard[place]
            if span is not None:
                found.append(AlignedCharacter(text[place], self._at(span[0]), self._at(span[1])))
                start = span[1]
                place += 1
                continue
            after = next((other for other in range(place, len(text)) if heard[other] is not None), len(text))
            following = heard[after] if after < len(text) else None
            until = end if following is None else following[0]
            edges = np.linspace(start, max(start, until), after - place + 1)
            for number in range(after - place):
                times = self._at(edges[number]), self._at(edges[number + 1])
                found.append(AlignedCharacter(text[place + number], *times, is_interpolated=True))
            place = after
        return tuple(found)

    def _left_out(self, numbers: Sequence[int], start: int, end: int) -> list[AlignedLine]:
        """Lines that aren't heard, spread over the frames that they may have in place of others."""
        words = [word for number in numbers for word in self.lines[number].words]
        lengths = np.cumsum([0, *(len(word.labels) for word in words)])
        edges = iter(start + (end - start) * lengths / max(lengths[-1], 1))
        since = next(edges)
        lines = []
        for number in numbers:
            found = []
            for word in self.lines[number].words:
                until = next(edges)
                characters = self._characters(word.text, [None] * len(word.text), since, until)
                found.append(AlignedWord(word.text, self._at(since), self._at(until), 0.0, characters, True))
                since = until
            line = self.lines[number]
            lines.append(AlignedLine(line.number, line.text, found[0].start, found[-1].end, 0.0, tuple(found), True))
        return lines


def _score(costs: NDArray[np.float64]) -> float | None:
    """From 0 to 1: how well the audio fits labels, from what it says against each of them; None where there are none.

    The cubic mean, for which a few labels that aren't there at all weigh more than many that are heard badly. It told
    damaged lines from whole ones better than the plain mean, the mean square, the worst word or the mean of the frames.
    """
    return round(math.exp(-(float(np.mean(costs**3)) ** (1 / 3)) / _SCALE), 4) if len(costs) else None


def _mean(lines: Sequence[AlignedLine]) -> float:
    """The mean score of lines by their length."""
    scored = [(line.score, len(line.text)) for line in lines if line.score is not None]
    length = sum(length for _, length in scored)
    return round(sum(score * length for score, length in scored) / length, 4) if length else 0.0
