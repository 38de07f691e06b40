"""The table of docs/bad-input.md is what a running service does: each request gets the status and the message there."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import pytest
from bad_requests import CASES, send
from http_calls import binary, outputs, problem

PAGE = Path(__file__).parents[2] / "docs" / "bad-input.md"
NEIGHBOURS = 3
PATIENCE_S = 120.0


class Row(NamedTuple):
    what: str
    status: int
    code: str
    message: str


def rows() -> list[Row]:
    """The rows of the page's tables: what comes, status, type, message; … stands for anything."""
    lines = [line for line in PAGE.read_text().splitlines() if re.match(r"\| .* \| \d{3} \|", line)]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [Row(what, int(status), code.strip("`"), message.strip("`")) for what, status, code, message in cells]


@pytest.fixture
async def http(service_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=service_url, timeout=PATIENCE_S) as client:
        yield client


def test_the_page_has_every_request_and_no_other() -> None:
    assert [row.what for row in rows()] == list(CASES)


@pytest.mark.service
@pytest.mark.parametrize("row", rows(), ids=lambda row: row.what)
async def test_each_gets_what_the_page_says_and_harms_no_neighbour(
    http: httpx.AsyncClient, digits: tuple[np.ndarray, np.ndarray], row: Row
) -> None:
    good = binary({"images": digits[0][:5]})
    ours, *others = await asyncio.gather(
        send(http, row.what), *(http.post("/v2/models/predict/infer", **good) for _ in range(NEIGHBOURS))
    )
    if os.environ.get("STN_SHOW"):
        print("ROW", row.what, ours.status_code, ours.text[:400])
    if row.code:
        detail = problem(ours, row.status, row.code)
        pattern = ".*".join(re.escape(part) for part in row.message.split("…"))
        assert re.fullmatch(pattern, detail, re.DOTALL), detail
    else:
        assert ours.status_code == row.status, ours.text
    labels = [outputs(other).outputs["label"].tolist() for other in others]
    assert labels == [labels[0]] * NEIGHBOURS
    assert np.mean(np.array(labels[0]) == digits[1][:5]) >= 0.8


@pytest.mark.service
async def test_a_broken_file_has_its_error_in_its_own_place(http: httpx.AsyncClient) -> None:
    results = (await send(http, "a broken file among good ones")).json()["results"]
    assert [result.get("error", {}).get("status") for result in results] == [None, 400, None]
