"""Annotations that move with their image: as imgaug moves them, as the pixels move, and what is flagged."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
import sampler_oracle
from imgaug.augmentables import BoundingBox, BoundingBoxesOnImage, Keypoint, KeypointsOnImage, Polygon, PolygonsOnImage
from imgaug_reference import move_by_imgaug

from stn_core.annotations import Annotations
from stn_core.augment import augment, augment_annotated
from stn_core.errors import BadTensor, TooLarge
from stn_core.masks import warp_mask
from stn_core.moving import move, move_each
from stn_core.points import to_rectified, to_source
from stn_core.polygons import box_polygons
from stn_core.recipes import is_geometric, load_recipe, parse_recipe, shipped_recipes
from stn_core.transforms import compose, identity_like, invert

SHAPES = {"affine": (2, 3), "homography": (3, 3), "spline": (16, 2)}
FAMILIES = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
SIZE, OTHER = (40, 50), (64, 48)
STAR = np.array([[25, 4], [30, 16], [44, 16], [33, 24], [38, 37], [25, 29], [12, 37], [17, 24], [6, 16], [20, 16.0]])
GEOMETRIC = [name for name in shipped_recipes() if is_geometric(load_recipe(name))]
MANY_STEPS = {
    "name": "many-steps",
    "steps": [
        {"op": "affine", "scale_x": [0.8, 1.3], "shear_x_deg": [-30, 30], "translate_x_px": [-5, 5]},
        {"op": "some_of", "steps": [{"op": "flip_horizontal"}, {"op": "flip_vertical"}, {"op": "quarter_turns"}]},
        {"op": "affine", "rotate_deg": [-180, 180], "scale": [0.7, 1.2]},
    ],
}


def _random(count: int, size: tuple[int, int], seed: int = 0) -> list[Annotations]:
    rng = np.random.default_rng(seed)
    width_height = np.array(size[::-1])
    return [
        Annotations(
            rng.uniform(-0.1, 1.1, (5, 2)) * width_height,
            np.sort(rng.uniform(0, 1, (3, 2, 2)) * width_height, axis=1).reshape(3, 4),
            [_around(rng.uniform(0.2, 0.8, 2) * width_height, rng) for _ in range(2)],
        )
        for _ in range(count)
    ]


def _around(centre: Any, rng: np.random.Generator) -> Any:
    """A polygon whose edges do not cross."""
    angles = np.arange(7) / 7 * 2 * np.pi + rng.uniform(0, 0.5, 7)
    return centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * rng.uniform(3, 12, (7, 1))


def _filled(polygon: Any, x: Any, y: Any) -> Any:
    """Which of the points lie in a polygon, by the number of its edges to their right."""
    crossed = np.zeros(np.shape(x), int)
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y1 != y2:
            crossed += ((y1 > y) != (y2 > y)) & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return crossed % 2 == 1


def _from_edge_px(polygon: Any, places: Any) -> Any:
    """How far the places ``[S, 2]`` are from the polygon's edge."""
    start, way = polygon, np.roll(polygon, -1, axis=0) - polygon
    along = ((places[:, None] - start) * way).sum(-1) / (way**2).sum(-1)
    nearest = start + np.clip(along, 0, 1)[..., None] * way
    return np.hypot(*np.moveaxis(places[:, None] - nearest, -1, 0)).min(axis=1)


# --- as imgaug moves them ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["tutorial-mix", "rotation", "jitter", MANY_STEPS])
@pytest.mark.parametrize("size", [(28, 28), (60, 90)])
def test_keypoints_and_polygons_move_as_imgaug_moves_them(source: Any, size: tuple[int, int]) -> None:
    recipe, ids, given = parse_recipe(source), np.arange(40, dtype=np.uint64), _random(40, size)
    images = np.zeros((40, *size, 1), np.uint8)
    _, ours = augment_annotated(images, given, recipe, seed=5, ids=ids)
    keypoints = move_by_imgaug(
        [KeypointsOnImage([Keypoint(*point) for point in each.keypoints_px], size) for each in given],
        recipe, 5, ids, size,
    )  # fmt: skip
    outlines = [[*box_polygons(each.boxes_px), *each.polygons_px] for each in given]
    polygons = move_by_imgaug(
        [PolygonsOnImage([Polygon(outline) for outline in each], size) for each in outlines], recipe, 5, ids, size
    )
    shares = []
    for mine, points, shapes in zip(ours, keypoints, polygons, strict=True):
        expected = np.array([[point.x, point.y] for point in points.keypoints])
        np.testing.assert_allclose(mine.annotations.keypoints_px, expected, atol=1e-3)
        for polygon, shape in zip([*mine.box_polygons_px, *mine.annotations.polygons_px], shapes.polygons, strict=True):
            np.testing.assert_allclose(polygon, shape.exterior, atol=1e-3)
        away = np.abs(expected - np.clip(expected, 0, size[::-1])).max(axis=1)
        np.testing.assert_array_equal(mine.keypoints_inside[away > 1e-3], False)
        np.testing.assert_array_equal(mine.keypoints_inside[away == 0], True)
        visible = np.r_[mine.boxes_visible_fraction, mine.polygons_visible_fraction]
        off = [shape.compute_out_of_image_fraction(shapes.shape) for shape in shapes.polygons]
        np.testing.assert_allclose(visible, 1 - np.array(off), atol=1e-3)
        shares += visible.tolist()
    assert 0.3 < np.mean(np.array(shares) == 1) < 1


@pytest.mark.parametrize("name", ["rotation", "jitter"])
def test_boxes_around_boxes_are_those_of_imgaug(name: str) -> None:
    recipe, ids, given = load_recipe(name), np.arange(40, dtype=np.uint64), _random(40, (60, 90))
    _, ours = augment_annotated(np.zeros((40, 60, 90, 1), np.uint8), given, recipe, seed=5, ids=ids)
    boxes = [BoundingBoxesOnImage([BoundingBox(*box) for box in each.boxes_px], (60, 90)) for each in given]
    for mine, theirs in zip(ours, move_by_imgaug(boxes, recipe, 5, ids, (60, 90)), strict=True):
        np.testing.assert_allclose(mine.annotations.boxes_px, theirs.to_xyxy_array(np.float64), atol=1e-3)


# --- as the pixels move -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GEOMETRIC)
def test_a_bright_pixel_is_where_its_keypoint_went(name: str) -> None:
    rng, count = np.random.default_rng(0), 200
    column, row = rng.integers(3, 25, (2, count))
    images = np.zeros((count, 28, 28, 1), np.float32)
    images[np.arange(count), row, column] = 1
    centres = [Annotations([centre]) for centre in np.stack([column, row], axis=1) + 0.5]
    done, moved = augment_annotated(images, centres, load_recipe(name), seed=3)
    height, width = done.images.shape[1:3]
    y, x = np.mgrid[:height, :width] + 0.5
    off = []
    for image, each in zip(done.images[..., 0], moved, strict=True):
        place = each.annotations.keypoints_px[0]
        seen = each.keypoints_inside[0] and image.sum() > 0.2  # a pixel that is made smaller may fall between others
        if seen and (place > 2).all() and (place < [width - 2, height - 2]).all():
            off.append(np.array([(image * x).sum(), (image * y).sum()]) / image.sum() - place)
    assert len(off) > 0.75 * count
    assert np.abs(np.mean(off, axis=0)).max() < 0.03
    assert np.hypot(*np.transpose(off)).mean() < 0.2
    assert np.abs(off).max() < 0.75


@FAMILIES
def test_a_mask_of_a_shape_moved_is_the_shape_moved_and_filled(shape: Any) -> None:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    given = Annotations(polygons_px=[STAR], mask=_filled(STAR, x, y).astype(np.uint8))
    y, x = np.mgrid[: OTHER[0], : OTHER[1]] + 0.5
    for theta in sampler_oracle.thetas(np.random.default_rng(2), shape, 10, 0.08):
        moved = move(given, theta, SIZE, OTHER, max_edge_px=0.5)
        filled = _filled(moved.annotations.polygons_px[0], x, y)
        differs = filled != moved.annotations.mask
        assert 0.1 < filled.mean() < 0.6
        assert differs.mean() < 0.04
        places = to_source(np.stack([x, y], axis=-1)[differs], theta, OTHER, SIZE).points_px
        assert _from_edge_px(STAR, places).max(initial=0) < 0.5**0.5 + 0.02  # within a pixel from centre to corner


def test_a_mask_moves_as_its_image_does() -> None:
    images = np.where(np.random.default_rng(0).random((30, 28, 28, 1)) > 0.7, 255, 0).astype(np.uint8)
    given = [Annotations(mask=(image[..., 0] > 0).astype(np.uint8)) for image in images]
    for name in GEOMETRIC:
        done, moved = augment_annotated(images, given, load_recipe(name), seed=2)
        masks = np.stack([each.annotations.mask for each in moved])
        assert masks.shape == done.images.shape[:3]
        # Of the four pixels that are mixed, the nearest has a quarter of the weight or more.
        np.testing.assert_array_equal(masks[done.images[..., 0] > 255 * 0.76], 1)
        np.testing.assert_array_equal(masks[done.images[..., 0] < 255 * 0.24], 0)


# --- there and back, curves, and canvases -----------------------------------------------------------------------------


@FAMILIES
def test_the_identity_moves_nothing(shape: Any) -> None:
    mask = np.random.default_rng(0).integers(0, 9, SIZE).astype(np.int16)
    whole = [0, 0, SIZE[1], SIZE[0]]
    given = Annotations([[0, 0], [50, 40], [3.5, 7]], [whole, [1, 2, 3, 4]], [STAR], mask)
    moved = move(given, identity_like(shape), SIZE, SIZE)
    for name in ("keypoints_px", "boxes_px"):
        np.testing.assert_allclose(getattr(moved.annotations, name), getattr(given, name), atol=1e-9)
    np.testing.assert_allclose(moved.annotations.polygons_px[0], STAR, atol=1e-9)
    np.testing.assert_array_equal(moved.annotations.mask, mask)
    assert moved.annotations.mask.dtype == np.int16
    assert moved.keypoints_inside.all()
    assert moved.boxes_visible_fraction.tolist() == [1, 1]
    assert moved.polygons_visible_fraction.tolist() == [1]
    assert moved.exact


@pytest.mark.parametrize("shape", [(2, 3), (3, 3)])
def test_moved_by_theta_and_moved_back_by_its_inverse(shape: Any) -> None:
    given = _random(10, SIZE)
    theta = sampler_oracle.thetas(np.random.default_rng(1), shape, 10, 0.1)
    there = [each.annotations for each in move_each(given, theta, SIZE, OTHER)]
    back = move_each(there, invert(theta), OTHER, SIZE)
    for before, after in zip(given, back, strict=True):
        np.testing.assert_allclose(after.annotations.keypoints_px, before.keypoints_px, atol=1e-9)
        np.testing.assert_allclose(after.annotations.polygons_px, before.polygons_px, atol=1e-9)


@FAMILIES
def test_one_by_one_is_as_all_together(shape: Any) -> None:
    given = [*_random(4, SIZE), Annotations(), Annotations(mask=np.ones(SIZE, int))]
    theta = sampler_oracle.thetas(np.random.default_rng(1), shape, 6, 0.1)
    for one, own, together in zip(given, theta, move_each(given, theta, SIZE, OTHER), strict=True):
        np.testing.assert_equal(move(one, own, SIZE, OTHER).to_json(), together.to_json())
    assert move_each([], np.empty((0, *shape)), SIZE, OTHER) == []


def test_a_spline_bends_edges_and_pieces_of_them_follow() -> None:
    bulge = identity_like((9, 2)).copy()
    bulge[1, 1] -= 0.3  # the middle of the upper edge is read higher up: the image sinks there
    given = Annotations(boxes_px=[[0, 0, 50, 40]], polygons_px=[[[0, 0], [50, 0], [50, 40], [0, 40]]])
    straight, bent = (move(given, bulge, SIZE, SIZE, max_edge_px) for max_edge_px in (None, 1.0))
    assert [len(outline) for outline in (straight.box_polygons_px[0], straight.annotations.polygons_px[0])] == [4, 4]
    assert len(bent.box_polygons_px[0]) == 180
    np.testing.assert_allclose(straight.annotations.boxes_px, [[0, 0, 50, 40]], atol=1e-6)
    fine = np.stack([np.linspace(0, 50, 2001), np.zeros(2001)], axis=1)
    sunken = to_rectified(fine, bulge, SIZE, SIZE).points_px
    assert sunken[1000, 1] > 4
    assert _from_edge_px(bent.annotations.polygons_px[0], sunken).max() < 0.03
    assert _from_edge_px(straight.annotations.polygons_px[0], sunken).max() > 4
    y, x = np.mgrid[:40, :50] + 0.5
    shown = warp_mask(np.ones(SIZE, int), bulge, SIZE) == 1
    assert (_filled(bent.annotations.polygons_px[0], x, y) == shown).mean() > 0.999


def test_on_a_canvas_annotations_keep_their_place_in_the_middle() -> None:
    canvas = {"height_px": 60, "width_px": 80}
    framed = parse_recipe({"name": "framed", "canvas": canvas, "steps": [{"op": "affine"}]})
    mask = np.random.default_rng(0).integers(1, 9, SIZE)
    given = Annotations([[0, 0], [50, 40]], [[1, 2, 3, 4]], [STAR], mask)
    _, (moved,) = augment_annotated(np.zeros((1, *SIZE, 3), np.uint8), [given], framed, seed=0, fill_label=-1)
    np.testing.assert_allclose(moved.annotations.keypoints_px, [[15, 10], [65, 50]], atol=1e-9)
    np.testing.assert_allclose(moved.annotations.boxes_px, [[16, 12, 18, 14]], atol=1e-9)
    np.testing.assert_allclose(moved.annotations.polygons_px[0], STAR + np.array([15, 10]), atol=1e-9)
    expected = np.full((60, 80), -1)
    expected[10:50, 15:65] = mask
    np.testing.assert_array_equal(moved.annotations.mask, expected)


# --- flags ------------------------------------------------------------------------------------------------------------


def test_what_is_off_the_canvas_is_flagged_and_kept() -> None:
    right = np.array([[1.0, 0.0, -0.5], [0.0, 1.0, 0.0]])  # a quarter of the width to the right: 12.5 px
    given = Annotations([[10, 10], [40, 10]], [[5, 5, 15, 15], [30, 0, 45, 9], [40, 5, 50, 15]], [STAR])
    moved = move(given, right, SIZE, SIZE)
    assert moved.keypoints_inside.tolist() == [True, False]
    np.testing.assert_allclose(moved.annotations.keypoints_px, [[22.5, 10], [52.5, 10]])
    np.testing.assert_allclose(moved.annotations.boxes_px[1:], [[42.5, 0, 57.5, 9], [52.5, 5, 62.5, 15]])
    np.testing.assert_allclose(moved.boxes_visible_fraction, [1, 0.5, 0])
    assert 0.9 < moved.polygons_visible_fraction[0] < 1


def test_what_lies_beyond_a_horizon_has_no_place_and_is_null_in_json() -> None:
    tilt = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [2.0, 0.0, 1.0]])  # sources above x = 0.5 are never shown
    given = Annotations(
        [[25, 20], [45, 20]], [[20, 10, 25, 30], [20, 10, 45, 30]], [STAR, STAR / 2], np.ones(SIZE, int)
    )
    moved = move(given, tilt, SIZE, SIZE)
    assert moved.keypoints_inside.tolist() == [True, False]
    assert np.isnan(moved.annotations.keypoints_px).all(axis=1).tolist() == [False, True]
    assert np.isnan(moved.annotations.boxes_px).all(axis=1).tolist() == [False, True]
    assert np.isnan(moved.box_polygons_px[1]).all(axis=1).tolist() == [False, True, True, False]
    assert np.isnan(moved.boxes_visible_fraction).tolist() == [False, True]
    assert np.isnan(moved.polygons_visible_fraction).tolist() == [True, False]
    as_json = orjson.loads(orjson.dumps(moved.to_json()))
    assert as_json["keypoints_px"][1] is as_json["boxes_px"][1] is as_json["boxes_visible_fraction"][1] is None
    assert as_json["box_polygons_px"][1][1] is as_json["polygons_visible_fraction"][0] is None
    assert as_json["keypoints_inside"] == [True, False]
    assert as_json["exact"] is True
    # Once more, by a warp after it: what has no place stays without.
    again = move(moved.annotations, identity_like((2, 3)), SIZE, SIZE)
    np.testing.assert_allclose(again.annotations.keypoints_px, moved.annotations.keypoints_px, atol=1e-9)
    assert np.isnan(again.boxes_visible_fraction).tolist() == [False, True]


def test_two_moves_are_one_by_both_thetas() -> None:
    first, then = sampler_oracle.thetas(np.random.default_rng(4), (3, 3), 2, 0.1)
    given = _random(1, SIZE)[0]
    one_by_one = move(move(given, first, SIZE, OTHER).annotations, then, OTHER, SIZE).annotations
    at_once = move(given, compose(first[None], then[None])[0], SIZE, SIZE).annotations
    np.testing.assert_allclose(one_by_one.polygons_px, at_once.polygons_px, atol=1e-8)


# --- with augment -----------------------------------------------------------------------------------------------------


def test_the_augmentation_is_that_of_augment_and_moves_by_its_theta() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28, 1), dtype=np.uint8)
    given, ids = _random(20, (28, 28)), np.arange(20, dtype=np.uint64)
    for name in [*GEOMETRIC, "camera"]:
        recipe = load_recipe(name)
        done, moved = augment_annotated(images, given, recipe, seed=3, ids=ids)
        plain = augment(images, recipe, seed=3, ids=ids)
        np.testing.assert_array_equal(done.images, plain.images)
        np.testing.assert_array_equal(done.theta, plain.theta)
        for each, before, theta in zip(moved, given, done.theta, strict=True):
            back = to_source(each.annotations.keypoints_px, theta, done.images.shape[1:3], (28, 28)).points_px
            np.testing.assert_allclose(back, before.keypoints_px, atol=1e-7)
            assert each.exact
        order = np.random.default_rng(0).permutation(20)
        _, shuffled = augment_annotated(images[order], [given[k] for k in order], recipe, seed=3, ids=ids[order])
        for k, each in zip(order, shuffled, strict=True):
            np.testing.assert_allclose(each.annotations.keypoints_px, moved[k].annotations.keypoints_px, atol=1e-8)


def test_an_elastic_step_is_said_to_make_places_about_right() -> None:
    steps = [{"op": "affine", "rotate_deg": 10}, {"op": "sometimes", "probability": 0.5, "steps": [{"op": "elastic"}]}]
    recipe, images = parse_recipe({"name": "bent", "steps": steps}), np.zeros((40, 28, 28, 1), np.uint8)
    done, moved = augment_annotated(images, _random(40, (28, 28)), recipe, seed=0)
    assert [each.exact for each in moved] == done.exact.tolist()
    assert 5 < done.exact.sum() < 35
    assert {each.to_json()["exact"] for each in moved} == {True, False}


# --- bad input --------------------------------------------------------------------------------------------------------


def test_bad_input_is_refused() -> None:
    theta, given = identity_like((2, 3)), Annotations([[1, 2]], mask=np.ones((4, 5), int))
    with pytest.raises(BadTensor, match="mask: expected the size of its image, 40 x 50 px, got 4 x 5"):
        move(given, theta, SIZE, SIZE)
    with pytest.raises(BadTensor, match="annotations: expected 2, those of one image for each theta, got 1"):
        move_each([given], np.tile(theta, (2, 1, 1)), SIZE, SIZE)
    with pytest.raises(BadTensor, match="annotations: expected 3, those of each image, got 1"):
        augment_annotated(np.zeros((3, 4, 5, 1), np.uint8), [given], load_recipe("rotation"), seed=0)
    with pytest.raises(BadTensor, match=r"theta: expected the shape .*got \[1, 1, 2, 3\]"):
        move(given, theta[None], (4, 5), SIZE)
    with pytest.raises(BadTensor, match="theta: expected invertible transforms, but number 0"):
        move(given, np.zeros((2, 3)), (4, 5), SIZE)
    with pytest.raises(BadTensor, match="fill_label"):
        move(Annotations(mask=np.ones((4, 5), np.uint8)), theta, (4, 5), SIZE, fill_label=256)
    boxes = Annotations(boxes_px=[[0, 0, 50, 40]] * 3)
    with pytest.raises(BadTensor, match="max_edge_px: expected a length above 0, got 0"):
        move(boxes, theta, SIZE, SIZE, max_edge_px=0)
    with pytest.raises(
        TooLarge, match="max_edge_px: expected at most 100000 points of an image, but pieces of 0.002 px"
    ):
        move(boxes, theta, SIZE, SIZE, max_edge_px=0.002)
