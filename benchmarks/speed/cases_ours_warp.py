"""Our side of the warps: the sampler in C, and the original system's for the distance to it."""

from __future__ import annotations

from functools import partial

from contestant import Case
from inputs import random_images, random_thetas
from shapes import WARPS


def ours(name: str) -> Case:
    from stn_core import native

    images, thetas, threads = random_images(*WARPS[name]), random_thetas(WARPS[name].shape[0]), native.cores()
    return lambda: native.warp(images, thetas, threads=threads), len(images)


def original(name: str) -> Case:
    import tensorflow as tf
    from original_sampler import sample

    images, thetas = random_images(*WARPS[name]), random_thetas(WARPS[name].shape[0])
    prepared, warp = (tf.constant(images), tf.constant(thetas)), tf.function(sample)
    return lambda: warp(*prepared).numpy(), len(images)


CASES = {f"ours {name}": partial(ours, name) for name in WARPS} | {"original digits": partial(original, "digits")}
