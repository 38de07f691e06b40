"""SpatialTransformer: a ``tf_keras`` layer that straightens images in front of any network."""

from __future__ import annotations

from typing import Any

import tf_keras

from stn_core.geometry import Size
from stn_core.localization import theta_of
from stn_core.sampler import FillMode, warp


@tf_keras.utils.register_keras_serializable(package="stn_core")
class SpatialTransformer(tf_keras.layers.Layer):  # type: ignore[misc]
    """Images ``[B, H, W, C]`` warped by the theta that its localization network predicts for each.

    ``localization`` is any Keras layer or model that maps the images to the numbers of theta, row by row: six an image
    for an affine theta, nine for a homography, two for each control point of a thin-plate spline.
    ``output_size`` (height, width) defaults to the input's. Saved with its localization network inside.
    """

    def __init__(
        self,
        localization: Any,
        output_size: Size | None = None,
        fill_mode: FillMode = "constant",
        fill_value: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.localization = localization
        self.output_size = None if output_size is None else (int(output_size[0]), int(output_size[1]))
        self.fill_mode = fill_mode
        self.fill_value = fill_value

    def localize(self, images: Any, training: bool | None = None) -> Any:
        """The theta predicted for each image: ``[B, 2, 3]``, ``[B, 3, 3]`` or ``[B, K², 2]``."""
        return theta_of(self.localization(images, training=training))

    def call(self, images: Any, training: bool | None = None) -> Any:
        theta = self.localize(images, training=training)
        return warp(images, theta, self.output_size, self.fill_mode, self.fill_value)

    def compute_output_shape(self, input_shape: Any) -> Any:
        height, width = self.output_size or tuple(input_shape[1:3])
        return (input_shape[0], height, width, input_shape[3])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "localization": tf_keras.saving.serialize_keras_object(self.localization),
            "output_size": self.output_size,
            "fill_mode": self.fill_mode,
            "fill_value": self.fill_value,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SpatialTransformer:
        localization = tf_keras.saving.deserialize_keras_object(config["localization"])
        return cls(**{**config, "localization": localization})
