"""How sure a bundle is that rectification does an image no harm.

*No harm*: the middle of the rectified image is within a tolerance of its place, or at most a quarter of a px farther
from it than in the image as it came. A logistic model over features of one image gives the probability of that. Its
numbers are a bundle's ``decision.json``; ``confidence.calibrating`` fits them, and loads what that takes. The rest is
NumPy.
"""

from stn_core.confidence.features import EVIDENCE, FEATURES, Evidence, reading_features, theta_features
from stn_core.confidence.file import DECISION_FILE, Calibration, parse_calibration
from stn_core.confidence.model import LogisticModel, fit_model

__all__ = [
    "DECISION_FILE",
    "EVIDENCE",
    "FEATURES",
    "Calibration",
    "Evidence",
    "LogisticModel",
    "fit_model",
    "parse_calibration",
    "reading_features",
    "theta_features",
]
