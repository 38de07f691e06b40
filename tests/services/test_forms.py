"""Bodies of people's requests: what is read of them, and what is refused before it costs anything."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.forms import MAX_FIELD_BYTES, MAX_FIELDS, MAX_HEADER_BYTES, Form, Item, from_text, read_form
from services.settings import Limits
from stn_core.errors import BadBody, BadTensor, StnError, TooLarge

LIMITS = Limits(max_images=5, max_json_bytes=2000)
MULTIPART = "multipart/form-data; boundary=b"


def part(name: str, content: bytes, *more: str, file: str | None = None) -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"' + (
        f'; filename="{file}"' if file is not None else ""
    )
    return b"--b\r\n" + "\r\n".join([disposition, *more, "", ""]).encode() + content + b"\r\n"


def multipart(*parts: bytes, limits: Limits = LIMITS) -> Form:
    return read_form(MULTIPART, b"".join(parts) + b"--b--\r\n", limits)


def from_json(document: Any, limits: Limits = LIMITS) -> Form:
    return read_form("application/json", json.dumps(document).encode(), limits)


def test_parts_are_files_or_parameters_whatever_the_fields_are_called() -> None:
    form = multipart(
        part("image", b"one\r\n--bb", file="a.png"),
        part("seed", b" 7\n"),
        part("anything", b"two", "content-type: IMAGE/png"),
        part("recipe", b'{"name": "x"}', file="x.json"),
        part("picture", b"", file=""),
        part("file", b"", file="empty.png"),
        part("mine", "grüße".encode(), file="grüße \t.png"),
    )
    assert form.items == [
        Item("a.png", b"one\r\n--bb"),
        Item(None, b"two"),
        Item("empty.png", b""),
        Item("grüße \t.png", "grüße".encode()),
    ]
    assert form.parameters == [("seed", 7), ("recipe", '{"name": "x"}')]


def test_json_takes_texts_objects_and_data_urls() -> None:
    encoded = base64.b64encode(bytes(range(80))).decode()
    lines = f"{encoded[:76]}\n{encoded[76:]}\n"
    images = [encoded, {"data": lines, "name": "b"}, f"data:image/svg+xml;base64,{encoded}", {"name": None, "data": ""}]
    form = from_json({"images": images, "parameters": {"seed": 3, "recipe": {"name": "x"}}})
    assert form.items == [
        Item(None, bytes(range(80))),
        Item("b", bytes(range(80))),
        Item(None, bytes(range(80))),
        Item(None, b""),
    ]
    assert form.parameters == [("seed", 3), ("recipe", {"name": "x"})]


@pytest.mark.parametrize("kind", ["image/png", "IMAGE/webp; x=y", "application/octet-stream"])
def test_a_bare_image_is_one_item(kind: str) -> None:
    assert read_form(kind, b"bytes", LIMITS) == Form([Item(None, b"bytes")], [])


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("not base64!", None),
        ("abc", None),
        ("äöü", None),
        ("data:text/html;base64,AAAA", None),
        ("data:image/png,AAAA", None),
        ({"name": "a", "data": "%"}, "a"),
        ({"name": "a"}, "a"),
        ({"name": "a", "data": 5}, "a"),
        ({"name": 5, "data": "AAAA"}, None),
        ({"data": "AAAA", "path": "/etc/hostname"}, None),
        (5, None),
        (None, None),
        (["AAAA"], None),
    ],
)
def test_what_is_no_base64_is_an_error_of_its_item_alone(image: Any, name: str | None) -> None:
    form = from_json({"images": ["AAAA", image, "AAAA"]})
    assert [item.data for item in (form.items[0], form.items[2])] == [b"\0\0\0"] * 2
    assert form.items[1].name == name
    assert isinstance(form.items[1].data, BadTensor)
    assert "base64" in str(form.items[1].data)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ([], "JSON object with images, got list"),
        ({}, "images: expected a list of base64 texts or of objects with name and data, got None"),
        ({"images": "AAAA"}, "got 'AAAA'"),
        ({"images": []}, "at least one file, got none"),
        ({"images": ["AAAA"], "recipe": "rotation"}, "images and parameters, got 'recipe' beside them"),
        ({"images": ["AAAA"], "parameters": [1]}, "parameters: expected an object, got list"),
    ],
)
def test_json_of_another_form(document: Any, expected: str) -> None:
    with pytest.raises(BadBody, match="expected") as caught:
        from_json(document)
    assert expected in str(caught.value)


def test_json_beyond_limits() -> None:
    with pytest.raises(TooLarge, match="at most 5 in one request, got 6"):
        from_json({"images": ["AAAA"] * 6})
    with pytest.raises(TooLarge, match="multipart/form-data, which is smaller"):
        from_json({"images": ["A" * 2000]})
    with pytest.raises(BadBody, match="does not parse"):
        read_form("application/json", b'{"images": ["AA', LIMITS)


def test_parts_beyond_limits() -> None:
    file, field = part("image", b"x", file="x"), part("seed", b"1")
    assert len(multipart(*[file] * 5, *[field] * MAX_FIELDS).items) == 5
    for parts, error, expected in [
        ([file] * 6, TooLarge, "at most 5 in one request"),
        ([file, *[field] * (MAX_FIELDS + 1)], BadBody, f"at most {MAX_FIELDS} parameters"),
        ([part("image", b"", file="")] * (MAX_FIELDS + 6), TooLarge, "parts, got more"),
        ([part("recipe", b"x" * (MAX_FIELD_BYTES + 1))], TooLarge, f"recipe: expected at most {MAX_FIELD_BYTES} bytes"),
        ([part("recipe", b"x" * (MAX_FIELD_BYTES + 1), file="r")], TooLarge, "recipe: expected at most"),
        ([part("image", b"x", "x-long: " + "y" * MAX_HEADER_BYTES, file="x")], BadBody, "header"),
        ([part("image", b"x", *(f"x-{n}: {'y' * 4000}" for n in range(3)), file="x")], BadBody, "bytes of headers"),
        ([part("image", b"x", *(f"x-{n}: y" for n in range(100)), file="x")], BadBody, "header"),
        ([part("n" * 5000, b"x")], BadBody, "header"),
    ]:
        with pytest.raises(error, match="expected|Maximum") as caught:
            multipart(*parts)
        assert expected in str(caught.value)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "ends before the boundary"),
        (part("image", b"x", file="x"), "ends before the boundary"),
        (part("image", b"x", file="x") + b"--b-", "ends before the boundary"),
        (b"--c\r\n", "not valid"),
        (b"--b\nContent-Disposition: form-data\n\nx\n--b--", "not valid"),
        (b"--b\r\nno colon\r\n\r\nx\r\n--b--\r\n", "not valid"),
        (b"--b\r\n\r\nx\r\n--b--\r\n", "expected a name"),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", "expected a name"),
        (b"--b--\r\n", "at least one file, got none"),
        (part("seed", b"1") + b"--b--\r\n", "at least one file, got none; with curl: -F image=@FILE"),
        (part("seed", b"\xff") + b"--b--\r\n", "seed: expected text in UTF-8"),
    ],
)
def test_a_broken_multipart_body(body: bytes, expected: str) -> None:
    with pytest.raises(BadBody) as caught:
        read_form(MULTIPART, body, LIMITS)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("", "got ''"),
        ("text/html", "expected multipart/form-data (curl -F image=@FILE)"),
        ("application/x-www-form-urlencoded", "--data-binary @FILE), got 'application/x-www-form-urlencoded'"),
        ("multipart/form-data", "a boundary of 1 to 70 characters, got 0; leave this header to the client"),
        (f"multipart/form-data; boundary={'b' * 71}", "got 71"),
        (f"multipart/form-data; boundary={'b' * 2000}", "content-type: expected at most 1024 characters"),
        ("x" * 900, "content-type: expected"),
    ],
)
def test_a_content_type_that_does_not_do(content_type: str, expected: str) -> None:
    with pytest.raises(BadBody) as caught:
        read_form(content_type, part("image", b"x", file="x") + b"--b--\r\n", LIMITS)
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        (" 7\n", 7),
        ("-0.25", -0.25),
        ("1e-3", 0.001),
        ("true", True),
        ("false", False),
        ("007", "007"),
        ("1_000", "1_000"),
        ("NaN", "NaN"),
        ("²", "²"),
        ("True", "True"),
        ("9" * 20, "9" * 20),
        ("rotation ", "rotation"),
        ('{"a": 1}', '{"a": 1}'),
        ("", ""),
    ],
)
def test_parameters_that_come_as_text(text: str, value: Any) -> None:
    assert from_text(text) == value
    assert type(from_text(text)) is type(value)


def form_or_error(content_type: str, body: bytes) -> Form | str:
    try:
        return read_form(content_type, body, LIMITS)
    except StnError as error:
        return str(error)


PIECES = st.sampled_from(
    [
        *(b"--b", b"--b--", b"\r\n", b"\n", b"-", b"--", b": ", b"\0", b"x", b" ", b"\t", b'"', b"\\", b"\xff"),
        *(b'content-disposition: form-data; name="image"', b'; filename="x"', b"; filename*=utf-8''x"),
        *(b"content-type: image/png", part("seed", b"1"), part("image", b"content", file="a.png")),
        part("recipe", b"rotation", file="r"),
    ]
)


@given(st.lists(PIECES | st.binary(max_size=20), max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_multipart_body_gives_items_or_a_typed_error(pieces: list[bytes]) -> None:
    found = form_or_error(MULTIPART, b"".join(pieces))
    if isinstance(found, str):
        assert 0 < len(found) < 600
    else:
        assert 0 < len(found.items) <= LIMITS.max_images
        assert len(found.parameters) <= MAX_FIELDS


@given(st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=200)), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_files_that_a_client_writes_come_back_as_they_were(files: list[tuple[str, bytes]]) -> None:
    import httpx

    files = [(name.encode("utf-8", "replace").decode() + "x", content) for name, content in files]
    request = httpx.Request("POST", "http://test", files=[("image", file) for file in files])
    form = form_or_error(request.headers["content-type"], request.read())
    assert isinstance(form, Form)
    assert [item.data for item in form.items] == [content for _, content in files]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "data", "images"]), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["images", "parameters", "x"]), JSON_VALUES) | JSON_VALUES, st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_json_and_any_content_type_give_items_or_a_typed_error(document: Any, content_type: str) -> None:
    body = json.dumps(document).encode("utf-8", "replace")
    for kind in ("application/json", content_type):
        found = form_or_error(kind, body)
        assert len(found) < 600 if isinstance(found, str) else found.items
