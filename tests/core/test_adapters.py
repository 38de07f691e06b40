"""Distortions for a training loop of one's own: those of the stream, with the theta that made them."""

from __future__ import annotations

from itertools import islice

import numpy as np

from stn_core.adapters import distortions
from stn_core.datasets import Dataset
from stn_core.native import warp
from stn_core.recipes import load_recipe


def test_batches_are_distorted_by_their_theta_and_follow_from_the_seed(digits: Dataset) -> None:
    images, labels = digits.images[:50], digits.labels[:50]
    recipe = load_recipe("tutorial-mix")
    made = distortions(images, labels, recipe, 16, seed=3)
    assert made.element_spec[0].shape == (16, 28, 28, 1)
    first = list(islice(made, 3))
    again = list(islice(distortions(images, labels, recipe, 16, seed=3, skip=2), 1))
    for one, same in zip(first[2], again[0], strict=True):
        assert np.array_equal(one, same)
    assert not np.array_equal(first[0][2], first[1][2])
    sources = {label: images[labels == label] / np.float32(255) for label in range(10)}
    for image, label, theta in zip(*(part.numpy() for part in first[0]), strict=True):
        candidates = sources[int(label)]
        warped = warp(candidates, np.repeat(theta[None].astype(float), len(candidates), axis=0))
        assert np.abs(warped - image).max(axis=(1, 2, 3)).min() < 1e-4


def test_a_share_stays_as_it_is_and_families_keep_their_shape(digits: Dataset) -> None:
    images, labels, theta = next(
        iter(distortions(digits.images[:20], digits.labels[:20], load_recipe("perspective"), 8, 0, original_share=0.5))
    )
    assert (images.shape, labels.shape, theta.shape) == ((8, 28, 28, 1), (8,), (8, 3, 3))
    straight = np.abs(theta.numpy() - np.eye(3)).max(axis=(1, 2)) == 0
    assert straight.sum() == 4
