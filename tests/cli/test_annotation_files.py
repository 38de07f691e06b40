"""Annotations by the names of their files, in both forms."""

from __future__ import annotations

from pathlib import Path, PurePath

import pytest

from stn_cli.annotated import AnnotationsByFile
from stn_cli.sources import Source
from stn_core.errors import InvalidInput

POINT = '{"keypoints_px": [[3, 4]]}'


@pytest.mark.parametrize(
    "text",
    [
        f'{{"in/a.png": {POINT}, "x/b.png": {{}}}}',
        f'{{"file": "in/a.png", "annotations": {POINT}}}\n\n{{"file": "x/b.png", "annotations": {{}}}}\n',
    ],
    ids=["an object", "lines"],
)
def test_a_source_is_found_by_its_path_or_by_its_place(text: str, tmp_path: Path) -> None:
    file = tmp_path / "annotations"
    file.write_text(text)
    annotations = AnnotationsByFile(file)
    found = annotations.of(Source("in/a.png", PurePath("a.png")))
    assert found is not None
    assert found.keypoints_px.tolist() == [[3, 4]]
    assert annotations.left == ["x/b.png"]
    assert annotations.of(Source("in/x/b.png", PurePath("x/b.png"))) is not None
    assert annotations.of(Source("in/c.png", PurePath("c.png"))) is None
    assert annotations.left == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", r'expected \{"file": name, "annotations": \{...\}\} on line 1, .* got \[1\]'),
        (f'{{"file": "a.png", "annotations": {POINT}}}\n{{"file"', "on line 2, got what does not parse"),
        ('{"file": 3, "annotations": {}}', "on line 1"),
    ],
)
def test_a_file_of_another_form(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "annotations").write_text(text)
    with pytest.raises(InvalidInput, match=message):
        AnnotationsByFile(tmp_path / "annotations")


def test_no_file_and_annotations_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot read the file .*nope': No such file"):
        AnnotationsByFile(tmp_path / "nope")
    (tmp_path / "annotations").write_text('{"a.png": {"boxes_px": [[5, 5, 1, 1]]}}')
    with pytest.raises(InvalidInput, match=r"a.png: boxes_px\[0\]: expected x1 <= x2"):
        AnnotationsByFile(tmp_path / "annotations").at("a.png")
