"""What clients ask about the models beside their inference, whatever protocol they ask by; and what is not served."""

from typing import Any, NoReturn

from services.pipelines import Pipelines
from services.protocol import find_model
from stn_core.errors import Unavailable, Unsupported

NOT_TRACED = "requests are not traced; the models' statistics have counts and times, the service's log its errors"
LOG_IS_FIXED = "what is logged is not changed by requests; set logging_config in the config, and deploy it again"


def no_shared_memory(kind: str) -> str:
    """Why memory of a ``kind`` (system, cuda) is not shared, and what to do instead."""
    return f"{kind} shared memory is not served; send and take tensors as binary data"


async def index(pipelines: Pipelines, only_ready: bool) -> list[dict[str, str]]:
    """Name, version, state and reason of each model."""
    unready = await pipelines.unready_stages()
    entries = []
    for spec in pipelines.specs.values():
        missing = [stage for stage in spec.stages if stage in unready]
        if missing and only_ready:
            continue
        state = "UNAVAILABLE" if missing else "READY"
        reason = f"not ready: the {' and the '.join(missing)}" if missing else ""
        entries.append({"name": spec.name, "version": spec.version, "state": state, "reason": reason})
    return entries


async def check_loaded(pipelines: Pipelines, model: str, as_it_is: bool) -> None:
    """Unavailable if a model is not ready; Unsupported if it is to be loaded other than ``as_it_is``."""
    spec = find_model(pipelines.specs, model, None)
    if not as_it_is:
        raise Unsupported(
            f"model {spec.name} comes from the service's bundle, not from a request; load it without parameters, "
            "or deploy the service with another bundle"
        )
    unready = await pipelines.unready_stages(spec.stages)
    if unready:
        raise Unavailable(f"model {spec.name}: the {' and the '.join(unready)} is not ready yet; try again soon")


def refuse_unload(pipelines: Pipelines, model: str) -> NoReturn:
    spec = find_model(pipelines.specs, model, None)
    raise Unsupported(
        f"model {spec.name} cannot be unloaded while the service runs; stop the service, or deploy it again with "
        "another bundle"
    )


def statistics(pipelines: Pipelines, model: str | None, version: str | None) -> dict[str, Any]:
    """What one model has done, or all of them where ``model`` is None."""
    if model is None:
        counted = list(pipelines.statistics.values())
    else:
        counted = [pipelines.statistics[find_model(pipelines.specs, model, version).name]]
    return {"model_stats": [one.document() for one in counted]}
