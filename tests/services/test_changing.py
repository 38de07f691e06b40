"""A real service is changed while it runs: another bundle, a broken one, other replicas, and back."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from http_calls import binary, outputs
from service_process import REPOSITORY, launched, processes_marked, wait_for_url

from drills.bundles import resigned, second_bundle
from services.changing import bundles, cpus_of, pinned
from services.control import ask
from stn_core.engine import Engine
from stn_core.errors import InvalidInput, StnError

Digits = tuple[np.ndarray, np.ndarray]
CONFIG: dict[str, Any] = yaml.safe_load((REPOSITORY / "deploy/local.yaml").read_text())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URL and the mark of a service with deploy/local.yaml."""
    folder = tmp_path_factory.mktemp("service")
    with launched("deploy/local.yaml", folder / "log") as (process, _, mark):
        yield wait_for_url(process, folder / "log"), mark


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def deploy(url: str, **what: Any) -> str:
    return ask(port_of(url), {"do": "deploy", "patience_s": 240, **what})


def predicted(url: str, images: np.ndarray) -> Any:
    return outputs(httpx.post(f"{url}/v2/models/predict/infer", **binary({"images": images}), timeout=60))


@pytest.mark.service
def test_another_bundle_a_broken_one_and_back(
    running: tuple[str, str], tmp_path: Path, digits: Digits, engine: Engine
) -> None:
    url, images = running[0], digits[0][:30]
    other = second_bundle(tmp_path / "other")
    assert "version 1002" in deploy(url, bundle=str(other))
    answer = predicted(url, images)
    assert answer.model_version == "1002"
    rectified, theta = Engine.load(other).rectify(images)
    np.testing.assert_allclose(answer.outputs["theta"], theta, atol=1e-4)
    probabilities = Engine.load(other).classify(rectified)[1]
    np.testing.assert_allclose(answer.outputs["probabilities"], probabilities, atol=1e-2)
    assert httpx.get(f"{url}/v2/models/predict").json()["versions"] == ["1002"]
    assert httpx.get(f"{url}/v2").json()["bundle"]["version"] == "1002"

    # Its sha256s are right, so that only who loads it finds it out: the replicas, which go on with what they have.
    broken = second_bundle(tmp_path / "broken")
    (broken / "classifier.onnx").write_bytes(b"no network")
    resigned(broken, "1003")
    with pytest.raises(StnError, match="taken back"):
        deploy(url, bundle=str(broken))
    assert predicted(url, images).model_version == "1002"
    assert "refused" not in httpx.get(f"{url}/v2").json()

    assert f"version {engine.manifest.version} " in ask(port_of(url), {"do": "rollback", "patience_s": 240})
    answer = predicted(url, images)
    assert answer.model_version == engine.manifest.version
    np.testing.assert_allclose(answer.outputs["theta"], engine.localize(images), atol=1e-4)
    with pytest.raises(InvalidInput, match="no way back"):
        ask(port_of(url), {"do": "rollback", "patience_s": 240})


@pytest.mark.service
def test_replicas_for_which_ray_has_no_room_are_refused_at_once(running: tuple[str, str], tmp_path: Path) -> None:
    config = yaml.safe_load((REPOSITORY / "deploy/local.yaml").read_text())
    config["applications"][0]["deployments"][0]["num_replicas"] = 100
    path = tmp_path / "many.yaml"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(InvalidInput, match="ask for 60.4 of Ray's CPUs"):
        deploy(running[0], config=str(path))


@pytest.mark.service
def test_haproxy_that_was_killed_is_there_again_with_all_it_knew(running: tuple[str, str], digits: Digits) -> None:
    url, mark = running
    predicted(url, digits[0][:1])
    doomed = [pid for pid in processes_marked(mark) if "haproxy" in Path(f"/proc/{pid}/exe").resolve().name]
    assert doomed
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):  # one that another has just taken the place of
            os.kill(pid, signal.SIGKILL)
    deadline_s = time.monotonic() + 60
    while True:
        try:
            answer = httpx.post(f"{url}/v2/models/predict/infer", **binary({"images": digits[0][:1]}), timeout=60)
            break
        except httpx.TransportError:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
    assert answer.status_code == 200, f"the first that listens has to know what there is to serve: {answer.text}"


def test_a_config_is_pinned_to_its_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray tells replicas nothing of a user_config that is gone, and so the first one must be there already."""
    assert bundles(pinned(CONFIG)) == ["digits"]
    other = str(second_bundle(tmp_path / "other"))
    assert bundles(pinned(pinned(CONFIG), other)) == [other]
    assert bundles(pinned(pinned(CONFIG, other))) == [other]
    assert CONFIG["applications"][0]["deployments"][0].get("user_config") is None, "the given one stays as it is"
    without = {"applications": [{"import_path": "services.app:build"}]}
    monkeypatch.chdir(tmp_path)
    assert bundles(pinned(CONFIG, "other")) == [other], "replicas run in folders of their own"
    assert [one["name"] for one in pinned(without)["applications"][0]["deployments"]] == ["Rectifier"]


def test_cpus_are_those_of_all_replicas() -> None:
    assert cpus_of(CONFIG) == pytest.approx(1.0)
