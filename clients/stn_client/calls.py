"""The calls of the SDK: what each sends, and the flows that send it and read what comes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic
from urllib.parse import quote

import orjson

from stn_client.annotating import annotated
from stn_client.answers import Answer, Gathered, Part, Settled, Whole, read_answer
from stn_client.batches import Alongside, Batch, Failed, Formed, bare
from stn_client.errors import BadAnswer
from stn_client.flow import Deadline, Failure, Flow, Request, Response, Retry, exchange
from stn_client.images import Reading
from stn_client.inputs import checked_recipe, checked_seed, ids_beside, theta_beside
from stn_client.models import (
    AUGMENT,
    CLASSIFY,
    PREDICT,
    RECTIFY,
    STRAIGHTEN,
    STRAIGHTEN_WITH_MASK,
    STRAIGHTEN_WITHOUT_PICTURES,
    WARP,
    Model,
    R,
)
from stn_client.options import Chosen, canvas_of, copies_of, limits_of, mask_of, pictures_of
from stn_client.results import Augmentation, Classification, Prediction, Rectification, Straightening, Warping
from stn_client.sources import Source
from stn_client.splitting import Limits, Room
from stn_core.draws import Numbering
from stn_core.errors import BadBody, BadRecipe, InvalidInput, StnError, TooLarge, UnknownModel, Unsupported
from stn_core.wire import encode_request

READY_TIMEOUT_S = 5.0
# Errors that one image of a request may have called forth, so that the others may pass without it; and those, of the
# same kind, that have nothing to do with images.
REFUSALS, OTHER_REFUSALS = (InvalidInput, TooLarge), (BadBody, BadRecipe)
NO_PARAMETERS: Mapping[str, Any] = {}
READ_AS_USUAL = Reading()


@dataclass(frozen=True)
class Call(Generic[R]):
    """One call: which model, its images, what goes with them, and how."""

    model: Model[R]
    source: Source
    alongside: Alongside
    parameters: Mapping[str, Any]
    chosen: Chosen
    outputs: list[str] | None
    """Those to ask for by name; None for all that there are."""

    def room(self, limits: Limits) -> Room:
        """What goes in one request."""
        return Room.within(limits, len(orjson.dumps(self.parameters)), self.chosen.batch_images)

    def keeps(self, error: StnError) -> bool:
        """Whether an image that is refused with this error keeps it, and harms no other."""
        refusals = (*REFUSALS, Unsupported) if self.model.of_any_size else REFUSALS  # a canvas, for some thetas
        return self.chosen.keep and isinstance(error, refusals) and not isinstance(error, OTHER_REFUSALS)

    def may_fit_in_parts(self, error: StnError) -> bool:
        """Whether fewer images may pass: what comes out may be larger than what went in, and nobody knew."""
        return self.model.of_any_size and isinstance(error, TooLarge)

    def part(self, settled: Settled) -> R:
        """The result of one batch."""
        gathered = Gathered(self.model, settled.index)
        gathered.add(settled)
        return gathered.result()

    def whole(self) -> Whole[R]:
        """To be told of each batch, for the result of all."""
        return Whole(self.model, self.source.count)


class Calls:
    """Makes the calls of one client, and the flows that carry them out. Asks the server for its limits once."""

    def __init__(self, retry: Retry, deadline_s: float | None = None) -> None:
        self._retry, self._deadline_s = retry, deadline_s
        self._limits: Limits | None = None

    def predict(self, images: object, **options: Any) -> Call[Prediction]:
        return self._call(PREDICT, images, options)

    def rectify(self, images: object, **options: Any) -> Call[Rectification]:
        return self._call(RECTIFY, images, options)

    def straighten(self, images: object, **options: Any) -> Call[Straightening]:
        model = STRAIGHTEN_WITH_MASK if mask_of(options) else STRAIGHTEN
        if not pictures_of(options):
            model = STRAIGHTEN_WITHOUT_PICTURES
        canvas = canvas_of(options)
        # One array has images of one size: where each comes out at its own, pixels go and come as files.
        own_sizes = "height" not in canvas and ("max_side_px" in canvas or canvas["canvas"] == "fit")
        reading = Reading(any_size=True, as_png=own_sizes)
        call = self._call(model, images, options, parameters=canvas, reading=reading)
        if model is not STRAIGHTEN_WITHOUT_PICTURES or call.outputs is not None:
            return call
        # A bundle that a confidence is asked of has one, or refuses; any other may have none to name.
        confidence = ["confidence"] if call.parameters.get("min_confidence") else []
        return replace(call, outputs=[*model.named, "decision", "reason", *confidence])

    def classify(self, images: object, **options: Any) -> Call[Classification]:
        return self._call(CLASSIFY, images, options)

    def warp(self, images: object, theta: object, **options: Any) -> Call[Warping]:
        def alongside(count: int | None) -> Alongside:
            return Alongside({"theta": theta_beside(theta, count)})

        reading = Reading(unit_range=False)  # it is linear: any values will do
        return self._call(WARP, images, options, alongside, reading=reading)

    def warp_alone(self, images: object, theta: object, **options: Any) -> Call[Warping]:
        """``warp`` for images that come back as an array, without errors beside it; InvalidInput to keep errors."""
        if options.get("errors") == "keep":
            raise InvalidInput("errors: an array of warped images cannot hold them; keep them with stream.warp")
        return self.warp(images, theta, **options)

    def augment(
        self, images: object, recipe: object, seed: object, ids: object = None, **options: Any
    ) -> Call[Augmentation]:
        def alongside(count: int | None) -> Alongside:
            # Ids of the whole call: equal images, such as copies, are numbered among all of them, however it is split.
            return Alongside({}, Numbering()) if ids is None else Alongside({"ids": ids_beside(ids, count)})

        parameters = {"recipe": checked_recipe(recipe), "seed": checked_seed(seed)}
        copies = copies_of(options)
        call = self._call(AUGMENT, images, options, alongside, parameters, copies=copies)
        if (given := options.get("annotations")) is None:
            return call
        result = annotated(AUGMENT.result, given, call.source.count, copies)
        return replace(call, model=AUGMENT._replace(result=result))

    def server_ready(self) -> Flow[bool]:
        answer = yield Request("GET", "/v2/health/ready", read_timeout_s=READY_TIMEOUT_S)
        return not isinstance(answer, Failure) and answer.status == 200

    def metadata(self, deadline: Deadline | None = None) -> Flow[dict[str, Any]]:
        return exchange(Request("GET", "/v2", deadline=deadline), self._retry, _read_json_object)

    def recipes(self) -> Flow[dict[str, dict[str, Any]]]:
        return exchange(Request("GET", "/v1/recipes"), self._retry, _read_recipes)

    def recipe(self, name: str) -> Flow[dict[str, Any]]:
        return exchange(Request("GET", f"/v1/recipes/{quote(name, safe='')}"), self._retry, _read_json_object)

    def shadow(self) -> Flow[dict[str, Any]]:
        return exchange(Request("GET", "/v1/shadow"), self._retry, _read_json_object)

    def model(self, name: str) -> Flow[dict[str, Any]]:
        return exchange(Request("GET", f"/v2/models/{quote(name, safe='')}"), self._retry, _read_json_object)

    def limits(self, deadline: Deadline | None) -> Flow[Limits]:
        """What the server takes, as it said when it was asked last."""
        if self._limits is None:
            try:
                self._limits = Limits.of((yield from self.metadata(deadline)))
            except UnknownModel:  # a server of the protocol that does not serve GET /v2
                self._limits = Limits()
        return self._limits

    def flows(self, call: Call[Any], limits: Limits) -> Iterator[Flow[Settled]]:
        """One flow a batch, made as they are asked for."""
        formed = call.source.batches(call.room(limits), call.alongside)
        return (self._settle(call, batch) for batch in formed)

    def flows_async(self, call: Call[Any], limits: Limits) -> AsyncGenerator[Flow[Settled], None] | None:
        """``flows`` of images that come asynchronously; None if these do not."""
        formed = call.source.batches_async(call.room(limits), call.alongside)
        return None if formed is None else (self._settle(call, batch) async for batch in formed)

    def _settle(self, call: Call[Any], formed: Formed) -> Flow[Settled]:
        if isinstance(formed, Failed):
            raise formed.error
        parts = (yield from self._parts(call, formed)) if formed.places else []
        return Settled(formed.index, [*parts, Part((), None, formed.errors)])

    def _parts(self, call: Call[Any], batch: Batch) -> Flow[list[Part]]:
        """Sends a batch and reads the answer; where errors are kept and it is refused, in halves, and those again."""
        try:
            answer = yield from self._infer(call, batch)
        except StnError as error:
            if isinstance(error, TooLarge):
                self._limits = None  # the server was restarted with others: ask again before the next call
            alone = len(batch.places) == 1
            if alone and call.keeps(error):
                return [Part((), None, {batch.places[0]: bare(error)})]
            if alone or not (call.keeps(error) or call.may_fit_in_parts(error)):
                raise
        else:
            return [Part(batch.places, answer, {})]
        first, second = batch.halves()
        return [*(yield from self._parts(call, first)), *(yield from self._parts(call, second))]

    def _infer(self, call: Call[Any], batch: Batch) -> Flow[Answer]:
        model = call.model
        message = encode_request(batch.inputs, call.outputs, call.parameters)
        path = f"/v2/models/{model.name}/infer"
        request = Request("POST", path, message.parts, message.headers, deadline=call.chosen.deadline)
        try:
            return (yield from exchange(request, self._retry, lambda answer: read_answer(answer, model, batch)))
        except StnError as error:
            of_all = "" if call.source.count is None else f" of {call.source.count}"
            error.add_note(
                f"in the request with images {batch.places[0]} to {batch.places[-1]}{of_all}, id {error.request_id}"
            )
            raise

    def _call(
        self,
        model: Model[R],
        images: object,
        options: Mapping[str, Any],
        alongside: Callable[[int | None], Alongside] = lambda count: Alongside({}),
        parameters: Mapping[str, Any] = NO_PARAMETERS,
        reading: Reading = READ_AS_USUAL,
        copies: int = 1,
    ) -> Call[R]:
        chosen = Chosen.of(options, self._deadline_s, model.options)
        source = Source.of(images, reading, chosen.keep, copies)
        limits = limits_of(options)
        # What is decided is not asked for by name: whether there is a confidence is for the bundle to say.
        outputs = None if limits or model.outputs_vary else model.named
        return Call(model, source, alongside(source.count), {**parameters, **limits}, chosen, outputs)


def _read_json_object(answer: Response) -> dict[str, Any]:
    try:
        document = orjson.loads(answer.body)
    except orjson.JSONDecodeError as error:
        raise BadAnswer(f"expected a JSON object, got something that does not parse: {error}") from None
    if not isinstance(document, dict):
        raise BadAnswer(f"expected a JSON object, got {type(document).__name__}")
    return document


def _read_recipes(answer: Response) -> dict[str, dict[str, Any]]:
    try:
        return {recipe["name"]: recipe for recipe in _read_json_object(answer)["recipes"]}
    except (KeyError, TypeError):
        raise BadAnswer("expected recipes, each with its name, got another JSON object") from None
