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
        other.settings = replace(self.settings, **changes)
        if hotwords is not None:
            other.hotwords = HotWords(_weights(hotwords), self.symbols)
        return other

    def __call__(self, log_probs: NDArray[np.floating[Any]], first_frame: int = 0) -> tuple[Word, ...]:
        """The words of the best text of a stretch of speech; arguments and errors as those of `hypotheses`."""
        return self.hypotheses(log_probs, first_frame=first_frame)[0].words

    def part(
        self,
        log_probs: NDArray[np.floating[Any]],
        first_frame: int = 0,
        *,
        before: Sequence[str] = (),
        is_last: bool = True,
    ) -> tuple[Word, ...]:
        """Those of a part of a sentence: the language model goes on after the words `before`, hot words begin anew."""
        return self._search(log_probs, 1, first_frame, before, is_last)[0].words

    def hypotheses(
        self, log_probs: NDArray[np.floating[Any]], n_best: int = 1, first_frame: int = 0
    ) -> list[Hypothesis]:
        """The best texts, at most `n_best`, the best one first.

        log_probs: (T, V), natural logarithms of each frame's probabilities, of a recording or a part of it.
        first_frame: the recording's frame that the first of them is; times count from the recording's start.

        Raises ValueError for another shape, for NaN, and where n_best isn't positive.
        """
        return self._search(log_probs, n_best, first_frame, (), is_last=True)

    def _search(
        self,
        log_probs: NDArray[np.floating[Any]],
        n_best: int,
        first_frame: int,
        before: Sequence[str],
        is_last: bool,
    ) -> list[Hypothesis]:
        frames: NDArray[np.float64] = np.array(log_probs, np.float64)
        if frames.ndim != 2 or frames.shape[1] != len(self.symbols):
            raise ValueError(
                f"The log probabilities have the shape {frames.shape}, but must be (frames, {len(self.symbols)})."
            )
        if np.isnan(frames).any():
            raise ValueError("The log probabilities hold NaN.")
        if n_best < 1:
            raise ValueError(f"n_best is {n_best}, but must be at least 1.")
        if self._silent:
            # What leaves nothing in the text parts repeated letters just as the blank does.
            alike = [self.blank, *self._silent]
            frames[:, self.blank] = np.logaddexp.reduce(frames[:, alike], axis=1)
            frames[:, self._silent] = -np.inf
        search = _Search(self, recombines=self.lm is not None and n_best == 1, before=before, is_last=is_last)
        for row in frames:
            search.advance(row)
        return [self._hypothesis(frames, first_frame, *found) for found in search.finish(n_best)]

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


def is_of_letters(lm: LanguageModel) -> bool:
    """Whether all that a language model knows is single letters."""
    return all(len(word) == 1 for word in lm.words if word not in _MARKS and word not in _SPACES)


def _name(lm: LanguageModel) -> str:
    return "that was given" if lm.path is None else f"'{lm.path}'"


def _weights(hotwords: Mapping[str, float] | Iterable[str] | None) -> Mapping[str, float]:
    if isinstance(hotwords, str):
        raise ValueError(f"hotwords is the text {hotwords!r}: give a list of words.")
    return hotwords if isinstance(hotwords, Mapping) else dict.fromkeys(hotwords or (), HOTWORD_WEIGHT)


# Of each prefix: the one before, and its last token; state: the language model's, before the word that is being
# spelled; node: of the lexicon, and hot: of the hot words, for that word; lm, bonus: what is settled for good; lent:
# what stands for the rest of the word; gain, after: what the word adds if it ends here, and the state then.
_PREFIX = np.dtype(
    [
        ("parent", np.int64),
        ("token", np.int64),
        ("state", np.int64),
        ("node", np.int64),
        ("hot", np.int64),
        ("lm", np.float64),
        ("bonus", np.float64),
        ("lent", np.float64),
        ("gain", np.float64),
        ("after", np.int64),
    ]
)


class _Search:
    """One recording's. Beams are prefixes, texts so far; those that are equal are one, whatever their paths.

    _beams: (W,), numbers of prefixes. _blank, _token: (W,), ln of the probability of all paths that read as the prefix
    and end in the blank, or in its last token. A recording begins as if after the delimiter, and the delimiter after a
    delimiter leaves the text as it is.
    """

    def __init__(self, decoder: BeamDecoder, *, recombines: bool, before: Sequence[str], is_last: bool) -> None:
        self._decoder = decoder
        self._recombines = recombines
        self._settings = decoder.settings
        self._is_last = is_last
        self._scorer: Scorer | None = None if decoder.lm is None else decoder.lm.scorer()
        self._delimiter = -1 if decoder.delimiter is None else decoder.delimiter
        self._table = np.zeros(1024, _PREFIX)
        self._table[0] = (-1, self._delimiter, 0, ROOT, 0, 0.0, 0.0, 0.0, math.nan, 0)
        if self._scorer is not None:
            self._table[0]["state"] = self._state_after(self._scorer, before)
        self._count = 1
        self._children: dict[int, int] = {}
        self._places = np.full(1025, -1)  # of each prefix in the beam; the last is of the root's parent
        self._places[0] = 0
        self._beams = np.zeros(1, np.int64)
        self._blank, self._token = np.zeros(1), np.full(1, -np.inf)

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

    def advance(self, row: NDArray[np.float64]) -> None:
        """Goes on by one frame of log probabilities (V,)."""
        decoder, settings = self._decoder, self._settings
        beams = self._table[self._beams]
        last = beams["token"]
        total = np.logaddexp(self._blank, self._token)
        # Paths on which the text stays.
        blank = total + row[decoder.blank]
        with_last = np.where(last == -1, -np.inf, row[last])
        token = np.where(last == self._delimiter, total, self._token) + with_last
        candidates = np.flatnonzero(row > settings.token_min_logp)
        top = int(row.argmax())
        if row[top] <= settings.token_min_logp:
            candidates = np.array([top])
        candidates = candidates[candidates != decoder.blank]
        if not len(candidates):
            self._blank, self._token = blank, token
            return
        # Paths on which it grows: (W, K).
        grown = np.where(candidates == last[:, None], self._blank[:, None], total[:, None]) + row[candidates]
        grown[(candidates == self._delimiter) & (last[:, None] == self._delimiter)] = -np.inf
        # Where it grows to one that is in the beam already, the two are one.
        column = np.full(len(row), -1)
        column[candidates] = np.arange(len(candidates))
        above = self._places[beams["parent"]]
        met = np.flatnonzero((above >= 0) & (column[last] >= 0))
        if len(met):
            from_, by = above[met], column[last[met]]
            token[met] = np.logaddexp(token[met], grown[from_, by])
            grown[from_, by] = -np.inf
        staying = np.logaddexp(blank, token) + beams["lm"] + beams["bonus"] + beams["lent"]

        origin, by = np.nonzero(grown > -np.inf)
        new = self._grown(self._beams[origin], beams[origin], candidates[by])
        ways = grown[origin, by]
        scores = np.concatenate((staying, ways + new["lm"] + new["bonus"] + new["lent"]))
        kept = np.flatnonzero(scores >= scores.max() + settings.beam_prune_logp)
        if self._recombines:
            kept = kept[self._best_of_like_future(np.concatenate((beams, new))[kept], scores[kept])]
        if len(kept) > settings.beam_width:
            best = np.argpartition(-scores[kept], settings.beam_width - 1)[: settings.beam_width]
            kept = kept[best]
        stays, grows = kept[kept < len(staying)], kept[kept >= len(staying)] - len(staying)
        self._places[self._beams] = -1
        self._beams = np.concatenate((self._beams[stays], self._numbered(new[grows])))
        self._places[self._beams] = np.arange(len(self._beams))
        self._blank = np.concatenate((blank[stays], np.full(len(grows), -np.inf)))
        self._token = np.concatenate((token[stays], ways[grows]))

    def finish(self, n_best: int) -> list[tuple[NDArray[np.int64], float, float, float]]:
        """The tokens (L,) of the best texts, their acoustic, language model and hot word scores."""
        decoder, settings = self._decoder, self._settings
        # A text and the same with a delimiter behind it are one.
        beams = self._table[self._beams]
        open_ = (beams["token"] == self._delimiter) & (self._beams > 0)
        texts, inverse = np.unique(np.where(open_, beams["parent"], self._beams), return_inverse=True)
        acoustic = np.full(len(texts), -np.inf)
        np.logaddexp.at(acoustic, inverse, np.logaddexp(self._blank, self._token))
        self._end_words(texts)
        ends = self._table[texts]
        within = ~np.isnan(ends["gain"])
        lm = ends["lm"] + np.where(within, ends["gain"], 0.0)
        bonus = ends["bonus"] + decoder.hotwords.last[ends["hot"]]
        if self._scorer is not None and decoder.lm is not None and settings.score_boundary and self._is_last:
            end = decoder.lm.index("</s>")
            if end != UNKNOWN:
                states = np.where(within, ends["after"], ends["state"])
                lm = lm + settings.alpha * LN10 * self._scorer.score(states, np.full(len(states), end))[0]
        scores = acoustic + lm + bonus
        if not np.isfinite(scores).any():  # nothing is complete: better half a word than nothing
            scores = acoustic
        order = np.argsort(-scores, kind="stable")[:n_best]
        return [
            (self._tokens(int(texts[place])), float(acoustic[place]), float(lm[place]), float(bonus[place]))
            for place in order
            if np.isfinite(scores[place]) or place == order[0]
        ]

    def _grown(self, prefixes: NDArray[np.int64], beams: NDArray[Any], tokens: NDArray[np.int64]) -> NDArray[Any]:
        """The prefixes (P,) made of prefixes and tokens, (P,) each, yet without numbers."""
        decoder, settings, hotwords = self._decoder, self._settings, self._decoder.hotwords
        new = np.empty(len(tokens), _PREFIX)
        new["parent"], new["token"] = prefixes, tokens
        new["gain"], new["after"] = math.nan, 0
        new["hot"] = hotwords.step[beams["hot"], tokens]
        new["bonus"] = beams["bonus"] + hotwords.paid[beams["hot"], tokens]
        new["lent"] = hotwords.credit[new["hot"]]
        new["state"], new["lm"], new["node"] = beams["state"], beams["lm"], ROOT
        if decoder.lexicon is not None:
            ends = tokens == self._delimiter
            ending = np.flatnonzero(ends)
            if len(ending):
                self._end_words(prefixes[ending])
                before = self._table[prefixes[ending]]
                new["lm"][ending] += before["gain"]
                new["state"][ending] = before["after"]
            inside = np.flatnonzero(~ends)
            node = decoder.lexicon.step(beams["node"][inside], tokens[inside])
            new["node"][inside] = node
            ahead = decoder._ahead[node]
            strange = (node == OUTSIDE) & (new["hot"][inside] <= ASIDE)
            hot = (node == OUTSIDE) & ~strange
            ahead[hot] = np.maximum(ahead[hot], decoder._rarest)
            new["lent"][inside] += settings.alpha * LN10 * ahead + np.where(strange, settings.unknown_cost, 0.0)
        elif decoder._letters is not None and self._scorer is not None:
            letters = decoder._letters[tokens]
            asked = np.flatnonzero(letters != OUTSIDE)
            logp, after = self._scorer.score(new["state"][asked], letters[asked])
            new["lm"][asked] += settings.alpha * LN10 * logp + settings.beta
            new["lm"][asked] += np.where(letters[asked] == UNKNOWN, settings.unknown_cost, 0.0)
            new["state"][asked] = after
        return new

    def _best_of_like_future(self, beams: NDArray[Any], scores: NDArray[np.float64]) -> NDArray[np.int64]:
        """The places of the best ones (sorted) among those that differ in nothing that what follows depends on.

        What a language model of n-grams has forgotten can't make the worse of two texts the better one again.
        """
        decoder = self._decoder
        nodes = 2 if decoder.lexicon is None else len(decoder.lexicon.trie) + 1
        # A key that overflows may, if ever, drop a text too many.
        future = (beams["state"] * nodes + beams["node"] + 1) * len(decoder.hotwords.credit) + beams["hot"]
        future = future * (len(decoder.symbols) + 1) + beams["token"] + 1
        order = np.argsort(-scores, kind="stable")
        _, first = np.unique(future[order], return_index=True)
        return np.sort(order[first])

    def _end_words(self, prefixes: NDArray[np.int64]) -> None:
        """Sees to it that `gain` and `after` of prefixes are known, where a word ends with them."""
        decoder, settings, hotwords = self._decoder, self._settings, self._decoder.hotwords
        if decoder.lexicon is None:
            return
        rows = self._table[prefixes]
        todo = np.isnan(rows["gain"]) & (rows["token"] != self._delimiter)
        prefixes, rows = prefixes[todo], rows[todo]
        if not len(prefixes):
            return
        node, state = rows["node"], rows["state"]
        known, numbers = decoder._is_word[node], decoder._numbers[node]
        logp = np.zeros(len(prefixes))
        after = state
        if self._scorer is not None:
            logp, after = self._scorer.score(state, numbers)
        hot = (hotwords.paid[rows["hot"], self._delimiter] > 0) | (hotwords.step[rows["hot"], self._delimiter] != 0)
        logp = np.where(~known & hot, np.maximum(logp, decoder._rarest), logp)
        gain = settings.alpha * LN10 * logp + np.where(known | hot, 0.0, settings.unknown_cost)
        self._table["gain"][prefixes] = gain + (settings.beta if self._scorer is not None else 0.0)
        self._table["after"][prefixes] = after

    def _numbered(self, new: NDArray[Any]) -> NDArray[np.int64]:
        """The numbers of prefixes: the old one of a text that was in the beam before, or one more."""
        keys = (new["parent"] * len(self._decoder.symbols) + new["token"]).tolist()
        numbers = np.empty(len(keys), np.int64)
        children, count = self._children, self._count
        for place, key in enumerate(keys):
            number = children.setdefault(key, count)
            count += number == count
            numbers[place] = number
        if count >= len(self._table):
            self._table = np.concatenate((self._table, np.zeros(max(count, len(self._table)), _PREFIX)))
            places = np.full(len(self._table) + 1, -1)
            places[: self._count] = self._places[: self._count]
            self._places = places
        fresh = numbers >= self._count
        self._table[numbers[fresh]] = new[fresh]
        self._count = count
        return numbers

    def _tokens(self, prefix: int) -> NDArray[np.int64]:
        parents, tokens = self._table["parent"], self._table["token"]
        ids = []
        while prefix > 0:
            ids.append(int(tokens[prefix]))
            prefix = int(parents[prefix])
        return np.array(ids[::-1], np.int64)
