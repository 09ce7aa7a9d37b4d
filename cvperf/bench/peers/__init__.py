"""The libraries that cvperf is measured against: one adapter file each, found by name.

An adapter file defines ``PEER = Peer(...)``. Its packages are imported by the functions that need
them, so that listing the peers costs nothing and a missing package is an answer, not an error.
"""

from __future__ import annotations

from cvperf.bench.peers.base import Peer, select

__all__ = ["Peer", "select"]
