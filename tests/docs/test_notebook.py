"""The notebook runs from top to bottom in a fresh kernel; its own cells assert what they show."""

import runpy
from pathlib import Path

MAKING = Path(__file__).parents[2] / "docs" / "making"


def test_the_notebook_runs() -> None:
    notebook = runpy.run_path(str(MAKING / "notebook.py"))
    document = notebook["run"]()
    text, pictures = notebook["as_markdown"](document)
    assert "px, distorted" in text
    assert len(pictures) == 3
