"""The examples in docs/points.md run, as they stand, one after another, and say what the page says."""

import re
from pathlib import Path
from typing import Any

import numpy as np

PAGE = Path(__file__).parents[2] / "docs" / "points.md"


def test_every_example_runs() -> None:
    text = PAGE.read_text()
    names: dict[str, Any] = {}
    for block in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text[: block.start(1)].count("\n")
        exec(compile("\n" * line + block[1], PAGE, "exec"), names)  # so that a traceback shows the page's own line
    np.testing.assert_allclose(names["found"].points_px, [[[120, 30], [120, 15], [168, 15]]], atol=1e-9)
    assert names["found"].inside.all()
    assert names["boxes"].shape == (1, 4)
    np.testing.assert_allclose(names["visible"], names["boxes"][0])
    assert names["straightened"].exact
