"""The two ways through a model: the fast paths, and the plain formulas."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from wavconformer.model import attention, conformer, feature_encoder, linear, reference


@pytest.fixture(params=["fast", "plain"])
def paths(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test on each; the fast paths in full even for models as small as those of the tests."""
    if request.param == "plain":
        with reference.plain():
            yield "plain"
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "LEAST_PRODUCT", 0)
        patch.setattr(attention, "QUERY_BLOCK", 7)
        patch.setattr(attention, "HEAD_SCORES", 400)  # without autograd, shorter ones with all heads at once
        patch.setattr(attention, "HEAD_QUERY_BLOCK", 7)
        patch.setattr(conformer, "PIECE", 11)
        patch.setattr(feature_encoder, "PIECE", 9)
        patch.setattr(feature_encoder, "FIRST_PIECE", 200)
        yield "fast"
