"""Gathers what the parts of a process counted: of a gateway, and of a stage in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.batching import MicroBatcher
from services.links import LocalLink
from services.metrics import Samples

if TYPE_CHECKING:
    from services.held import HeldStages
    from services.pipelines import Pipelines


def gateway_samples(pipelines: Pipelines) -> Samples:
    """What a gateway did, the stages of its process included."""
    samples = Samples()
    for (model, protocol, status), count in pipelines.requests.answered.items():
        samples.put("requests_total", (model, protocol, str(status)), count)
    for reason, count in pipelines.requests.refused.items():
        samples.put("refused_total", (reason,), count)
    for reason, count in pipelines.requests.files_refused.items():
        samples.put("files_refused_total", (reason,), count)
    for model, statistics in pipelines.statistics.items():
        samples.put("images_total", (model,), statistics.images)
        samples.put("queue_seconds", (model,), *statistics.queued_s)
        samples.put_histogram("request_seconds", (model,), statistics.request_s)
    for stage, images in pipelines.queued_images().items():
        samples.put("queued_images", (stage,), images)
    samples.put("bytes_in_flight", (), pipelines.budget.used_bytes)
    for name, values in pipelines.shadow.counts().items():
        samples.put(f"shadow_{name}", (), *values)
    samples.put("bundle_info", pipelines.bundle, 1)
    for name, link in pipelines.local_links().items():
        samples.add(work_samples(name, link))
    return samples


def stage_samples(name: str, held: HeldStages, batcher: MicroBatcher) -> Samples:
    """What a stage did in a process of its own, by all bundles that it holds or held."""
    samples = Samples()
    samples.add(held.counted)
    for link in held.links:
        samples.add(work_samples(name, link))
    samples.put("queued_images", (name,), batcher.queued_images)
    return samples


def work_samples(name: str, link: LocalLink) -> Samples:
    """What a stage did by one bundle."""
    samples = Samples()
    for operation, batches in link.work.batches.items():
        samples.put_histogram("batch_images", (name, operation), batches.images)
        samples.put_histogram("stage_seconds", (name, operation), batches.seconds)
    for labels, count in link.work.decided().items():
        samples.put("decisions_total", labels, count)
    for measure, values in link.work.drift.sums().items():
        samples.put(f"theta_{measure}", (), *values)
    return samples
