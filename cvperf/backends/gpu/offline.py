"""What a compiled kernel takes and which instructions it has, read from its code without a GPU."""

from __future__ import annotations

import functools
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cvperf.errors import UnsupportedError

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
        constexprs: compile-time arguments.
        shared: bytes of shared memory of a block.
        cubin: the code.
        symbol: the function's name in it; nothing if it is the only one.
    """

    kernel: str
    capability: int
    grid: tuple[int, ...]
    constexprs: dict[str, Any]
    shared: int
    cubin: bytes = field(repr=False)
    symbol: str = ""

    @functools.cached_property
    def _usage(self) -> str:
        return tool("cuobjdump", "--dump-resource-usage", cubin=self.cubin)

    @property
    def registers(self) -> int:
        """Registers of a thread."""
        return self._resource("REG")

    @property
    def stack(self) -> int:
        """Bytes of stack of a thread; above 0 registers have been spilled."""
        return self._resource("STACK")

    @property
    def static_shared(self) -> int:
        """Bytes of shared memory that the kernel has without asking for them at a launch."""
        reserved = 1024 if self.capability >= 90 else 0  # by the system, for each block
        return max(0, self._resource("SHARED") - reserved)

    def _resource(self, name: str) -> int:
        found = re.search(rf"\b{name}:(\d+)", self._of_function(self._usage, "Function {}:"))
        if found is None:
            raise ValueError(f"cuobjdump tells no {name} of {self.kernel}: {self._usage}")
        return int(found[1])

    def _of_function(self, text: str, heading: str) -> str:
        """What a tool says of the kernel's own function, between its heading and the next."""
        if not self.symbol:
            return text
        after = text.split(heading.format(self.symbol), 1)[1]
        return after.split(heading.split("{", 1)[0], 1)[0]

    @functools.cached_property
    def opcodes(self) -> Counter[str]:
        """Instruction -> how often it stands in the code; without its suffixes."""
        code = tool("nvdisasm", "--print-code", "--no-dataflow", cubin=self.cubin)
        code = self._of_function(code, "\t.section\t.text.{},")
        found = re.findall(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", code, re.M)
        return Counter(opcode.split(".")[0] for opcode in found)

    def has(self, prefix: str) -> bool:
        """Whether an instruction that starts so stands in the code."""
        return any(opcode.startswith(prefix) for opcode in self.opcodes)

    @property
    def notable(self) -> tuple[str, ...]:
        """Those of ``NOTABLE`` that stand in the code."""
        return tuple(one for one in NOTABLE if self.has(one))


@functools.lru_cache(maxsize=512)
def tool(name: str, *options: str, cubin: bytes) -> str:
    """What cuobjdump or nvdisasm prints about a cubin. Half a second, and many calls share one."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [_path(name), *options, file.name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@functools.cache
def _path(name: str) -> str:
    """A tool of the CUDA toolkit: triton's wheel brings these two."""
    for folder in _triton():
        if (path := folder / "backends/nvidia/bin" / name).is_file():
            return str(path)
    if path_found := shutil.which(name):
        return path_found
    raise UnsupportedError(f"{name} is needed to read compiled kernels: pip install triton")


def _triton() -> Iterator[Path]:
    found = importlib.util.find_spec("triton")
    yield from map(Path, (found.submodule_search_locations if found else None) or ())
