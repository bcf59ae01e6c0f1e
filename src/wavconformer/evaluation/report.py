"""The page of an evaluation: one file with scores, tables, word diffs and players, which asks no other for anything."""

from __future__ import annotations

import base64
import io
import os
import wave
from collections.abc import Iterable, Sequence
from html import escape
from math import isfinite
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from wavconformer.audio import SAMPLE_RATE
from wavconformer.data.utterance import Utterance
from wavconformer.errors import AudioError
from wavconformer.evaluation.run import load
from wavconformer.scoring.classes import ClassScores
from wavconformer.scoring.diarization import PARTS, DiarizationScores, RecordingErrors
from wavconformer.scoring.intervals import CONFIDENCE, Interval
from wavconformer.scoring.verification import Curve, VerificationScores
from wavconformer.scoring.words import Group, Pair, Rate, WordScores

if TYPE_CHECKING:
    from wavconformer.evaluation.evaluate import Evaluation

# What browsers play as it is.
_PLAYED = {
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
}
_MOST_BYTES = 1_000_000  # of one recording in the page; a longer one is linked
_MOST_BYTES_IN_ALL = 12_000_000
_MOST_ROWS = 200
_MOST_CLASSES = 40  # as many as a matrix can be looked at

_STYLE = """
:root{color-scheme:light dark;--ground:#fbfaf7;--card:#fff;--ink:#1d1c1a;--soft:#66625a;--line:#e2ded4;--mark:#2f6f64;
--sub:#8a5300;--sub-b:#fdeecf;--del:#a3231f;--del-b:#fde3e0;--ins:#1c5a96;--ins-b:#dfecfa}
@media (prefers-color-scheme:dark){:root{--ground:#171614;--card:#201f1c;--ink:#ece8e0;--soft:#a39d92;--line:#37342f;
--mark:#6fbfb0;--sub:#f2bd63;--sub-b:#3d2f12;--del:#ff9a91;--del-b:#432019;--ins:#8fc1f5;--ins-b:#182f47}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:62rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 .4rem;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2.4rem 0 .7rem}
p{margin:.4rem 0;max-width:44rem}
.soft{color:var(--soft)}.small{font-size:.875rem}
.scores{display:grid;grid-template-columns:repeat(auto-fit,minmax(10rem,1fr));gap:.8rem;margin:1.2rem 0 0}
.card{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.9rem 1rem}
.figure{font-size:1.75rem;font-weight:650;line-height:1.2;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:.6rem;background:var(--card)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.9375rem}
th,td{padding:.4rem .75rem;text-align:right;white-space:nowrap;border-top:1px solid var(--line)}
th:first-child,td:first-child{text-align:left}
thead th{border-top:0;font-weight:600;color:var(--soft);font-size:.8125rem}
td.name{white-space:normal;overflow-wrap:anywhere;min-width:7rem}
td.range{width:25%}
.range svg{display:block;width:100%;height:.9rem;min-width:8rem}
.range line{stroke:var(--mark);stroke-width:3;stroke-linecap:round;opacity:.45;vector-effect:non-scaling-stroke}
.range line.at{stroke-width:8;opacity:1}
article{margin:0 0 .8rem}
article header{display:flex;flex-wrap:wrap;gap:.2rem 1rem;align-items:baseline;justify-content:space-between}
article header b{overflow-wrap:anywhere;font-weight:600}
audio{display:block;width:100%;max-width:26rem;height:2.25rem;margin:.6rem 0 .2rem}
.diff{display:flex;flex-wrap:wrap;gap:.5rem .3rem;margin:.6rem 0 0;padding:0;list-style:none}
.diff li{display:grid;grid-template-rows:auto auto;padding:.1rem .35rem;border-radius:.3rem;min-width:0}
.diff span{overflow-wrap:anywhere;min-height:1.5em}
.diff .h{color:var(--soft);font-size:.9375rem}
.diff .substitute{background:var(--sub-b)}.diff .substitute .h{color:var(--sub);font-weight:600}
.diff .delete{background:var(--del-b)}.diff .delete .r{color:var(--del);text-decoration:line-through}
.diff .insert{background:var(--ins-b)}.diff .insert .h{color:var(--ins);font-weight:600}
.legend{display:flex;flex-wrap:wrap;gap:.3rem .9rem;margin:.2rem 0 .9rem;padding:0;list-style:none}
.legend li::before{content:"";display:inline-block;width:.8rem;height:.8rem;border-radius:.2rem;margin-right:.35rem;
vertical-align:-.08rem;border:1px solid var(--line)}
.legend .substitute::before{background:var(--sub-b);border-color:var(--sub)}
.legend .delete::before{background:var(--del-b);border-color:var(--del)}
.legend .insert::before{background:var(--ins-b);border-color:var(--ins)}
@media (max-width:40rem){th,td{padding:.35rem .45rem}table{font-size:.875rem}.wide{display:none}
.figure{font-size:1.5rem}td.name{min-width:6.5rem}}
.matrix td,.matrix th{text-align:center;padding:.35rem .5rem;min-width:2.6rem}
.matrix th:first-child{text-align:left}
.det{display:block;width:100%;max-width:30rem;height:auto;font-size:11px;fill:var(--soft)}
.det .grid{stroke:var(--line)}.det .curve{fill:none;stroke:var(--mark);stroke-width:2}.det .eer{fill:var(--ink)}
"""


def page(evaluation: Evaluation, folder: Path, *, worst: int = 20) -> str:
    """The page as HTML.

    folder: where it will be, which links to recordings start from. worst: utterances to show, with their recordings.

    Recordings of up to 1 MB are in the page itself, as far as 12 MB go; longer ones are linked.
    """
    scores = evaluation.scores
    if isinstance(scores, WordScores):
        body = _words(evaluation, scores, folder, worst)
    elif isinstance(scores, ClassScores):
        body = _classes(scores)
    elif isinstance(scores, VerificationScores):
        body = _verification(scores)
    else:
        body = _diarization(scores)
    title = f"{Path(evaluation.model).name} on {Path(evaluation.data).name}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n{body}\n{_failures(evaluation)}\n</main>\n</body>\n</html>\n"
    )


# What is scored


def _words(evaluation: Evaluation, scores: WordScores, folder: Path, worst: int) -> str:
    count = len(scores.pairs)
    decoding = "" if evaluation.decoding is None else f" Decoding: {escape(evaluation.decoding)}."
    parts = [
        f'<p class="soft">{_count(count, "utterance")}, {_number(scores.wer.length)} words; {_number(scores.wrong)} '
        f"with an error ({_percent(scores.wrong / count)}). Compared: {escape(scores.normalisation.description)}."
        f"{decoding}</p>",
        '<div class="scores">',
        _card("Word error rate", scores.wer.value, scores.wer.interval),
        _card("Character error rate", scores.cer.value, scores.cer.interval),
        "</div>",
        f'<p class="soft small">Intervals of {CONFIDENCE:.0%}: bootstrap over utterances (Bisani &amp; Ney 2004).</p>',
        "<h2>Errors</h2>",
        _table(
            ("", "words", "characters"),
            [
                (name, *(_number(getattr(rate, attribute)) for rate in (scores.wer, scores.cer)))
                for name, attribute in (
                    ("in the references", "length"),
                    ("substituted", "substitutions"),
                    ("deleted", "deletions"),
                    ("inserted", "insertions"),
                    ("errors in all", "errors"),
                )
            ],
        ),
    ]
    if scores.groups:
        parts += [f"<h2>By {escape(evaluation.by)}</h2>", _groups(scores.groups)]
    pairs = scores.worst(worst)
    if pairs:
        players = _Players(folder)
        parts += [
            f"<h2>The {len(pairs)} worst utterances</h2>" if len(pairs) > 1 else "<h2>The worst utterance</h2>",
            '<p class="soft small">Above what is said, below what was heard.</p>',
            '<ul class="legend small soft"><li class="substitute">heard otherwise</li><li class="delete">not heard'
            '</li><li class="insert">heard, but not said</li></ul>',
            *(_utterance(pair, evaluation.recordings.get(pair.id), players) for pair in pairs),
        ]
    return "\n".join(parts)


def _groups(groups: Sequence[Group]) -> str:
    shown = groups[:_MOST_ROWS]
    most = max([_top(group.wer) for group in shown] + [1e-9])
    rows = [
        (
            group.name,
            _wide(_number(group.utterances)),
            _wide(_number(group.wer.length)),
            _plain(group.wer.value),
            _between(group.wer.interval),
            _Html(f'<td class="range wide">{_range(group.wer, most)}</td>'),
            _plain(group.cer.value),
        )
        for group in shown
    ]
    more = f'<p class="soft small">and {_number(len(groups) - len(shown))} more</p>' if len(groups) > len(shown) else ""
    scale = _wide(f"0 – {_plain(most)}", "th")
    titles = (
        "",
        _wide("utterances", "th"),
        _wide("words", "th"),
        "WER %",
        f"{CONFIDENCE:.0%} interval",
        scale,
        "CER %",
    )
    return _table(titles, rows) + more


def _top(rate: Rate) -> float:
    return max(rate.interval.high if rate.interval else 0.0, rate.value if rate.length else 0.0)


def _range(rate: Rate, most: float) -> str:
    """A rate and its interval as a line from 0 to `most`."""
    if not rate.length:
        return ""
    at = 100 * rate.value / most
    low, high = (100 * rate.interval.low / most, 100 * rate.interval.high / most) if rate.interval else (at, at)
    said = _between(rate.interval) if rate.interval else "one utterance, no interval"
    return (
        f'<svg viewBox="-3 0 106 10" preserveAspectRatio="none" role="img" aria-label="{said}"><title>{said}</title>'
        f'<line x1="{low:.2f}" x2="{high:.2f}" y1="5" y2="5"/><line class="at" x1="{at:.2f}" x2="{at:.2f}" y1="5" '
        'y2="5"/></svg>'
    )


def _utterance(pair: Pair, utterance: Utterance | None, players: _Players) -> str:
    steps = []
    for chunk in pair.chunks:
        for number in range(max(len(chunk.reference), len(chunk.hypothesis))):
            said = escape(chunk.reference[number]) if chunk.reference else ""
            heard = escape(chunk.hypothesis[number]) if chunk.hypothesis else ""
            steps.append(
                f'<li class="{chunk.kind}"><span class="r">{said}</span><span class="h">{heard or "&nbsp;"}</span></li>'
            )
    group = "" if pair.group is None else f"{escape(pair.group)} · "
    errors = f"{_count(pair.words.errors, 'error')} in {_count(pair.words.length, 'word')}"
    return (
        f'<article class="card"><header><b>{escape(pair.id)}</b>'
        f'<span class="soft small">{group}{errors}</span></header>'
        f'{players.player(utterance) if utterance else ""}<ol class="diff">{"".join(steps)}</ol></article>'
    )


def _classes(scores: ClassScores) -> str:
    rows = [
        (
            one.name,
            _number(one.count),
            _wide(_number(one.called)),
            *("–" if value is None else _plain(value) for value in (one.precision, one.recall)),
            _wide("–" if one.f1 is None else _plain(one.f1)),
        )
        for one in scores.classes[:_MOST_ROWS]
    ]
    parts = [
        f'<p class="soft">{_count(scores.count, "utterance")}, {_count(len(scores.names), "class", "classes")}.</p>',
        '<div class="scores">',
        _card("Accuracy", scores.accuracy, scores.interval),
        _card("Balanced accuracy (mean recall)", scores.balanced_accuracy, None),
        "</div>",
        f'<p class="soft small">Interval of {CONFIDENCE:.0%}: Wilson.</p>',
        "<h2>Classes</h2>",
        _table(("", "are so", _wide("called so", "th"), "precision %", "recall %", _wide("F1 %", "th")), rows),
    ]
    if len(scores.names) <= _MOST_CLASSES:
        parts += ["<h2>Confusion</h2>", '<p class="soft small">Rows: what it is. Columns: what it was called.</p>']
        most = scores.confusion.sum(axis=1, keepdims=True).clip(min=1)
        head = "".join(f"<th>{escape(name)}</th>" for name in scores.names)
        lines = []
        for number, name in enumerate(scores.names):
            cells = "".join(
                f'<td style="background:color-mix(in srgb,var(--{"mark" if column == number else "del"}) '
                f'{60 * share:.0f}%,transparent)">{count or ""}</td>'
                for column, (count, share) in enumerate(
                    zip(scores.confusion[number].tolist(), (scores.confusion / most)[number].tolist(), strict=True)
                )
            )
            lines.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
        parts.append(
            f'<div class="scroll"><table class="matrix"><thead><tr><th></th>{head}</tr></thead><tbody>'
            f"{''.join(lines)}</tbody></table></div>"
        )
    return "\n".join(parts)


def _verification(scores: VerificationScores) -> str:
    cards = [_card("Equal error rate", scores.eer, None, f"at the score {scores.eer_threshold:.4g}")]
    for cost in scores.costs:
        threshold = f"at the score {cost.threshold:.4g}" if isfinite(cost.threshold) else "by accepting none"
        cards.append(_card(f"minDCF, p(target) {cost.p_target:g}", f"{cost.value:.4f}", None, threshold))
    costs = scores.costs[0]
    return "\n".join(
        [
            f'<p class="soft">{_count(scores.targets, "trial")} of one speaker, {_number(scores.nontargets)} of two. '
            f"A miss costs {costs.c_miss:g}, a false accept {costs.c_false_accept:g}; 1 is the better of accepting "
            "all and none.</p>"
            if scores.costs
            else "",
            f'<div class="scores">{"".join(cards)}</div>',
            "<h2>Detection error trade-off</h2>",
            f'<div class="card">{_det(scores.curve, scores.eer)}</div>',
        ]
    )


def _det(curve: Curve, eer: float) -> str:
    """The curve over false accepts (across) and misses (up), both on the scale of normal deviates."""
    normal = NormalDist()
    ticks = (0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
    low, high = normal.inv_cdf(0.0005), normal.inv_cdf(0.9)

    def place(rate: float) -> float:
        return (normal.inv_cdf(min(max(rate, 0.0005), 0.9)) - low) / (high - low)

    def across(rate: float) -> float:
        return 44 + 340 * place(rate)

    def up(rate: float) -> float:
        return 350 - 340 * place(rate)

    inside = (curve.false_accepts <= 0.9) & (curve.misses <= 0.9)
    kept = np.flatnonzero(inside)
    if len(kept) > 600:  # more than the eye or the page can use
        kept = kept[np.unique(np.linspace(0, len(kept) - 1, 600).astype(int))]
    points = " ".join(f"{across(curve.false_accepts[k]):.1f},{up(curve.misses[k]):.1f}" for k in kept)
    grid = "".join(
        f'<line class="grid" x1="{across(t):.1f}" x2="{across(t):.1f}" y1="10" y2="350"/>'
        f'<line class="grid" y1="{up(t):.1f}" y2="{up(t):.1f}" x1="44" x2="384"/>'
        f'<text x="{across(t):.1f}" y="366" text-anchor="middle">{t * 100:g} %</text>'
        f'<text x="38" y="{up(t) + 4:.1f}" text-anchor="end">{t * 100:g} %</text>'
        for t in ticks
    )
    return (
        '<svg class="det" viewBox="0 0 394 390" role="img" aria-label="Misses over false accepts">'
        f'{grid}<polyline class="curve" points="{points}"/>'
        f'<circle class="eer" cx="{across(eer):.1f}" cy="{up(eer):.1f}" r="4"><title>EER {_percent(eer)}</title>'
        '</circle><text x="214" y="384" text-anchor="middle">false accepts</text>'
        '<text x="50" y="22">misses</text></svg>'
    )


def _diarization(scores: DiarizationScores) -> str:
    def row(one: RecordingErrors) -> tuple[str, ...]:
        shares = (one.share(part) for part in PARTS)
        return one.name, _wide(f"{one.speech:,.1f}"), _plain(one.rate), *map(_plain, shares)

    overlap = "left out" if scores.skip_overlap else "counted"
    return "\n".join(
        [
            f'<p class="soft">{_count(len(scores.recordings), "recording")}, {scores.total.speech:,.1f} s of speech. '
            f"Collar {scores.collar:g} s on either side of a boundary; overlapped speech {overlap}.</p>",
            '<div class="scores">',
            _card("Diarization error rate", scores.rate, None),
            *(_card(part.replace("_", " ").capitalize(), scores.total.share(part), None) for part in PARTS),
            "</div>",
            "<h2>Recordings</h2>",
            _table(
                ("", _wide("speech, s", "th"), "DER %", *(part.replace("_", " ") for part in PARTS)),
                [row(one) for one in scores.recordings[:_MOST_ROWS]],
            ),
        ]
    )


def _failures(evaluation: Evaluation) -> str:
    parts = []
    if evaluation.failures:
        left = f"; {_count(evaluation.left_out, 'trial')} left out" if evaluation.left_out else ""
        rows = [(failure.id, failure.why) for failure in evaluation.failures[:_MOST_ROWS]]
        parts += [
            f"<h2>Not scored: {_number(len(evaluation.failures))}{left}</h2>",
            '<div class="scroll"><table><tbody>',
            *(f'<tr><td class="name">{escape(i)}</td><td class="name">{escape(why)}</td></tr>' for i, why in rows),
            "</tbody></table></div>",
        ]
    if evaluation.unused:
        names = ", ".join(map(escape, evaluation.unused[:20]))
        parts.append(f'<p class="soft small">Hypotheses for nothing in the data: {names}.</p>')
    return "\n".join(parts)


# Recordings


class _Players:
    """Players of utterances: small recordings in the page, until it is full, and links to the others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.left = _MOST_BYTES_IN_ALL

    def player(self, utterance: Utterance) -> str:
        """The player's HTML, nothing where there is no recording to play."""
        file = utterance.file
        if file is not None and not file.is_file():
            return ""
        whole = not utterance.start and utterance.end is None
        media = None if file is None else _PLAYED.get(file.suffix.lower())
        content: bytes | None = None
        if whole and file is not None and media is not None:
            if file.stat().st_size <= _MOST_BYTES:
                content = file.read_bytes()
        else:
            media, content = "audio/wav", self._cut(utterance)
        if content is None or len(content) > min(_MOST_BYTES, self.left):
            return "" if file is None else self._element(self._link(file, utterance))
        self.left -= len(content)
        return self._element(f"data:{media};base64,{base64.b64encode(content).decode('ascii')}")

    def _cut(self, utterance: Utterance) -> bytes | None:
        """The part alone as WAV, None where it is too long or can't be read."""
        try:
            samples = load(utterance, SAMPLE_RATE)
        except AudioError:
            return None  # told of among the failures where it matters; the page does without
        if 2 * len(samples) > _MOST_BYTES:
            return None
        file = io.BytesIO()
        with wave.open(file, "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(SAMPLE_RATE)
            out.writeframes((samples.clip(-1, 1) * 32767).round().astype("<i2").tobytes())
        return file.getvalue()

    def _link(self, file: Path, utterance: Utterance) -> str:
        try:
            path = os.path.relpath(file.resolve(), self.folder.resolve())
        except ValueError:  # another drive
            path = str(file.resolve())
        start = utterance.start or 0
        part = f"#t={start:g}" + ("" if utterance.end is None else f",{utterance.end:g}")
        return quote(path.replace(os.sep, "/")) + (part if utterance.start or utterance.end else "")

    @staticmethod
    def _element(source: str) -> str:
        return f'<audio controls preload="metadata" src="{escape(source)}"></audio>'


# Figures


class _Html(str):
    """A cell of a table that is HTML already."""


def _wide(content: str, tag: str = "td") -> _Html:
    """A cell that narrow screens do without."""
    return _Html(f'<{tag} class="wide">{escape(content)}</{tag}>')


def _card(title: str, value: float | str, interval: Interval | None, note: str = "") -> str:
    said = value if isinstance(value, str) else _percent(value)
    below = f"{_between(interval)}\u202f%" if interval else note
    note = f'<div class="soft small">{escape(below)}</div>' if below else ""
    return (
        f'<div class="card"><div class="soft small">{escape(title)}</div><div class="figure">{said}</div>{note}</div>'
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    titles = "".join(title if isinstance(title, _Html) else f"<th>{escape(title)}</th>" for title in head)
    lines = []
    for row in rows:
        cells = [cell if isinstance(cell, _Html) else f"<td>{escape(cell)}</td>" for cell in row[1:]]
        lines.append(f'<tr><td class="name">{escape(row[0])}</td>{"".join(cells)}</tr>')
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _plain(value: float) -> str:
    return f"{100 * value:.2f}" if isfinite(value) else "–"


def _percent(value: float) -> str:
    return f"{_plain(value)}\u202f%" if isfinite(value) else "–"


def _between(interval: Interval | None) -> str:
    return "–" if interval is None else f"{_plain(interval.low)} – {_plain(interval.high)}"


def _number(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f")


def _count(number: int, noun: str, plural: str | None = None) -> str:
    return f"{_number(number)} {noun if number == 1 else plural or noun + 's'}"
