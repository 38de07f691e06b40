"""What a request meets before Ray does: a bound on its body, and a look at whether it may come in."""

from typing import Any

import pytest

from services.admission import Admission
from services.edge import BODY_VARIABLE, BUDGET_VARIABLE, Edge, limit_bodies
from services.settings import Access

HEAD: dict[str, Any] = {"type": "http", "method": "POST", "path": "/v1/predict", "headers": []}


class Client:
    """Sends ``chunks`` and keeps what it is answered."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = list(chunks)
        self.answer: list[Any] = []
        self.asked = 0

    async def receive(self) -> Any:
        self.asked += 1
        chunk = self._chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(self._chunks)}

    async def send(self, message: Any) -> None:
        self.answer.append(message)

    @property
    def status(self) -> int:
        assert [message["type"] for message in self.answer] == ["http.response.start", "http.response.body"]
        return int(self.answer[0]["status"])


class Ray:
    """Reads a body whole, as Ray does, and then answers."""

    def __init__(self) -> None:
        self.body = b""
        self.client_left = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            self.client_left = message["type"] == "http.disconnect"
            more = not self.client_left and message["more_body"]
            self.body += message.get("body", b"")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def call(edge: Edge, client: Client, *headers: tuple[bytes, bytes]) -> Ray:
    ray = Ray()
    await edge.call(ray, {**HEAD, "headers": list(headers)}, client.receive, client.send)
    return ray


async def test_a_body_within_the_limit_passes() -> None:
    client = Client(b"12345", b"67890")
    ray = await call(Edge(10, 20), client, (b"content-length", b"10"))
    assert (ray.body, client.status) == (b"1234567890", 200)


async def test_a_body_that_is_announced_too_large_is_not_read() -> None:
    client = Client(b"")
    ray = await call(Edge(10, 20), client, (b"content-length", b"11"))
    assert (ray.body, client.status, client.asked) == (b"", 413, 0)


@pytest.mark.parametrize("length", [b"-1", b"x", b"1" * 5000])
async def test_a_length_that_is_none_is_refused(length: bytes) -> None:
    client = Client(b"")
    await call(Edge(10, 20), client, (b"content-length", length))
    assert (client.status, client.asked) == (400, 0)


async def test_a_body_of_no_announced_length_is_read_no_further_than_the_limit() -> None:
    client = Client(*[b"1234"] * 1000)
    ray = await call(Edge(10, 20), client)
    assert (client.status, client.asked) == (413, 3)
    assert ray.body == b"12341234"
    assert ray.client_left, "what it waits for will not come"


@pytest.mark.parametrize("announced", [True, False])
async def test_what_is_refused_is_seen_by_who_watches(announced: bool) -> None:
    seen: list[int] = []

    def watched(app: Any) -> Any:
        async def noting(scope: Any, receive: Any, send: Any) -> None:
            async def note(message: Any) -> None:
                seen.extend([message["status"]] if message["type"] == "http.response.start" else [])
                await send(message)

            await app(scope, receive, note)

        return noting

    client = Client(*[b"1234"] * 1000)
    head = {**HEAD, "headers": [(b"content-length", b"4000")] if announced else []}
    await Edge(10, 20).call(Ray(), head, client.receive, client.send, watched)
    assert seen == [client.status] == [413]


async def test_all_bodies_on_their_way_share_a_budget_which_is_given_back() -> None:
    edge, second = Edge(10, 15), Client(b"1234567890")

    class First(Client):
        async def send(self, message: Any) -> None:  # its body is held as long as it is answered
            if message["type"] == "http.response.start":
                await call(edge, second)
            await super().send(message)

    first = First(b"1234567890")
    await call(edge, first)
    assert (first.status, second.status) == (200, 503)
    assert dict(second.answer[0]["headers"])[b"retry-after"] == b"1"
    third = Client(b"1234567890")
    await call(edge, third)
    assert third.status == 200


def test_a_rate_is_looked_at_before_ray_and_counted_once() -> None:
    admission = Admission(Access(requests_per_s=0.001))
    assert not any(admission.refuses(HEAD) for _ in range(3))
    allowance = admission.of([])
    assert allowance is not None
    allowance.take_request()
    assert admission.refuses(HEAD)
    assert not admission.refuses({**HEAD, "method": "GET"}), "it has no body, and its path may be open"


def test_the_launcher_tells_rays_processes_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (BODY_VARIABLE, BUDGET_VARIABLE):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    assert Edge.from_environment() is None
    limits = {"max_request_bytes": 1000, "max_bytes_in_flight": 2000}
    ours = {"import_path": "services.app:build", "args": {"limits": limits}}
    limit_bodies({"applications": [ours, {"import_path": "other:app"}]})
    assert Edge.from_environment() is None, "what others take is not known"
    limit_bodies({"applications": [ours]})
    assert Edge.from_environment() is not None
