"""Detections as entries of COCO's results format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvperf.data.sets.coco import mask_library
from cvperf.detect.sources import Frame


def entries(
    found: Mapping[str, Tensor], frame: Frame, names: Mapping[int, str]
) -> list[dict[str, Any]]:
    """One for each detection: COCO's keys, with ``file_name`` and ``category_name`` besides.

    ``bbox`` is (x, y, width, height) in pixels, ``image_id`` the frame's number, ``category_id``
    the model's label; ``segmentation`` is run-length encoded where there are masks.

    Args:
        found: ``boxes`` [n, 4], ``labels`` [n], ``scores`` [n] and maybe ``masks`` bool [n, H, W].
        frame: in which.
        names: of the labels.
    """
    corner, end = found["boxes"].split(2, dim=1)
    listed: list[dict[str, Any]] = [
        {
            "image_id": frame.number,
            "file_name": frame.name,
            "category_id": label,
            "category_name": names.get(label, str(label)),
            "bbox": [round(side, 2) for side in box],
            "score": round(score, 5),
        }
        for box, label, score in zip(
            torch.cat((corner, end - corner), 1).tolist(),
            found["labels"].tolist(),
            found["scores"].tolist(),
            strict=True,
        )
    ]
    for entry, mask in zip(listed, found.get("masks", ()), strict=False):
        entry["segmentation"] = _run_lengths(mask)
    return listed


def _run_lengths(mask: Tensor) -> dict[str, Any]:
    encoded = mask_library().encode(np.asfortranarray(mask.numpy(), dtype=np.uint8))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode("ascii")}
