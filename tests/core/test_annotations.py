"""Annotations: what they may hold, and JSON there and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest

from stn_core import annotations as module
from stn_core.annotations import Annotations
from stn_core.errors import BadTensor, TooLarge
from stn_core.polygons import box_polygons

NAN = float("nan")
LABELS = np.arange(6, dtype=np.uint8).reshape(2, 3)
ALL = {
    "keypoints_px": [[1.5, 2.0], None, [-3.25, 1e9]],
    "boxes_px": [[0.0, 1.0, 10.5, 12.0], None],
    "polygons_px": [[[0.0, 0.0], [4.0, 0.0], [4.0, 3.0]], [[1.0, 1.0], None, [2.0, 5.0], [0.5, 2.0]]],
    "mask": [[0, 1, 2], [3, -4, 2**31 - 1]],
}


def test_lists_become_arrays() -> None:
    given = Annotations([[1, 2]], [[1, 2, 3, 4]], [[[0, 0], [1, 0], [1, 1]]], LABELS)
    for array, shape in ((given.keypoints_px, (1, 2)), (given.boxes_px, (1, 4)), (given.polygons_px[0], (3, 2))):
        assert (array.dtype, array.shape) == (np.float64, shape)
    assert given.mask is LABELS
    assert box_polygons(given.boxes_px).shape == (1, 4, 2)


def test_nothing_is_an_annotation_too() -> None:
    for nothing in (Annotations(), Annotations([], [], [], None), Annotations.from_json("{}")):
        assert (nothing.keypoints_px.shape, nothing.boxes_px.shape) == ((0, 2), (0, 4))
        assert (nothing.polygons_px, nothing.mask) == ((), None)
    assert Annotations().to_json() == {"keypoints_px": [], "boxes_px": [], "polygons_px": [], "mask": None}


@pytest.mark.parametrize("form", [lambda data: data, json.dumps, orjson.dumps])
def test_json_there_and_back(form: Any) -> None:
    read = Annotations.from_json(form(ALL))
    assert read.to_json() == ALL
    np.testing.assert_array_equal(read.keypoints_px, [[1.5, 2], [NAN, NAN], [-3.25, 1e9]])
    np.testing.assert_array_equal(read.boxes_px, [[0, 1, 10.5, 12], [NAN] * 4])
    np.testing.assert_array_equal(read.polygons_px[1], [[1, 1], [NAN, NAN], [2, 5], [0.5, 2]])
    np.testing.assert_array_equal(read.mask, ALL["mask"])


def test_no_digit_is_lost() -> None:
    rng = np.random.default_rng(0)
    given = Annotations(rng.normal(0, 1e3, (50, 2)), np.sort(rng.random((9, 4))), [rng.random((7, 2))])
    read = Annotations.from_json(orjson.dumps(given.to_json()))
    np.testing.assert_array_equal(read.keypoints_px, given.keypoints_px)
    np.testing.assert_array_equal(read.boxes_px, given.boxes_px)
    np.testing.assert_array_equal(read.polygons_px[0], given.polygons_px[0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"keypoints_px": [[1, 2, 3]]}, r"keypoints_px: expected the shape \[any number, 2\], got \[1, 3\]"),
        ({"keypoints_px": [[1, 2], [3]]}, "keypoints_px: .*unequal lengths"),
        ({"keypoints_px": [["1", "2"]]}, "keypoints_px: expected numbers, got <U1"),
        ({"keypoints_px": [[1, NAN]]}, "keypoints_px: expected rows of finite numbers, or all NaN"),
        ({"boxes_px": [[0, 0, 1, np.inf]]}, "boxes_px: expected rows of finite numbers"),
        ({"boxes_px": [[0, 0, 1, 1], [5, 0, 4, 9]]}, r"boxes_px\[1\]: expected x1 <= x2 .*got \[5.0, 0.0, 4.0, 9.0\]"),
        ({"boxes_px": [[0, 2, 1, 1]]}, r"boxes_px\[0\]: expected x1 <= x2 and y1 <= y2"),
        ({"polygons_px": [[[0, 0], [1, 1]]]}, r"polygons_px\[0\]: expected 3 vertices or more, got 2"),
        ({"polygons_px": [[0, 0, 1, 1, 1, 0]]}, r"polygons_px\[0\]: expected the shape \[any number, 2\], got \[6\]"),
        ({"mask": np.zeros((2, 3))}, r"mask: expected integer labels \[h, w\].* got float64 \[2, 3\]"),
        ({"mask": np.zeros((2, 3), bool)}, "mask: expected integer labels .*got bool"),
        ({"mask": np.zeros((0, 3), int)}, r"mask: expected integer labels .*got int64 \[0, 3\]"),
        ({"mask": [[1, 2], [3]]}, "mask: expected integer labels .*unequal lengths"),
    ],
)
def test_what_is_no_annotation_is_refused(fields: Any, message: str) -> None:
    with pytest.raises(BadTensor, match=message):
        Annotations(**fields)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", "annotations: expected JSON, got something that does not parse"),
        ('{"keypoints_px": [[NaN, 1]]}', "annotations: expected JSON, got something that does not parse"),
        ("[1]", r"annotations: expected a JSON object with some of .*got \[1\]"),
        (7, "annotations: expected a JSON object with some of .*got 7"),
        ({"keypoints": []}, "annotations: expected some of keypoints_px, boxes_px, .*got 'keypoints'"),
        ({"k" * 1000: []}, "annotations: expected some of .{1,160}$"),
        ({"keypoints_px": None}, "keypoints_px: expected a list, got None"),
        ({"keypoints_px": {"0": 1}}, "keypoints_px: expected a list"),
        ({"keypoints_px": [[1, 2], [1]]}, r"keypoints_px\[1\]: expected 2 numbers or null, got \[1\]"),
        ({"keypoints_px": [[1, True]]}, r"keypoints_px\[0\]: expected 2 numbers or null, got \[1, True\]"),
        ({"keypoints_px": [[1, "2"]]}, r"keypoints_px\[0\]: expected 2 numbers or null, got \[1, '2'\]"),
        ({"keypoints_px": [[1, None]]}, r"keypoints_px\[0\]: expected 2 numbers or null, got \[1, None\]"),
        ({"keypoints_px": [[1, 10**400]]}, "keypoints_px: expected numbers that fit into 64 bits"),
        ({"boxes_px": [[1, 2, 3]]}, r"boxes_px\[0\]: expected 4 numbers or null, got \[1, 2, 3\]"),
        ({"boxes_px": [[3, 2, 1, 4]]}, r"boxes_px\[0\]: expected x1 <= x2"),
        ({"polygons_px": [[[0, 0], [1, 0], [1]]]}, r"polygons_px\[0\]\[2\]: expected 2 numbers or null, got \[1\]"),
        ({"polygons_px": [None]}, r"polygons_px\[0\]: expected a list, got None"),
        ({"mask": []}, "mask: expected rows of labels"),
        ({"mask": [[]]}, "mask: expected rows of labels"),
        ({"mask": [[1, 2], [3]]}, "mask: expected rows of labels, as a list of lists of one length"),
        ({"mask": [[1], 2]}, "mask: expected rows of labels"),
        ({"mask": [[1, 2.0]]}, "mask: expected whole numbers from -2147483648 to 2147483647"),
        ({"mask": [[True, 2]]}, "mask: expected whole numbers"),
        ({"mask": [[1, None]]}, "mask: expected whole numbers"),
        ({"mask": [[2**31]]}, "mask: expected whole numbers"),
    ],
)
def test_json_that_is_no_annotation_is_refused(data: Any, message: str) -> None:
    with pytest.raises(BadTensor, match=message):
        Annotations.from_json(data)


def test_more_than_an_image_may_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_POINTS", 9)
    monkeypatch.setattr(module, "MAX_MASK_PX", 5)
    triangle, square, point = [[0, 0], [1, 0], [1, 1]], [0, 0, 1, 1], [1, 2]
    fits = {"keypoints_px": [point] * 2, "boxes_px": [square], "polygons_px": [triangle], "mask": [[1, 2], [3, 4]]}
    assert len(Annotations.from_json(fits).keypoints_px) == 2
    for more, got in (
        ({"keypoints_px": [point] * 3}, "10"),
        ({"boxes_px": [square] * 2}, "13"),
        ({"polygons_px": [triangle] * 2}, "12"),
        ({"keypoints_px": [point] * 11}, "11"),
        ({"polygons_px": [triangle] * 11}, "11 polygons"),
    ):
        with pytest.raises(TooLarge, match=f"expected at most 9 points of an image, got {got}$"):
            Annotations.from_json({**fits, **more})
    with pytest.raises(TooLarge, match="mask: expected at most 5 pixels, got 2 x 3"):
        Annotations.from_json({"mask": [[1, 2, 3]] * 2})
    with pytest.raises(TooLarge, match="mask: expected at most 5 pixels, got 2 x 3"):
        Annotations(mask=LABELS)
