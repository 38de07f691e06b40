"""Runs the notebook in a fresh kernel and writes its outputs into it, or only runs it.

.venv/bin/python docs/making/notebook.py        (make notebook)
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "spatial-transformer.ipynb"
CELL_TIMEOUT_S = 600


def read(notebook: Path) -> Any:
    return nbformat.read(notebook, as_version=4)


def run(notebook: Path = NOTEBOOK) -> Any:
    """The notebook with its outputs; raises what a cell raises."""
    document = read(notebook)
    NotebookClient(document, timeout=CELL_TIMEOUT_S, kernel_name="python3").execute()
    for cell in document.cells:
        if cell.cell_type == "code":  # TensorFlow's notes on its start tell a reader nothing
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return document


def as_markdown(document: Any) -> tuple[str, dict[str, bytes]]:
    """The notebook as a page, and the pictures on it by their names."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in document.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"spatial-transformer-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![What the cell draws]({name})")
            elif "text/plain" in data or "text" in output:
                parts.append(f"```text\n{(output.get('text') or data['text/plain']).strip()}\n```")
    return "\n\n".join(parts) + "\n", pictures


def main() -> None:
    document = run()
    for cell in document.cells:
        cell.get("metadata", {}).pop("execution", None)  # times of day, which change at every run
    nbformat.write(document, NOTEBOOK)
    print(f"wrote {NOTEBOOK}", file=sys.stderr)


if __name__ == "__main__":
    main()
