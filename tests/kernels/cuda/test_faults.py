"""Every planted fault is caught, by a case that passes without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernels.cuda import (
    test_conv2d,
    test_conv2d_hopper,
    test_conv2d_int8,
    test_elementwise,
    test_int8_gemm,
    test_int8_gemm_hopper,
    test_mainloop,
    test_nms,
    test_paste_masks,
    test_roi_align,
    test_roi_pool,
    test_soft_nms,
)
from tests.kernels.cuda.emulation import EmulationError
from tests.kernels.cuda.faults import Fault, planted
from tests.kernels.cuda.harness import ON_GPU

FAULTS: list[Fault] = [
    *test_mainloop.FAULTS,
    *test_int8_gemm.FAULTS,
    *test_int8_gemm_hopper.FAULTS,
    *test_conv2d.FAULTS,
    *test_conv2d_hopper.FAULTS,
    *test_conv2d_int8.FAULTS,
    *test_elementwise.FAULTS,
    *test_nms.FAULTS,
    *test_paste_masks.FAULTS,
    *test_roi_align.FAULTS,
    *test_roi_pool.FAULTS,
    *test_soft_nms.FAULTS,
]
CASES = list(dict.fromkeys(fault.case for fault in FAULTS))

pytestmark = pytest.mark.skipif(ON_GPU, reason="a broken kernel is not run on a GPU")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_case_passes_on_the_right_kernel(case) -> None:
    case()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_the_fault_is_caught(fault: Fault, tmp_path: Path) -> None:
    with planted(fault, tmp_path), pytest.raises((AssertionError, EmulationError)) as caught:
        fault.case()
    assert "does not compile" not in str(caught.value)
