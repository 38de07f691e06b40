"""Python client of the rectification service: straightens, classifies, warps and distorts batches of images.

    from stn_client import Client

    with Client("http://127.0.0.1:8000") as client:
        prediction = client.predict(images)  # uint8 [N, 28, 28]
        print(prediction.label, prediction.theta)

``AsyncClient`` is the same for asyncio. Needs neither TensorFlow nor Ray.
"""

from stn_client.async_client import AsyncClient
from stn_client.client import Client
from stn_client.errors import BadAnswer, ConnectionFailed, NotAllowed
from stn_client.files import picture_files
from stn_client.results import Augmentation, Classification, Prediction, Rectification, Row, Straightening, Warping
from stn_core.errors import (
    BadBody,
    BadRecipe,
    BadTensor,
    InvalidInput,
    Overloaded,
    StnError,
    TimedOut,
    TooLarge,
    Unavailable,
    UnknownModel,
    UnknownRecipe,
    Unsupported,
)

__all__ = [
    "AsyncClient",
    "Augmentation",
    "BadAnswer",
    "BadBody",
    "BadRecipe",
    "BadTensor",
    "Classification",
    "Client",
    "ConnectionFailed",
    "InvalidInput",
    "NotAllowed",
    "Overloaded",
    "Prediction",
    "Rectification",
    "Row",
    "StnError",
    "Straightening",
    "TimedOut",
    "TooLarge",
    "Unavailable",
    "UnknownModel",
    "UnknownRecipe",
    "Unsupported",
    "Warping",
    "picture_files",
]
