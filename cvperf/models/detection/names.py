"""Parameters under the names of older files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn


class Renamed(nn.Module):
    """A module that also loads weights which torchvision saved before it renamed them.

    ``old_names`` says what ``weight`` and ``bias`` belonged to: old name to new, dots included.
    """

    old_names: ClassVar[Mapping[str, str]] = {}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for old, new in self.old_names.items():
            for kind in ("weight", "bias"):
                if prefix + old + kind in state_dict:
                    state_dict[prefix + new + kind] = state_dict.pop(prefix + old + kind)
        super()._load_from_state_dict(state_dict, prefix, *rest)
