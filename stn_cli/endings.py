"""How the commands end: the exit statuses, and an output that nobody reads any more."""

from __future__ import annotations

from stn_client import BadAnswer

from stn_core.errors import Overloaded, StnError, TimedOut, Unavailable

FAILED, WRONG_USAGE, NO_SERVICE, INTERRUPTED, NOBODY_READS = 1, 2, 3, 130, 141
EXIT_STATUSES = (
    "Exit status: 0 all done; 1 some files failed, the others are done; 2 wrong usage or input; 3 the service cannot "
    "be reached or is not ready; 130 Ctrl-C."
)


class NobodyReads(Exception):  # no error of anybody's
    """The reader of the standard output has gone, as ``head`` does."""


def status_of(error: StnError) -> int:
    """The exit status of a command that ends with ``error``."""
    return NO_SERVICE if isinstance(error, Unavailable | Overloaded | TimedOut | BadAnswer) else WRONG_USAGE
