"""Settings, deploy configs and the launcher's environment: nothing misspelt gets through."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from service_process import REPOSITORY

from services.deploy_config import read_deploy_config
from services.launcher import environment
from services.settings import Limits, Placement, Settings, StageSettings
from stn_core.errors import InvalidInput

# Ray's own models, which the check of the keys reads.
pytestmark = pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")

CONFIGS = sorted((REPOSITORY / "deploy").glob("*.yaml"))


def settings_of(path: Path) -> Settings:
    return Settings.model_validate(yaml.safe_load(path.read_text())["applications"][0]["args"])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_key_of_the_shipped_configs_is_known(path: Path) -> None:
    assert read_deploy_config(path)["applications"][0]["import_path"] == "services.app:build"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_deployments_of_a_shipped_config_are_those_the_application_makes(path: Path) -> None:
    from services.app import build

    config = read_deploy_config(path)["applications"][0]
    application = build(Settings.model_validate(config["args"]))
    made = {application._bound_deployment.name}
    made |= {bound._bound_deployment.name for bound in application._bound_deployment.init_args[1].values()}
    assert {deployment["name"] for deployment in config["deployments"]} == made


def test_the_smallest_set_of_replicas_fits_into_two_cpus_with_room_for_a_rolling_update() -> None:
    for path in CONFIGS:
        deployments = read_deploy_config(path)["applications"][0]["deployments"]
        shares = [deployment["ray_actor_options"]["num_cpus"] for deployment in deployments]
        assert sum(shares) + max(shares) <= 2


def test_placements() -> None:
    placements = {path.stem: [s.placement for s in settings_of(path).stages.values()] for path in CONFIGS}
    here, away = Placement.GATEWAY, Placement.DEPLOYMENT
    assert placements == {
        "local": [here, away, here],
        "embedded": [here, here, here],
        "cluster": [away, away, away],
    }


def change(config: dict[str, Any], path: str, value: Any) -> None:
    *way, last = path.split(".")
    place: Any = config
    for step in way:
        place = place[int(step)] if step.isdigit() else place[step]
    place[last] = value


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("applicatoins", []),
        ("http_options.prot", 1),
        ("applications.0.route_prefx", "/"),
        ("applications.0.args.bundel", "x"),
        ("applications.0.args.rectifier.batch_wait_s", 1),
        ("applications.0.args.limits.max_image", 1),
        ("applications.0.deployments.0.num_replica", 1),
        ("applications.0.deployments.0.max_ongoing_request", 1),
        ("applications.0.deployments.1.ray_actor_options.num_cpu", 1),
        ("applications.0.deployments.1.autoscaling_config", {"min_replica": 1}),
        ("applications.0.deployments.1.backpressure_config", {"retry_after": 1}),
        ("applications.0.args.rectifier.placement", "elsewhere"),
        ("applications.0.args.rectifier.max_batch_images", 0),
        ("applications.0.deployments.0.max_ongoing_requests", -1),
        ("grpc_options", {"prt": 9000}),
        ("grpc_options", {"grpc_servicer_functions": ["services.grpc_methods.add_to_sever"]}),
        ("grpc_options", {"grpc_servicer_functions": ["nowhere"]}),
    ],
)
def test_a_misspelt_key_or_a_bad_value_is_named(tmp_path: Path, where: str, value: Any) -> None:
    config = yaml.safe_load((REPOSITORY / "deploy/local.yaml").read_text())
    change(config, where, value)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(InvalidInput) as caught:
        read_deploy_config(path)
    assert where.rpartition(".")[2] in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read"),
        (b"[1", "YAML"),
        (b"- 1", "mapping"),
        (b"\xff\xfe", "expected YAML in UTF-8"),
        (b"[" * 100_000, "YAML"),
        (b"applications: 5", "expected a list of at least one application, got int"),
        (b"applications: []", "expected a list of at least one application, got an empty one"),
        (b"http_options: {port: 1}", "expected a list of at least one application, got NoneType"),
        (b"applications: [{import_path: 'a:b', deployments: [5]}]", "another type than Ray Serve expects"),
    ],
)
def test_a_config_that_is_none(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInput, match=expected):
        read_deploy_config(path)


def test_limits_that_no_request_could_meet_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"rectifier.max_queued_images \(10\) must hold one request"):
        Settings(rectifier=StageSettings(max_queued_images=10))
    with pytest.raises(ValidationError, match="max_bytes_in_flight"):
        Settings.model_validate({"limits": {"max_bytes_in_flight": 1000}})


def test_a_side_that_opencv_cannot_distort_is_no_limit() -> None:
    assert Limits(max_side_px=32766).max_side_px == 32766
    with pytest.raises(ValidationError, match="max_side_px"):
        Limits(max_side_px=32767)


def test_the_launchers_environment(tmp_path: Path) -> None:
    made = environment({}, str(tmp_path), haproxy=True)
    assert made["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert made["RAY_AUTH_MODE"] == "token"
    assert len(made["RAY_AUTH_TOKEN"]) == 64
    assert len({value for name, value in made.items() if name.endswith("_PORT")}) == 4
    assert made["RAY_SERVE_HAPROXY_SOCKET_PATH"].startswith(str(tmp_path))


def test_the_users_own_environment_wins(tmp_path: Path) -> None:
    own = {"RAY_AUTH_TOKEN_PATH": "x", "RAY_SERVE_HAPROXY_STATS_PORT": "8404", "TF_CPP_MIN_LOG_LEVEL": "0"}
    made = environment(own, str(tmp_path), haproxy=True)
    assert not made.keys() & {*own, "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"}
    assert "RAY_SERVE_ENABLE_HA_PROXY" not in environment(own, str(tmp_path), haproxy=False)
