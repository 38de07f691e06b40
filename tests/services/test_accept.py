"""The Accept header: specific before general, weights before order."""

import pytest

from services.accept import by_preference

JSON, PNG = "application/json", "image/png"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", [JSON, PNG]),
        ("*/*", [JSON, PNG]),
        (BROWSER, [JSON, PNG]),
        (PNG, [PNG]),
        ("image/*", [PNG]),
        (" IMAGE/PNG ; q=1.0 ; x=y", [PNG]),
        ("application/json, image/png", [JSON, PNG]),
        ("application/json;q=0.5, image/png", [PNG, JSON]),
        ("application/json;q=0.5, image/png;q=0.50", [JSON, PNG]),
        ("image/png, */*;q=0.1", [PNG, JSON]),
        ("*/*, application/json;q=0", [PNG]),
        ("image/*;q=0.2, image/png;q=0.9, application/*;q=0.5", [PNG, JSON]),
        ("image/png;q=0", []),
        ("text/html", []),
        ("image/png;q=x", []),
        ("image/png;q=nan", []),
        ("image/png;q=2", []),
        (",;,;q=,/", []),
    ],
)
def test_by_preference(accept: str, expected: list[str]) -> None:
    assert by_preference(accept, (JSON, PNG)) == expected
