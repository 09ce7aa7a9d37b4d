"""The ``cvperf`` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

try:
    import typer
    from rich.console import Console
    from rich.table import Table
except ImportError as error:
    raise SystemExit("the cvperf command needs more: pip install 'cvperf[cli]'") from error

from cvperf import environment

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
bench = typer.Typer(no_args_is_help=True, help="Measure cvperf against what you use today.")
app.add_typer(bench, name="bench")


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
    try:
        code = run_demo(output, repeats=repeats, only=only)
    except (ImportError, PackageError) as error:
        # These carry their own way out; a traceback would bury it.
        typer.echo(f"error: {error}", err=True)
        code = 2
    raise typer.Exit(code)


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
        quick: Annotated[bool, typer.Option(help="a marked subset, fewer samples")] = False,
        threads: Annotated[int, typer.Option(min=0, help="0: as torch has them")] = 0,
        out: Annotated[Path | None, typer.Option(help="JSON Lines of the results")] = None,
    ) -> None:
        from cvperf.benchmarks import command

        path = out or Path("report") / f"{suite}.jsonl"
        try:
            code = command.run(suite, path, device, op or (), case, peers, quick, threads)
        except (ImportError, ValueError) as error:
            typer.echo(f"error: {error}", err=True)
            code = 2
        raise typer.Exit(code)


for _suite, _about in SUITES.items():
    _add_suite(_suite, _about)


def main() -> None:
    """Entry point of the ``cvperf`` command."""
    app()
