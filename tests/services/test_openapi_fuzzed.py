"""A few requests for each route, made of the OpenAPI document; ``drills/openapi.py`` makes many."""

import json

import httpx
import pytest

from drills.openapi import Findings, explore, service
from services.gateway import Gateway


@pytest.fixture(scope="module")
def findings() -> Findings:
    return explore(service(), examples=2, seed_of_all=1)


def test_no_answer_contradicts_the_document(findings: Findings) -> None:
    assert not findings.contradictions, "\n".join(findings.contradictions[:5])


def test_requests_of_all_kinds_were_sent(findings: Findings) -> None:
    assert {200, 400, 404, 501} <= set(findings.statuses)
    assert findings.requests > 80


def test_a_contradiction_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: Gateway, request: object) -> httpx.Response:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(Gateway, "server_metadata", broken)
    found = explore(_only("/v2"), examples=1, seed_of_all=1)
    assert [text.partition(":")[0] for text in found.contradictions] == ["500"]


def _only(path: str) -> object:
    """The service, with a document that knows one path."""
    whole = service()

    async def app(scope: dict, receive: object, send: object) -> None:
        if scope.get("path") != "/openapi.json":
            await whole(scope, receive, send)
            return
        sent: list[dict] = []

        async def keep(message: dict) -> None:
            sent.append(message)

        await whole(scope, receive, keep)
        document = json.loads(b"".join(message.get("body", b"") for message in sent))
        document["paths"] = {path: document["paths"][path]}
        body = json.dumps(document).encode()
        head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": head})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": body})  # type: ignore[operator]

    return app
