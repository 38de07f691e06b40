"""The sans-IO core, driven by hand: what it asks for, and what it makes of what comes."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import orjson
import pytest
from stn_client.errors import ConnectionFailed, NotAllowed
from stn_client.flow import Deadline, Failure, Pause, Repeat, Request, Response, Retry, exchange

from stn_core.errors import BadTensor, InvalidInput, Overloaded, StnError, TimedOut, Unavailable

REQUEST = Request("POST", "/v2/models/predict/infer", (b"{}",))
OK = Response(200, {}, b"yes")
STEADY = Retry(retries=3, first_pause_s=0.2, max_pause_s=10.0, random=lambda: 0.0)


def refusal(status: int, body: bytes = b"", **headers: str) -> Response:
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def failure(repeat: Repeat) -> Failure:
    return Failure(ConnectionFailed("gone"), repeat)


def drive(answers: list[Response | Failure], retry: Retry = STEADY) -> tuple[Any, list[float]]:
    """The result (or the error) of an exchange that gets ``answers``, one a request, and the pauses it made."""
    flow = exchange(REQUEST, retry, lambda response: response.body)
    left, pauses, came, ids = list(answers), [], None, set()
    while True:
        try:
            step = flow.send(came)
        except StopIteration as end:
            assert not left, "answers were left over"
            return end.value, pauses
        except StnError as error:
            assert not left, "answers were left over"
            return _of_request(error, ids), pauses
        came = None
        if isinstance(step, Pause):
            pauses.append(step.duration_s)
        else:
            ids.add(step.headers["x-request-id"])
            assert len(ids) == 1, "each try has an id of its own"
            assert replace(step, headers={}) == REQUEST
            came = left.pop(0)


def _of_request(error: StnError, ids: set[str]) -> StnError:
    assert ids <= {error.request_id}, "the error has another id than the requests"
    return error


def test_an_answer_is_read() -> None:
    assert drive([OK]) == (b"yes", [])


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_full_service_is_tried_again_ever_later(status: int) -> None:
    assert drive([refusal(status)] * 3 + [OK]) == (b"yes", [0.2, 0.4, 0.8])


def test_trying_ends_with_the_last_error() -> None:
    error, pauses = drive([refusal(503, b"no replica")] * 4)
    assert type(error) is Unavailable
    assert str(error) == "HTTP status 503: no replica"
    assert len(pauses) == 3


@pytest.mark.parametrize("status", [301, 400, 404, 408, 413, 500, 501, 504])
def test_other_statuses_are_final(status: int) -> None:
    error, pauses = drive([refusal(status)])
    assert isinstance(error, StnError)
    assert pauses == []


def test_no_pause_is_shorter_than_retry_after() -> None:
    assert drive([refusal(503, retry_after="3"), OK]) == (b"yes", [3.0])
    assert drive([refusal(429, retry_after="0.05"), OK]) == (b"yes", [0.2])
    jittered = drive([refusal(503, retry_after="2"), OK], Retry(random=lambda: 1.0))
    assert jittered == (b"yes", [3.0])


def test_a_full_service_that_says_when_is_asked_again_as_long_as_patience_lasts() -> None:
    patient = Retry(retries=1, patience_s=20.0, random=lambda: 0.0)
    full = refusal(503, orjson.dumps(Overloaded("full").problem()), retry_after="2")
    assert drive([full] * 10 + [OK], patient) == (b"yes", [2.0] * 10)
    error, pauses = drive([full] * 11, patient)
    assert type(error) is Overloaded
    assert sum(pauses) == 20
    # Failures beside them are counted by themselves.
    assert drive([full, refusal(502), full, OK], patient) == (b"yes", [2.0, 0.2, 2.0])
    error, pauses = drive([full, refusal(502), full, refusal(502)], patient)
    assert type(error) is Unavailable
    assert drive([full], Retry(retries=0))[1] == []


def test_retry_after_may_be_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=5), usegmt=True)
    _, (pause,) = drive([refusal(503, retry_after=date), OK])
    assert 3 < pause <= 5
    past = format_datetime(datetime.now(UTC) - timedelta(hours=5), usegmt=True)
    assert drive([refusal(503, retry_after=past), OK]) == (b"yes", [0.2])


@pytest.mark.parametrize("value", ["soon", "", "-5", "nan", "Wed, 99 Foo 2026"])
def test_a_senseless_retry_after_is_as_good_as_none(value: str) -> None:
    assert drive([refusal(503, retry_after=value), OK]) == (b"yes", [0.2])


def test_a_long_retry_after_is_left_to_the_caller() -> None:
    error, pauses = drive([refusal(503, orjson.dumps(Overloaded("full").problem()), retry_after="120")])
    assert type(error) is Overloaded
    assert error.retry_after_s == 120
    assert pauses == []


def test_pauses_grow_up_to_a_limit_and_are_scattered() -> None:
    many = Retry(retries=20, random=lambda: 0.0)
    pauses = [many.pause_s(attempt, Repeat.LATER, None) for attempt in range(20)]
    assert pauses[:3] == [0.2, 0.4, 0.8]
    assert max(pause or 0 for pause in pauses) == many.max_pause_s
    assert len({Retry().pause_s(0, Repeat.LATER, None) for _ in range(9)}) > 1


def test_a_stale_connection_is_replaced_at_once_then_with_patience() -> None:
    assert drive([failure(Repeat.AT_ONCE), OK]) == (b"yes", [])
    assert drive([failure(Repeat.AT_ONCE)] * 3 + [OK]) == (b"yes", [0.4, 0.8])


def test_a_failure_not_worth_repeating_is_raised() -> None:
    error, _ = drive([failure(Repeat.NEVER)])
    assert type(error) is ConnectionFailed
    error, _ = drive([Failure(TimedOut("slow"), Repeat.NEVER)])
    assert type(error) is TimedOut


def test_without_retries_the_first_error_counts() -> None:
    for answer in (refusal(503), failure(Repeat.AT_ONCE), failure(Repeat.LATER)):
        error, pauses = drive([answer], Retry(retries=0))
        assert isinstance(error, Unavailable)
        assert pauses == []


BODIES: list[tuple[int, bytes, Callable[[StnError], bool]]] = [
    (400, orjson.dumps(BadTensor("images: bad").problem()), lambda e: type(e) is BadTensor and str(e) == "images: bad"),
    (400, b'{"error": "from Triton"}', lambda e: type(e) is InvalidInput and str(e) == "from Triton"),
    (500, b"<html>oops</html>", lambda e: type(e) is StnError and str(e) == "HTTP status 500: <html>oops</html>"),
    (500, b"", lambda e: str(e) == "HTTP status 500"),
    (500, b"\xff\xfe" * 10**6, lambda e: len(str(e)) < 600),
    (401, b"who are you?", lambda e: type(e) is NotAllowed and str(e) == "HTTP status 401: who are you?"),
    (403, b'{"error": "not yours"}', lambda e: type(e) is NotAllowed and str(e) == "not yours"),
    (403, orjson.dumps(BadTensor("images: bad").problem()), lambda e: type(e) is BadTensor),
    (429, b"slow down", lambda e: type(e) is Overloaded and str(e) == "HTTP status 429: slow down"),
]


@pytest.mark.parametrize(("status", "body", "right"), BODIES)
def test_every_body_gives_a_typed_error(status: int, body: bytes, right: Callable[[StnError], bool]) -> None:
    error, _ = drive([refusal(status, body)], Retry(retries=0))
    assert right(error), repr(error)


class Clock:
    """A clock that stands still unless it is told."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def drive_until(answers: list[tuple[float, Response | Failure]], seconds: float) -> tuple[Any, list[float]]:
    """An exchange with a deadline, whose answers take so many seconds each; pauses take as long as they say."""
    clock = Clock()
    request = Request("GET", "/", deadline=Deadline(seconds, clock))
    flow, came, pauses = exchange(request, STEADY, lambda response: response.body), None, []
    while True:
        try:
            step = flow.send(came)
        except StopIteration as end:
            return end.value, pauses
        except StnError as error:
            return error, pauses
        if isinstance(step, Pause):
            clock.now_s += step.duration_s
            pauses.append(step.duration_s)
            came = None
        else:
            taken_s, came = answers.pop(0)
            clock.now_s += taken_s


def test_an_answer_within_the_deadline_counts() -> None:
    assert drive_until([(0.1, refusal(503)), (0.1, OK)], 1.0) == (b"yes", [0.2])


def test_no_pause_goes_past_the_deadline() -> None:
    error, pauses = drive_until([(0.1, refusal(503, b"full"))] * 3, 1.0)  # 0.2 and 0.4 s fit, 0.8 s do not
    assert type(error) is TimedOut
    assert str(error) == "the call was not over within deadline_s, 1 s; the last try met: HTTP status 503: full"
    assert pauses == [0.2, 0.4]
    error, pauses = drive_until([(0.1, refusal(503, retry_after="5"))], 2.0)
    assert type(error) is TimedOut
    assert pauses == []


def test_nothing_is_sent_after_the_deadline() -> None:
    error, _ = drive_until([(3.0, failure(Repeat.AT_ONCE))], 2.0)
    assert type(error) is TimedOut
    clock = Clock()
    deadline = Deadline(2, clock)
    clock.now_s += 2
    assert deadline.left_s() == 0
    with pytest.raises(TimedOut, match="within deadline_s, 2 s$"):
        next(exchange(Request("GET", "/", deadline=deadline), STEADY, lambda response: response))


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), "1", None])
def test_a_senseless_deadline_is_refused(seconds: Any) -> None:
    with pytest.raises(InvalidInput, match="deadline_s: expected seconds above 0"):
        Deadline(seconds)
