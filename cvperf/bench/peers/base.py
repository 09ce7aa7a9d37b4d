"""What an adapter declares, and how peers are chosen."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cvperf.bench.contender import Contender, Unsupported
from cvperf.bench.problems.base import Shape
from cvperf.bench.results import OURS

Maker = Callable[[Any], Contender]
"""Takes a problem, compiles and packs what the peer wants ready, and returns its contender.

Raises Unsupported, with what is lacking, for a call that the peer does not offer.
"""


@dataclass(frozen=True)
class Peer:
    """One library as a contender."""

    name: str
    """What ``--peers`` takes and rows record, as ``"onnxruntime"``."""
    packages: tuple[str, ...]
    """Distributions it needs, the one whose version is recorded first."""
    makers: Mapping[str, Maker]
    """Op -> how to make its contender; an op that is not here is not offered."""
    devices: tuple[str, ...] = ("cpu",)
    install: str = ""
    """The command that installs it, where that is not ``pip install <packages>``."""
    alternatives: tuple[str, ...] = ()
    """Other distributions of the first package: each has the same modules in it."""
    library: Callable[[], str] | None = None
    """What to record as the version, where the package is not the library that does the work."""

    unasked: Callable[[Shape], bool] | None = None
    """Where it takes part without being named in ``--peers``; None: everywhere."""

    def joins(self, shape: Shape) -> bool:
        """Whether it takes part in this case. A shape that names its peers leaves us in."""
        ours = self.name.split(" ")[0] == OURS
        if shape.peers and not ours and self.name not in shape.peers:
            return False
        return self.unasked is None or self.unasked(shape)

    def missing(self) -> str | None:
        """None, or what is not installed and the command that installs it."""
        if self._found() is not None and all(_installed(name) for name in self.packages[1:]):
            return None
        command = self.install or f"pip install {' '.join(self.packages)}"
        return f"not installed: {command}"

    def version(self) -> str:
        """What did the work and its version, as ``"onnxruntime 1.32.0"``."""
        if self.library is not None:
            return self.library()
        name = self._found() or self.packages[0]
        return f"{name} {version(name)}"

    def _found(self) -> str | None:
        """The installed distribution of the first package."""
        names = (self.packages[0], *self.alternatives)
        return next((name for name in names if _installed(name)), None)

    def contender(self, problem: Any) -> Contender:
        """This peer on a problem.

        Raises:
            Unsupported: it does not offer this op, or not this call of it.
        """
        maker = self.makers.get(problem.shape.op)
        if maker is None:
            raise Unsupported(f"{self.name} has no {problem.shape.op}")
        return maker(problem)


def only_by_name(shape: Shape) -> bool:
    """For ``unasked``: takes part only where ``--peers`` names it, as it is no other library."""
    return False


def all_peers() -> tuple[Peer, ...]:
    """Every adapter in this folder, by name."""
    import cvperf.bench.peers as folder

    names = sorted(module.name for module in pkgutil.iter_modules(folder.__path__))
    modules = [importlib.import_module(f"{folder.__name__}.{name}") for name in names]
    return tuple(module.PEER for module in modules if hasattr(module, "PEER"))


def select(names: Sequence[str] | None, device: str) -> tuple[Peer, ...]:
    """The peers called ``names`` that run on ``device``; every one for None ("auto").

    Raises:
        ValueError: no peer has that name.
    """
    peers = all_peers()
    known = [peer.name for peer in peers]
    if unknown := [name for name in names or () if name not in known]:
        raise ValueError(f"no peer is called {', '.join(unknown)}; known: {', '.join(known)}")
    here = tuple(peer for peer in peers if device in peer.devices)
    if names is None:
        return here
    return tuple(replace(peer, unasked=None) for peer in here if peer.name in names)


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
