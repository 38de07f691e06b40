"""What both clients are made of."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from ssl import SSLContext
from typing import Any, Generic, TypeVar

from stn_client.address import Address
from stn_client.calls import Calls
from stn_client.flow import Deadline, Retry
from stn_client.transport import Settings
from stn_core.errors import InvalidInput

L = TypeVar("L")


class Connected(Generic[L]):
    """The settings of a client, its calls, and its way to the service, which no other process shares."""

    def __init__(  # noqa: PLR0913  # a client has as many arguments as options
        self,
        url: str,
        *,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        verify: bool | SSLContext = True,
        transport: Any = None,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 60.0,
        deadline_s: float | None = None,
        retries: int = Retry.retries,
        patience_s: float = Retry.patience_s,
        in_flight: int = 4,
    ) -> None:
        address = Address.of(url, api_key, headers)
        for name, value in (("connect_timeout_s", connect_timeout_s), ("read_timeout_s", read_timeout_s)):
            if not value > 0:
                raise InvalidInput(f"{name}: expected seconds above 0, got {value!r}")
        if in_flight < 1:
            raise InvalidInput(f"in_flight: expected a whole number from 1, got {in_flight!r}")
        if not isinstance(verify, bool | SSLContext):
            raise InvalidInput(f"verify: expected True, False or an ssl.SSLContext, got {type(verify).__name__}")
        if deadline_s is not None:
            Deadline(deadline_s)  # checks it
        self._settings = Settings(address, verify, transport, connect_timeout_s, read_timeout_s)
        self._calls = Calls(Retry(retries, patience_s), deadline_s)
        self._in_flight = in_flight
        self._made: tuple[int, L] = os.getpid(), self._new_link()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._settings.address.url)!r})"

    @property
    def _link(self) -> L:
        """The way of this process; after a fork a new one, as two processes cannot share a connection."""
        pid, link = self._made
        if pid != os.getpid() and self._settings.transport is None:
            link = self._new_link()
            self._made = os.getpid(), link
        return link

    @abstractmethod
    def _new_link(self) -> L: ...
