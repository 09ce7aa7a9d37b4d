"""Tensor maps as the driver is asked for them, by a driver that tells what it was given."""

from __future__ import annotations

import pytest
import torch

from cvperf.backends.cuda import tensor_map
from cvperf.errors import LaunchError
from tests.backends.cuda.stand_in import OnGpu, StandIn


@pytest.fixture
def asked(driver: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    monkeypatch.setattr(tensor_map, "driver", lambda: driver.driver)
    driver.reset()
    return driver


def text(encoded: bytes) -> str:
    assert len(encoded) == tensor_map.BYTES
    return encoded.partition(b"\0")[0].decode()


def test_a_map_of_tiles(asked: StandIn) -> None:
    matrix = OnGpu(torch.zeros(40, 320, dtype=torch.bfloat16))
    found = tensor_map.tiled(matrix, (300, 40), (640,), (64, 8), 128)
    address = hex(matrix.data_ptr())
    assert text(found) == f"tiled 9 2 {address}: 300 40, 640; box 64 8, steps 1 1; 0 3 3 0"


def test_a_map_of_windows_lists_across_before_down(asked: StandIn) -> None:
    image = torch.zeros(2, 32, 9, 11, dtype=torch.uint8).to(memory_format=torch.channels_last)
    gpu_image = OnGpu(image)
    # The wrapper has strides of its own.
    gpu_image.is_contiguous = lambda memory_format: True
    found = tensor_map.im2col(gpu_image, (3, 5), (2, 1), (1, 3), (2, 1), 32, 100, 32)
    sizes, corners = f"32 11 9 2, {32 * 99}", "-3 -1 to -1 -3"
    assert text(found) == (
        f"im2col 0 4 {hex(image.data_ptr())}: {sizes}; {corners}; 32 of 100, steps 1 2; 0 1 3 0"
    )


def test_a_map_is_asked_for_once(asked: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = OnGpu(torch.zeros(16, 64, dtype=torch.int8))
    first = tensor_map.tiled(matrix, (64, 16), (64,), (32, 8), 32)
    monkeypatch.setattr(tensor_map, "driver", lambda: pytest.fail("asked again"))
    assert tensor_map.tiled(matrix, (64, 16), (64,), (32, 8), 32) is first


def test_a_map_that_the_driver_refuses_is_an_error(asked: StandIn) -> None:
    cube = OnGpu(torch.zeros(4, 4, 64, dtype=torch.int8))
    with pytest.raises(LaunchError, match="describing a tensor"):
        tensor_map.tiled(cube, (64, 4, 4), (64, 256), (32, 4, 1), 32)
