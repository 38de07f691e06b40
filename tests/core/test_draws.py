from __future__ import annotations

import numpy as np

from stn_core.draws import image_ids, normals, uniform


def test_draws_are_uniform_and_independent_between_seeds_and_slots() -> None:
    ids = np.arange(200_000, dtype=np.uint64)
    draws = [uniform(seed, ids, slot) for seed in (0, 1) for slot in (0, 1)]
    for u in draws:
        assert u.min() >= 0
        assert u.max() < 1
        counts = np.histogram(u, bins=20, range=(0, 1))[0]
        assert np.abs(counts - 10_000).max() < 500  # five standard deviations of a fair count
    assert np.abs(np.corrcoef(draws) - np.eye(4)).max() < 0.015


def test_golden_draws_stay_what_they_are() -> None:
    # A recipe and a seed must mean the same in every version: these values may never change.
    np.testing.assert_array_equal(
        uniform(7, np.array([0, 1, 2**63], np.uint64), 3),
        [0.04087708311556204, 0.19894957355025455, 0.32585579082309035],
    )


def test_normal_draws_are_normal_and_independent() -> None:
    draws = normals(np.arange(200_000, dtype=np.uint64), 4)
    np.testing.assert_allclose(draws.mean(axis=0), 0, atol=0.012)
    np.testing.assert_allclose(draws.std(axis=0), 1, atol=0.01)
    np.testing.assert_allclose((np.abs(draws) < 1).mean(axis=0), 0.6827, atol=0.006)
    np.testing.assert_allclose((np.abs(draws) < 2).mean(axis=0), 0.9545, atol=0.003)
    assert np.abs(np.corrcoef(draws.T) - np.eye(4)).max() < 0.015


def test_golden_normal_draws_stay_what_they_are() -> None:
    ids = np.array([0, 1, 2**63], np.uint64)
    np.testing.assert_allclose(
        normals(ids, 2),
        [
            [-0.10769912582177525, -0.4880350158487011],
            [-1.002383865019752, -0.12053326707944707],
            [-0.5713462766884301, 1.1846768761842108],
        ],
        rtol=1e-14,
    )
    np.testing.assert_array_equal(normals(ids, 1, first=1), normals(ids, 2)[:, 1:])


def test_the_id_belongs_to_the_content_not_to_the_place() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 1), dtype=np.uint8)
    ids, order = image_ids(images), np.random.default_rng(1).permutation(50)
    np.testing.assert_array_equal(image_ids(images[order]), ids[order])
    np.testing.assert_array_equal(np.concatenate([image_ids(images[:20]), image_ids(images[20:])]), ids)


def test_equal_images_have_ids_of_their_own() -> None:
    images = np.zeros((100, 4, 4, 1), np.uint8)
    images[50:] = 1
    ids = image_ids(images)
    assert len(set(ids.tolist())) == 100
    np.testing.assert_array_equal(image_ids(images[:10]), ids[:10])
    assert image_ids(images[:0]).shape == (0,)
