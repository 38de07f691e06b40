"""What the ``args:`` section of a deploy config may say; unknown keys are refused."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from stn_core.backends import BackendName

MIB = 1024 * 1024


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Placement(StrEnum):
    """Where a stage runs: in the process that speaks HTTP, or behind a deployment of its own."""

    GATEWAY = "gateway"
    DEPLOYMENT = "deployment"


class StageSettings(_Strict):
    """One stage: where it runs, how its micro-batches are formed, and how much may wait."""

    placement: Placement = Placement.GATEWAY
    max_batch_images: PositiveInt = 256
    batch_wait_ms: NonNegativeFloat = 1.0
    max_in_flight_batches: PositiveInt = 2
    """Batches that one process runs at once."""
    max_in_flight_calls: PositiveInt = 8
    """Batches that one gateway has under way in the stage's own deployment, all its replicas together."""
    max_queued_images: PositiveInt = 8192
    max_batch_bytes: PositiveInt = 16 * MIB
    max_queued_bytes: PositiveInt = 256 * MIB
    threads: PositiveInt | None = 1
    """Threads of one operation; null takes as many as there are cores."""

    @property
    def gateway_in_flight(self) -> int:
        """Batches that the gateway keeps under way."""
        return self.max_in_flight_batches if self.placement is Placement.GATEWAY else self.max_in_flight_calls


class Limits(_Strict):
    """What one request may ask for."""

    max_request_bytes: PositiveInt = 32 * MIB
    """A body, before and after decompression."""
    max_json_bytes: PositiveInt = 8 * MIB
    """The JSON part of a body: numbers as JSON cost far more than their bytes."""
    max_bytes_in_flight: PositiveInt = 256 * MIB
    """The bodies of all requests being served by one replica."""
    max_images: PositiveInt = 4096
    """Images in one request."""
    max_pixels_per_image: PositiveInt = 24 * MIB
    max_side_px: Annotated[int, Field(ge=1, le=32766)] = 16384
    """The height and the width of an image; the sampler counts to 32766."""
    max_decoded_bytes: PositiveInt = 64 * MIB
    """The images of one request as arrays, after PNG or JPEG decoding; and those of its answer."""
    max_spline_terms: PositiveInt = 64 * MIB
    """Pixels of an image times control points of the thin-plate spline that warps it: its cost, in memory and time."""
    request_timeout_s: PositiveFloat = 30.0
    body_timeout_s: PositiveFloat = 20.0
    """How long a body may take to come, of the time that the request has."""

    @model_validator(mode="after")
    def _one_request_fits(self) -> Self:
        if self.max_request_bytes > self.max_bytes_in_flight:
            raise ValueError(
                f"max_bytes_in_flight ({self.max_bytes_in_flight}) must hold one request of max_request_bytes "
                f"({self.max_request_bytes})"
            )
        return self


class Access(_Strict):
    """Who may ask, and how often; nobody is asked anything unless it says so."""

    keys_file: str | None = None
    """The path of a file of API keys (``stn keys``); with it, requests without one are refused."""
    requests_per_s: PositiveFloat | None = None
    """What each key may send that has no rate of its own; without keys, all callers together."""
    images_per_s: PositiveFloat | None = None
    """The same in images."""
    metrics_without_key: bool = False
    """Whether ``/metrics`` is open to all who reach the service."""


class UserConfig(_Strict):
    """What ``user_config:`` of our deployments may say: it changes while the service runs, without new processes."""

    bundle: str | None = None
    """What ``Settings.bundle`` is, and goes before it."""


class Traces(StrEnum):
    """Where OpenTelemetry's traces go: nowhere, to a collector by OTLP over HTTP, or to files beside the logs."""

    OFF = "off"
    OTLP = "otlp"
    FILE = "file"


class Observability(_Strict):
    """What the service tells of its requests, beside its metrics."""

    log_requests: bool = False
    """Whether each request has a line in the log of requests; those that the service failed always have one."""
    log_folder: str | None = None
    """Where that log goes, and traces in files; null: beside Serve's own logs."""
    traces: Traces = Traces.OFF
    trace_endpoint: str = "http://127.0.0.1:4318/v1/traces"
    """Where a collector takes OTLP over HTTP."""
    trace_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The share of requests that are traced; those of which the client asks it (``traceparent``) are in any case."""


class Settings(_Strict):
    """Everything ``services.app:build`` needs to know."""

    bundle: str = "digits"
    """The name of a shipped bundle, or the path of a bundle."""
    engine: BackendName = "auto"
    """``onnx``: ONNX Runtime and the sampler in C; ``tensorflow``; ``auto``: ONNX where the bundle has its files."""
    rectifier: StageSettings = StageSettings()
    classifier: StageSettings = StageSettings(placement=Placement.DEPLOYMENT)
    augmenter: StageSettings = StageSettings(max_batch_images=1024, max_in_flight_batches=1, batch_wait_ms=0.0)
    limits: Limits = Limits()
    access: Access = Access()
    observability: Observability = Observability()
    shadow_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of requests to ``predict`` whose images are classified once more as they came, to compare."""
    readiness_timeout_s: PositiveFloat = 2.0
    """How long ``/v2/health/ready`` waits for a stage behind a deployment to say that it is warm."""

    @model_validator(mode="after")
    def _a_request_fits_every_queue(self) -> Self:
        for name, stage in self.stages.items():
            if self.limits.max_images > stage.max_queued_images:
                raise ValueError(
                    f"{name}.max_queued_images ({stage.max_queued_images}) must hold one request of "
                    f"limits.max_images ({self.limits.max_images})"
                )
            if self.limits.max_decoded_bytes > stage.max_queued_bytes:
                raise ValueError(
                    f"{name}.max_queued_bytes ({stage.max_queued_bytes}) must hold one request of "
                    f"limits.max_decoded_bytes ({self.limits.max_decoded_bytes})"
                )
        return self

    @property
    def stages(self) -> dict[str, StageSettings]:
        """The settings of each stage, by the stage's name."""
        return {"rectifier": self.rectifier, "classifier": self.classifier, "augmenter": self.augmenter}
