"""HAProxy refuses what a replica would: it costs less than half, and leaves the replica's process to its work.

A replica whose queue is full says in the header ``FULL`` of its refusal for how many ms, which is until a quarter of
the work in it is done. For so long HAProxy refuses by itself what asks for the same path, once each replica has said
it; then it lets requests through again, which find room or bring the next refusal. What it refused, it tells by
``REFUSED`` in the next request that it lets through, so that the metrics count it.

Only bodies that fit into HAProxy's buffer are refused here: it closes the connection of others before they are sent,
and their clients would not hear why. Those are large, and worth a refusal by the replica.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import orjson

from stn_core.errors import PROBLEM_CONTENT_TYPE, Overloaded

FULL, REFUSED = "x-stn-full", "x-stn-refused-ahead"
KEEP_FRONT = "services.front.keep_front"
"""What ``RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH`` names where HAProxy's configuration is made here."""
BUFFER_BYTES = 65536
_LARGEST_BODY_BYTES = BUFFER_BYTES - 4096  # beside the head
_SHARE, _LEAST_S, _MOST_S = 0.25, 0.02, 1.0
_BODY_S, _MOST_PATHS, _LONGEST_PATH, _PATHS, _COUNTS = 5, 4096, 256, "1m", "1h"
_CLOCK = 2**31 - 1
"""HAProxy's tables hold 32 bits: the time in ms, modulo this."""

_TABLES = f"""
backend stn_full
    stick-table type string len {_LONGEST_PATH} size {_MOST_PATHS} expire {_PATHS} store gpt(2)
backend stn_refused
    stick-table type string len {_LONGEST_PATH} size {_MOST_PATHS} expire {_COUNTS} store gpc0
"""

_RULES = """\
    http-request del-header {refused}
    http-request set-var(txn.stn_path) path
    http-request set-var(txn.stn_now) date(0,ms),mod({clock})
    acl stn_small req.hdr_val(content-length) 0:{largest_body_bytes}
    acl stn_has_id req.hdr(x-request-id) -m reg ^[!-~]{{1,128}}$
    acl stn_untold var(txn.stn_path),table_gpc0(stn_refused) gt 0
{acls}
    http-request wait-for-body time {body_s}s if METH_POST stn_small {full}
    http-request set-var(txn.stn_turned_away) bool(true) if METH_POST stn_small {full}
    acl stn_turned_away var(txn.stn_turned_away) -m bool
    http-request track-sc1 var(txn.stn_path) table stn_refused if stn_turned_away or METH_POST stn_untold
    http-request set-header {refused} %[sc1_clr_gpc0(stn_refused)] if METH_POST stn_untold !stn_turned_away
    http-request sc-inc-gpc0(1) if stn_turned_away
    http-request set-var(txn.stn_id) req.hdr(x-request-id) if stn_turned_away stn_has_id
    http-request set-var(txn.stn_id) uuid if stn_turned_away !stn_has_id
    http-request set-var(txn.stn_after) {any_key},table_gpt(1,stn_full) if stn_turned_away
    http-request set-var(txn.stn_after) int(1) if stn_turned_away {{ var(txn.stn_after) -m int lt 1 }}
    http-request return status 503 content-type {content_type} hdr retry-after %[var(txn.stn_after)] \
hdr x-request-id %[var(txn.stn_id)] lf-string "{document}" if stn_turned_away
    http-response set-var(txn.stn_key) srv_name,concat(" ",txn.stn_path) if {{ res.hdr({full_header}) -m found }}
    http-response track-sc2 var(txn.stn_key) table stn_full if {{ res.hdr({full_header}) -m found }}
    http-response set-var(txn.stn_full_ms) res.hdr({full_header}) if {{ res.hdr({full_header}) -m found }}
    http-response sc-set-gpt(0,2) date(0,ms),add(txn.stn_full_ms),mod({clock}) if {{ res.hdr({full_header}) -m found }}
    http-response sc-set-gpt(1,2) res.hdr(retry-after) if {{ res.hdr({full_header}) -m found }}
    http-response del-header {full_header}
"""


def full_header(error: Overloaded) -> dict[str, str]:
    """What tells HAProxy for how long requests like this one need not come; nothing where that is not worth it."""
    full_s = min(_SHARE * error.waiting_s, _MOST_S)
    return {FULL: f"{full_s * 1e3:.0f}"} if full_s >= _LEAST_S else {}


def is_ahead() -> bool:
    """Whether the HAProxy before this process may refuse by itself, and is alone to say how often it did."""
    return (
        os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1"
        and os.environ.get("RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH") == KEEP_FRONT
    )


def with_refusals(config: str, servers: Mapping[str, Sequence[str]]) -> str:
    """HAProxy's configuration as Ray makes it, with the rules for its backends, whose ``servers`` are the replicas."""
    lines: list[str] = []
    for line in config.splitlines():
        lines.append(line)
        keyword, _, name = line.partition(" ")
        if keyword == "backend" and servers.get(name):
            lines.append(_rules(servers[name]))
    return "\n".join(lines) + "\n" + _TABLES


def _rules(servers: Sequence[str]) -> str:
    keys = [f'str("{server}"),concat(" ",txn.stn_path)' for server in servers]
    within = f"table_gpt(0,stn_full),sub(txn.stn_now) 1:{_MOST_S * 1e3:.0f}"
    return _RULES.format(
        refused=REFUSED,
        full_header=FULL,
        largest_body_bytes=_LARGEST_BODY_BYTES,
        acls="\n".join(f"    acl stn_full_{number} {key},{within}" for number, key in enumerate(keys)),
        full=" ".join(f"stn_full_{number}" for number in range(len(keys))),
        any_key=keys[0],
        body_s=_BODY_S,
        clock=_CLOCK,
        content_type=PROBLEM_CONTENT_TYPE,
        document=_document(),
    )


def _document() -> str:
    """The problem document as a format of HAProxy's, quoted for its configuration."""
    detail = "the queue is full; try again later, or send fewer images at once"
    document = {
        **Overloaded(detail).problem(),
        "instance": "%[var(txn.stn_path),json(utf8ps)]",
        "request_id": "%[var(txn.stn_id),json(utf8ps)]",
    }
    return orjson.dumps(document).decode().replace('"', '\\"')
