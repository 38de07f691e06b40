"""Decisions asked for by options, told in the results, and heeded where points are mapped."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from picture_files import saved
from PIL import Image
from stn_client import InvalidInput, Prediction
from stn_client.calls import Calls
from stn_client.flow import Retry
from stn_client.options import FLAGS, MOST

from stn_core.decision import Limits

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def mixed(digits: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Twenty digits, of which some are turned, and ten images of noise, ``uint8 [30, 28, 28]``."""
    turned = [np.asarray(Image.fromarray(image[..., 0]).rotate(35)) for image in digits[0][:20]]
    noise = np.random.default_rng(0).integers(0, 256, (10, 28, 28), np.uint8)
    return np.concatenate([np.stack(turned), noise])


def test_the_limits_are_those_of_the_service() -> None:
    assert {*MOST, *FLAGS} == {"decide", *Limits.model_fields}
    for name, most in MOST.items():
        bounds = {type(bound).__name__: bound for bound in Limits.model_fields[name].metadata}
        assert (bounds["Ge"].ge, bounds["Le"].le) == (0, most)  # type: ignore[attr-defined]


def test_limits_are_sent_and_none_is_none() -> None:
    limits = {"max_turn_deg": np.float32(30), "min_scale": 1, "max_scale": None, "may_mirror": np.True_}
    call = Calls(Retry()).predict(np.zeros((1, 28, 28), np.uint8), **limits)
    assert call.parameters == {"max_turn_deg": 30.0, "min_scale": 1.0, "may_mirror": True}
    assert call.outputs is None  # whether there is a confidence is for the bundle to say
    assert Calls(Retry()).rectify(np.zeros((1, 28, 28), np.uint8), decide=True).parameters == {"decide": True}
    plain = Calls(Retry()).rectify(np.zeros((1, 28, 28), np.uint8), max_scale=None)
    assert plain.parameters == {}
    assert plain.outputs == ["rectified", "theta"]


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        ("predict", {"min_confidense": 0.5}, TypeError, "expected options of .*min_confidence.*got 'min_confidense'"),
        ("classify", {"min_confidence": 0.5}, TypeError, "batch_images, deadline_s, errors, progress, got 'min_conf"),
        ("rectify", {"min_confidence": 1.5}, InvalidInput, "min_confidence: expected a number from 0 to 1, got 1.5"),
        ("straighten", {"max_scale": "2"}, InvalidInput, "max_scale: expected a number from 0 to 1e.06, got '2'"),
        ("predict", {"max_turn_deg": float("nan")}, InvalidInput, "max_turn_deg: expected a number from 0 to 180"),
        ("predict", {"may_mirror": 1}, InvalidInput, "may_mirror: expected True or False, got 1"),
        ("predict", {"decide": "yes"}, InvalidInput, "decide: expected True or False, got 'yes'"),
        ("predict", {"min_motion_px": True}, InvalidInput, "min_motion_px: expected a number"),
    ],
)
def test_nothing_is_sent_for_an_option_that_makes_no_sense(
    model: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        getattr(Calls(Retry()), model)(np.zeros((1, 28, 28), np.uint8), **options)


# --- against the real service ----------------------------------------------------------------------------------------


@pytest.mark.service
@pytest.mark.parametrize("method", ["predict", "rectify"])
def test_images_are_rectified_or_kept(service_url: str, call: Call, mixed: np.ndarray, method: str) -> None:
    plain = call(service_url, method, mixed)
    assert plain.decision is plain.reason is plain.confidence is plain.theta_applied is None
    found = call(service_url, method, mixed, given={"min_confidence": 0.5})
    kept = found.decision == "kept"
    assert kept[20:].all()
    assert not kept[:20].all()
    assert set(found.decision) == {"kept", "rectified"}
    assert np.array_equal(found.reason == "ok", ~kept)
    assert (found.reason[20:] == "low-confidence").any()
    assert found.confidence[~kept].min() >= 0.5
    assert np.array_equal(found.rectified[kept], mixed[kept])
    assert np.array_equal(found.theta_applied[kept], np.tile(np.eye(2, 3), (kept.sum(), 1, 1)))
    assert np.array_equal(found.theta_applied[~kept], found.theta[~kept])
    assert np.allclose(found.theta, plain.theta, atol=1e-4)
    mapped = found.to_source(np.full((30, 1, 2), 3.0))
    assert np.allclose(mapped.points_px[kept], 3.0)
    assert not np.allclose(mapped.points_px[~kept], 3.0)
    row = found[29]
    assert (row.decision, row.confidence < 0.5) == ("kept", True)
    assert list(found.to_pandas().decision) == found.decision.tolist()


@pytest.mark.service
def test_files_and_errors_among_them(service_url: str, call: Call, mixed: np.ndarray) -> None:
    rectified = int(
        np.argmax(call(service_url, "rectify", mixed, given={"min_confidence": 0.5}).decision == "rectified")
    )
    files: list[Any] = [saved(Image.fromarray(image)) for image in (mixed[rectified], mixed[-1])]
    files.insert(1, b"broken")
    found = call(service_url, "predict", files, given={"errors": "keep", "min_confidence": 0.5})
    assert isinstance(found, Prediction)
    assert found.decision.tolist() == ["rectified", "", "kept"]
    assert np.isnan(found.confidence[1])
    assert found.source_size.tolist() == [[28, 28], [-1, -1], [28, 28]]
    assert np.isfinite(found.to_source(np.ones((3, 2, 2))).points_px).all(axis=(1, 2)).tolist() == [True, False, True]


@pytest.mark.service
def test_at_full_size_too(service_url: str, call: Call, mixed: np.ndarray) -> None:
    large = [saved(Image.fromarray(image.repeat(4, 0).repeat(k, 1))) for k, image in enumerate(mixed[[0, -1]], 3)]
    (part,) = call(service_url, "stream.straighten", large, given={"min_confidence": 0.5})
    assert part.decision.tolist() == ["rectified", "kept"]
    assert part.reason[0] == "ok"
    assert part.mask is None
    assert np.array_equal(part[1].images[..., 0], mixed[-1].repeat(4, 0).repeat(4, 1))
    assert np.allclose(part[1].to_source([[7.0, 9.0]]).points_px, [[7, 9]])
