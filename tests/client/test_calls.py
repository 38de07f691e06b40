"""Whole calls as flows, driven by hand: what is sent for a batch, and what is made of the answers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from stn_client.calls import Call, Calls
from stn_client.errors import BadAnswer
from stn_client.flow import Flow, Pause, Request, Response, Retry

from stn_core.draws import image_ids
from stn_core.errors import BadRecipe, BadTensor, InvalidInput, StnError, TooLarge
from stn_core.wire import HEADER_LENGTH, InferRequest, decode_request, encode_response

LIMITS = {"max_images": 10, "max_request_bytes": 2**20}
GRAY = np.random.default_rng(0).integers(0, 256, (25, 6, 5), np.uint8)
Respond = Callable[[Request], Response]


class Wire:
    """Carries out calls without a socket: ``respond`` answers, the infer requests are kept, decoded."""

    def __init__(self, respond: Respond, limits: dict[str, int] = LIMITS) -> None:
        self.respond, self.limits = respond, limits
        self.calls = Calls(Retry(retries=0))
        self.sent: list[InferRequest] = []
        self.paths: list[str] = []

    def __getattr__(self, model: str) -> Callable[..., Any]:
        return lambda *arguments, **options: self.whole(getattr(self.calls, model)(*arguments, **options))

    def whole(self, call: Call[Any]) -> Any:
        whole = call.whole()
        flows = list(self.calls.flows(call, self.run(self.calls.limits(None))))
        for settled in [self.run(flow) for flow in reversed(flows)][::-1]:  # they may end in any order
            whole.add(settled)
        return whole.result()

    def run(self, flow: Flow[Any]) -> Any:
        came: Any = None
        while True:
            try:
                step = flow.send(came)
            except StopIteration as end:
                return end.value
            came = None if isinstance(step, Pause) else self.answer(step)

    def answer(self, request: Request) -> Response:
        self.paths.append(request.path)
        if request.path == "/v2":
            return Response(200, {}, orjson.dumps({"name": "test", "limits": self.limits}))
        self.sent.append(decode_request(b"".join(request.parts), int(request.headers[HEADER_LENGTH])))
        return self.respond(request)


def answering(**make: Callable[[np.ndarray], np.ndarray]) -> Respond:
    """Answers with outputs made from the images of the request; those not asked for stay out."""

    def respond(request: Request) -> Response:
        decoded = decode_request(b"".join(request.parts), int(request.headers[HEADER_LENGTH]))
        outputs = {name: function(decoded.inputs["images"]) for name, function in make.items()}
        message = encode_response(outputs, "m", "1", decoded)
        return Response(200, message.headers, message.body)

    return respond


def label(images: np.ndarray) -> np.ndarray:
    return images[:, 0, 0, 0].astype(np.int64)


def probabilities(images: np.ndarray) -> np.ndarray:
    return np.full((len(images), 10), 0.1, np.float32)


def theta(images: np.ndarray) -> np.ndarray:
    return np.tile(np.eye(2, 3, dtype=np.float32), (len(images), 1, 1))


def theta64(images: np.ndarray) -> np.ndarray:
    return theta(images).astype(np.float64)


CLASSIFY = answering(label=label, probabilities=probabilities)
PREDICT = answering(label=label, probabilities=probabilities, theta=theta, rectified=lambda images: images)
AUGMENT = answering(
    images=lambda images: images,
    theta=theta64,
    theta_rectifying=theta64,
    exact=lambda images: np.ones(len(images), bool),
)


def spline64(images: np.ndarray) -> np.ndarray:
    return np.zeros((len(images), 16, 2))


# As the service answers for a recipe with a spline, on a larger canvas.
AUGMENT_BY_SPLINE = answering(
    images=lambda images: np.pad(images, [(0, 0), (2, 2), (1, 1), (0, 0)]),
    theta=spline64,
    exact=lambda images: np.ones(len(images), bool),
)


def test_a_long_batch_is_split_and_keeps_its_order() -> None:
    wire = Wire(PREDICT)
    prediction = wire.predict(GRAY)
    assert sorted(len(request.inputs["images"]) for request in wire.sent) == [8, 8, 9]
    assert np.array_equal(prediction.label, GRAY[:, 0, 0])
    assert np.array_equal(prediction.rectified, GRAY)
    assert prediction.probabilities.shape == (25, 10)
    assert prediction.theta.shape == (25, 2, 3)
    assert prediction.rectified.flags.writeable


def test_a_short_batch_is_one_request_and_asks_for_what_is_read() -> None:
    wire = Wire(CLASSIFY)
    wire.classify(GRAY[:10])
    assert wire.paths == ["/v2", "/v2/models/classify/infer"]
    assert [output.name for output in wire.sent[0].outputs or ()] == ["label", "probabilities"]


def test_the_limits_are_asked_for_once() -> None:
    wire = Wire(CLASSIFY)
    for _ in range(3):
        wire.classify(GRAY[:5])
    assert wire.paths.count("/v2") == 1


def test_a_server_without_metadata_gets_requests_of_the_default_size() -> None:
    wire = Wire(CLASSIFY)
    answer = wire.answer
    wire.answer = lambda request: Response(404, {}, b"") if request.path == "/v2" else answer(request)  # type: ignore[method-assign]
    wire.classify(np.repeat(GRAY, 3, axis=0))
    assert [len(request.inputs["images"]) for request in wire.sent[::-1]] == [37, 38]


def test_new_limits_are_learnt_after_a_request_was_too_large() -> None:
    wire = Wire(lambda _: Response(413, {}, orjson.dumps(TooLarge("at most 5").problem())))
    with pytest.raises(TooLarge, match="at most 5"):
        wire.classify(GRAY[:10])
    wire.respond, wire.limits = CLASSIFY, {"max_images": 5, "max_request_bytes": 2**20}
    assert len(wire.classify(GRAY[:10]).label) == 10
    assert [len(request.inputs["images"]) for request in wire.sent] == [10, 5, 5]


def test_a_draw_does_not_depend_on_how_the_batch_is_split() -> None:
    images = np.repeat(GRAY[:5], 5, axis=0)  # equal images, which fall into different requests
    whole, split = Wire(AUGMENT, {"max_images": 100}), Wire(AUGMENT)
    for wire in (whole, split):
        wire.augment(images, "distorted", 7)
    assert len(whole.sent) == 1
    assert np.array_equal(whole.sent[0].inputs["ids"], image_ids(images[..., None]))
    ids = np.concatenate([request.inputs["ids"] for request in split.sent[::-1]])
    assert np.array_equal(ids, whole.sent[0].inputs["ids"])
    assert all(request.parameters["recipe"] == "distorted" for request in split.sent)
    assert all(request.parameters["seed"] == 7 for request in split.sent)


def test_given_ids_are_sent() -> None:
    wire = Wire(AUGMENT)
    augmentation = wire.augment(GRAY[:3], {"steps": []}, 7, ids=[4, 5, 6])
    assert wire.sent[0].inputs["ids"].tolist() == [4, 5, 6]
    assert wire.sent[0].parameters["recipe"] == '{"steps":[]}'
    assert augmentation.images.shape == (3, 6, 5)
    assert augmentation.theta.dtype == np.float64


def test_a_spline_has_no_theta_that_rectifies() -> None:
    wire = Wire(AUGMENT_BY_SPLINE)
    augmentation = wire.augment(GRAY, "elastic", 7)
    assert augmentation.images.shape == (25, 10, 7)
    assert augmentation.theta.shape == (25, 16, 2)
    assert augmentation.theta_rectifying is None
    assert all(request.outputs is None for request in wire.sent)  # by name, it would be an error


def test_answers_with_different_outputs_do_not_fit_together() -> None:
    def respond(request: Request) -> Response:
        images = decode_request(b"".join(request.parts), int(request.headers[HEADER_LENGTH])).inputs["images"]
        return (AUGMENT if len(images) == 9 else AUGMENT_BY_SPLINE)(request)

    with pytest.raises(BadAnswer, match="got images, theta, exact, source_size; images, theta, exact"):
        Wire(respond).augment(GRAY, "elastic", 7)


@pytest.mark.parametrize("shape", [(2, 3), (3, 3), (16, 2)])
def test_one_theta_of_any_family_goes_with_every_image(shape: tuple[int, int]) -> None:
    wire = Wire(answering(images=lambda images: images))
    warped = wire.warp(GRAY, np.eye(*shape)).images
    assert np.array_equal(warped, GRAY)
    for request in wire.sent:
        assert request.inputs["theta"].shape == (len(request.inputs["images"]), *shape)


@pytest.mark.parametrize(
    ("model", "arguments", "options", "error"),
    [
        ("predict", (5,), {}, BadTensor),
        ("predict", (b"a picture",), {}, BadTensor),
        ("predict", ([],), {}, BadTensor),
        ("predict", ("no/such/folder",), {}, InvalidInput),
        ("rectify", (GRAY[:0],), {}, BadTensor),
        ("warp", (GRAY, np.zeros((3, 4))), {}, BadTensor),
        ("warp_alone", (GRAY, np.eye(2, 3)), {"errors": "keep"}, InvalidInput),
        ("augment", (GRAY, "", 7), {}, BadRecipe),
        ("augment", (GRAY, "distorted", -1), {}, InvalidInput),
        ("classify", (GRAY,), {"errors": "ignore"}, InvalidInput),
        ("classify", (GRAY,), {"batch_images": 0}, InvalidInput),
        ("classify", (GRAY,), {"deadline_s": -1}, InvalidInput),
        ("classify", (GRAY,), {"progress": "yes"}, InvalidInput),
    ],
)
def test_nothing_is_sent_for_bad_input(
    model: str, arguments: tuple[Any, ...], options: dict[str, Any], error: type[StnError]
) -> None:
    with pytest.raises(error):
        getattr(Calls(Retry()), model)(*arguments, **options)


def test_an_unknown_option_is_a_type_error_as_everywhere() -> None:
    with pytest.raises(TypeError, match="got 'timeout'"):
        Calls(Retry()).predict(GRAY, timeout=3)


def test_an_error_says_which_images_it_is_about() -> None:
    wire = Wire(lambda _: Response(400, {}, orjson.dumps(BadTensor("images: no").problem())))
    with pytest.raises(BadTensor, match="images: no") as raised:
        wire.classify(GRAY)
    note = f"in the request with images 16 to 24 of 25, id {raised.value.request_id}"
    assert raised.value.__notes__ == [note]


@pytest.mark.parametrize(
    ("respond", "message"),
    [
        (
            lambda _: Response(200, {}, b"<html>hello</html>"),
            "expected an answer of the v2 protocol from model classify",
        ),
        (lambda _: Response(200, {}, b"{}"), "outputs: expected a list"),
        (lambda _: Response(200, {HEADER_LENGTH: "many"}, b"{}"), "v2 protocol"),
        (lambda _: Response(200, {HEADER_LENGTH: "99"}, b"{}"), "v2 protocol"),
        (lambda _: Response(200, {}, b'{"outputs": []}'), "expected the output label from model classify, got none"),
        (
            answering(label=lambda images: label(images)[1:], probabilities=probabilities),
            r"label: expected INT64 \[5, ...\] from model classify, got INT64 \[4\]",
        ),
        (answering(label=label, probabilities=lambda images: probabilities(images).astype("f8")), "got FP64"),
    ],
)
def test_an_answer_that_is_none_is_a_bad_answer(respond: Respond, message: str) -> None:
    with pytest.raises(BadAnswer, match=message):
        Wire(respond).classify(GRAY[:5])


def test_answers_that_do_not_fit_together_are_bad() -> None:
    growing = answering(label=label, probabilities=lambda images: np.zeros((len(images), len(images)), np.float32))
    with pytest.raises(BadAnswer, match="probabilities: expected the same shape in every answer"):
        Wire(growing).classify(GRAY)


@pytest.mark.parametrize("body", [b"hello", b"[]", b""])
def test_metadata_is_an_object(body: bytes) -> None:
    with pytest.raises(BadAnswer, match="expected a JSON object"):
        Wire(CLASSIFY).run(drive_metadata(body))


def drive_metadata(body: bytes) -> Flow[Any]:
    flow = Calls(Retry()).metadata()
    next(flow)
    flow.send(Response(200, {}, body))
    raise AssertionError("the flow went on")
    yield
