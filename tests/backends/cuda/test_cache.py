"""A compiled kernel is kept on disk, and nothing that happens to the files breaks a call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cvperf.backends.cuda import cache, compiler
from cvperf.backends.cuda.kernel import Kernel

SCALE = Kernel("scale.cu", "scale<float, 2>")


@pytest.fixture
def compiled(kernels: Path, monkeypatch: pytest.MonkeyPatch) -> list[compiler.Request]:
    """What has been compiled, and not found."""
    done: list[compiler.Request] = []

    def count(request: compiler.Request) -> compiler.Binary:
        done.append(request)
        return compiler.compile_kernel(request)

    monkeypatch.setattr(cache, "compile_kernel", count)
    compiler._text.cache_clear()
    cache._unkept.clear()
    return done


def only(pattern: str) -> Path:
    (path,) = cache.folder().glob(pattern)
    return path


def test_a_kernel_is_compiled_once(compiled: list[compiler.Request]) -> None:
    first = cache.binary(SCALE, 90)
    assert cache.binary(SCALE, 90) == first
    assert len(compiled) == 1
    told = json.loads(only("*.json").read_text())
    assert told["name"] == "scale<float, 2>"
    assert told["architecture"] == "sm_90a"
    assert told["symbol"] == first.symbol
    assert told["bytes"] == len(first.code) == only("*.cubin").stat().st_size
    assert told["seconds"] > 0
    assert "-fmad=true" in told["options"]


def edit(file: str) -> Callable[[Path], None]:
    def change(kernels: Path) -> None:
        with (kernels / file).open("a") as source:
            source.write("// changed\n")
        compiler._text.cache_clear()

    return change


@pytest.mark.parametrize("file", ["scale.cu", "factor.cuh", "device.cuh"])
def test_a_changed_source_is_compiled_anew(
    compiled: list[compiler.Request], kernels: Path, file: str
) -> None:
    cache.binary(SCALE, 90)
    edit(file)(kernels)
    cache.binary(SCALE, 90)
    assert len(compiled) == 2


def test_what_is_not_included_does_not_matter(
    compiled: list[compiler.Request], kernels: Path
) -> None:
    cache.binary(SCALE, 90)
    edit("wrong.cu")(kernels)
    cache.binary(SCALE, 90)
    assert len(compiled) == 1


def test_options_architecture_and_compiler_have_entries_of_their_own(
    compiled: list[compiler.Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.binary(SCALE, 90)
    cache.binary(SCALE, 80)
    cache.binary(SCALE._replace(fused=False), 90)
    monkeypatch.setattr(compiler, "compiler", lambda: "nvrtc 99.0")
    cache.binary(SCALE, 90)
    assert len(compiled) == len(cache.entries()) == 4


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize("file", ["*.cubin", "*.json"])
@pytest.mark.parametrize("harm", [truncate, Path.unlink, lambda path: path.write_bytes(b"[]")])
def test_a_broken_entry_is_compiled_anew(
    compiled: list[compiler.Request], file: str, harm: Callable[[Path], None]
) -> None:
    first = cache.binary(SCALE, 90)
    harm(only(file))
    assert cache.binary(SCALE, 90) == first
    assert cache.binary(SCALE, 90) == first
    assert len(compiled) == 2


def test_a_folder_that_cannot_be_written_costs_one_warning(
    compiled: list[compiler.Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CVPERF_CACHE", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="cannot be kept in .*CVPERF_CACHE") as warned:
        first, second = (cache.binary(SCALE, 90) for _ in range(2))
    assert first == second
    assert len(warned) == 1
    assert len(compiled) == 2


def test_a_full_disk_costs_one_warning(
    compiled: list[compiler.Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cvperf.files.replace", full)
    with pytest.warns(RuntimeWarning, match="No space left"):
        cache.binary(SCALE, 90)
    assert not cache.entries()


PROCESS = """
import sys
from pathlib import Path
from cvperf.backends.cuda import cache, compiler
from cvperf.backends.cuda.kernel import Kernel
compiler.SOURCES = Path(sys.argv[1])
made = cache.compile_kernel
cache.compile_kernel = lambda request: print("compiled") or made(request)
cache.binary(Kernel("scale.cu", "scale<float, 2>"), 90)
"""


def test_processes_at_the_same_time_compile_once(kernels: Path) -> None:
    command = [sys.executable, "-c", PROCESS, str(kernels)]
    runs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(2)
    ]
    said = [run.communicate(timeout=120)[0] for run in runs]
    assert all(run.returncode == 0 for run in runs)
    assert "".join(said) == "compiled\n"


def test_clearing_removes_every_file(compiled: list[compiler.Request]) -> None:
    cache.binary(SCALE, 90)
    assert cache.clear() == 1
    assert not list(cache.folder().iterdir())
    assert cache.clear() == 0
