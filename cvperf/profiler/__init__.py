"""Where a model's time goes, and what cvperf would make of it: ``with cvperf.profile() as p:``."""

from __future__ import annotations

from cvperf.profiler.advisor import Advice
from cvperf.profiler.session import Profile, profile

__all__ = ["Advice", "Profile", "profile"]
