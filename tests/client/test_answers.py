"""How the answers to a call's requests are put together."""

import numpy as np
import pytest
from stn_client.answers import Answer, Gathered, Part, Settled, Whole
from stn_client.errors import BadAnswer
from stn_client.models import AUGMENT, CLASSIFY, PREDICT, WARP, Model

from stn_core.errors import BadTensor, StnError


def rows(model: Model, count: int, side: int = 3, first: int = 0) -> Answer:
    label = np.arange(first, first + count)
    outputs = {
        "label": label,
        "probabilities": np.full((count, 10), 0.1, np.float32),
        "theta": np.zeros((count, 2, 3), np.float64 if model is AUGMENT else np.float32),
        "rectified": np.broadcast_to(label[:, None, None], (count, side, side)).astype(np.uint8),
        "images": np.broadcast_to(label[:, None, None], (count, side, side)).astype(np.uint8),
        "exact": np.ones(count, bool),
    }
    return Answer({name: outputs[name] for name in model.outputs if name in outputs}, {})


def settled(model: Model, places: range, **options: int) -> Settled:
    return Settled(places, [Part(places, rows(model, len(places), first=places.start, **options), {})])


@pytest.mark.parametrize("count", [7, None])
def test_rows_come_in_order_and_are_the_callers_own(count: int | None) -> None:
    whole = Whole(PREDICT, count)
    parts = [settled(PREDICT, range(4)), settled(PREDICT, range(4, 7))]
    parts[0].parts[0].answer.outputs["label"].flags.writeable = False
    for part in parts:
        whole.add(part)
    result = whole.result()
    assert result.label.tolist() == list(range(7))
    assert result.rectified[:, 0, 0].tolist() == list(range(7))
    assert result.label.flags.writeable
    assert not np.shares_memory(result.label, parts[0].parts[0].answer.outputs["label"])
    assert result.index == range(7)
    assert result.errors == {}


def test_nothing_at_all_is_an_error() -> None:
    with pytest.raises(BadTensor, match="at least one image, got none"):
        Whole(PREDICT, None).result()


def test_a_part_says_where_its_images_are() -> None:
    gathered = Gathered(CLASSIFY, range(4, 7))
    gathered.add(settled(CLASSIFY, range(4, 7)))
    assert gathered.result().index == range(4, 7)
    assert gathered.result().label.tolist() == [4, 5, 6]


def test_rows_without_an_answer_hold_what_no_answer_holds() -> None:
    first, second = StnError("first"), StnError("second")
    for model in (PREDICT, AUGMENT):
        gathered = Gathered(model, range(10, 15))
        good = Part([10, 12, 13], rows(model, 3, first=1), {})
        gathered.add(Settled(range(10, 15), [good, Part((), None, {14: second}), Part((), None, {11: first})]))
        result = gathered.result()
        assert list(result.errors.items()) == [(11, first), (14, second)]
        assert np.isnan(result.theta).all(axis=(1, 2)).tolist() == [False, True, False, False, True]
        images = result.rectified if model is PREDICT else result.images
        assert images[:, 0, 0].tolist() == [1, 0, 2, 3, 0]
        if model is PREDICT:
            assert result.label.tolist() == [1, -1, 2, 3, -1]
        else:
            assert result.exact.tolist() == [True, False, True, True, False]


def test_where_nothing_has_an_answer_there_still_is_a_row_each() -> None:
    errors = {place: StnError("no") for place in range(2)}
    for model in (PREDICT, CLASSIFY, WARP, AUGMENT):
        gathered = Gathered(model, range(2))
        gathered.add(Settled(range(2), [Part((), None, errors)]))
        result = gathered.result()
        assert len(result) == 2
        assert result.errors == errors
    assert result.theta.shape == (2, 2, 3)
    assert result.theta_rectifying is None


def test_images_of_many_sizes_are_an_array_of_arrays() -> None:
    gathered = Gathered(WARP, range(6))
    gathered.add(settled(WARP, range(2), side=3))
    gathered.add(settled(WARP, range(2, 3), side=5))
    gathered.add(settled(WARP, range(3, 5), side=3))
    gathered.add(Settled(range(5, 6), [Part((), None, {5: StnError("no")})]))
    images = gathered.result().images
    assert images.shape == (6,)
    assert [image.shape for image in images] == [(3, 3), (3, 3), (5, 5), (3, 3), (3, 3), (0, 0)]
    assert [int(image[0, 0]) for image in images[:5]] == [0, 1, 2, 3, 4]
    assert all(image.flags.writeable for image in images)


def test_other_outputs_must_fit_together() -> None:
    gathered = Gathered(CLASSIFY, range(4))
    gathered.add(settled(CLASSIFY, range(2)))
    other = Answer({**rows(CLASSIFY, 2).outputs, "probabilities": np.zeros((2, 3), np.float32)}, {})
    with pytest.raises(BadAnswer, match=r"the same shape in every answer, got float32 \['N', 10\], float32 \['N', 3\]"):
        gathered.add(Settled(range(2, 4), [Part(range(2, 4), other, {})]))


def test_what_the_service_says_beside_is_kept() -> None:
    gathered = Gathered(AUGMENT, range(2))
    outputs = rows(AUGMENT, 2).outputs
    gathered.add(Settled(range(2), [Part(range(2), Answer(outputs, {"by_imgaug": "blur,noise"}), {})]))
    assert gathered.result().by_imgaug == ("blur", "noise")
