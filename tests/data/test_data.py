"""``cvperf.data`` gives its names at their first use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cvperf import data


def test_importing_it_loads_no_image_library() -> None:
    code = "import sys, cvperf.data; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in run.stdout.split()}
    assert "cvperf" in loaded
    assert not loaded & {"torchvision", "PIL", "sklearn", "imblearn", "pycocotools", "datasets"}


def test_every_name_is_there() -> None:
    assert all(getattr(data, name) is not None for name in data.__all__)
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = data.laod  # type: ignore[attr-defined]
