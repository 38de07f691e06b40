"""``decision.json``: the confidence and the limits of a bundle, as numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stn_core.confidence.features import EVIDENCE, FEATURES, Evidence
from stn_core.confidence.model import LogisticModel
from stn_core.decision import Limits
from stn_core.errors import BadBundle, shortened

DECISION_FILE = "decision.json"
MAX_DECISION_BYTES = 1 << 16

Side = Annotated[int, Field(ge=1, le=4096)]


class Calibration(BaseModel):
    """What the file holds: the limits, and the model of the confidence for each kind of evidence.

    ``original_size`` is that of the images before the recipe's canvas went around them, and ``tolerance_px`` is in
    their px. ``features`` are those the models were fitted on. ``measured`` says by what it was calibrated, and how
    well it does on images that it was not fitted on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1] = 1
    original_size: tuple[Side, Side]
    tolerance_px: Annotated[float, Field(gt=0, le=4096)]
    limits: Limits
    features: dict[Evidence, tuple[str, ...]] = FEATURES
    models: dict[Evidence, LogisticModel]
    measured: dict[str, Any] = {}

    @model_validator(mode="after")
    def _features_are_ours(self) -> Calibration:
        if self.features != FEATURES:
            raise ValueError("features: expected those of this version of the package; calibrate the bundle again")
        for evidence in EVIDENCE:
            if evidence not in self.models or len(self.models[evidence].mean) != len(FEATURES[evidence]):
                raise ValueError(f"models: expected one of {len(FEATURES[evidence])} features for {evidence}")
        return self


def parse_calibration(path: Path) -> Calibration:
    """The calibration in a file; BadBundle says what is wrong with it."""
    size = path.stat().st_size
    if size > MAX_DECISION_BYTES:
        raise BadBundle(f"{path}: expected at most {MAX_DECISION_BYTES} bytes, got {size}")
    try:
        return Calibration.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = shortened(".".join(map(str, first["loc"])), 60) or "calibration"
        raise BadBundle(f"{path}: {place}: {first['msg']}") from None
