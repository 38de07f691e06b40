"""The Playground's files as they are served; what they do is tested in a browser."""

import gzip
import re

import httpx
import pytest
from http_calls import problem

from services.playground_files import INDEX, _files

TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "png": "image/png"}


@pytest.mark.parametrize("path", ["/", *(f"/playground/{name}" for name in sorted(_files()))])
async def test_a_file_is_kept_by_its_tag_and_loads_nothing_from_elsewhere(http: httpx.AsyncClient, path: str) -> None:
    name = path.rpartition("/")[2] or INDEX
    answer = await http.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].split(";")[0] == TYPES[name.rpartition(".")[2]]
    assert answer.content == _files()[name].content
    assert answer.headers["content-security-policy"].startswith("default-src 'self';")
    assert answer.headers["cache-control"] == "no-cache"
    again = await http.get(path, headers={"if-none-match": f'"other", {answer.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert (await http.get(path, headers={"if-none-match": '"other"'})).status_code == 200


async def test_texts_are_sent_packed_where_that_is_taken(http: httpx.AsyncClient) -> None:
    packed = await http.get("/", headers={"accept-encoding": "gzip, deflate"})
    plain = await http.get("/", headers={"accept-encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(plain.content) / 2
    assert packed.content == plain.content == gzip.decompress(_files()[INDEX].packed)


async def test_no_other_file_can_be_had(http: httpx.AsyncClient) -> None:
    for name in ("nothing.js", "..%2Fdocs.html", "%2e%2e/docs.html", "", "INDEX.HTML"):
        problem(await http.get(f"/playground/{name}"), 404, "unknown-route")
    problem(await http.post("/"), 405, "wrong-method")


def test_what_a_file_asks_for_is_there_and_near() -> None:
    files = _files()
    for name, file in files.items():
        if name.endswith(".png"):
            continue
        text = file.content.decode()
        imported = re.findall(r'from "\./([\w.]+)"', text) + re.findall(r'(?:href|src)="playground/([\w.]+)"', text)
        assert set(imported) <= files.keys(), name
        assert set(re.findall(r"https?://[\w.]+", text)) <= {"http://www.w3.org"}, name  # the name of SVG
        assert len(text.splitlines()) <= 400, name
    assert sum(len(file.packed) for file in files.values()) < 64 * 1024
