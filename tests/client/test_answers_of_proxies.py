"""A proxy's word that it lost the service midway is not the service's word that the request failed."""

from typing import Any

import pytest
from stn_client.flow import Pause, Request, Response, Retry, exchange

from stn_core.errors import StnError

ASKED = Request("GET", "/v2")
OF_HAPROXY = Response(500, {"content-type": "text/plain"}, b"Internal Server Error")
OF_THE_SERVICE = Response(500, {"content-type": "application/problem+json"}, b'{"detail": "a fault"}')


def answers(*responses: Response) -> tuple[Any, int]:
    """What the flow makes of ``responses``, and how many requests it sent."""
    flow, sent, left = exchange(ASKED, Retry(retries=2), lambda answer: answer.body), 0, list(responses)
    step = next(flow)
    try:
        while True:
            if isinstance(step, Pause):
                step = flow.send(None)
                continue
            sent += 1
            step = flow.send(left.pop(0))
    except StopIteration as end:
        return end.value, sent
    except StnError as error:
        return error, sent


def test_a_proxys_500_is_tried_again() -> None:
    assert answers(OF_HAPROXY, OF_HAPROXY, Response(200, {}, b"here")) == (b"here", 3)


@pytest.mark.parametrize(("response", "tries"), [(OF_HAPROXY, 3), (OF_THE_SERVICE, 1)])
def test_what_lasts_is_told(response: Response, tries: int) -> None:
    error, sent = answers(*[response] * tries)
    assert isinstance(error, StnError)
    assert sent == tries
