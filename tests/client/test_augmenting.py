"""Copies of each image and annotations that move with them; and what the service says of recipes."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from picture_files import saved
from PIL import Image
from protocol_server import Server
from stn_client import BadAnswer, BadTensor, InvalidInput, StnError, UnknownRecipe, Unsupported
from stn_client.batches import Batch
from stn_client.calls import Call, Calls
from stn_client.flow import Response, Retry
from stn_client.splitting import Limits

from stn_core.annotations import Annotations
from stn_core.augment import augment_annotated
from stn_core.draws import image_ids
from stn_core.pictures import decode_picture
from stn_core.recipes import load_recipe, shipped_recipes

CallMethod = Callable[..., Any]
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (7, 28, 28), np.uint8)
RECIPE, SEED = "tutorial-mix", 7


def annotation(place: int, size: tuple[int, int] = (28, 28)) -> Annotations:
    return Annotations(
        keypoints_px=np.array([[3.5 + place, 4.0], [np.nan, np.nan]]),
        boxes_px=np.array([[2, 2, 12, 20]]),
        polygons_px=[np.array([[1, 1], [9, 1], [9, 8 + place]])],
        mask=RNG.integers(0, 5, size),
    )


def batches_of(call: Call[Any]) -> list[Batch]:
    formed = list(call.source.batches(call.room(Limits(max_images=4)), call.alongside))
    assert all(isinstance(batch, Batch) for batch in formed)
    return formed  # type: ignore[return-value]


@pytest.mark.parametrize("errors", ["raise", "keep"])
def test_copies_are_numbered_as_equal_images_are(errors: str) -> None:
    expected = np.repeat(IMAGES, 3, axis=0)
    for images in (IMAGES, iter(IMAGES), [Image.fromarray(image) for image in IMAGES]):
        batches = batches_of(Calls(Retry()).augment(images, RECIPE, SEED, copies=3, errors=errors))
        assert [place for batch in batches for place in batch.places] == list(range(21))
        assert max(len(batch.places) for batch in batches) <= 4
        sent = np.concatenate([batch.inputs["images"] for batch in batches])
        assert np.array_equal(sent[..., 0], expected)
        ids = np.concatenate([batch.inputs["ids"] for batch in batches])
        assert np.array_equal(ids, image_ids(expected))


def test_given_ids_are_of_the_copies() -> None:
    calls = Calls(Retry())
    (batch,) = batches_of(calls.augment(IMAGES[:2], RECIPE, SEED, [5, 6, 7, 8], copies=2))
    assert batch.inputs["ids"].tolist() == [5, 6, 7, 8]
    with pytest.raises(BadTensor, match="ids: expected 4 whole numbers"):
        calls.augment(IMAGES[:2], RECIPE, SEED, [5, 6], copies=2)


def test_an_error_is_that_of_each_copy_and_names_the_image(tmp_path: Path) -> None:
    given = [IMAGES[0], tmp_path / "missing.png", IMAGES[1]]
    (batch,) = batches_of(Calls(Retry()).augment(given[:2], RECIPE, SEED, copies=2, errors="keep"))
    assert (list(batch.places), sorted(batch.errors)) == ([0, 1], [2, 3])
    call = Calls(Retry()).augment(given, RECIPE, SEED, copies=2)
    *_, failed = call.source.batches(call.room(Limits()), call.alongside)
    assert failed.error.__notes__ == ["this is image 1"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"copies": 0}, InvalidInput, "copies: expected a whole number from 1, got 0"),
        ({"copies": 1.0}, InvalidInput, "copies: expected a whole number from 1, got 1.0"),
        ({"copies": True}, InvalidInput, "copies: expected a whole number"),
        ({"annotations": 5}, BadTensor, "annotations: expected an iterable of Annotations or None, got int"),
        ({"annotations": [None] * 6}, BadTensor, "annotations: expected 7, those of each image or None, got 6"),
        ({"copies": 2, "annotations": [None] * 14}, BadTensor, "expected 7, .*, got 14"),
        ({"copy": 2}, TypeError, "expected options of annotations, batch_images, copies, .* got 'copy'"),
    ],
)
def test_nothing_is_sent_for_what_makes_no_sense(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Calls(Retry()).augment(IMAGES, RECIPE, SEED, **options)


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([{}] * 7, "annotations: expected stn_core.annotations.Annotations or None, got dict"),
        (iter([None]), "annotations: expected one for each image, or None, but there are more images than that"),
        ([Annotations(mask=np.zeros((5, 5), int))] * 7, "mask: expected the size of its image, 28 x 28 px, got 5 x 5"),
    ],
)
def test_annotations_that_do_not_fit(server: Server, call: CallMethod, annotations: Any, message: str) -> None:
    with pytest.raises(BadTensor, match=message):
        call(server.url, "augment", IMAGES, RECIPE, SEED, given={"annotations": annotations})


def test_an_image_whose_size_nobody_knows(server: Server, call: CallMethod) -> None:
    picture = Image.fromarray(IMAGES[0])
    picture.getexif()[0x0112] = 6
    file = saved(picture, exif=picture.getexif())
    call(server.url, "augment", [file], RECIPE, SEED)
    with pytest.raises(Unsupported, match="the size of image 0 as it was sent is not known"):
        call(server.url, "augment", [file], RECIPE, SEED, given={"annotations": [annotation(0)]})


# --- against the real service ----------------------------------------------------------------------------------------


@pytest.mark.service
@pytest.mark.parametrize("recipe", [RECIPE, "camera", "elastic", "rotation-scale-translation"])
def test_copies_are_those_that_files_get(service_url: str, call: CallMethod, recipe: str) -> None:
    files = [("image", (f"{k}.png", saved(Image.fromarray(image)))) for k, image in enumerate(IMAGES[:3])]
    asked = {"recipe": recipe, "seed": "7", "copies": "4"}
    entries = httpx.post(f"{service_url}/v1/augment", files=files, data=asked, timeout=60).json()["results"]
    found = call(service_url, "augment", IMAGES[:3], recipe, SEED, given={"copies": 4})
    assert len(found) == 12
    copies = [copy for entry in entries for copy in entry["copies"]]
    for row, copy in zip(found, copies, strict=True):
        assert np.array_equal(row.images, decode_picture(base64.b64decode(copy["image"]))[..., 0])
        assert np.array_equal(row.theta, copy["theta"])
        assert row.exact == copy["exact"]
    assert len(np.unique(found.theta, axis=0)) > 9
    again = call(service_url, "augment", np.repeat(IMAGES[:3], 4, axis=0), recipe, SEED)
    assert np.array_equal(found.images, again.images)


@pytest.mark.service
@pytest.mark.parametrize("recipe", [RECIPE, "perspective", "elastic", "rotation-scale-translation"])
def test_annotations_move_as_the_library_moves_them(service_url: str, call: CallMethod, recipe: str) -> None:
    given = [annotation(place) for place in range(7)]
    repeated = [each for each in given for _ in range(2)]
    images = np.repeat(IMAGES, 2, axis=0)[..., None]
    expected = augment_annotated(images, repeated, load_recipe(recipe), SEED)[1]
    found = call(service_url, "augment", IMAGES, recipe, SEED, given={"copies": 2, "annotations": given})
    streamed = call(
        service_url, "stream.augment", iter(IMAGES), recipe, SEED,
        given={"copies": 2, "annotations": iter(given), "batch_images": 3},
    )  # fmt: skip
    assert len(streamed) > 3
    for moved in (found.annotations, [row.annotations for part in streamed for row in part]):
        assert [each.to_json() for each in moved] == [each.to_json() for each in expected]
    assert found[3:5].annotations.shape == (2,)
    assert "annotations" not in found.to_pandas().columns


@pytest.mark.service
def test_sizes_errors_and_images_without_annotations(service_url: str, call: CallMethod) -> None:
    wide = RNG.integers(0, 256, (20, 50), np.uint8)
    images = [IMAGES[0], wide, b"broken", IMAGES[1]]
    given = [None, annotation(0, (20, 50)), annotation(1), annotation(2)]
    found = call(service_url, "augment", images, "jitter", SEED, given={"errors": "keep", "annotations": given})
    assert [moved is None for moved in found.annotations] == [True, False, True, False]
    assert found[1].annotations.annotations.mask.shape == (20, 50)
    alone = augment_annotated(wide[None, ..., None], [given[1]], load_recipe("jitter"), SEED)[1][0]  # type: ignore[list-item]
    assert found[1].annotations.to_json() == alone.to_json()
    assert call(service_url, "augment", IMAGES[:2], "jitter", SEED).annotations is None


@pytest.mark.service
def test_the_recipes_as_the_service_has_them(service_url: str, call: CallMethod) -> None:
    recipes = call(service_url, "recipes")
    assert list(recipes) == list(shipped_recipes())
    assert recipes["elastic"]["family"] == "tps"
    assert recipes["rotation-scale-translation"]["canvas"]["height_px"] == 42
    recipe = call(service_url, "recipe", RECIPE)
    assert recipe["steps"] == load_recipe(RECIPE).model_dump(mode="json")["steps"]
    by_name, by_dict = (call(service_url, "augment", IMAGES, each, SEED) for each in (RECIPE, recipe))
    assert np.array_equal(by_name.images, by_dict.images)
    for name in ("no-such", "a/b", "../v2"):
        with pytest.raises(UnknownRecipe if "/" not in name else StnError):
            call(service_url, "recipe", name)


@pytest.mark.service
def test_what_rectification_changed(service_url: str, call: CallMethod) -> None:
    assert {"share_of_requests", "images", "agreement"} <= call(service_url, "shadow").keys()


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"recipes": [5]}', b'{"recipes": 5}', b"hello"])
def test_recipes_that_are_none(body: bytes) -> None:
    flow = Calls(Retry()).recipes()
    next(flow)
    with pytest.raises(BadAnswer, match="expected"):
        flow.send(Response(200, {}, body))
