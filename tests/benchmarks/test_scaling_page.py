"""docs/scaling.md is the generated one, and the fit behind its measurement finds a known link."""

from __future__ import annotations

import pytest

from cvperf.benchmarks import scaling, scaling_page
from cvperf.train.distributed import collectives
from cvperf.train.distributed.collectives import Link


def test_the_page_is_the_generated_one() -> None:
    assert scaling.PAGE.read_text() == scaling_page.render(scaling.RESULTS), (
        "write it anew: python -m cvperf.benchmarks.scaling"
    )


def test_networks_have_their_published_numbers_of_parameters() -> None:
    counts = [scaling_page.parameters(model.shapes()) for model in scaling.MODELS.values()]
    # Mask R-CNN's 44,401,393 and its backbone's batch norms, which are trained here.
    assert counts == [25_557_032, 3_504_872, 44_401_393 + 53_120]


def test_a_fit_finds_the_link_that_made_the_times() -> None:
    link = Link(2e-4, 1e9)
    found = scaling.fit({size: collectives.ring(link, 2, size) for size in (1024, 65536, 2**24)})
    assert (found.latency, found.bandwidth) == pytest.approx((2e-4, 1e9), rel=1e-6)
