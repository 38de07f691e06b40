"""Points of a result mapped through its thetas, rows with errors among them."""

from typing import Any

import numpy as np
import pytest
from stn_client import Rectification, Unsupported

from stn_core.points import to_source
from stn_core.polygons import bounding_boxes, box_polygons


def rectification(**fields: Any) -> Rectification:
    turned = np.array([[[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]] * 3, np.float32)
    turned[1] = np.nan
    return Rectification(np.zeros((3, 40, 40), np.uint8), turned, index=range(3), **fields)


def test_points_of_a_rectified_image_on_its_source() -> None:
    sizes = np.array([[120, 240], [-1, -1], [60, 60]])
    result = rectification(source_size=sizes)
    corner = np.array([[30.0, 20.0], [39.0, 1.0], [50.0, 20.0]])
    found = result.to_source(np.stack([corner] * 3))
    for row in (0, 2):
        expected = to_source(corner, result.theta[row], (40, 40), sizes[row])
        assert np.array_equal(found.points_px[row], expected.points_px)
        assert found.inside[row].tolist() == [True, True, False]
    assert np.isnan(found.points_px[1]).all()
    assert not found.inside[1].any()
    lists = result.to_source([corner, corner[:1], corner[:0]])
    assert [one.points_px.shape for one in lists] == [(3, 2), (1, 2), (0, 2)]
    assert np.array_equal(lists[0].points_px, found.points_px[0])
    assert np.allclose(result.to_rectified(found.points_px).points_px[[0, 2]], corner)
    assert np.array_equal(result[2].to_source(corner.tolist()).points_px, found.points_px[2])
    polygons = result.to_source(box_polygons(np.full((3, 2, 4), [4.0, 6, 20, 12])))
    assert polygons.points_px.shape == (3, 2, 4, 2)
    assert np.allclose(bounding_boxes(polygons.points_px[2]), [[9, 30, 18, 54]] * 2)
    assert np.array_equal(result[1:].to_source(np.stack([corner] * 2)).points_px[1], found.points_px[2])


def test_what_was_kept_is_mapped_as_it_was_kept() -> None:
    theta_applied = np.tile(np.eye(2, 3, dtype=np.float32), (3, 1, 1))
    result = rectification(source_size=np.full((3, 2), 80), theta_applied=theta_applied)
    assert np.allclose(result.to_source(np.full((3, 1, 2), 10.0)).points_px, 20)


def test_a_size_that_nobody_knows_is_named() -> None:
    for unknown in (None, np.zeros((3, 2), int)):
        with pytest.raises(Unsupported, match="the size of image 0 as it was sent is not known"):
            rectification(source_size=unknown).to_source(np.zeros((3, 1, 2)))
