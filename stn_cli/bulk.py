"""``--bulk`` of ``stn predict``, ``rectify`` and ``augment``: jobs on Ray Data, that go on after they were killed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stn_cli.annotated import AnnotationsByFile
from stn_cli.endings import FAILED
from stn_cli.report import print_json
from stn_core.errors import InvalidInput

if TYPE_CHECKING:
    from stn_bulk.running import Outcome

_PANEL = "With --bulk"
_FORMATS = ("files", "parquet", "webdataset")

Bulk = Annotated[
    bool,
    typer.Option(
        "--bulk",
        help="As a job on Ray Data, from and to paths or URIs (s3://...): pictures, parquet or WebDataset tars. The "
        "same command goes on with it if it was killed.",
        rich_help_panel=_PANEL,
    ),
]
Format = Annotated[
    str | None,
    typer.Option("--format", help="files, parquet or webdataset.", show_default="files", rich_help_panel=_PANEL),
]
Column = Annotated[
    str | None,
    typer.Option(help="Of parquet sources, the one of the pictures.", show_default="image", rich_help_panel=_PANEL),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes, a CPU each.", show_default="all CPUs", rich_help_panel=_PANEL),
]
ShardImages = Annotated[
    int | None,
    typer.Option(min=1, help="Images that are done or not done together.", show_default="1000", rich_help_panel=_PANEL),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Of a Ray cluster: HOST:PORT, or auto; without it Ray is started here, and ended.", rich_help_panel=_PANEL
    ),
]
BulkOut = Annotated[str | None, typer.Option("--out", help="The folder or URI for the rows.", rich_help_panel=_PANEL)]


class BulkOptions(NamedTuple):
    """What only ``--bulk`` knows of."""

    format: str | None = None
    column: str | None = None
    workers: int | None = None
    shard_images: int | None = None
    address: str | None = None

    def refuse(self) -> None:
        """InvalidInput if one is given, where ``--bulk`` is not."""
        for name, value in self._asdict().items():
            if value is not None:
                raise InvalidInput(f"--{name.replace('_', '-')}: expected --bulk with it")


def run_bulk(
    paths: list[str],
    out: str | None,
    recursive: bool,
    url: str | None,
    bulk: BulkOptions,
    job: dict[str, Any],
    annotations: Path | None = None,
    overwrite: bool = False,
    as_json: bool = False,
    progress: bool | None = None,
) -> None:
    """Runs the ``job`` (fields of ``stn_bulk.running.Options``), and tells how it went."""
    if out is None:
        raise InvalidInput("--bulk: expected a folder or a URI for the results, give --out")
    if url:
        raise InvalidInput(f"--bulk: it does the work on Ray, and not at the service at {url}; give --url '' with it")
    if overwrite:
        raise InvalidInput("--overwrite: a job goes on with what is in its folder; name another one, or remove it")
    if "-" in paths:
        raise InvalidInput("--bulk: expected paths, patterns or URIs, which a job can find again; got -")
    if bulk.format not in (None, *_FORMATS):
        raise InvalidInput(f"--format: expected {', '.join(_FORMATS)}, got {bulk.format!r}")
    given = {name: getattr(bulk, name) for name in ("format", "column", "shard_images")}
    given = {name: value for name, value in given.items() if value is not None}
    from stn_bulk.running import Options, run_job
    from stn_bulk.shards import Sources

    options = Options(**job, **given, annotations=annotations is not None)
    found = None if annotations is None else _Annotations(annotations)
    sources = Sources(tuple(paths), recursive, options.column, found)
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    started_s = time.perf_counter()
    with _bar(console, console.is_terminal if progress is None else progress) as tell:
        outcome = run_job(sources, out, options, bulk.workers, bulk.address, tell)
    seconds = time.perf_counter() - started_s
    if as_json:
        print_json({**vars(outcome), "out": out, "seconds": round(seconds, 3)})
    console.print(_closing(outcome, seconds, out))
    if outcome.failed:
        raise typer.Exit(FAILED)


class _Annotations:
    def __init__(self, path: Path) -> None:
        self._found = AnnotationsByFile(path)

    def __call__(self, name: str, place: str) -> Any | None:
        found = self._found.at(name) or self._found.at(place)
        return None if found is None else found.to_json()


@contextlib.contextmanager
def _bar(console: Console, shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    if not shown:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, *times, console=console, transient=True) as bar:
        task = bar.add_task("images", total=None)
        yield lambda done, images: bar.update(task, completed=done, total=images)


def _closing(outcome: Outcome, seconds: float, out: str) -> str:
    failed = f", {outcome.failed:,} failed, see {out}/errors.jsonl" if outcome.failed else ""
    before = f", {outcome.done_before:,} of them before" if outcome.done_before else ""
    rate = (outcome.images - outcome.done_before) / seconds
    done = f"{outcome.images - outcome.failed:,} of {outcome.images:,} images done{before}{failed}"
    return f"{done}; {seconds:.1f} s, {rate:,.0f} a second"
