"""The exception tree: codes and statuses, the trip over HTTP and between processes."""

import pickle

import pytest

from stn_core.errors import (
    BadTensor,
    InvalidInput,
    Overloaded,
    StnError,
    TimedOut,
    TooLarge,
    Unavailable,
    UnknownModel,
    Unsupported,
    error_from_problem,
)


def tree(cls: type[StnError] = StnError) -> list[type[StnError]]:
    ours = [child for child in cls.__subclasses__() if child.__module__ == StnError.__module__]
    return [cls, *(leaf for child in ours for leaf in tree(child))]


ALL = tree()


def test_codes_are_unique() -> None:
    assert len({cls.code for cls in ALL}) == len(ALL) == 18


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.code)
def test_over_http_and_back(cls: type[StnError]) -> None:
    error = cls("images: expected [N, 28, 28, 1], got [32, 32]")
    document = error.problem(instance="/v2/models/predict/infer")
    assert document == {
        "type": f"urn:stn:error:{cls.code}",
        "title": cls.code.replace("-", " ").capitalize(),
        "status": cls.status,
        "detail": str(error),
        "error": str(error),  # the key that v2 protocol clients read
        "instance": "/v2/models/predict/infer",
    }
    back = error_from_problem(document, cls.status)
    assert type(back) is cls
    assert str(back) == str(error)


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.code)
def test_between_processes_and_back(cls: type[StnError]) -> None:
    back = pickle.loads(pickle.dumps(cls("what was expected, what came")))
    assert type(back) is cls
    assert str(back) == "what was expected, what came"


def test_overloaded_keeps_its_retry_time_between_processes() -> None:
    assert pickle.loads(pickle.dumps(Overloaded("full", 2.5))).retry_after_s == 2.5


def test_an_error_without_a_message_says_its_code() -> None:
    assert str(BadTensor()) == "bad-tensor"


def test_a_subclass_without_a_code_does_not_take_its_parents_place() -> None:
    class Special(Unavailable):
        pass

    assert Special.code == "unavailable"
    assert StnError.by_code["unavailable"] is Unavailable


@pytest.mark.parametrize(
    ("document", "status", "cls", "message"),
    [
        ("upstream connect error", 503, Unavailable, "upstream connect error"),
        ("Bad gateway", 502, Unavailable, "Bad gateway"),
        ("Request timed out", 408, TimedOut, "Request timed out"),
        ("slow", 504, TimedOut, "slow"),
        ("slow down", 429, Overloaded, "slow down"),
        ("no such route", 404, UnknownModel, "no such route"),
        ("body too long", 413, TooLarge, "body too long"),
        ("not here", 501, Unsupported, "not here"),
        ({"error": "unexpected shape"}, 400, InvalidInput, "unexpected shape"),  # Triton, TF Serving
        ({"detail": "Method Not Allowed"}, 405, InvalidInput, "Method Not Allowed"),  # FastAPI
        ({"type": "urn:stn:error:from-a-newer-version", "detail": "new"}, 413, TooLarge, "new"),
        ({"type": 7, "detail": ["a"]}, 400, InvalidInput, "['a']"),
        ({"type": "urn:stn:error:bad-tensor", "detail": "x"}, 500, BadTensor, "x"),
        ("", 500, StnError, "HTTP status 500"),
        (None, 500, StnError, "HTTP status 500"),
        ({}, 418, InvalidInput, "HTTP status 418"),
        ([1], 599, StnError, "[1]"),
    ],
)
def test_bodies_of_others_give_the_error_whose_status_fits(
    document: object, status: int, cls: type[StnError], message: str
) -> None:
    error = error_from_problem(document, status)
    assert type(error) is cls
    assert str(error) == message
