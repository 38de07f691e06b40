"""The examples in docs/client.md run, as they stand, one after another."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "client.md"


@pytest.mark.service
def test_every_example_runs(service_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some examples write files
    text = PAGE.read_text()
    names: dict[str, object] = {"url": service_url}
    for block in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text[: block.start(1)].count("\n")
        exec(compile("\n" * line + block[1], PAGE, "exec"), names)  # so that a traceback shows the page's own line
    assert len(names["prediction"].label) == 100  # type: ignore[attr-defined]
    assert list(names["prediction_of_files"].errors) == [17]  # type: ignore[attr-defined]
    assert list(names["prediction_of_paths"].errors) == [3]  # type: ignore[attr-defined]
