"""Errors that only a client can meet, in the same tree as those of the service (``stn_core.errors``)."""

from __future__ import annotations

from stn_core.errors import NotAllowed, StnError, Unavailable

__all__ = ["BadAnswer", "ConnectionFailed", "NotAllowed"]


class ConnectionFailed(Unavailable):
    """The service could not be reached, or the connection broke before the answer was whole."""

    status = 503
    code = "connection-failed"


class BadAnswer(StnError):
    """What came back is not an answer of the protocol: another server, or a proxy, is at that address."""

    status = 502
    code = "bad-answer"
