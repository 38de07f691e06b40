"""Every error this project raises on purpose, each with a stable code and the HTTP status it travels under.

    StnError                      500  internal
    ├── InvalidInput              400  invalid-input
    │   ├── BadBody               400  bad-body          the bytes are not a request of the protocol
    │   ├── BadTensor             400  bad-tensor        a tensor has a wrong name, shape, datatype or content
    │   ├── BadRecipe             400  bad-recipe
    │   ├── BadData               400  bad-data          a data set is missing or broken
    │   └── BadBundle             400  bad-bundle        a model on disk is missing, broken or foreign
    ├── TrainingFailed            500  training-failed   in stn_core.training; never over HTTP
    ├── NotAllowed              401  not-allowed       no API key, or none that holds
    ├── UnknownModel              404  unknown-model
    ├── UnknownRecipe             404  unknown-recipe
    ├── NotAcceptable             406  not-acceptable    the answer cannot be had in the form asked for
    ├── TooLarge                  413  too-large
    ├── Unsupported               501  unsupported
    ├── Overloaded                503  overloaded        try again after ``retry_after_s``
    │   └── RateLimited           429  rate-limited      more than this caller may send
    ├── Unavailable               503  unavailable       a stage of the service is not there
    └── TimedOut                  504  timed-out
        └── SlowBody              408  slow-body         the request itself took too long to come

A message says what was expected, what came, and what to do. Over HTTP an error is one RFC 9457 problem document with
an extra ``error`` key, which v2 protocol clients read.
"""

from __future__ import annotations

import reprlib
from typing import Any, ClassVar

PROBLEM_CONTENT_TYPE = "application/problem+json"
PROBLEM_TYPE_PREFIX = "urn:stn:error:"


class StnError(Exception):
    """Base of all errors raised on purpose; ``str(error)`` is a message for the user."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    by_code: ClassVar[dict[str, type[StnError]]] = {}
    request_id: str | None = None
    """The id of the request that was answered with it, for whoever sent that."""

    def __init_subclass__(cls) -> None:
        if "code" in cls.__dict__:  # a subclass without a code of its own does not take its parent's place
            StnError.by_code[cls.code] = cls

    @property
    def detail(self) -> str:
        return str(self.args[0]) if self.args else self.code

    def __str__(self) -> str:
        return self.detail

    def problem(self, instance: str | None = None) -> dict[str, Any]:
        """The error as an RFC 9457 problem document (with the v2 protocol's ``error`` key)."""
        document: dict[str, Any] = {
            "type": PROBLEM_TYPE_PREFIX + self.code,
            "title": self.code.replace("-", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            "error": self.detail,
        }
        if instance is not None:
            document["instance"] = instance
        return document


class InvalidInput(StnError):
    status = 400
    code = "invalid-input"


class BadBody(InvalidInput):
    code = "bad-body"


class BadTensor(InvalidInput):
    code = "bad-tensor"


class BadRecipe(InvalidInput):
    code = "bad-recipe"


class BadData(InvalidInput):
    code = "bad-data"


class BadBundle(InvalidInput):
    code = "bad-bundle"


class NotAllowed(StnError):
    """The service, or a proxy before it, wants an API key, or another one."""

    status = 401
    code = "not-allowed"


class UnknownModel(StnError):
    status = 404
    code = "unknown-model"


class UnknownRecipe(StnError):
    status = 404
    code = "unknown-recipe"


class NotAcceptable(StnError):
    status = 406
    code = "not-acceptable"


class TooLarge(StnError):
    status = 413
    code = "too-large"


class Unsupported(StnError):
    status = 501
    code = "unsupported"


class Overloaded(StnError):
    """The service is full; ``retry_after_s`` says when to try again, ``waiting_s`` how much work waits, if known."""

    status = 503
    code = "overloaded"

    def __init__(self, detail: str, retry_after_s: float = 1.0, waiting_s: float = 0.0) -> None:
        super().__init__(detail, retry_after_s, waiting_s)  # all arguments, so that it survives pickling
        self.retry_after_s, self.waiting_s = retry_after_s, waiting_s


class RateLimited(Overloaded):
    """The caller sent more than it may; ``retry_after_s`` says when to try again."""

    status = 429
    code = "rate-limited"


class Unavailable(StnError):
    status = 503
    code = "unavailable"


class TimedOut(StnError):
    status = 504
    code = "timed-out"


class SlowBody(TimedOut):
    status = 408
    code = "slow-body"


def brief(value: object) -> str:
    """``value`` as a message quotes it: its ``repr``, but never more than some 160 characters of it."""
    return shortened(_QUOTE.repr(value))


def shortened(text: str, most: int = 160) -> str:
    """``text``, with its middle left out where it is longer than ``most`` characters."""
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]}...{text[-half:]}"


# Strings are cut before they are quoted, so that a megabyte costs nothing; two levels, or nesting would multiply.
_QUOTE = reprlib.Repr()
_QUOTE.maxlevel, _QUOTE.maxstring, _QUOTE.maxother = 2, 120, 120


def error_from_problem(document: object, status: int) -> StnError:
    """The typed error of a problem document received over HTTP.

    Bodies that are not ours (a proxy's plain text, another server's JSON) give the error whose status fits best.
    """
    fields = document if isinstance(document, dict) else {}
    detail = str(fields.get("detail") or fields.get("error") or document or f"HTTP status {status}")
    code = str(fields.get("type", "")).removeprefix(PROBLEM_TYPE_PREFIX)
    cls = StnError.by_code.get(code) or _BY_STATUS.get(status) or (InvalidInput if 400 <= status < 500 else StnError)
    return cls(detail)


_BY_STATUS: dict[int, type[StnError]] = {
    404: UnknownModel,
    408: TimedOut,
    413: TooLarge,
    429: Overloaded,
    501: Unsupported,
    502: Unavailable,
    503: Unavailable,
    504: TimedOut,
}
