"""The calls of the SDK as flows: what each sends, how it is split, and what is read from the answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from numpy.typing import NDArray

from stn_client.errors import BadAnswer
from stn_client.flow import Failure, Flow, Parallel, Request, Response, Retry, exchange
from stn_client.inputs import ImageBatch, checked_ids, checked_recipe, checked_seed, checked_theta
from stn_client.results import Augmentation, Classification, Prediction, Rectification
from stn_client.splitting import Answer, Arrays, Limits, joined, split
from stn_core.draws import image_ids
from stn_core.errors import StnError, TooLarge, UnknownModel
from stn_core.tensors import datatype_of
from stn_core.wire import HEADER_LENGTH, decode_response, encode_request

READY_TIMEOUT_S = 5.0

# Outputs that an answer may lack; to ask for one by name would then be an error.
OPTIONAL_OUTPUTS = {"theta_rectifying"}
# Each model's outputs and their datatypes; None is that of the images.
OUTPUTS: dict[str, dict[str, str | None]] = {
    "predict": {"label": "INT64", "probabilities": "FP32", "theta": "FP32", "rectified": None},
    "rectify": {"rectified": None, "theta": "FP32"},
    "classify": {"label": "INT64", "probabilities": "FP32"},
    "warp": {"images": None},
    "augment": {"images": None, "theta": "FP64", "theta_rectifying": "FP64", "exact": "BOOL"},
}


class Calls:
    """Makes the flows of one client. Knows the server's limits once it has asked for them."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._limits: Limits | None = None

    def server_ready(self) -> Flow[bool]:
        answer = yield Request("GET", "/v2/health/ready", read_timeout_s=READY_TIMEOUT_S)
        return not isinstance(answer, Failure) and answer.status == 200

    def metadata(self) -> Flow[dict[str, Any]]:
        return exchange(Request("GET", "/v2"), self._retry, _read_json_object)

    def predict(self, images: object) -> Flow[Prediction]:
        batch = ImageBatch.of(images)
        outputs, _ = yield from self._infer("predict", {"images": batch.array})
        return Prediction(**{**outputs, "rectified": batch.like_input(outputs["rectified"])})

    def rectify(self, images: object) -> Flow[Rectification]:
        batch = ImageBatch.of(images)
        outputs, _ = yield from self._infer("rectify", {"images": batch.array})
        return Rectification(**{**outputs, "rectified": batch.like_input(outputs["rectified"])})

    def classify(self, images: object) -> Flow[Classification]:
        outputs, _ = yield from self._infer("classify", {"images": ImageBatch.of(images).array})
        return Classification(**outputs)

    def warp(self, images: object, theta: object) -> Flow[NDArray[Any]]:
        batch = ImageBatch.of(images, unit_range=False)  # a warp is linear: any values will do
        inputs = {"images": batch.array, "theta": checked_theta(theta, len(batch.array))}
        outputs, _ = yield from self._infer("warp", inputs)
        return batch.like_input(outputs["images"])

    def augment(self, images: object, recipe: object, seed: object, ids: object = None) -> Flow[Augmentation]:
        batch = ImageBatch.of(images)
        parameters = {"recipe": checked_recipe(recipe), "seed": checked_seed(seed)}
        # Ids of the whole batch: equal images are numbered among all of them, however the batch is split.
        numbers = image_ids(batch.array) if ids is None else checked_ids(ids, len(batch.array))
        outputs, said = yield from self._infer("augment", {"images": batch.array, "ids": numbers}, parameters)
        return Augmentation(
            batch.like_input(outputs["images"]),
            outputs["theta"],
            outputs.get("theta_rectifying"),
            outputs["exact"],
            tuple(filter(None, str(said.get("by_imgaug", "")).split(","))),
        )

    def _infer(self, model: str, inputs: Arrays, parameters: Mapping[str, Any] | None = None) -> Flow[Answer]:
        if self._limits is None:
            self._limits = yield from self._ask_limits()
        rows = split(inputs, len(orjson.dumps(parameters)), self._limits)
        flows = [self._infer_rows(model, inputs, parameters, part) for part in rows]
        try:
            answers = [(yield from flows[0])] if len(flows) == 1 else (yield Parallel(flows))
        except TooLarge:
            self._limits = None  # the server was restarted with others: ask again before the next call
            raise
        return joined(answers)

    def _ask_limits(self) -> Flow[Limits]:
        try:
            metadata = yield from self.metadata()
        except UnknownModel:  # a server of the protocol that does not serve GET /v2
            return Limits()
        return Limits.of(metadata)

    def _infer_rows(
        self, model: str, inputs: Arrays, parameters: Mapping[str, Any] | None, rows: slice
    ) -> Flow[Answer]:
        part = {name: array[rows] for name, array in inputs.items()}
        names = None if OPTIONAL_OUTPUTS & OUTPUTS[model].keys() else list(OUTPUTS[model])
        message = encode_request(part, outputs=names, parameters=parameters)
        request = Request("POST", f"/v2/models/{model}/infer", message.parts, message.headers)
        try:
            return (yield from exchange(request, self._retry, lambda answer: _read_answer(answer, model, part)))
        except StnError as error:
            error.add_note(f"in the request with images {rows.start} to {rows.stop - 1} of {len(inputs['images'])}")
            raise


def _read_answer(answer: Response, model: str, inputs: Arrays) -> Answer:
    """What ``model`` answered; BadAnswer if an output is missing, or is not what the protocol says."""
    length = answer.headers.get(HEADER_LENGTH)
    try:
        decoded = decode_response(answer.body, None if length is None else int(length))
    except (StnError, ValueError) as error:
        raise BadAnswer(f"expected an answer of the v2 protocol from model {model}: {error}") from None
    images, outputs = inputs["images"], decoded.outputs
    for name, datatype in OUTPUTS[model].items():
        if name not in outputs:
            if name in OPTIONAL_OUTPUTS:
                continue
            raise BadAnswer(f"expected the output {name} from model {model}, got {', '.join(outputs) or 'none'}")
        output, expected = outputs[name], datatype or datatype_of(images)
        if datatype_of(output) != expected or output.shape[:1] != images.shape[:1]:
            raise BadAnswer(
                f"{name}: expected {expected} [{len(images)}, ...] from model {model}, "
                f"got {datatype_of(output)} {list(output.shape)}"
            )
    return Answer({name: outputs[name] for name in OUTPUTS[model] if name in outputs}, decoded.parameters)


def _read_json_object(answer: Response) -> dict[str, Any]:
    try:
        document = orjson.loads(answer.body)
    except orjson.JSONDecodeError as error:
        raise BadAnswer(f"expected a JSON object, got something that does not parse: {error}") from None
    if not isinstance(document, dict):
        raise BadAnswer(f"expected a JSON object, got {type(document).__name__}")
    return document
