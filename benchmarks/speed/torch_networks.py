"""The same networks and the same transformer in PyTorch, in eager mode."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample


class Straightened(nn.Module):  # type: ignore[misc]
    """A classifier behind a transformer: ``images [N, 1, 28, 28]`` to logits."""

    def __init__(self, localization: nn.Module) -> None:
        super().__init__()
        self.localization, self.classifier = localization, cnn()

    def forward(self, images: Tensor) -> Any:
        theta = self.localization(images).view(-1, 2, 3)
        grid = affine_grid(theta, list(images.shape), align_corners=False)
        return self.classifier(grid_sample(images, grid, align_corners=False))


def tutorial_localization() -> nn.Module:
    """``stn_core``'s ``tutorial``, 83,830 numbers with the last layer's, which starts at the identity."""
    return nn.Sequential(
        *(nn.Conv2d(1, 14, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(14, 32, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(512, 120), nn.ReLU(), nn.Dropout(0.2)),
        *(nn.Linear(120, 84), nn.ReLU(), _theta(84)),
    )


def fast_localization() -> nn.Module:
    """``stn_core``'s ``fast`` as it is run: batch normalization is part of the convolutions."""
    return nn.Sequential(
        *(nn.Conv2d(1, 24, 5, stride=2, padding=2), nn.ReLU()),
        *(nn.Conv2d(24, 48, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(48, 64, 3, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(3136, 128), nn.ReLU()),
        *(nn.Linear(128, 64), nn.ReLU(), _theta(64)),
    )


def cnn() -> nn.Module:
    """``stn_core``'s classifier ``cnn``, 60,074 numbers."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU()),
        *(nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def _theta(features: int) -> nn.Module:
    layer = nn.Linear(features, 6)
    nn.init.zeros_(layer.weight)
    layer.bias.data.copy_(layer.bias.new_tensor([1, 0, 0, 0, 1, 0]))
    return layer
