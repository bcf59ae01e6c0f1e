from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.training.synthetic import recipe_of

from wavconformer.errors import ConfigError
from wavconformer.training.filterbank import PHASES, filterbank
from wavconformer.training.starting import start


def test_filters_have_unit_power_and_rising_frequencies():
    filters = filterbank(128, 256)
    assert filters.shape == (128, 256)
    torch.testing.assert_close(filters.norm(dim=-1), torch.ones(128))
    assert filters.sum(-1).abs().max() < 1e-5
    loudest = torch.fft.rfft(filters, n=4096).abs().argmax(-1) * 16_000 / 4096
    centres = loudest.view(-1, PHASES).mean(-1)
    assert (centres.diff() > 0).all()
    assert 50 < centres[0] < 120
    assert 7_400 < centres[-1] < 7_700


@pytest.mark.parametrize("hertz", [300, 1_000, 4_000])
def test_a_tone_is_found_in_its_band_whatever_its_phase(hertz):
    filters = filterbank(256, 256)
    time = torch.arange(256) / 16_000
    found = set()
    for phase in np.linspace(0, 2 * np.pi, 7):
        passed = (filters @ torch.cos(2 * np.pi * hertz * time + phase)).view(-1, PHASES)
        envelope = passed.square().sum(-1)
        found.add(int(envelope.argmax()))
    assert max(found) - min(found) <= 1
    mel = 2595 * np.log10(1 + np.array([60, hertz, 7_600]) / 700)
    expected = (mel[1] - mel[0]) / (mel[2] - mel[0]) * 63
    assert abs(found.pop() - expected) < 1.5


def test_a_run_begins_with_it(tones, tmp_path):
    long_first = {"conv_kernel": [128, 3, 3], "conv_stride": [80, 2, 2], "conv_dim": [32, 16, 16]}
    model = start(recipe_of(tones, tmp_path, config=long_first, filterbank=True)).model
    kernels = model.base_model.feature_extractor.conv_layers[0].conv.weight[:, 0]
    torch.testing.assert_close(kernels / kernels.norm(dim=-1, keepdim=True), filterbank(32, 128))
    assert kernels[-1].norm() > 5 * kernels[0].norm()  # louder where speech is softer


def test_a_short_kernel_or_odd_channels_are_refused(tones, tmp_path):
    with pytest.raises(ConfigError, match=r"conv_kernel\[0\]=10"):
        start(recipe_of(tones, tmp_path, filterbank=True))
    odd = {"conv_kernel": [128, 3, 3], "conv_stride": [80, 2, 2], "conv_dim": [30, 16, 16]}
    with pytest.raises(ConfigError, match=r"conv_dim\[0\]=30"):
        start(recipe_of(tones, tmp_path, config=odd, filterbank=True))


def test_it_is_no_beginning_for_a_trained_model(tones, tmp_path):
    with pytest.raises(ConfigError, match=r"model\.init"):
        recipe_of(tones, tmp_path, init="tiny-en", filterbank=True)
