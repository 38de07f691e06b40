"""One line of JSON for each request, or for those that failed by a fault of the service: never images, never keys.

The lines go to a file of their own, beside Serve's logs, through a logger of their own.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from time import monotonic
from typing import Any

import orjson

from services.origin import Origin

logger = logging.getLogger("stn.requests")
logger.propagate = False
logger.setLevel(logging.INFO)
logger.addHandler(logging.NullHandler())

_FILE_BYTES, _FILES = 64 * 2**20, 4
_OVERLOADED, _QUIET_S = "overloaded", 1.0


def write_to(folder: Path, process: str) -> None:
    """Has this process write its lines to ``folder``: 256 MiB of them at most, the oldest go first."""
    path = folder / f"stn-requests-{process}.jsonl"
    handler = RotatingFileHandler(path, maxBytes=_FILE_BYTES, backupCount=_FILES - 1, delay=True)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)


class RequestLog:
    """Writes what is to be written of a gateway's requests: of ``every`` one, or of those that the service failed."""

    def __init__(self, every: bool) -> None:
        self._every = every
        self._overloaded = 0
        self._overloaded_s = -_QUIET_S

    def wants(self, status: int) -> bool:
        """Whether a request that ended so is to be noted."""
        return self._every or _is_fault(status)

    def note(self, origin: Origin, status: int, reason: str, seconds: float, more: Mapping[str, Any]) -> None:
        """A request that ended; ``reason`` is the type of its error, ``more`` what its protocol knows of it."""
        failed, refused = _is_fault(status), 0
        if reason == _OVERLOADED and not self._every:
            # The log of a service that is overloaded must not be what keeps it so: a line a second.
            self._overloaded += 1
            if monotonic() - self._overloaded_s < _QUIET_S:
                return
            refused, self._overloaded, self._overloaded_s = self._overloaded, 0, monotonic()
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": "ERROR" if failed else "INFO",
            "request_id": origin.request_id,
            "protocol": origin.protocol,
            "model": origin.model or None,
            "status": status,
            "reason": reason or None,
            "seconds": round(seconds, 6),
            "images": origin.images,
            **more,
        }
        if refused > 1:
            line["overloaded_since_the_last_line"] = refused
        if origin.trace:
            line["trace_id"] = origin.trace.split("-")[1]
        logger.log(logging.ERROR if failed else logging.INFO, orjson.dumps(line).decode())


def _is_fault(status: int) -> bool:
    """Whether the service has failed, or could not serve; not that there is no such thing (501)."""
    return status >= 500 and status != 501
