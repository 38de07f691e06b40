"""Triton's routes around inference: what is served and ready, its statistics, and what this service has not."""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from services.body import read_body
from services.catalog import LOG_IS_FIXED, NOT_TRACED, check_loaded, index, no_shared_memory, refuse_unload, statistics
from services.pipelines import Pipelines
from services.problems import Handler
from services.routes import MODEL, ApiRoute, json_answer, of_model
from services.settings import Limits
from stn_core.errors import BadBody, Overloaded, SlowBody, TooLarge, Unavailable, UnknownModel, Unsupported, brief

MAX_BODY_BYTES = 64 * 1024
"""Of a request that only says what to do."""
_LOAD = "/v2/repository/models/{model}"


class Repository:
    """Answers what clients ask about the models, beside their inference."""

    def __init__(self, pipelines: Pipelines, limits: Limits) -> None:
        self._pipelines = pipelines
        most_bytes = min(MAX_BODY_BYTES, limits.max_request_bytes)
        self._limits = limits.model_copy(update={"max_request_bytes": most_bytes})

    def routes(self) -> list[ApiRoute]:
        """The routes of the repository and the statistics; before those of a model, which could be named ``stats``."""
        reads_body = (BadBody, TooLarge, Overloaded, SlowBody)
        return [
            ApiRoute(
                "POST",
                "/v2/repository/index",
                self.index,
                "Repository",
                "The models, and which are ready",
                "RepositoryIndex",
                reads_body,
                "RepositoryIndexRequest",
            ),
            ApiRoute(
                "POST",
                f"{_LOAD}/load",
                self.load,
                "Repository",
                "Whether a model is loaded: all are, from the start",
                "Empty",
                (*reads_body, UnknownModel, Unavailable, Unsupported),
                "LoadRequest",
            ),
            ApiRoute(
                "POST",
                f"{_LOAD}/unload",
                self.unload,
                "Repository",
                "Not served: models stay for as long as the service runs",
                None,
                (UnknownModel, Unsupported),
            ),
            ApiRoute("GET", "/v2/models/stats", self.all_statistics, "Statistics", "Of all models", "Statistics"),
            *of_model("GET", "/stats", self.statistics, "Statistics", "Of one model", "Statistics"),
            ApiRoute(
                "GET", "/v1/shadow", self.shadow, "Statistics", "What rectification changed in the answers", "Shadow"
            ),
        ]

    async def index(self, request: Request) -> Response:
        only_ready = (await self._document(request)).get("ready", False)
        if not isinstance(only_ready, bool):
            raise BadBody(f"ready: expected true or false, got {brief(only_ready)}")
        return json_answer(await index(self._pipelines, only_ready))

    async def load(self, request: Request) -> Response:
        parameters = (await self._document(request)).get("parameters", {})
        if not isinstance(parameters, dict):
            raise BadBody(f"parameters: expected a JSON object, got {type(parameters).__name__}")
        as_it_is = not parameters
        await check_loaded(self._pipelines, request.path_params["model"], as_it_is)
        return json_answer({})

    async def unload(self, request: Request) -> Response:
        refuse_unload(self._pipelines, request.path_params["model"])

    async def shadow(self, request: Request) -> Response:
        return json_answer(self._pipelines.shadow.document())

    async def all_statistics(self, request: Request) -> Response:
        return json_answer(statistics(self._pipelines, None, None))

    async def statistics(self, request: Request) -> Response:
        model, version = request.path_params["model"], request.path_params.get("version")
        return json_answer(statistics(self._pipelines, model, version))

    async def _document(self, request: Request) -> dict[str, Any]:
        """The JSON object in the body; an empty body is an empty one."""
        with self._pipelines.budget.lease() as lease:
            body = await read_body(request.headers, request.stream(), self._limits, lease)
        try:
            document = orjson.loads(body or b"{}")
        except orjson.JSONDecodeError as error:
            raise BadBody(f"expected a JSON object or nothing, got something that does not parse: {error}") from None
        if not isinstance(document, dict):
            raise BadBody(f"expected a JSON object or nothing, got {type(document).__name__}")
        return document


def absent_routes() -> list[ApiRoute]:
    """Triton's routes for what this service has not: they say so, and what to do instead."""
    routes = [
        _absent(method, path, "Trace settings", NOT_TRACED)
        for path in ("/v2/trace/setting", f"{MODEL}/trace/setting")
        for method in ("GET", "POST")
    ]
    routes += [_absent(method, "/v2/logging", "Log settings", LOG_IS_FIXED) for method in ("GET", "POST")]
    for kind in ("system", "cuda"):
        base = f"/v2/{kind}sharedmemory"
        memory = no_shared_memory(kind)
        summary = f"Regions of {kind} shared memory"
        routes += [
            ApiRoute("GET", f"{base}/status", _no_regions, "Not served", f"{summary}: none", "NoRegions"),
            _absent("GET", f"{base}/region/{{region}}/status", summary, memory),
            *(_absent("POST", f"{base}{region}/unregister", summary, memory) for region in ("", "/region/{region}")),
            _absent("POST", f"{base}/region/{{region}}/register", summary, memory),
        ]
    return routes


def _absent(method: str, path: str, summary: str, reason: str) -> ApiRoute:
    return ApiRoute(method, path, _refusal(reason), "Not served", f"{summary}: not served", None, (Unsupported,))


def _refusal(reason: str) -> Handler:
    async def refuse(request: Request) -> Response:
        raise Unsupported(reason)

    return refuse


async def _no_regions(request: Request) -> Response:
    return json_answer([])
