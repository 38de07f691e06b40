"""Where the service is and how the client shows who it is; no secret of it is ever told, logged or quoted."""

from __future__ import annotations

import os
import warnings
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Self

import httpx

from stn_core import __version__
from stn_core.errors import InvalidInput

API_KEY_VARIABLE = "STN_API_KEY"
AUTHORIZATION = "authorization"
WARNING_LEVEL = 4  # frames from here to the line that made the client


@dataclass(frozen=True)
class Address:
    """``url`` without user and password, and the headers of every request, by lower-case name."""

    url: httpx.URL
    headers: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(cls, url: str, api_key: str | None, headers: Mapping[str, str] | None) -> Self:
        """InvalidInput if anything of it makes no sense; a warning where the API key would travel for all to read.

        Without ``api_key`` it is that of the environment variable STN_API_KEY, unless ``url`` or ``headers`` say
        already who is asking.
        """
        whole = _parsed(url)
        extra = {name.lower(): value for name, value in _checked_headers(headers).items()}
        says_who = bool(whole.userinfo) or AUTHORIZATION in extra
        if api_key is not None and says_who:
            raise InvalidInput("api_key: expected it alone, but the url or the headers hold credentials too")
        if whole.userinfo:
            extra[AUTHORIZATION] = f"Basic {b64encode(f'{whole.username}:{whole.password}'.encode()).decode()}"
        if not says_who:
            key = _checked_key("api_key", api_key) if api_key is not None else _key_of_environment()
            if key is not None:
                extra[AUTHORIZATION] = f"Bearer {key}"
                _warn_if_open(whole)
        # Tensors are large and the network is mostly near: packing them costs more time than it saves.
        usual = {"user-agent": f"stn-client/{__version__}", "accept-encoding": "identity"}
        return cls(whole.copy_with(userinfo=b""), {**usual, **extra})


def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise InvalidInput(f"url: expected http://host:port, got {_shown(url)}: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidInput(f"url: expected http://host:port, got {_shown(url)}")
    return parsed


def _shown(url: object) -> str:
    """``url`` as an error quotes it: without what stands before an @."""
    return repr(f"...@{url.rpartition('@')[2]}" if isinstance(url, str) and "@" in url else url)


def _checked_headers(headers: Mapping[str, str] | None) -> Mapping[str, str]:
    for name, value in (headers or {}).items():
        if not (isinstance(name, str) and isinstance(value, str) and _is_one_line(name) and _is_one_line(value)):
            raise InvalidInput(f"headers: expected lines of ASCII text by name, got another name or value at {name!r}")
    return headers or {}


def _key_of_environment() -> str | None:
    key = os.environ.get(API_KEY_VARIABLE)
    return _checked_key(API_KEY_VARIABLE, key) if key else None


def _checked_key(name: str, key: str) -> str:
    if not isinstance(key, str) or not key or not _is_one_line(key) or " " in key:
        raise InvalidInput(f"{name}: expected a key of visible ASCII characters; what it was is not repeated here")
    return key


def _is_one_line(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _warn_if_open(url: httpx.URL) -> None:
    if url.scheme == "http" and not _is_loopback(url.host):
        warnings.warn(
            f"the API key travels unencrypted to {url.host}, for all on the way to read; use https",
            stacklevel=WARNING_LEVEL,
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
