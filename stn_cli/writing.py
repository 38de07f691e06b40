"""What the commands that write images have in common: their targets, and the annotations that move along."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import typer
from rich.console import Console

from stn_cli.annotated import AnnotationsByFile
from stn_cli.report import Entry
from stn_cli.sources import Source
from stn_cli.targets import LineFile, Targets
from stn_core.annotations import Annotations
from stn_core.errors import brief


class Writing:
    """Images below ``out`` (None: nowhere), and a line for each in the file ``lines`` there, if it has a name.

    To be used in ``with``. InvalidInput if ``out``, ``lines`` or the ``annotations`` will not do.
    """

    def __init__(self, out: Path | None, overwrite: bool, annotations: Path | None, lines: str | None) -> None:
        self._targets = None if out is None else Targets(out, overwrite)
        self._annotations = None if annotations is None else AnnotationsByFile(annotations)
        self._lines: LineFile | None = None
        if self._targets is not None and lines is not None:
            file = self._targets.out / lines
            self._targets.check(file)
            self._lines = LineFile(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._lines is not None:
            self._lines.close()
        left = [] if self._annotations is None else self._annotations.left
        if left and (kind is None or issubclass(kind, typer.Exit)):
            text = f"note: annotations that were not used: {len(left)}, such as those of {brief(left[0])}"
            Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(text)

    def targets_of(self, source: Source, endings: Sequence[str]) -> Sequence[Path]:
        return () if self._targets is None else self._targets.of(source.place, endings)

    def annotations_of(self, source: Source) -> Annotations | None:
        return None if self._annotations is None else self._annotations.of(source)

    def note(self, entry: Entry) -> None:
        """Writes the entry's line."""
        if self._lines is not None:
            self._lines.add(entry)
