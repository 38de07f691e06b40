"""What running a command gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import orjson


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    stdout: str
    stderr: str

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Its JSON lines."""
        return [orjson.loads(line) for line in self.stdout.splitlines()]


Stn = Callable[..., Done]
