"""CTC prefix beam search with a language model and hot words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavconformer.decoding.hotwords import ASIDE, HOTWORD_WEIGHT, HotWords
from wavconformer.decoding.lexicon import Lexicon, require_fit
from wavconformer.decoding.path import best_path
from wavconformer.decoding.words import Word, words
from wavconformer.errors import DataError
from wavconformer.lm import LanguageModel
from wavconformer.lm.interface import UNKNOWN, Scorer
from wavconformer.lm.trie import OUTSIDE, ROOT

LN10 = math.log(10)
_SPACES = ("|", "<space>", "▁", "_", " ")
"""How language models of letters write the space between words."""
_MARKS = ("<unk>", "<UNK>", "<s>", "</s>")


@dataclass(frozen=True)
class BeamSettings:
    """How a beam search weighs and prunes. Names and defaults are those of pyctcdecode.

    beam_width: texts that are kept from frame to frame.
    beam_prune_logp: how far behind the best one, in nats, one is dropped.
    token_min_logp: tokens below it in a frame are not tried there; the likeliest one always is.
    alpha: weight of the language model. beta: bonus of each word, in nats, against the model's love of short texts.
    unk_score_offset: log10, added to the language model's score of words that it hasn't; -inf rules them out.
    score_boundary: whether a recording begins and ends a sentence.

    Raises ValueError for what can't be.
    """

    beam_width: int = 100
    beam_prune_logp: float = -10.0
    token_min_logp: float = -5.0
    alpha: float = 0.5
    beta: float = 1.5
    unk_score_offset: float = -10.0
    score_boundary: bool = True

    @property
    def unknown_cost(self) -> float:
        """What `unk_score_offset` comes to, in nats."""
        return -math.inf if math.isinf(self.unk_score_offset) else self.alpha * LN10 * self.unk_score_offset

    def __post_init__(self) -> None:
        if self.beam_width < 1:
            raise ValueError(f"beam_width is {self.beam_width}, but must be at least 1.")
        for name in ("beam_prune_logp", "token_min_logp", "unk_score_offset"):
            if not getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be 0 or less.")
        for name in ("alpha", "beta"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}, but must be a finite number.")


@dataclass(frozen=True)
class Hypothesis:
    """What may have been said.

    text: it. words: each with its times. acoustic: ln P(text | audio), by the acoustic model, over all paths that were
    kept. lm: what the language model adds to it, weighted; hotwords: what hot words add. score: the sum of the three.
    """

    text: str
    words: tuple[Word, ...]
    acoustic: float
    lm: float
    hotwords: float
    score: float


class BeamDecoder:
    """Finds the text that acoustic model, language model and hot words together like best.

    Prefix beam search (Graves 2012, "Sequence transduction with recurrent neural networks"; Hannun et al. 2014, arXiv
    1408.2873): a text's score is ln P_CTC(text) + Σ over its words of alpha · ln P(word | those before) + beta, + hot
    words. While a word isn't complete, the best score that any known word of this begin can get stands for its own
    (Ortmanns et al. 1996, language model look-ahead with unigrams), so that words of like begin compete early.
    Words outside the vocabulary are spelled at the price of `unk_score_offset`; without a language model, and without a
    lexicon, all are alike.

    With a language model, and where one text alone is asked for, of texts with the same future only the best stays.

    All of a frame is computed in arrays over the beam.
    """

    def __init__(
        self,
        symbols: Sequence[str | None],
        blank: int,
        lm: LanguageModel | None = None,
        *,
        lexicon: Iterable[str] | None = None,
        hotwords: Mapping[str, float] | Iterable[str] | None = None,
        settings: BeamSettings | None = None,
        seconds_per_frame: float = 0.02,
    ) -> None:
        """symbols: (V,), what each token reads as, " " between words, None for what leaves nothing.

        blank: the id of CTC's blank. lm: a model of words, or of letters.
        lexicon: words that need no `unk_score_offset`; by default those of the language model.
        hotwords: words or phrases to prefer, with their weights in nats, or all with 10.
        seconds_per_frame: for the times of words; 1 gives frames.

        Raises DataError where the language model's words can't be written with these symbols, ValueError for a hot
        word that can't.
        """
        self.symbols = list(symbols)
        self.blank = blank
        self.lm = lm
        self.settings = settings or BeamSettings()
        self.seconds_per_frame = seconds_per_frame
        self.delimiter = self.symbols.index(" ") if " " in self.symbols else None
        self._silent = [token for token, symbol in enumerate(self.symbols) if symbol is None and token != blank]
        self._letters: NDArray[np.int64] | None = None
        self.lexicon: Lexicon | None = None
        if lm is not None and is_of_letters(lm):
            self._letters = self._letter_numbers(lm)
        elif lm is not None or lexicon is not None:
            if self.delimiter is None:
                raise DataError(
                    "The acoustic model has no token between words, so only a language model of letters can help it: "
                    "build one with `wavconformer lm build --unit letter`."
                )
            known = [word for word in (lm.words if lm is not None else ()) if word not in _MARKS]
            given = known if lexicon is None else list(lexicon)
            self.lexicon = Lexicon(given, self.symbols)
            if lm is not None:
                require_fit(self.lexicon, self.symbols, _name(lm))
            self._know_words(lm, self.lexicon)
        self.hotwords = HotWords(_weights(hotwords), self.symbols)

    def using(self, hotwords: Mapping[str, float] | Iterable[str] | None = None, **changes: Any) -> BeamDecoder:
        """The same decoder with other settings (names of `BeamSettings`), or other hot words; quickly made."""
        other = object.__new__(BeamDecoder)
        other.__dict__.update(self.__dict__)
        if changes:
            other.settings = replace(self.settings, **changes)
            other._weigh_words()
        if hotwords is not None:
            other.hotwords = HotWords(_weights(hotwords), self.symbols)
        return other

    def __call__(self, log_probs: NDArray[np.floating[Any]], first_frame: int = 0) -> tuple[Word, ...]:
        """The words of the best text of a stretch of speech; arguments and errors as those of `hypotheses`."""
        return self.hypotheses(log_probs, first_frame=first_frame)[0].words

    def many(self, log_probs: Sequence[NDArray[np.floating[Any]]]) -> list[tuple[Word, ...]]:
        """The words of the best text of each of some recordings, to the last bit those that each has alone.

        They are searched side by side, which takes far less time than one after the other. log_probs: (T, V) each, of
        any lengths. Raises as `hypotheses` does.
        """
        return [found[0].words for found in self.hypotheses_of(log_probs)]

    def part(
        self,
        log_probs: NDArray[np.floating[Any]],
        first_frame: int = 0,
        *,
        before: Sequence[str] = (),
        is_last: bool = True,
    ) -> tuple[Word, ...]:
        """Those of a part of a sentence: the language model goes on after the words `before`, hot words begin anew."""
        return self._search([log_probs], 1, first_frame, before, is_last=is_last)[0][0].words

    def hypotheses(
        self, log_probs: NDArray[np.floating[Any]], n_best: int = 1, first_frame: int = 0
    ) -> list[Hypothesis]:
        """The best texts, at most `n_best`, the best one first.

        log_probs: (T, V), natural logarithms of each frame's probabilities, of a recording or a part of it.
        first_frame: the recording's frame that the first of them is; times count from the recording's start.

        Raises ValueError for another shape, for NaN, and where n_best isn't positive.
        """
        return self._search([log_probs], n_best, first_frame)[0]

    def hypotheses_of(self, log_probs: Sequence[NDArray[np.floating[Any]]], n_best: int = 1) -> list[list[Hypothesis]]:
        """What `hypotheses` gives for each of some recordings, which are searched side by side."""
        return self._search(log_probs, n_best)

    def _search(
        self,
        log_probs: Sequence[NDArray[np.floating[Any]]],
        n_best: int,
        first_frame: int = 0,
        before: Sequence[str] = (),
        *,
        is_last: bool = True,
    ) -> list[list[Hypothesis]]:
        if n_best < 1:
            raise ValueError(f"n_best is {n_best}, but must be at least 1.")
        recordings = [self._frames(rows) for rows in log_probs]
        if not recordings:
            return []
        order = sorted(range(len(recordings)), key=lambda number: -len(recordings[number]))
        search = _Search(
            self,
            [recordings[number] for number in order],
            recombines=self.lm is not None and n_best == 1,
            before=before,
            is_last=is_last,
        )
        found = dict(zip(order, search.run(n_best), strict=True))
        return [
            [self._hypothesis(frames, first_frame, *one) for one in found[number]]
            for number, frames in enumerate(recordings)
        ]

    def _frames(self, log_probs: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        frames: NDArray[np.float64] = np.array(log_probs, np.float64)
        if frames.ndim != 2 or frames.shape[1] != len(self.symbols):
            raise ValueError(
                f"The log probabilities have the shape {frames.shape}, but must be (frames, {len(self.symbols)})."
            )
        if np.isnan(frames).any():
            raise ValueError("The log probabilities hold NaN.")
        if self._silent:
            # What leaves nothing in the text parts repeated letters just as the blank does.
            alike = [self.blank, *self._silent]
            frames[:, self.blank] = np.logaddexp.reduce(frames[:, alike], axis=1)
            frames[:, self._silent] = -np.inf
        return frames

    def _hypothesis(
        self,
        frames: NDArray[np.float64],
        first_frame: int,
        ids: NDArray[np.int64],
        acoustic: float,
        lm: float,
        hotwords: float,
    ) -> Hypothesis:
        tokens = best_path(frames, ids, self.blank, self.delimiter)
        found = words(tokens, self.symbols, self.seconds_per_frame, first_frame)
        text = " ".join(word.text for word in found)
        return Hypothesis(text, found, acoustic, lm, hotwords, acoustic + lm + hotwords)

    def _letter_numbers(self, lm: LanguageModel) -> NDArray[np.int64]:
        """The language model's number of each token; OUTSIDE of one that it isn't asked about."""
        letters = [symbol for symbol in self.symbols if symbol and symbol != " "]
        known = [letter for letter in letters if lm.index(letter) != UNKNOWN]
        if 2 * len(known) < len(letters):
            require_fit(
                Lexicon((word for word in lm.words if word not in _MARKS), self.symbols), self.symbols, _name(lm)
            )
        space = next((lm.index(sign) for sign in _SPACES if lm.index(sign) != UNKNOWN), OUTSIDE)
        return np.array(
            [OUTSIDE if not symbol else space if symbol == " " else lm.index(symbol) for symbol in self.symbols]
        )

    def _know_words(self, lm: LanguageModel | None, lexicon: Lexicon) -> None:
        """Tables over the lexicon's nodes; their last entry, which OUTSIDE finds, is of words that aren't in it."""
        numbers = np.array([UNKNOWN if lm is None else lm.index(word) for word in lexicon.words], np.int64)
        self._is_word = np.zeros(len(lexicon.trie) + 1, bool)
        self._is_word[lexicon.ends] = True
        self._numbers = np.zeros(len(lexicon.trie) + 1, np.int64)
        self._numbers[lexicon.ends] = numbers
        best = np.zeros(len(lexicon.words))
        self._logp_of_unknown = self._rarest = 0.0
        if lm is not None:
            scorer = lm.scorer()
            nowhere = scorer.start(boundary=False)
            best, _ = scorer.score(np.full(len(numbers), nowhere), numbers)
            self._logp_of_unknown = float(scorer.score(np.array([nowhere]), np.array([UNKNOWN]))[0][0])
            self._rarest = float(best[numbers != UNKNOWN].min(initial=0.0))
        ahead = lexicon.best_below(best)
        ahead[ROOT] = 0.0
        self._ahead = np.append(ahead, self._logp_of_unknown)
        self._weigh_words()

    def _weigh_words(self) -> None:
        """What stands for the rest of a word, at each node, and outside the lexicon for hot words and all others."""
        if self.lexicon is None:
            return
        self._lent = self.settings.alpha * LN10 * self._ahead
        self._lent_to_hot = self.settings.alpha * LN10 * max(self._logp_of_unknown, self._rarest)
        self._lent[OUTSIDE] += self.settings.unknown_cost


def is_of_letters(lm: LanguageModel) -> bool:
    """Whether all that a language model knows is single letters."""
    return all(len(word) == 1 for word in lm.words if word not in _MARKS and word not in _SPACES)


def _name(lm: LanguageModel) -> str:
    return "that was given" if lm.path is None else f"'{lm.path}'"


def _weights(hotwords: Mapping[str, float] | Iterable[str] | None) -> Mapping[str, float]:
    if isinstance(hotwords, str):
        raise ValueError(f"hotwords is the text {hotwords!r}: give a list of words.")
    return hotwords if isinstance(hotwords, Mapping) else dict.fromkeys(hotwords or (), HOTWORD_WEIGHT)


# Of each text in the beams, in whole numbers: whose it is, the recording's; its last token; state: the language
# model's, before the word that is being spelled; node: of the lexicon, and hot: of the hot words, for that word; after:
# the language model's state if the recording ends here; its own number, and that of the text without the last token.
_WHOSE, _LAST, _STATE, _NODE, _HOT, _AFTER, _NUMBER, _PARENT = range(8)
_FUTURE = slice(_WHOSE, _HOT + 1)
"""All that what follows depends on."""

# And in logarithms: of the probability of all paths that read as the text and end in the blank, or in its last token,
# and of both together; lm, bonus: what language model and hot words have settled for good; own: these with what stands
# for the rest of the word; done: lm if the recording ends here, NaN as long as nobody has asked.
_BLANK, _TOKEN, _TOTAL, _LM, _BONUS, _OWN, _DONE = range(7)

_Found = tuple[NDArray[np.int64], float, float, float]
"""The tokens (L,) of a text, and its acoustic, language model and hot word scores."""


class _Search:
    """Some recordings', side by side in the same arrays, none of which knows of another.

    Beams are prefixes, texts so far; those of a recording that are equal are one, whatever their paths. A recording
    begins as if after the delimiter, and the delimiter after a delimiter leaves the text as it is.

    _numbers: (8, W), _logs: (7, W), of the beams of all recordings that go on, as named above.
    """

    def __init__(
        self,
        decoder: BeamDecoder,
        recordings: Sequence[NDArray[np.float64]],
        *,
        recombines: bool,
        before: Sequence[str] = (),
        is_last: bool = True,
    ) -> None:
        """recordings: log probabilities (T, V), the longest first."""
        self._decoder = decoder
        self._recombines = recombines
        self._settings = decoder.settings
        self._is_last = is_last
        self._scorer: Scorer | None = None if decoder.lm is None else decoder.lm.scorer()
        self._delimiter = -1 if decoder.delimiter is None else decoder.delimiter
        self._lengths = [len(frames) for frames in recordings]
        self._tries = _Tries(recordings, decoder.blank, self._delimiter, self._settings.token_min_logp)
        count = len(recordings)
        self._numbers = np.zeros((8, count), np.int64)
        self._numbers[_WHOSE] = self._numbers[_NUMBER] = np.arange(count)
        # Without a delimiter as if after the blank, by which no text grows.
        self._numbers[_LAST] = decoder.blank if decoder.delimiter is None else decoder.delimiter
        if self._scorer is not None:
            self._numbers[_STATE] = self._numbers[_AFTER] = self._state_after(self._scorer, before)
        self._numbers[_NODE] = ROOT
        self._numbers[_PARENT] = -1
        self._logs = np.zeros((7, count))
        self._logs[_TOKEN] = -np.inf
        self._parents, self._tokens = [-1] * count, [-1] * count  # of each text that was ever in a beam, by number
        self._children: dict[int, int] = {}
        self._places = np.full(1024 + count, -1)  # in the beams, of each text; the last is of what the roots grew from
        self._places[:count] = np.arange(count)

    def _state_after(self, scorer: Scorer, before: Sequence[str]) -> int:
        """The language model's state after these words of the sentence, or at its begin."""
        lm, letters = self._decoder.lm, self._decoder._letters
        assert lm is not None
        if letters is None:
            numbers = [lm.index(word) for word in before]
        else:
            written = [letter for word in before for letter in (*word, " ")]
            tokens = [self._decoder.symbols.index(letter) for letter in written if letter in self._decoder.symbols]
            numbers = [int(letters[token]) for token in tokens if letters[token] != OUTSIDE]
        state = scorer.start(self._settings.score_boundary)
        for number in numbers:
            state = int(scorer.score(np.array([state]), np.array([number]))[1][0])
        return state

    def run(self, n_best: int) -> list[list[_Found]]:
        """Of each recording the best texts."""
        found: list[list[_Found]] = []
        live = len(self._lengths)
        for frame in range(self._lengths[0] if live else 0):
            while self._lengths[live - 1] == frame:
                live -= 1
                found.append(self._finish(live, n_best))
            self._advance(frame, live)
        found += [self._finish(recording, n_best) for recording in range(live - 1, -1, -1)]
        return found[::-1]

    def _advance(self, frame: int, live: int) -> None:
        """Goes on by one frame of the recordings before `live`."""
        settings, tries, numbers, logs = self._settings, self._tries, self._numbers, self._logs
        whose, last = numbers[_WHOSE], numbers[_LAST]
        blank, token, total = logs[_BLANK], logs[_TOKEN], logs[_TOTAL]
        parted = last == self._delimiter
        # Paths on which the text stays.
        rows = tries.starts[whose] + frame
        token = np.where(parted, total, token) + tries.frames[rows, last]
        still = total + tries.frames[rows, self._decoder.blank]
        first, after = tries.bounds[frame], tries.bounds[frame + 1]
        candidates = tries.tokens[first:after]
        count = len(candidates) - 1
        if not count:
            logs[_BLANK], logs[_TOKEN] = still, token
            np.logaddexp(still, token, out=total)
            return
        # Paths on which it grows: (K + 1, W), the last of nothing.
        grown = np.where(candidates[:, None] == last, blank, total)
        grown += tries.logs[first:after].take(whose, axis=1)
        delimiter = tries.delimiters[frame]
        if delimiter >= 0:
            grown[delimiter, parted] = -np.inf
        # Where it grows to one that is in the beam already, the two are one.
        above = self._places[numbers[_PARENT]]
        met = (above >= 0).nonzero()[0]
        if len(met):
            by, from_ = tries.columns[frame][last[met]], above[met]
            token[met] = np.logaddexp(token[met], grown[by, from_])
            grown[by, from_] = -np.inf
        logs[_BLANK], logs[_TOKEN] = still, token
        np.logaddexp(still, token, out=total)

        by, origin = (grown > -np.inf).nonzero()
        size = numbers.shape[1]
        if len(by):
            new = self._grown(origin, candidates[by], grown[by, origin], by == delimiter)
            numbers = np.concatenate((numbers, new[0]), axis=1)
            logs = np.concatenate((logs, new[1]), axis=1)
            whose = numbers[_WHOSE]
        scores = logs[_TOTAL] + logs[_OWN]
        least: NDArray[np.float64] | float
        if live == 1:
            least = float(scores.max()) + settings.beam_prune_logp
        else:
            best = np.full(live, -np.inf)
            np.maximum.at(best, whose, scores)
            if not tries.is_busy[frame]:
                # Where nothing grows nothing is dropped: a recording does as it does alone.
                best[~tries.grows[frame, :live]] = -np.inf
            least = (best + settings.beam_prune_logp)[whose]
        kept = (scores >= least).nonzero()[0]
        if self._recombines and len(kept) > 1 and kept[-1] >= size:
            kept = kept[self._best_of_like_future(numbers[_FUTURE, kept], scores[kept])]
        if len(kept) > settings.beam_width:
            kept = kept[self._first(whose[kept], scores[kept], live)]
        self._places[self._numbers[_NUMBER]] = -1
        self._numbers, self._logs = numbers.take(kept, axis=1), logs.take(kept, axis=1)
        self._number(int(kept.searchsorted(size)))
        self._places[self._numbers[_NUMBER]] = np.arange(len(kept))

    def _finish(self, recording: int, n_best: int) -> list[_Found]:
        """The best texts of a recording, whose beams go."""
        decoder, settings = self._decoder, self._settings
        mine = self._numbers[_WHOSE] == recording
        self._end_words(mine.nonzero()[0])
        numbers, logs = self._numbers[:, mine], self._logs[:, mine]
        self._numbers, self._logs = self._numbers[:, ~mine], self._logs[:, ~mine]
        self._places[self._numbers[_NUMBER]] = np.arange(self._numbers.shape[1])
        # A text and the same with a delimiter behind it are one.
        opened = (numbers[_LAST] == self._delimiter) & (numbers[_PARENT] >= 0)
        texts, places, inverse = np.unique(
            np.where(opened, numbers[_PARENT], numbers[_NUMBER]), return_index=True, return_inverse=True
        )
        acoustic = np.full(len(texts), -np.inf)
        np.logaddexp.at(acoustic, inverse, logs[_TOTAL])
        lm = logs[_DONE, places]
        bonus = logs[_BONUS, places] + decoder.hotwords.last[numbers[_HOT, places]]
        if self._scorer is not None and decoder.lm is not None and settings.score_boundary and self._is_last:
            end = decoder.lm.index("</s>")
            if end != UNKNOWN:
                ends = self._scorer.score(numbers[_AFTER, places], np.full(len(places), end))[0]
                lm = lm + settings.alpha * LN10 * ends
        scores = acoustic + lm + bonus
        if not np.isfinite(scores).any():  # nothing is complete: better half a word than nothing
            scores = acoustic
        order = np.argsort(-scores, kind="stable")[:n_best]
        return [
            (self._tokens_of(int(texts[place])), float(acoustic[place]), float(lm[place]), float(bonus[place]))
            for place in order
            if np.isfinite(scores[place]) or place == order[0]
        ]

    def _grown(
        self, origin: NDArray[np.int64], tokens: NDArray[np.int64], ways: NDArray[np.float64], ends: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The texts (P,) made of beams, tokens and the ln of their paths, yet without numbers. ends: those of words."""
        decoder, settings, hotwords = self._decoder, self._settings, self._decoder.hotwords
        ending = ends.nonzero()[0]
        if len(ending):
            self._end_words(origin[ending])
        numbers, logs = self._numbers.take(origin, axis=1), self._logs.take(origin, axis=1)
        numbers[_PARENT], numbers[_LAST] = numbers[_NUMBER], tokens
        logs[_BLANK] = -np.inf
        logs[_TOKEN] = logs[_TOTAL] = ways
        node, hot, lm = numbers[_NODE], numbers[_HOT], logs[_LM]
        own: NDArray[np.float64] | float = 0.0
        if hotwords.weights:
            logs[_BONUS] += hotwords.paid[hot, tokens]
            hot[:] = hotwords.step[hot, tokens]
            own = hotwords.credit[hot]
        if decoder.lexicon is not None:
            node[:] = decoder.lexicon.step(node, tokens)
            if len(ending):
                node[ending] = ROOT
                lm[ending] = logs[_DONE, ending]
                numbers[_STATE, ending] = numbers[_AFTER, ending]
            lent = decoder._lent[node]
            if hotwords.weights:
                lent = np.where((node == OUTSIDE) & (hot > ASIDE), decoder._lent_to_hot, lent)
            own = own + lent
            logs[_DONE] = np.where(ends, lm, np.nan)
        elif decoder._letters is not None and self._scorer is not None:
            letters = decoder._letters[tokens]
            asked = (letters != OUTSIDE).nonzero()[0]
            logp, after = self._scorer.score(numbers[_STATE, asked], letters[asked])
            lm[asked] += settings.alpha * LN10 * logp + settings.beta
            lm[asked] += np.where(letters[asked] == UNKNOWN, settings.unknown_cost, 0.0)
            numbers[_STATE, asked] = after
            # A space at the end is none.
            logs[_DONE] = np.where(ends, logs[_DONE], lm)
            numbers[_AFTER] = np.where(ends, numbers[_AFTER], numbers[_STATE])
        logs[_OWN] = own + lm + logs[_BONUS]
        return numbers, logs

    @staticmethod
    def _best_of_like_future(futures: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
        """The places of the best ones (sorted) among those that differ in nothing that what follows depends on.

        What a language model of n-grams has forgotten can't make the worse of two texts the better one again.
        """
        order = np.lexsort((-scores, *futures))
        futures = futures.take(order, axis=1)
        new = np.ones(len(order), bool)
        new[1:] = (futures[:, 1:] != futures[:, :-1]).any(axis=0)
        return np.sort(order[new])

    def _first(self, whose: NDArray[np.int64], scores: NDArray[np.float64], live: int) -> NDArray[np.int64]:
        """The places of as many as a recording may keep (sorted), the best ones of each."""
        order = np.lexsort((-scores, whose))
        counts = np.bincount(whose, minlength=live)
        ranks = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.sort(order[ranks < self._settings.beam_width])

    def _end_words(self, places: NDArray[np.int64]) -> None:
        """Sees to it that it is known of these beams what language model and state are with their last word."""
        decoder, settings, hotwords = self._decoder, self._settings, self._decoder.hotwords
        places = places[np.isnan(self._logs[_DONE, places])]
        if not len(places):
            return
        node, state, hot = (self._numbers[row, places] for row in (_NODE, _STATE, _HOT))
        known, numbers = decoder._is_word[node], decoder._numbers[node]
        logp = np.zeros(len(places))
        after = state
        if self._scorer is not None:
            logp, after = self._scorer.score(state, numbers)
        if hotwords.weights:
            is_hot = (hotwords.paid[hot, self._delimiter] > 0) | (hotwords.step[hot, self._delimiter] != 0)
            logp = np.where(~known & is_hot, np.maximum(logp, decoder._rarest), logp)
            known = known | is_hot
        gain = settings.alpha * LN10 * logp + np.where(known, 0.0, settings.unknown_cost)
        if self._scorer is not None:
            gain = gain + settings.beta
        self._logs[_DONE, places] = self._logs[_LM, places] + gain
        self._numbers[_AFTER, places] = after

    def _number(self, first: int) -> None:
        """Gives numbers to the beams from `first` on: the old one of a text that was in a beam before, or one more."""
        new = self._numbers[:, first:]
        if not new.shape[1]:
            return
        children, width = self._children, len(self._decoder.symbols)
        numbers = []
        for parent, token in zip(new[_PARENT].tolist(), new[_LAST].tolist(), strict=True):
            count = len(self._parents)
            number = children.setdefault(parent * width + token, count)
            if number == count:
                self._parents.append(parent)
                self._tokens.append(token)
            numbers.append(number)
        new[_NUMBER] = numbers
        if len(self._parents) >= len(self._places):
            places = np.full(2 * len(self._parents), -1)
            places[: len(self._places)] = self._places
            self._places = places

    def _tokens_of(self, number: int) -> NDArray[np.int64]:
        ids = []
        while self._parents[number] >= 0:
            ids.append(self._tokens[number])
            number = self._parents[number]
        return np.array(ids[::-1], np.int64)


class _Tries:
    """Which tokens are tried in which frames of recordings: those that are likely enough in any of them.

    frames: (ΣT, V), ln of the probabilities, one recording behind the other; starts: (R,), where each begins.
    tokens: those of frame 0, then -1, those of frame 1, …; logs: (M, R), their ln of the probability in each recording,
    -inf where it isn't tried. bounds: where in these a frame begins. columns: (T, V), each token's place among those of
    a frame, -1 for none; delimiters: that of the delimiter. grows: (T, R), whether a recording has any in a frame;
    is_busy: whether all have.
    """

    def __init__(
        self, recordings: Sequence[NDArray[np.float64]], blank: int, delimiter: int, token_min_logp: float
    ) -> None:
        lengths = [len(frames) for frames in recordings]
        longest = max(lengths, default=0)
        self.frames = recordings[0] if len(recordings) == 1 else np.concatenate(recordings)
        self.starts = np.cumsum([0, *lengths[:-1]])
        tried = self.frames > token_min_logp
        none = (~tried.any(axis=1)).nonzero()[0]
        tried[none, self.frames[none].argmax(axis=1)] = True
        tried[:, blank] = False
        union = np.zeros((longest, self.frames.shape[1]), bool)
        self.grows = np.zeros((longest, len(lengths)), bool)
        for number, (start, length) in enumerate(zip(self.starts.tolist(), lengths, strict=True)):
            union[:length] |= tried[start : start + length]
            self.grows[:length, number] = tried[start : start + length].any(axis=1)
        ended = np.arange(longest)[:, None] >= np.array(lengths)
        self.is_busy: NDArray[np.bool_] = np.all(self.grows | ended, axis=1)
        frames, tokens = union.nonzero()
        bounds = frames.searchsorted(np.arange(longest + 1))
        places = np.arange(len(frames)) + frames
        self.tokens = np.full(len(frames) + longest, -1)
        self.tokens[places] = tokens
        self.logs = np.full((len(frames) + longest, len(lengths)), -np.inf)
        for number, (start, length) in enumerate(zip(self.starts.tolist(), lengths, strict=True)):
            end = bounds[length]
            at = (frames[:end] + start, tokens[:end])
            self.logs[places[:end], number] = np.where(tried[at], self.frames[at], -np.inf)
        self.columns = np.full(union.shape, -1, np.int32)
        self.columns[frames, tokens] = np.arange(len(frames)) - bounds[frames]
        self.delimiters = self.columns[:, delimiter].tolist() if delimiter >= 0 else [-1] * longest
        self.bounds = (bounds + np.arange(longest + 1)).tolist()
