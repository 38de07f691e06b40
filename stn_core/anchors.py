"""Published and re-measured figures of the original system, which ``stn reproduce`` sets its own beside."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Anchor:
    """One row of the original system as somebody reported it; None where the source gives no figure."""

    original: float | None
    distorted: float | None
    seconds: float | None = None


PUBLISHED_BY = "the tutorial itself (full MNIST, 5 epochs)"
PUBLISHED = {
    "fc": Anchor(0.9767, 0.8388),
    "cnn": Anchor(0.9872, 0.9367),
    "stn+cnn": Anchor(0.99, 0.97),
}

MEASURED_BY = (
    "the tutorial's own code run again: full MNIST, 5 epochs, batches of 64; 2 x86-64 cores, no GPU, Python 3.11, "
    "TensorFlow 2.21, November 2026"
)
MEASURED = {
    "fc": Anchor(0.9750, 0.8536, 20),
    "cnn": Anchor(0.9871, 0.9405, 43),
    "stn+fc": Anchor(0.9887, 0.9703, 209),
    "stn+cnn": Anchor(0.9894, 0.9740, 326),
}
MEASURED_CORNER_ERROR_PX = {"no transformer": 7.1, "stn+cnn": 5.3}

CLUTTERED = {
    "AlexHex7/Spatial-Transformer-Networks_pytorch, 200 epochs": "91.5-92.1 % without a transformer, 97.4-97.6 % with",
    "xeonqq/spatial_transformer_network": "75.2 % FC, 91.4 % STN + FC",
}
