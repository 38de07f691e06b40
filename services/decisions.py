"""Decisions over the protocol: which requests ask for them, with what limits, and how they are told."""

from typing import Any

import numpy as np
import orjson

from services.batching import Array, Columns
from services.stages import Operation
from stn_core.bundle import Manifest
from stn_core.confidence import DECISION_FILE
from stn_core.decision import REASONS, Limits, Reason
from stn_core.errors import InvalidInput, Unsupported, brief
from stn_core.wire import InferRequest

DECIDE = "decide"
_LIMITS = {
    "min_confidence": "Images rectified with less confidence are kept as they came",
    "min_scale": "The least scale a rectification may show an image at",
    "max_scale": "The largest scale a rectification may show an image at",
    "max_turn_deg": "The largest turn",
    "max_shear_deg": "The largest shear",
    "max_content_lost": "The largest share of an image's content that may end outside",
    "min_motion_px": "Less motion than this is none",
    "may_mirror": "Whether a rectification may mirror",
}
PARAMETERS = {DECIDE: "Decide, also where no limit is named: by the bundle's own", **_LIMITS}
"""The request parameters, ``decide`` and those of ``stn_core.decision.Limits``, and what each means in a few words."""
FLAGS = (DECIDE, "may_mirror")
"""Those that are true or false; the others are numbers."""
OUTPUTS = ("decision", "reason", "confidence", "theta_applied")


def decide_operation(request: InferRequest, manifest: Manifest, result_bytes: int) -> Operation | None:
    """The operation that rectifies where that does no harm, if ``request`` asks for it: so, by a limit or an output.

    InvalidInput for a limit that makes no sense; Unsupported if a confidence is asked for and the bundle has none.
    """
    changes = {name: request.parameters[name] for name in _LIMITS if name in request.parameters}
    decide = request.parameters.get(DECIDE, False)
    if not isinstance(decide, bool):
        raise InvalidInput(f"parameters.{DECIDE}: expected true or false, got {brief(decide)}")
    asked = {output.name for output in request.outputs or ()}
    if not (decide or changes or asked & set(OUTPUTS)):
        return None
    limits = Limits().changed(changes)
    if DECISION_FILE not in manifest.files and (limits.min_confidence > 0 or "confidence" in asked):
        raise Unsupported(
            f"bundle {manifest.name} has no confidence: stn calibrate --bundle FOLDER adds it; ask for no confidence, "
            "and for no min_confidence but 0"
        )
    # Only what differs from the bundle's own limits: those are for the stage to know.
    return Operation(DECIDE, (("limits", orjson.dumps(changes, option=orjson.OPT_SORT_KEYS).decode()),), result_bytes)


def operation_decides(operation: Operation) -> bool:
    return operation.name == DECIDE


def told(outputs: Columns) -> dict[str, Array]:
    """``outputs`` with reasons as words, and what was decided, as BYTES ``[N]``."""
    codes = outputs["reason"]
    words = {"reason": REASONS, "decision": ["rectified" if code == Reason.OK else "kept" for code in Reason]}
    return {**outputs, **{name: _texts(codes, of) for name, of in words.items()}}


def _texts(codes: Array, words: Any) -> Array:
    return np.array([word.encode() for word in words], object)[codes]
