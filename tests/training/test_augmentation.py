from __future__ import annotations

import numpy as np
import pytest
import soundfile
from tests.data.corpora import RATE, tone, write_audio

from wavconformer.errors import DataError
from wavconformer.training.augmentation import Augmenter, add_noise, add_reverb, change_speed
from wavconformer.training.recipe import Augmentation


def power(samples: np.ndarray) -> float:
    return float(np.square(samples.astype(np.float64)).mean())


def pitch(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * RATE / len(samples))


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 1.37])
def test_speed_changes_length_and_pitch(factor):
    changed = change_speed(tone(1.0, 400), factor)
    assert changed.dtype == np.float32
    assert len(changed) == pytest.approx(RATE / factor, abs=1)
    assert pitch(changed) == pytest.approx(400 * factor, abs=2)


def test_noise_has_the_ratio_that_was_asked_for(random):
    speech, noise = tone(1.0), random.standard_normal(RATE).astype(np.float32)
    for ratio in (-5.0, 0.0, 20.0):
        added = add_noise(speech, noise, ratio) - speech
        assert 10 * np.log10(power(speech) / power(added)) == pytest.approx(ratio, abs=0.01)
    silence = np.zeros(RATE, np.float32)
    np.testing.assert_array_equal(add_noise(speech, silence, 0.0), speech)
    np.testing.assert_array_equal(add_noise(silence, noise, 0.0), silence)


def test_reverb_keeps_time_length_and_level():
    speech = np.concatenate([np.zeros(2000, np.float32), tone(0.5), np.zeros(2000, np.float32)])
    response = np.zeros(4000, np.float32)
    response[1000] = 0.5  # sound that arrives late is moved to where it was
    np.testing.assert_allclose(add_reverb(speech, response), speech, atol=1e-5)
    response[1800] = 0.3
    wet = add_reverb(speech, response)
    assert wet.dtype == np.float32
    assert len(wet) == len(speech)
    assert power(wet) == pytest.approx(power(speech), rel=1e-4)
    assert np.abs(wet[:1990]).max() < 1e-3  # nothing is heard before the speech
    assert np.abs(wet[10100:10700]).max() > 0.05  # and an echo behind it


@pytest.fixture
def folders(tmp_path, random):
    soundfile.write(tmp_path / "short.wav", random.standard_normal(3000) * 0.1, RATE)
    write_audio(tmp_path / "noise" / "deep" / "hum.flac", 0.25, 100)
    (tmp_path / "noise" / "readme.txt").touch()
    impulse = np.zeros(800)
    impulse[[0, 500]] = 0.9, 0.4
    (tmp_path / "rooms").mkdir()
    soundfile.write(tmp_path / "rooms" / "room.wav", impulse, RATE)
    return tmp_path


def test_what_is_drawn_depends_on_the_generator_alone(folders):
    recipe = Augmentation(
        speed=(0.9, 1.0, 1.1),
        volume_db=(-6, 6),
        noise=str(folders / "noise"),
        reverb=str(folders / "rooms"),
    )
    one, other = Augmenter(recipe), Augmenter(recipe)
    other(tone(1.0), np.random.default_rng(99))  # what came before is of no account
    seen = set()
    for seed in range(12):
        first = one(tone(1.0), np.random.default_rng(seed))
        second = other(tone(1.0), np.random.default_rng(seed))
        np.testing.assert_array_equal(first.samples, second.samples)
        assert first.samples.dtype == np.float32
        assert len(first.samples) == pytest.approx(RATE / first.factor, abs=1)
        assert len(first.clean) == len(first.samples)
        seen.add(first.factor)
    assert seen == {0.9, 1.0, 1.1}
    assert one.slowest == 0.9


def test_probabilities_are_kept(folders):
    augment = Augmenter(Augmentation(noise=str(folders / "noise"), noise_probability=0.25))
    changed = sum(
        not np.array_equal(augment(tone(0.2), np.random.default_rng(seed)).samples, tone(0.2)) for seed in range(200)
    )
    assert 30 <= changed <= 70


def test_all_is_off_by_default(random):
    augmented = Augmenter(Augmentation())(tone(0.5), random)
    np.testing.assert_array_equal(augmented.samples, tone(0.5))
    np.testing.assert_array_equal(augmented.clean, tone(0.5))
    assert augmented.factor == 1.0


def test_silence_lies_round_the_utterance(random):
    augment = Augmenter(Augmentation(silence_seconds=(0.1, 0.4), silence_probability=1.0))
    lengths, levels = [], []
    for _ in range(40):
        augmented = augment(tone(0.2), random)
        samples = augmented.samples
        start = int(np.correlate(samples, tone(0.2)[:800], "valid").argmax())
        np.testing.assert_array_equal(samples[start : start + len(tone(0.2))], tone(0.2))
        before, after = samples[:start], samples[start + len(tone(0.2)) :]
        lengths += [len(before) / RATE, len(after) / RATE]
        levels += [np.abs(before).max(), np.abs(after).max()]
        assert augmented.factor == 1.0
    assert 0.1 <= min(lengths) < 0.15
    assert 0.35 < max(lengths) <= 0.4
    assert min(levels) == 0.0
    assert 0.001 < max(levels) < 0.05


def test_utterances_are_joined_by_twos_to_fours(random):
    augment = Augmenter(Augmentation(join_probability=0.5, silence_seconds=(0.2, 0.2)))
    sizes = set()
    for _ in range(60):
        groups = augment.group(range(12), random)
        assert [number for group in groups for number in group] == list(range(12))
        sizes |= {max(map(len, groups))}
    assert sizes == {1, 2, 3, 4}
    joined = augment.join([tone(0.1), tone(0.3), tone(0.2)], random)
    assert len(joined) == round((0.6 + 2 * 0.2) * RATE)
    np.testing.assert_array_equal(joined[: len(tone(0.1))], tone(0.1))
    np.testing.assert_array_equal(joined[-len(tone(0.2)) :], tone(0.2))


def test_volume_lies_in_its_range(random):
    augment = Augmenter(Augmentation(volume_db=(-12, -6)))
    loudest = [np.abs(augment(tone(0.2), random).samples).max() for _ in range(50)]
    gains = 20 * np.log10(np.array(loudest) / np.abs(tone(0.2)).max())
    assert -12 <= min(gains) < -11
    assert -7 < max(gains) <= -6


def test_long_noise_is_read_from_a_random_place(tmp_path):
    ramp = np.repeat(np.linspace(0.001, 0.9, 100), RATE)  # 100 s, louder every second
    soundfile.write(tmp_path / "ramp.wav", ramp * np.tile([1, -1], len(ramp) // 2), RATE, subtype="FLOAT")
    augment = Augmenter(Augmentation(noise=str(tmp_path), noise_probability=1, noise_snr_db=(0, 0)))
    starts = {
        float(np.abs(augment(tone(1.0), np.random.default_rng(seed)).samples - tone(1.0)).std()) for seed in range(8)
    }
    assert len(starts) == 8


@pytest.mark.parametrize("name", ["noise", "reverb"])
def test_a_folder_without_recordings_is_refused(tmp_path, name):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match=rf"augmentation\.{name}: the folder .* isn't there, or holds no recording"):
            Augmenter(Augmentation(**{name: str(folder)}))
