"""The best classes in place of scores: which, in which order, and where it makes no sense."""

import httpx
import numpy as np
import pytest
from gateway_in_process import RECIPE, infer
from http_calls import binary, outputs, problem

from services.classification import MAX_TEXTS, best_classes
from stn_core.errors import TooLarge

NAMES = ("ant", "bee:big", "cat", "dög")


def test_the_best_come_first_and_equal_ones_in_their_order() -> None:
    scores = np.array([[0.1, 0.7, 0.1, 0.1], [-1.0, -2.0, 5e-7, 1e4]], np.float32)
    assert best_classes(scores, NAMES, 3).tolist() == [
        [b"0.700000:1:bee:big", b"0.100000:0:ant", b"0.100000:2:cat"],
        ["10000.000000:3:dög".encode(), b"0.000000:2:cat", b"-1.000000:0:ant"],
    ]


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (4, 4), (5, 4), (10**18, 4)])
def test_there_are_no_more_than_all(count: int, expected: int) -> None:
    texts = best_classes(np.zeros((2, 4), np.float32), NAMES, count)
    assert (texts.shape, texts.dtype) == ((2, expected), np.dtype(object))


def test_too_many_texts_are_refused_before_one_is_made() -> None:
    scores = np.broadcast_to(np.float32(0), (MAX_TEXTS // 4 + 1, 4))
    with pytest.raises(
        TooLarge, match="classification: expected at most 1048576 texts in one answer, got 262145 images"
    ):
        best_classes(scores, NAMES, 4)


@pytest.mark.parametrize("as_binary", [True, False])
@pytest.mark.parametrize("model", ["predict", "classify"])
async def test_over_http_beside_other_outputs(
    http: httpx.AsyncClient, images: np.ndarray, model: str, as_binary: bool
) -> None:
    asked = [
        {"name": "label", "parameters": {"binary_data": as_binary}},
        {"name": "probabilities", "parameters": {"binary_data": as_binary, "classification": 99}},
    ]
    tensor = {"name": "images", "datatype": "UINT8", "shape": [3, 28, 28, 1], "data": images.reshape(-1).tolist()}
    answer = await http.post(f"/v2/models/{model}/infer", json={"inputs": [tensor], "outputs": asked})
    told = outputs(answer).outputs
    scores = outputs(await infer(http, model, {"images": images})).outputs["probabilities"]
    assert told["probabilities"].tolist() == best_classes(scores, tuple("0123456789"), 10).tolist()
    assert [int(row[0].split(b":")[1]) for row in told["probabilities"]] == told["label"].tolist()


@pytest.mark.parametrize(
    ("model", "output", "expected"),
    [
        ("predict", "label", "holds no score for each class; ask for those of probabilities"),
        ("predict", "theta", "ask for those of probabilities"),
        ("classify", "label", "ask for those of probabilities"),
        ("rectify", "theta", "model rectify has no such output"),
        ("augment", "images", "model augment has no such output"),
    ],
)
async def test_an_output_without_scores_has_none(
    http: httpx.AsyncClient, images: np.ndarray, model: str, output: str, expected: str
) -> None:
    message = binary({"images": images}, outputs=[output], parameters=RECIPE)
    message["content"] = message["content"].replace(b'"binary_data":true', b'"classification":3')
    length = int(message["headers"]["inference-header-content-length"])
    message["headers"]["inference-header-content-length"] = str(
        length - len(b'"binary_data":true') + len(b'"classification":3')
    )
    answer = await http.post(f"/v2/models/{model}/infer", **message)
    assert expected in problem(answer, 400, "bad-tensor")
