"""The drills' frame: a wrong answer is counted as wrong, a lost one as lost, and what grows is seen to grow."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from drills import report
from drills.known import Known
from drills.outcome import Counts, Outcome, unless
from drills.traffic import Plan, Record, between, counts, latency_ms, longest_gap_s, right_per_s, traffic
from drills.watch import Slope
from stn_core.wire import HEADER_LENGTH, decode_request, encode_response

IMAGES = 4


@pytest.fixture(scope="module")
def known() -> Known:
    draws = np.random.default_rng(0)
    answers = {
        "label": draws.integers(0, 10, 32),
        "probabilities": draws.random((32, 10), np.float32),
        "theta": draws.random((32, 2, 3), np.float32),
    }
    return Known(draws.integers(0, 256, (32, 28, 28, 1), np.uint8), {"1": answers})


def answer_of(known: Known, rows: np.ndarray, **changed: Any) -> dict[str, np.ndarray]:
    (right,) = known.answers.values()
    return {name: right[name][rows] + changed.get(name, 0) for name in right}


def test_an_answer_is_right_if_all_of_it_is(known: Known) -> None:
    rows = np.arange(3, 3 + IMAGES)
    assert known.version_of(rows, answer_of(known, rows)) == "1"
    assert known.version_of(rows, answer_of(known, rows, theta=1e-5)) == "1"
    assert known.version_of(rows + 1, answer_of(known, rows)) is None
    for name, much in (("label", 1), ("theta", 0.01), ("probabilities", 0.01)):
        assert known.version_of(rows, answer_of(known, rows, **{name: much})) is None
    assert known.version_of(rows, answer_of(known, rows[:-1])) is None


class Odd(BaseHTTPRequestHandler):
    """A server of ``predict`` that answers right, wrong, by a false name, not at all, and with several errors."""

    protocol_version = "HTTP/1.1"
    turn = 0
    lock = threading.Lock()
    given: Counter[str]
    known: Known

    def do_POST(self) -> None:
        request = decode_request(self.rfile.read(int(self.headers["content-length"])), int(self.headers[HEADER_LENGTH]))
        pixels = request.inputs["images"]
        first = next(n for n in range(len(self.known.images)) if (self.known.images[n : n + IMAGES] == pixels).all())
        rows = np.arange(first, first + IMAGES)
        with Odd.lock:
            kind = list(KINDS)[Odd.turn % len(KINDS)]
            Odd.turn += 1
            Odd.given[KINDS[kind]] += 1
        if kind == "nothing":
            self.close_connection = True
            return
        if kind.isdigit():
            headers = {"retry-after": "1"} if KINDS[kind] == "refused" else {}
            self._send(int(kind), b"{}", headers)
            return
        changed = {"label": 1} if kind == "other label" else {"theta": 0.01} if kind == "other theta" else {}
        version = "7" if kind == "other version" else "1"
        message = encode_response(answer_of(self.known, rows, **changed), "predict", version, request, {})
        self._send(200, message.body, message.headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


KINDS = {
    "right": "right",
    "other label": "wrong",
    "other theta": "wrong",
    "other version": "wrong",
    "400": "wrong",
    "429": "refused",
    "503": "refused",
    "500": "lost",
    "504": "lost",
    "nothing": "lost",
}


@contextlib.contextmanager
def odd_server(known: Known) -> Iterator[int]:
    Odd.known, Odd.given, Odd.turn = known, Counter(), 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_each_answer_is_counted_as_what_it_is(known: Known) -> None:
    with odd_server(known) as port:
        with traffic(Plan(port, "http", connections=2, images=IMAGES, rate=100.0, seconds=1.0), known) as load:
            records = load.wait()
        given = dict(Odd.given)
    seen = counts(records)
    assert seen.sent >= 2 * len(KINDS)
    assert dict(Counter(record.verdict for record in records)) == given
    assert seen.values == (sum(given.values()), *(given[name] for name in ("right", "wrong", "refused", "lost")))
    assert {record.version for record in records if record.verdict == "right"} == {"1"}


def test_counts_and_figures_of_records() -> None:
    records = [Record(10.0 + n, 0.1 * n, "right", 200, "1") for n in range(4)]
    records += [Record(12.5, 9.0, "lost", 0, ""), Record(20.0, 0.1, "right", 200, "1")]
    assert counts(records) == Counts(sent=6, right=5, lost=1)
    assert counts(records) + Counts(1, 0, 1) == Counts(7, 5, 1, 0, 1)
    assert right_per_s(records, 10.0, 14.0) == 1.0
    assert len(between(records, 11.0, 13.0)) == 3
    assert latency_ms(records[:4], 50) == pytest.approx(150)
    assert longest_gap_s(records) == 7.0


def test_a_drill_holds_if_nothing_failed_and_its_row_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    good = Outcome("One", "it holds", Counts(3, 3), told="fast", failures=unless((True, "never")))
    bad = Outcome("Two", "it holds", Counts(3, 2, 1), failures=unless((False, "1 wrong"), (True, "never")))
    assert good.held
    assert not bad.held
    where = {"date": "2026-01-02T03:04:05", "commit": "abc", "machine": {"processor": "P", "cores": 2, "system": "L"}}
    monkeypatch.setattr(report, "_outcomes", lambda: [(where, good.document()), (where, bad.document())])
    page = tmp_path / "promises.md"
    page.write_text("before\n<!-- drills -->\nthe last one\n<!-- end of drills -->\nafter\n")
    monkeypatch.setattr(report, "PAGE", page)
    report.write_table()
    text = page.read_text()
    assert "| **One**: it holds | 3 | 3 | 0 | 0 | 0 | fast | yes | 2026-01-02, abc |" in text
    assert "| **no**: 1 wrong |" in text
    assert text.startswith("before")
    assert text.endswith("after\n")
    assert "the last one" not in text


def test_a_slope_is_told_from_noise() -> None:
    draws = np.random.default_rng(0)
    at_s = np.arange(0, 1800, 10.0)
    flat = Slope.of(at_s, (1000 + draws.normal(0, 5, len(at_s))).tolist())
    grown = Slope.of(at_s, (1000 + at_s / 60 + draws.normal(0, 5, len(at_s))).tolist())
    assert abs(flat.an_hour) < 3 * flat.error
    assert grown.an_hour == pytest.approx(60, abs=3 * grown.error)
    assert grown.an_hour > 10 * grown.error
    wandering = Slope.of(at_s, np.cumsum(draws.normal(0, 1, len(at_s))).tolist())
    assert wandering.error > 3 * Slope.of(at_s, draws.normal(0, 5, len(at_s)).tolist()).error
