"""Compiling without a GPU: what a launch would have run, its registers and its instructions.

Within ``compiling(90)`` every function of this folder takes tensors on the ``meta`` device, picks
what it would on an sm_90 GPU, and each launch compiles with exactly the specialisation that it
would have there. Meta tensors hold no numbers, so a function that reads one fails: none waits.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cvperf.backends.gpu.machine import assuming
from cvperf.backends.gpu.model import ARCHITECTURES
from cvperf.backends.triton.launch import diverting

# What docs/gpu.md tells of a kernel: multiplications on tensor cores, and copies that run by
# themselves. Prefixes, as SASS has them (HFMA2.MMA is no tensor instruction).
NOTABLE = (
    *("IMMA", "HMMA", "IGMMA", "HGMMA", "QGMMA", "UTCIMMA", "UTCHMMA", "UTCQMMA"),
    *("LDGSTS", "UTMALDG", "UTMASTG", "LDSM", "DPX"),
)


@dataclass(frozen=True)
class Compiled:
    """One compiled kernel.

    Attributes:
        kernel: the function's name.
        capability: what it was compiled for, 90 for sm_90.
        grid: what would have been launched.
        constexprs: compile-time arguments, warps and stages.
        shared: bytes of shared memory of a block.
        cubin: the code.
    """

    kernel: str
    capability: int
    grid: tuple[int, ...]
    constexprs: dict[str, Any]
    shared: int
    cubin: bytes = field(repr=False)

    @functools.cached_property
    def _usage(self) -> str:
        from cvperf.kernels.triton import compat

        return compat.tool("cuobjdump", "--dump-resource-usage", self.cubin)

    @property
    def registers(self) -> int:
        """Registers of a thread."""
        return self._resource("REG")

    @property
    def stack(self) -> int:
        """Bytes of stack of a thread; above 0 registers have been spilled."""
        return self._resource("STACK")

    def _resource(self, name: str) -> int:
        return max(int(found) for found in re.findall(rf"\b{name}:(\d+)", self._usage))

    @functools.cached_property
    def opcodes(self) -> Counter[str]:
        """Instruction -> how often it stands in the code; without its suffixes."""
        from cvperf.kernels.triton import compat

        code = compat.tool("nvdisasm", "-c", self.cubin)
        found = re.findall(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", code, re.M)
        return Counter(opcode.split(".")[0] for opcode in found)

    def has(self, prefix: str) -> bool:
        """Whether an instruction that starts so stands in the code."""
        return any(opcode.startswith(prefix) for opcode in self.opcodes)

    @property
    def notable(self) -> tuple[str, ...]:
        """Those of ``NOTABLE`` that stand in the code."""
        return tuple(one for one in NOTABLE if self.has(one))


@contextmanager
def compiling(capability: int) -> Iterator[list[Compiled]]:
    """Launches within compile for ``sm_{capability}`` and are listed; nothing runs.

    Args:
        capability: 80, 90 or 100.
    """
    from cvperf.kernels.triton import compat

    done: list[Compiled] = []

    def add(
        kernel: Any, grid: tuple[int, ...], args: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        found = compat.compiled(kernel, *args, **options)
        cubin, shared = found.asm["cubin"], found.metadata.shared
        done.append(Compiled(kernel.fn.__name__, capability, grid, options, shared, cubin))

    with (
        compat.offline_driver(capability),
        assuming(ARCHITECTURES[capability]),
        diverting(add),
    ):
        yield done
