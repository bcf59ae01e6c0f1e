"""Lines laid along frames that are made up: each label is heard in a frame of its own, as a peaky model does."""

from __future__ import annotations

import numpy as np
import pytest

from wavconformer import Wav2Vec2CTCTokenizer
from wavconformer.decoding import alignment as aligning
from wavconformer.decoding.alignment import Alignment, SpelledLine, align_lines, labels_of
from wavconformer.decoding.evidence import Evidence
from wavconformer.decoding.numerals import Numerals
from wavconformer.decoding.spelling import Speller

VOCABULARY = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4}
VOCABULARY |= {letter: place for place, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ'", start=5)}
TOKENIZER = Wav2Vec2CTCTokenizer(VOCABULARY)
PAUSE = 20  # frames between lines


def spelled(lines: list[str], speller: Speller) -> list[SpelledLine]:
    return [SpelledLine(number, line, tuple(speller.words(line))) for number, line in enumerate(lines, start=1)]


def spoken(lines: list[str], labels: tuple[int, ...], seed: int = 0) -> tuple[Evidence, list[dict[int, float]]]:
    """What a good model hears of lines, a label every third frame, and of each line the second of each letter."""
    speller, random = Speller(TOKENIZER), np.random.default_rng(seed)
    frames: list[int] = [0] * PAUSE
    places = []
    for line in lines:
        ids = [speller.delimiter or 0]
        times = {}
        for number, letter in enumerate(line):
            ids.append(4 if letter == " " else VOCABULARY[letter])
            times[number] = (len(frames) + 3 * number) * 0.02
        for label in ids[1:]:
            frames += [label, 0, 0]
        places.append(times)
        frames += [0] * PAUSE
    costs = random.uniform(6, 9, (len(frames), len(labels)))
    for frame, label in enumerate(frames):
        costs[frame, 0] = 0.0 if label == 0 else 5.0
        if label in labels and label:
            costs[frame, labels.index(label)] = random.uniform(0, 0.1)
    return Evidence(labels, costs.astype(np.float32), np.zeros(len(frames), bool), 0.02, len(frames) * 0.02), places


ALL = tuple(VOCABULARY[token] for token in VOCABULARY if token not in ("<s>", "</s>", "<unk>"))


def aligned(text: list[str], said: list[str], *, language: str | None = None) -> tuple[Alignment, list]:
    speller = Speller(TOKENIZER, None if language is None else Numerals(language))
    evidence, places = spoken(said, ALL)
    return align_lines(spelled(text, speller), evidence, speller.delimiter), places


SAID = ["THE BLACK CAT SAT", "ON A WARM MAT", "AND ATE NINE BUNS", "BEFORE IT SLEPT"]


def test_each_character_has_its_time():
    alignment, places = aligned(["The black cat sat,", "on a warm mat", "and ate nine buns", "before it slept."], SAID)
    assert alignment.is_optimal
    assert alignment.untranscribed == ()
    assert alignment.duration == pytest.approx(places[-1][14] + 0.02 * (3 + PAUSE))
    assert [line.number for line in alignment.lines] == [1, 2, 3, 4]
    assert alignment.text == "The black cat sat,\non a warm mat\nand ate nine buns\nbefore it slept."
    assert [word.text for word in alignment.words][:4] == ["The", "black", "cat", "sat,"]
    for line, times, said in zip(alignment.lines, places, SAID, strict=True):
        found = [character.start for word in line.words for character in word.characters if character.text.isalpha()]
        assert found == pytest.approx([time for number, time in times.items() if said[number] != " "])
        assert (line.start, line.end) == (line.words[0].start, line.words[-1].end)
        assert line.score > 0.9
        assert all(word.score > 0.9 and not word.is_interpolated for word in line.words)
    comma = alignment.lines[0].words[-1].characters[-1]
    assert (comma.text, comma.is_interpolated) == (",", True)
    assert comma.start == comma.end == alignment.lines[0].end
    assert alignment.score > 0.9
    assert alignment.bad_lines(0.5) == ()


def test_speech_that_no_line_has_is_told_of():
    alignment, places = aligned([SAID[1], SAID[3]], SAID)
    assert [round(stretch.start, 2) for stretch in alignment.untranscribed] == [
        pytest.approx(places[0][0]),
        pytest.approx(places[2][0]),
    ]
    assert [line.start for line in alignment.lines] == pytest.approx([places[1][0], places[3][0]])
    assert alignment.score > 0.9


def test_speech_behind_the_last_line():
    alignment, places = aligned(SAID[:2], SAID)
    (stretch,) = alignment.untranscribed
    assert (stretch.start, stretch.end) == pytest.approx((places[2][0], places[3][14] + 0.02))


def test_lines_that_are_not_said_are_left_out():
    text = ["SOME WORDS NOBODY SAYS", *SAID[:2], "AND MORE OF THAT KIND", "QUITE A LOT", *SAID[2:]]
    alignment, places = aligned(text, SAID)
    assert [line.is_interpolated for line in alignment.lines] == [True, False, False, True, True, False, False]
    assert [line.number for line in alignment.bad_lines(0.1)] == [1, 4, 5]
    assert [line.score for line in alignment.bad_lines(0.1)] == [0.0] * 3
    for line, times in zip([line for line in alignment.lines if not line.is_interpolated], places, strict=True):
        assert line.start == pytest.approx(times[0])
    left_out = alignment.lines[3]
    assert left_out.start == left_out.end == alignment.lines[2].end
    assert all(word.is_interpolated and word.score == 0.0 for word in left_out.words)
    starts = [line.start for line in alignment.lines]
    assert starts == sorted(starts)


def test_a_line_in_place_of_another_takes_its_time(monkeypatch):
    monkeypatch.setattr(aligning, "LEFT_OUT", 1.0)
    alignment, places = aligned([SAID[0], "QUICK FOXY JUMPER", *SAID[2:]], SAID)
    line = alignment.lines[1]
    assert line.is_interpolated
    (stretch,) = alignment.untranscribed
    assert (line.start, line.end) == (stretch.start, stretch.end)
    assert stretch.start == pytest.approx(places[1][0])
    characters = [character for word in line.words for character in word.characters]
    assert [character.start for character in characters] == sorted(character.start for character in characters)
    assert line.words[1].start > line.words[0].start


def test_swapped_words_are_found():
    alignment, _ = aligned([SAID[0], "MAT A WARM ON", *SAID[2:]], SAID)
    assert [line.number for line in alignment.bad_lines(0.2)] == [2]
    assert min(alignment.lines[1].words, key=lambda word: word.score).score < 0.1


def test_a_foreign_text_has_a_low_score():
    alignment, _ = aligned(["QUICK FOXES JUMP", "OVER HUGE LAZY DOGS"], SAID)
    assert alignment.score < 0.1


def test_numbers_are_read_out_and_keep_their_form():
    said = ["THE TWENTY FIVE CATS", "OF NINETEEN OH FIVE"]
    alignment, places = aligned(["The 25 cats"], said[:1], language="en")
    word = alignment.words[1]
    assert (word.text, word.is_interpolated) == ("25", False)
    assert word.score > 0.9
    assert (word.start, word.end) == pytest.approx((places[0][4], places[0][14] + 0.02))
    assert [character.is_interpolated for character in word.characters] == [True, True]
    assert word.characters[0].end == pytest.approx((word.start + word.end) / 2, abs=0.001)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("in 1984 then", "IN NINETEEN EIGHTY FOUR THEN"),
        ("in 1984 then", "IN ONE NINE EIGHT FOUR THEN"),
        ("1984 sheep", "ONE THOUSAND NINE HUNDRED EIGHTY FOUR SHEEP"),
        ("may 5", "MAY FIFTH"),
        ("may 5", "MAY FIVE"),
        ("room 105", "ROOM ONE ZERO FIVE"),
    ],
)
def test_the_reading_that_is_said_is_found(written, said):
    alignment, places = aligned([written], [said], language="en")
    assert alignment.score > 0.9
    assert alignment.text == written
    number = next(word for word in alignment.words if word.text.isdigit())
    start = said.index(said.split()[0 if written[0].isdigit() else 1])
    assert number.start == pytest.approx(places[0][start])


def test_a_line_of_numbers_alone_is_found_in_whatever_way_it_is_said():
    """In its first reading it fits nowhere, and is left out."""
    said = ["THE BLACK CAT SAT", "SIX TWO SIX", "NINE EIGHT SEVEN SIX OR FIVE ONE", "ON A WARM MAT"]
    alignment, places = aligned([said[0], "626", "9876 or 51", said[3]], said, language="en")
    assert [line.is_interpolated for line in alignment.lines] == [False] * 4
    assert [line.start for line in alignment.lines] == pytest.approx([times[0] for times in places])
    assert min(line.score for line in alignment.lines[:2]) > 0.9
    assert alignment.untranscribed == ()


def test_readings_are_not_tried_in_gaps_that_take_too_long(monkeypatch):
    said = ["THE BLACK CAT SAT", "SIX TWO SIX", "ON A WARM MAT"]
    monkeypatch.setattr(aligning, "_LONGEST_GAP", 20)
    alignment, _ = aligned([said[0], "626", said[2]], said, language="en")
    assert [line.is_interpolated for line in alignment.lines] == [False, True, False]


def test_a_reading_that_needs_more_frames_than_there_are(monkeypatch):
    monkeypatch.setattr(aligning, "LEFT_OUT", 100.0)
    speller = Speller(TOKENIZER, Numerals("en"))
    evidence, _ = spoken(["NINE"], ALL)
    alignment = align_lines(spelled(["1984"], speller), evidence.part(5, 40), speller.delimiter)
    assert alignment.words[0].text == "1984"
    assert alignment.score < 0.1


def test_without_a_language_a_number_is_a_wildcard():
    alignment, places = aligned(["The 25 cats", "漢字"], ["THE TWENTY FIVE CATS", "SOMETHING ELSE"])
    word = alignment.words[1]
    assert word.is_interpolated
    assert word.score is None
    assert word.start == pytest.approx(places[0][4], abs=0.07)
    assert word.end == pytest.approx(places[0][14], abs=0.07)
    assert alignment.words[2].start == pytest.approx(places[0][16])
    foreign = alignment.lines[1]
    assert (foreign.score, foreign.is_interpolated) == (None, False)
    assert foreign.start >= alignment.lines[0].end
    assert alignment.score > 0.9


def test_a_character_that_the_vocabulary_lacks_is_between_its_neighbours():
    alignment, _ = aligned(["CA♥T 漢DOG"], ["CAT DOG"])
    cat, dog = alignment.words
    assert [character.is_interpolated for character in cat.characters] == [False, False, True, False]
    heart = cat.characters[2]
    assert cat.characters[1].end <= heart.start <= heart.end <= cat.characters[3].start
    assert not dog.is_interpolated
    assert dog.characters[0].is_interpolated


def test_a_word_does_not_reach_over_silence():
    """The first letter isn't heard where it belongs, but something like it is long before."""
    lines = spelled(["CAT"], Speller(TOKENIZER))
    evidence, places = spoken(["CAT"], ALL)
    costs, quiet = evidence.costs.copy(), evidence.is_quiet.copy()
    heard = round(places[0][0] / 0.02)
    costs[heard] = costs[heard - 1]
    costs[2, ALL.index(VOCABULARY["C"])] = 1.0
    alone = Evidence(ALL, costs, quiet, 0.02, evidence.duration)
    assert align_lines(lines, alone, 4).lines[0].start == pytest.approx(0.04)
    quiet[4 : heard - 2] = True
    silent = Evidence(ALL, costs, quiet, 0.02, evidence.duration)
    assert align_lines(lines, silent, 4).lines[0].start >= (heard - 3) * 0.02


def test_a_word_begins_when_it_sounds():
    """The first letter of each word is named early, in silence, as a model does that knows what comes."""
    lines = spelled(["A CAT"], Speller(TOKENIZER))
    evidence, places = spoken(["A CAT"], ALL)
    costs, quiet = evidence.costs.copy(), evidence.is_quiet.copy()
    for letter, place, early in (("A", 0, 8), ("C", 2, 1)):
        frame = round(places[0][place] / 0.02)
        costs[frame - early], costs[frame] = costs[frame].copy(), costs[frame - early].copy()
        quiet[frame - early : frame] = True
        assert costs[frame - early, ALL.index(VOCABULARY[letter])] < 0.2
    quiet[round(places[0][4] / 0.02) + 1 :] = True
    alignment = align_lines(lines, Evidence(ALL, costs, quiet, 0.02, evidence.duration), 4)
    one, cat = alignment.words
    assert (one.start, one.end) == pytest.approx((places[0][0], places[0][0] + 0.02))
    assert cat.start == pytest.approx(places[0][2])
    assert cat.end == alignment.lines[0].end == pytest.approx(places[0][4] + 0.02)
    times = [time for character in cat.characters for time in (character.start, character.end)]
    assert times == sorted(times)
    assert alignment.score > 0.9


def test_where_nothing_sounds_the_model_is_believed():
    evidence, places = spoken(["CAT"], ALL)
    silent = Evidence(ALL, evidence.costs, np.ones(len(evidence), bool), 0.02, evidence.duration)
    alignment = align_lines(spelled(["CAT"], Speller(TOKENIZER)), silent, 4)
    assert alignment.words[0].start == pytest.approx(places[0][0])


def test_without_a_delimiter():
    labels = tuple(label for label in ALL if label != 4)
    speller = Speller(Wav2Vec2CTCTokenizer(VOCABULARY, word_delimiter_token=None))
    lines = spelled(["CAT DOG", "COW"], speller)
    evidence, places = spoken(["CATDOG", "COW"], labels)
    alignment = align_lines(lines, evidence, None)
    assert [word.start for word in alignment.words] == pytest.approx([places[0][0], places[0][3], places[1][0]])


def test_the_labels_are_those_of_all_readings():
    lines = spelled(["5 CATS"], Speller(TOKENIZER, Numerals("en")))
    letters = {VOCABULARY[letter] for letter in "FIVEFIFTHCATS"}
    assert labels_of(lines, 0, 4) == (0, 4, *sorted(letters))
    assert labels_of(lines, 0, None) == (0, *sorted(letters))


def test_many_lines_of_which_some_are_missing():
    """More than the first beam sees at once."""
    random = np.random.default_rng(1)
    words = ["".join(random.choice(list("ABCDEFGHIKLMNOPRSTUVWY"), random.integers(2, 8))) for _ in range(400)]
    said = [" ".join(random.choice(words, 6)) for _ in range(60)]
    evidence, places = spoken(said, ALL)
    kept = [number for number in range(len(said)) if number % 20 != 7]
    lines = spelled([said[number] for number in kept], Speller(TOKENIZER))
    alignment = align_lines(lines, evidence, 4)
    assert [line.start for line in alignment.lines] == pytest.approx([places[number][0] for number in kept])
    assert [round(stretch.start, 2) for stretch in alignment.untranscribed] == pytest.approx(
        [places[number][0] for number in range(7, len(said), 20)]
    )
