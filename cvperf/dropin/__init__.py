"""Serving models that call torch and torchvision, through dispatcher overrides."""

from cvperf.dropin.ledger import Explanation, explain
from cvperf.dropin.switch import disable, enable, use

__all__ = ["Explanation", "disable", "enable", "explain", "use"]
