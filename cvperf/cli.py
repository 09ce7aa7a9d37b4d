"""The ``cvperf`` command."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeVar

try:
    import typer
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
except ImportError as error:
    raise SystemExit("the cvperf command needs more: pip install 'cvperf[cli]'") from error

from cvperf import environment

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
bench = typer.Typer(no_args_is_help=True, help="Measure cvperf against what you use today.")
app.add_typer(bench, name="bench")
cache = typer.Typer(no_args_is_help=True, help="Compiled CUDA kernels and measured choices.")
app.add_typer(cache, name="cache")


@app.command()
def env() -> None:
    """Show versions, processor, threads, GPU, and what each backend can serve."""
    console = Console()
    facts = Table(title="environment", show_header=False)
    for name, text in environment.collect().items():
        facts.add_row(name, text)
    console.print(facts)
    ops = Table("backend", "state", "takes", "ops", title="backends")
    for row in environment.served():
        ops.add_row(*row)
    console.print(ops)


@bench.command()
def demo(
    output: Annotated[Path, typer.Option(help="folder of the report")] = Path("report"),
    repeats: Annotated[int, typer.Option(min=1, help="runs of each case, with and without")] = 3,
    only: Annotated[list[str] | None, typer.Option(help="run only this case; repeatable")] = None,
) -> None:
    """Run real models on real photos with and without cvperf, and write a report."""
    from cvperf.bench.demo import cases, run_demo
    from cvperf.data.packages import PackageError

    try:
        cases.select(only)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--only") from error
    raise typer.Exit(
        _told(lambda: run_demo(output, repeats=repeats, only=only), ImportError, PackageError)
    )


SUITES = {
    "kernels": "Every op over the shape lists of real networks.",
    "models": "Whole networks, forward.",
    "training": "Steps of training: forward, loss, gradients, update.",
    "overhead": "Tiny calls: the way to the kernel.",
    "peaks": "This machine's ceilings: arithmetic rates and copy bandwidth.",
    "all": "Every suite.",
}


def _add_suite(suite: str, about: str) -> None:
    @bench.command(suite, help=about)
    def run(
        device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
        op: Annotated[list[str] | None, typer.Option(help="only this op; repeatable")] = None,
        case: Annotated[str, typer.Option(help="only cases of this name; * matches any")] = "*",
        peers: Annotated[str, typer.Option(help="auto, or names with commas between")] = "auto",
        quick: Annotated[bool, typer.Option(help="a marked subset")] = False,
        threads: Annotated[int, typer.Option(min=0, help="0: as torch has them")] = 0,
        seconds: Annotated[
            float | None, typer.Option(min=0.01, help="time of a contender on a case")
        ] = None,
        one_process: Annotated[
            bool,
            typer.Option(help="models and training on a CPU: not a process for each contender"),
        ] = False,
        out: Annotated[Path | None, typer.Option(help="JSON Lines of the results")] = None,
    ) -> None:
        from cvperf.benchmarks import command

        path = out or Path("report") / f"{suite}.jsonl"
        ops = op or ()
        code = _told(
            lambda: command.run(
                suite, path, device, ops, case, peers, quick, threads, seconds, one_process
            ),
            ImportError,
            ValueError,
        )
        raise typer.Exit(code)


for _suite, _about in SUITES.items():
    _add_suite(_suite, _about)


@app.command()
def report(
    results: Annotated[list[Path], typer.Argument(help="JSON Lines files, or folders of them")],
    output: Annotated[Path, typer.Option("-o", "--output", help="folder of the report")] = Path(
        "report/bench"
    ),
    against: Annotated[Path | None, typer.Option(help="file or folder to compare with")] = None,
    fail_on_regression: Annotated[
        bool, typer.Option(help="exit code 1 if ours got slower")
    ] = False,
) -> None:
    """Make a page of results: one HTML file that needs no network, and a Markdown twin."""
    from cvperf.bench import report as page

    outcome = _told(
        lambda: page.write(results, output, against), ImportError, ValueError, FileNotFoundError
    )
    typer.echo(outcome.headline)
    for warning in outcome.warnings:
        typer.echo(f"warning: {warning}")
    for change in outcome.regressions:
        typer.echo(f"regression: {change}")
    typer.echo(f"wrote {outcome.html} and {outcome.markdown}")
    raise typer.Exit(1 if fail_on_regression and outcome.regressions else 0)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": False})
def profile(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="FILE.py, module:function, or a model's name")],
    output: Annotated[Path, typer.Option("-o", "--output", help="folder of page and trace")] = Path(
        "report/profile"
    ),
    device: Annotated[str, typer.Option(help="cpu or cuda, for a model")] = "cpu",
    batch: Annotated[int, typer.Option(min=1, help="images at once, for a model")] = 1,
    image_size: Annotated[int, typer.Option(min=0, help="pixels; 0: the model's own")] = 0,
    repeats: Annotated[int, typer.Option(min=1, help="passes with the profiler")] = 5,
    threads: Annotated[int, typer.Option(min=0, help="0: as torch has them")] = 0,
    ledger: Annotated[Path | None, typer.Option(help="results of cvperf bench kernels")] = None,
    check: Annotated[bool, typer.Option(help="also measure what cvperf.use gains")] = False,
    ncu: Annotated[bool, typer.Option(help="hardware counters by Nsight Compute")] = False,
) -> None:
    """Show where a model's time goes, and what cvperf would make of it.

    What follows -- goes to a Python file as its arguments.
    """
    from cvperf.profiler import command

    code = _told(
        lambda: command.run(
            target,
            output,
            arguments=context.args,
            device=device,
            batch=batch,
            image_size=image_size,
            repeats=repeats,
            threads=threads,
            ledger=ledger,
            check=check,
            ncu=ncu,
        ),
        *command.ERRORS,
    )
    raise typer.Exit(code)


@app.command()
def detect(
    source: Annotated[Path, typer.Argument(help="an image, a folder of them, or a video")],
    model: Annotated[
        str, typer.Option(help="mtcnn, face-ssd, nanodet, a run's folder, or torchvision's name")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="folder of the answers")] = Path(
        "report/detect"
    ),
    weights: Annotated[Path | None, typer.Option(help="file, for torchvision's")] = None,
    classes: Annotated[str, typer.Option(help="of that file: cat,dog; default: COCO's")] = "",
    threshold: Annotated[float, typer.Option(min=0, max=1, help="least score")] = 0.4,
    tiles: Annotated[
        int, typer.Option(min=0, help="cut large pictures into tiles of this side; 0: do not")
    ] = 0,
    overlap: Annotated[float, typer.Option(min=0, max=0.9, help="share of a tile's side")] = 0.2,
    broken: Annotated[str, typer.Option(help="images that cannot be read: skip or raise")] = "skip",
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
) -> None:
    """Draw what a detector finds, and list it in COCO's results format; the last line is JSON."""

    from cvperf.detect import command

    _told(
        lambda: command.run(
            source,
            output,
            model,
            weights=weights,
            classes=[name.strip() for name in classes.split(",") if name.strip()],
            threshold=threshold,
            tile=tiles,
            overlap=overlap,
            broken=broken,
            device=device,
        ),
        *command.ERRORS,
    )


@app.command("train")
def train_recipe(
    recipe: Annotated[str | None, typer.Argument(help="name, or a path to a .yaml")] = None,
    changes: Annotated[
        list[str] | None, typer.Argument(help="key=value, as many as you like")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="of the run; one that was stopped goes on")
    ] = None,
    list_recipes: Annotated[bool, typer.Option("--list", help="show the recipes")] = False,
) -> None:
    """Train by a recipe; the last line is JSON: figures, seconds, the run's folder."""
    from cvperf.train import command

    if list_recipes:
        command.show_recipes()
    elif recipe is None:
        raise typer.BadParameter("give a recipe, or --list to see them", param_hint="RECIPE")
    else:
        _told(lambda: command.run_recipe(recipe, changes or (), folder), *command.ERRORS)


@app.command("evaluate")
def evaluate_run(
    run: Annotated[Path, typer.Argument(help="folder of a run")],
    changes: Annotated[
        list[str] | None, typer.Argument(help="key=value, and one may be key=a|b|c: a curve")
    ] = None,
    split: Annotated[str, typer.Option(help="of the data set; default: the recipe's test")] = "",
) -> None:
    """Judge the best model of a run anew; the last line is JSON."""
    from cvperf.train import command

    _told(lambda: command.run_evaluate(run, split, changes or ()), *command.ERRORS)


@app.command("tune")
def tune_recipe(
    recipe: Annotated[str, typer.Argument(help="name, or a path to a .yaml")],
    changes: Annotated[
        list[str], typer.Argument(help="key=value, key=a|b|c, key=low..high, key=low..high:log")
    ],
    trials: Annotated[int, typer.Option(min=1, help="how many in all")] = 20,
    folder: Annotated[Path, typer.Option(help="of the search; a second call goes on")] = Path(
        "runs/tune"
    ),
) -> None:
    """Search for the best values of a recipe's keys; the last line is JSON."""
    from cvperf.train import command

    _told(lambda: command.run_tune(recipe, changes, trials, folder), *command.ERRORS)


@cache.command("list")
def list_cache() -> None:
    """Show what is kept: each compiled kernel, and where choices of autotuning are."""
    from cvperf.backends import tuning
    from cvperf.backends.cuda import cache as kept

    console, entries = Console(), kept.entries()
    kernels = Table("kernel", "architecture", "size", "age", "compiled in", title="CUDA kernels")
    for one in entries:
        age = _age(time.time() - one.made)
        name = escape(one.name) + ("" if one.fused else ", not fused")
        size, took = f"{one.bytes / 1024:,.0f} KiB", f"{one.seconds:.1f} s"
        kernels.add_row(name, one.architecture, size, age, took)
    console.print(kernels)
    total = sum(one.bytes for one in entries) / 1024
    typer.echo(f"{len(entries)} kernels, {total:,.0f} KiB in {kept.folder()}")
    count = tuning.count()
    typer.echo(f"{count} choices of autotuning in {tuning.cache_file()}")


@cache.command("clear")
def clear_cache() -> None:
    """Remove every compiled kernel, and what autotuning measured."""
    from cvperf.backends import tuning
    from cvperf.backends.cuda import cache as kept

    kernels, choices = kept.clear(), tuning.count()
    tuning.cache_file().unlink(missing_ok=True)
    typer.echo(f"removed {kernels} compiled kernels and {choices} choices of autotuning")


@cache.command("build")
def build_cache(
    arch: Annotated[
        list[int] | None, typer.Option(help="such as 90 for sm_90; repeatable; default: this GPU")
    ] = None,
) -> None:
    """Compile every CUDA kernel that ships, ahead of the first call. Needs no GPU if told which."""
    import torch
    from rich.progress import Progress

    from cvperf.backends.cuda import build
    from cvperf.backends.gpu.machine import machine
    from cvperf.backends.gpu.model import ARCHITECTURES, family
    from cvperf.errors import CompileError

    if not arch and not torch.cuda.is_available():
        raise typer.BadParameter("there is no GPU here; name one", param_hint="--arch")
    gpus = (
        [replace(ARCHITECTURES[family(one)], capability=one) for one in arch]
        if arch
        else [machine(torch.device("cuda"))]
    )
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("compiling", total=len(build.wanted(gpus)))

        def done(name: str) -> None:
            progress.update(task, advance=1, description=escape(name))

        count = _told(lambda: build.build(gpus, done), CompileError, NotImplementedError)
    typer.echo(f"{count} kernels are compiled for {', '.join(one.name for one in gpus)}")


def _age(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


_Answer = TypeVar("_Answer")


def _told(work: Callable[[], _Answer], *errors: type[Exception]) -> _Answer:
    """What ``work`` answers; these errors carry their own way out, which a traceback would bury."""
    try:
        return work()
    except errors as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def main() -> None:
    """Entry point of the ``cvperf`` command."""
    app()


if __name__ == "__main__":
    main()
