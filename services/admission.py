"""Who may come in, and how often: API keys and rates, asked before a byte of a body is read. Off unless set.

``admitted`` wraps any ASGI application; gRPC asks the same ``Admission``. Each process counts by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from services.keys import KeyRing
from services.problems import problem_answer
from services.rates import Allowance, spending
from services.settings import Access
from stn_core.errors import NotAllowed, StnError

OPEN_PATHS = frozenset(
    {"/", "/docs", "/openapi.json", "/favicon.ico", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"}
)
"""What anybody may read: pages that hold nothing of anyone's, and what load balancers ask."""
OPEN_BELOW = "/playground/"
METRICS_PATH = "/metrics"
OPEN_METHODS = ("GET", "HEAD")
OPEN_GRPC = frozenset({"ServerLive", "ServerReady"})
_BEARER = b"bearer "

Headers = Iterable[tuple[bytes, bytes]]


class Admission:
    """Lets a request in or refuses it; InvalidInput if the file of keys cannot be read at the start."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._ring = None if access.keys_file is None else KeyRing(Path(access.keys_file))
        self._allowances: dict[str, Allowance] = {}
        self._everybody = Allowance(access.requests_per_s, access.images_per_s)
        self._open = OPEN_PATHS | ({METRICS_PATH} if access.metrics_without_key else set())
        self.is_off = self._ring is None and self._everybody.rates == (None, None)

    def of_http(self, scope: Scope) -> Allowance | None:
        """What the sender of an HTTP request may send; None where nothing is asked. NotAllowed if it has no key."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["method"] in OPEN_METHODS and (path in self._open or path.startswith(OPEN_BELOW)):
            return None
        return self.of(scope["headers"])

    def of(self, headers: Headers) -> Allowance | None:
        """The same by lower-case headers alone, or metadata of gRPC."""
        if self.is_off:
            return None
        if self._ring is None:
            return self._everybody
        presented = _presented(headers)
        key = None if presented is None else self._ring.find(presented)
        if key is None:
            raise NotAllowed(
                "expected an API key that holds, in the header Authorization: Bearer KEY, or in X-API-Key; ask whoever "
                "runs this service for one"
            )
        rates = (
            key.requests_per_s or self._access.requests_per_s,
            key.images_per_s or self._access.images_per_s,
        )
        allowance = self._allowances.get(key.name)
        if allowance is None or allowance.rates != rates:
            allowance = self._allowances[key.name] = Allowance(*rates)
        return allowance

    def refuses(self, scope: Scope) -> bool:
        """Whether a request over HTTP with a body would be refused now; nothing of it is counted."""
        if scope["method"] in OPEN_METHODS:
            return False
        try:
            allowance = self.of(scope["headers"])
            if allowance is not None:
                allowance.check()
        except StnError:
            return True
        return False

    def admit_call(self, metadata: Mapping[str, str | bytes]) -> None:
        """Counts one call of gRPC for its sender, in a task of its own; raises as for HTTP."""
        if self.is_off:
            return
        allowance = self.of(
            (name.encode(), value.encode("latin-1", "replace") if isinstance(value, str) else value)
            for name, value in metadata.items()
        )
        if allowance is not None:
            allowance.take_request()
            spending.set(allowance)


def _presented(headers: Headers) -> bytes | None:
    """The key that a request brings; of two, that of ``Authorization``."""
    found = None
    for name, value in headers:
        if name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER:
            return value[len(_BEARER) :].strip()
        if name == b"x-api-key":
            found = value.strip()
    return found


def admitted(app: ASGIApp, admission: Admission) -> ASGIApp:
    """``app`` for those whom ``admission`` lets in, a problem document for others; ``app`` itself if that is off."""
    if admission.is_off:
        return app

    async def guarded_app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        try:
            allowance = admission.of_http(scope)
            if allowance is not None:
                allowance.take_request()
        except StnError as error:
            await problem_answer(error, scope["path"])(scope, receive, send)
            return
        token = spending.set(allowance)
        try:
            await app(scope, receive, send)
        finally:
            spending.reset(token)

    return guarded_app
