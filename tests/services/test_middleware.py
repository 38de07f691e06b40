"""The short cut of inference, and what becomes of all other requests."""

from typing import Any

import orjson
import pytest

from services.middleware import ShortCut, middlewares, model_to_infer

INFER = "/v2/models/predict/infer"
UNWATCHED = (b"x-request-disconnect-disabled", b"?1")


READINESS = ("/readyz", "/v2/health/ready", "/v2/models/predict/ready", "/stn/readyz")


class Ray:
    """Ray's handling of requests in a replica that it has take them, or stops; the rest is ready."""

    def __init__(self, takes_requests: bool) -> None:
        self.takes_requests = takes_requests

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        is_health = scope["path"] == scope.get("root_path", "") + "/-/healthz"
        status = 200 if self.takes_requests or not is_health else 503
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"DRAINING" if is_health else b"{}"})


async def asked(app: Any, path: str) -> tuple[int, bytes]:
    """Status and body of the answer to GET ``path``."""
    messages: list[Any] = []

    async def note(message: Any) -> None:
        messages.append(message)

    await app(scope_of(path, "GET"), None, note)
    start, body = messages
    return start["status"], body["body"]


@pytest.mark.parametrize("path", READINESS)
async def test_a_replica_that_is_about_to_stop_is_not_ready(path: str) -> None:
    assert await asked(ShortCut(Ray(takes_requests=True)), path) == (200, b"{}")
    status, body = await asked(ShortCut(Ray(takes_requests=False)), path)
    assert (status, orjson.loads(body)["type"]) == (503, "urn:stn:error:unavailable")
    assert await asked(ShortCut(Ray(takes_requests=False)), "/healthz") == (200, b"{}")


async def test_ray_is_shown_no_request_id_that_is_none() -> None:
    for given, shown in ((b"good", [b"good"]), (b"two words", []), (b"x" * 129, [])):
        ray = App()
        await ShortCut(ray)({**scope_of("/v2", "GET"), "headers": [(b"x-request-id", given)]}, None, None)
        assert [value for name, value in ray.scopes[0]["headers"] if name == b"x-request-id"] == shown


class App:
    """An ASGI application that remembers what came."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)


def scope_of(path: str, method: str = "POST", **more: Any) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "headers": [(b"a", b"b")], **more}


@pytest.mark.parametrize(
    ("scope", "model"),
    [
        (scope_of(INFER), "predict"),
        (scope_of(f"/stn{INFER}", root_path="/stn"), "predict"),
        (scope_of("/v2/models//infer"), ""),
        (scope_of(INFER, "GET"), None),
        (scope_of(f"/stn{INFER}"), None),
        (scope_of(f"{INFER}/"), None),
        (scope_of("/v2/models/infer"), None),
        (scope_of("/v2/models/predict/versions/1/infer"), None),
        (scope_of("/v2/models/predict"), None),
        (scope_of("/"), None),
        ({"type": "lifespan"}, None),
        ({"type": "websocket", "path": INFER, "headers": []}, None),
    ],
)
def test_only_the_unversioned_infer_is_taken_for_it(scope: dict[str, Any], model: str | None) -> None:
    assert model_to_infer(scope) == model


async def test_inference_goes_by_the_short_cut_as_it_came_and_the_rest_through_ray(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray, gateway = App(), App()
    monkeypatch.setattr(ShortCut, "gateway", gateway)
    app = ShortCut(ray)
    for scope in (scope_of(INFER), scope_of("/v2"), {"type": "lifespan"}):
        await app(scope, None, None)
    assert gateway.scopes == [scope_of(INFER)]
    assert [scope.get("path") for scope in ray.scopes] == ["/v2", None]
    assert ray.scopes[0]["headers"] == [(b"a", b"b"), UNWATCHED]


async def test_without_a_gateway_in_the_process_all_goes_through_ray_unwatched() -> None:
    ray = App()
    assert ShortCut.gateway is None
    await ShortCut(ray)(scope_of(INFER), None, None)
    assert ray.scopes[0]["headers"][-1] == UNWATCHED


async def test_ray_does_not_see_its_own_headers_from_clients() -> None:
    ray = App()
    sent = [
        (b"x-request-timeout-seconds", b"-1"),
        (b"x-request-disconnect-disabled", b"?0"),
        (b"x-session-id", b"1"),
        (b"x_session_id", b"1"),
        (b"serve_multiplexed_model_id", b"m"),
        (b"serve-multiplexed-model-id", b"m"),
        (b"x-request-id", b"mine"),
    ]
    await ShortCut(ray)(scope_of("/v1/predict", headers=sent), None, None)
    assert ray.scopes[0]["headers"] == [(b"x-request-id", b"mine"), UNWATCHED]


@pytest.mark.parametrize(
    ("status", "headers", "told"),
    [(503, [], b"1"), (503, [(b"Retry-After", b"7")], b"7"), (200, [], None), (500, [], None)],
)
async def test_each_503_of_rays_says_when_to_come_again(status: int, headers: Any, told: bytes | None) -> None:
    async def ray(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"said"})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await ShortCut(ray)(scope_of("/v1/predict"), None, send)
    start, body = sent
    assert {name.lower(): value for name, value in start["headers"]}.get(b"retry-after") == told
    assert (start["status"], body["body"]) == (status, b"said")


def test_ray_is_given_the_short_cut() -> None:
    (middleware,) = middlewares()
    assert middleware.cls is ShortCut
