"""Several bundles in one process: each batch is answered by the one it names, and by no other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drills.bundles import resigned, second_bundle
from services.batching import MicroBatcher
from services.collecting import stage_samples
from services.held import HeldStages, OfBundle, identify, wanted_bundle
from services.settings import Settings
from services.stages import Operation
from stn_core.engine import Engine
from stn_core.errors import BadBundle

LOCALIZE = Operation("localize")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return second_bundle(tmp_path / "other")


async def test_batches_of_two_bundles_at_once_are_never_mixed(
    other: Path, engine: Any, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    import asyncio

    images, settings = digits[0][:40], Settings()
    held = HeldStages("rectifier", settings)
    await held.load_first()
    batcher = MicroBatcher(held.call, settings.rectifier)

    class Stage:
        async def call(self, operation: Operation, columns: Any) -> Any:
            return await batcher.submit(operation, columns)

        async def ready(self) -> bool:
            return True

    links = [OfBundle(Stage(), identify(source)) for source in ("digits", str(other))]
    answers = await asyncio.gather(
        *(links[index % 2].call(LOCALIZE, {"images": images[index : index + 1]}) for index in range(40))
    )
    theta = np.concatenate([answer["theta"] for answer in answers])
    right = engine.localize(images), Engine.load(other).localize(images)
    np.testing.assert_allclose(theta[::2], right[0][::2], atol=1e-4)
    np.testing.assert_allclose(theta[1::2], right[1][1::2], atol=1e-4)
    assert await links[1].ready()


async def test_without_a_name_the_settings_bundle_answers(engine: Any, digits: tuple[np.ndarray, np.ndarray]) -> None:
    held = HeldStages("rectifier", Settings())
    await held.load_first()
    theta = (await held.call(LOCALIZE, {"images": digits[0][:2]}))["theta"]
    np.testing.assert_allclose(theta, engine.localize(digits[0][:2]), atol=1e-4)


async def test_files_that_changed_since_are_not_taken_for_the_bundle_that_is_meant(other: Path) -> None:
    held, meant = HeldStages("classifier", Settings()), identify(str(other))
    resigned(other, "3")
    with pytest.raises(BadBundle, match="have changed since it was deployed"):
        await held.link(meant)
    assert await held.link(identify(str(other)))


async def test_what_was_asked_for_last_is_kept(tmp_path: Path) -> None:
    held = HeldStages("augmenter", Settings())
    bundles = [identify(str(second_bundle(tmp_path / str(number), str(number)))) for number in range(4)]
    links = [await held.link(bundle) for bundle in bundles]
    assert await held.link(bundles[1]) is links[1]
    assert await held.link(bundles[0]) is not links[0], "it should have been the one to go"


async def test_what_a_bundle_did_is_counted_when_it_is_held_no_longer(
    tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    held = HeldStages("rectifier", Settings())
    batcher = MicroBatcher(held.call, Settings().rectifier)
    bundles = [identify(str(second_bundle(tmp_path / str(number), str(number)))) for number in range(5)]
    for count, bundle in enumerate(bundles, 1):
        await held.call(LOCALIZE._replace(bundle=bundle), {"images": digits[0][:count]})
    assert len(held.links) < len(bundles)
    figures = stage_samples("rectifier", held, batcher).figures
    images, *batches = figures["batch_images"]["rectifier", "localize"]
    assert (images, sum(batches)) == (1 + 2 + 3 + 4 + 5, 5)


def test_user_config_goes_before_the_settings() -> None:
    assert wanted_bundle(None, Settings(bundle="a")) == "a"
    assert wanted_bundle({}, Settings(bundle="a")) == "a"
    assert wanted_bundle({"bundle": "b"}, Settings(bundle="a")) == "b"
