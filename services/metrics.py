"""The service's metrics: what there is, how the figures of several processes are put together, and their text.

Figures are gathered from the counters that the parts of the service keep anyway (``services/collecting.py``), when
somebody asks or they are told to others (``services/metrics_board.py``): a request pays for a few additions.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from services.histogram import Histogram
from services.stage_work import BATCH_BOUNDS, STAGE_BOUNDS_S
from services.statistics import REQUEST_BOUNDS_S

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

PREFIX = "stn_"


class Kind(StrEnum):
    """What Prometheus calls it; the figures of processes add up, those of an ``info`` are the same in all."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    SUMMARY = "summary"
    INFO = "info"


class Family(NamedTuple):
    """One metric: its name without ``stn_``, and what it means."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    bounds: tuple[float, ...] = ()


FAMILIES = (
    Family("requests_total", Kind.COUNTER, ("model", "protocol", "status"), "Requests to a model that were answered"),
    Family("images_total", Kind.COUNTER, ("model",), "Images of requests that were answered well"),
    Family(
        "request_seconds",
        Kind.HISTOGRAM,
        ("model",),
        "From a request's head to its encoded answer, errors too",
        REQUEST_BOUNDS_S,
    ),
    Family("queue_seconds", Kind.SUMMARY, ("model",), "What requests waited in the gateway until their batch began"),
    Family("queued_images", Kind.GAUGE, ("stage",), "Images that wait for a batch of the stage now"),
    Family("batch_images", Kind.HISTOGRAM, ("stage", "operation"), "Images of a batch where it ran", BATCH_BOUNDS),
    Family("stage_seconds", Kind.HISTOGRAM, ("stage", "operation"), "What a batch took where it ran", STAGE_BOUNDS_S),
    Family("bytes_in_flight", Kind.GAUGE, (), "Bytes of bodies of the requests being served now"),
    Family("refused_total", Kind.COUNTER, ("reason",), "Requests that got an error, by the error's type"),
    Family("files_refused_total", Kind.COUNTER, ("reason",), "Files sent to /v1 that got an error, by its type"),
    Family(
        "decisions_total", Kind.COUNTER, ("outcome", "reason"), "Images that were decided on, by what became of them"
    ),
    Family("theta_rotation_deg", Kind.SUMMARY, (), "How far images came turned clockwise, as the network sees it"),
    Family("theta_log_scale", Kind.SUMMARY, (), "How large images came, as the natural logarithm of their scale"),
    Family("theta_shift", Kind.SUMMARY, (), "How far images came off the middle, in half sides"),
    Family("shadow_images_total", Kind.COUNTER, (), "Images that were also classified as they came, to compare"),
    Family("shadow_passed_over_total", Kind.COUNTER, (), "Images that there was no room to compare"),
    Family("shadow_changed_total", Kind.COUNTER, (), "Compared images that got another label by rectification"),
    Family("shadow_changed_less_sure_total", Kind.COUNTER, (), "Those of them whose label is less sure: perhaps harm"),
    Family("shadow_confidence_gain", Kind.SUMMARY, (), "What rectification added to the best probability"),
    Family("bundle_info", Kind.INFO, ("name", "version"), "1 for the bundle that is served"),
    Family("processes", Kind.GAUGE, ("deployment",), "Processes of a deployment that tell their figures"),
)
"""The contract with dashboards and alerts."""

_KINDS = {family.name: family.kind for family in FAMILIES}

Values = list[float]
"""A number; of a summary the sum and the count, of a histogram the sum and the count of each bucket."""


class Samples:
    """Figures by metric and labels."""

    def __init__(self, figures: dict[str, dict[tuple[str, ...], Values]] | None = None) -> None:
        self.figures = figures or {}

    def put(self, name: str, labels: tuple[str, ...], *values: float) -> None:
        """Notes a figure, in place of an earlier one."""
        self.figures.setdefault(name, {})[labels] = list(values)

    def put_histogram(self, name: str, labels: tuple[str, ...], histogram: Histogram) -> None:
        self.put(name, labels, *histogram.values)

    def add(self, other: "Samples", sign: int = 1) -> None:
        """Adds the figures of another process, or takes them away again."""
        for name, labels, values in other:
            mine = self.figures.setdefault(name, {}).get(labels)
            if mine is None:
                mine = [0.0] * len(values)
            if _KINDS[name] is Kind.INFO:
                self.figures[name][labels] = [max(pair) for pair in zip(mine, values, strict=True)]
            else:
                self.figures[name][labels] = [one + sign * two for one, two in zip(mine, values, strict=True)]

    def lasting(self) -> "Samples":
        """Those that stay when their process has ended: what was counted, not what it held."""
        kept = Samples()
        for name, labels, values in self:
            if _KINDS[name] not in (Kind.GAUGE, Kind.INFO):
                kept.put(name, labels, *values)
        return kept

    def listed(self) -> list[list[object]]:
        """As JSON can carry it."""
        return [[name, list(labels), values] for name, labels, values in self]

    @classmethod
    def of_list(cls, listed: Iterable[tuple[str, list[str], Values]]) -> "Samples":
        """What ``listed`` gave, in this process or one of another version: what is not known is left out."""
        samples = cls()
        for name, labels, values in listed:
            if name in _KINDS:
                samples.put(name, tuple(labels), *values)
        return samples

    def __iter__(self) -> Iterator[tuple[str, tuple[str, ...], Values]]:
        for name, by_labels in self.figures.items():
            for labels, values in by_labels.items():
                yield name, labels, values


def exposition(samples: Samples, accept: str) -> tuple[bytes, str]:
    """The figures as text, and its media type: OpenMetrics where ``accept`` asks for it, else Prometheus's own."""
    from prometheus_client.exposition import choose_encoder

    encode, media_type = choose_encoder(accept)
    return encode(_Collected(samples)), media_type


class _Collected:
    """What prometheus_client encodes."""

    def __init__(self, samples: Samples) -> None:
        self._figures = samples.figures

    def collect(self) -> "Iterator[Metric]":
        from prometheus_client.metrics_core import Metric

        for family in FAMILIES:
            name = PREFIX + family.name
            kind = "gauge" if family.kind is Kind.INFO else str(family.kind)
            # Prometheus's own name of a counter is that without "_total".
            metric = Metric(name.removesuffix("_total"), family.meaning, kind)
            for labels, values in self._figures.get(family.name, {}).items():
                named = dict(zip(family.labels, labels, strict=True))
                for suffix, more, value in _series(family, values):
                    metric.add_sample(name + suffix, {**named, **more}, value)
            yield metric


def _series(family: Family, values: Values) -> Iterator[tuple[str, dict[str, str], float]]:
    """What one figure is told by: a suffix of the name, further labels, and a number each."""
    if family.kind is Kind.SUMMARY:
        yield "_count", {}, values[1]
        yield "_sum", {}, values[0]
    elif family.kind is Kind.HISTOGRAM:
        so_far = 0.0
        for bound, count in zip((*map(repr, family.bounds), "+Inf"), values[1:], strict=True):
            so_far += count
            yield "_bucket", {"le": bound}, so_far
        yield "_count", {}, so_far
        yield "_sum", {}, values[0]
    else:
        yield "", {}, values[0]
