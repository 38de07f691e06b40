"""``stn deploy`` and ``stn rollback`` where they cannot work: what is wrong is said before anything is asked for."""

from pathlib import Path

import pytest
from stn_command import Stn

from drills.bundles import broken_bundle
from services.processes import free_ports
from stn_core.bundle import find_bundle


def test_neither_a_config_nor_a_bundle(stn: Stn) -> None:
    done = stn("deploy")
    assert done.status == 2
    assert "expected a config, or --bundle" in done.stderr


def test_a_config_that_is_not_there(stn: Stn) -> None:
    done = stn("deploy", "nowhere.yaml")
    assert done.status == 2
    assert "expected cluster, embedded, local or a file, got 'nowhere.yaml'" in done.stderr


@pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")
def test_a_config_with_a_misspelt_key(stn: Stn, tmp_path: Path) -> None:
    application = "applications: [{import_path: 'services.app:build', args: {bundel: digits}}]"
    (tmp_path / "wrong.yaml").write_text(application)
    done = stn("deploy", "wrong.yaml")
    assert done.status == 2
    assert "applications.0.args.bundel" in done.stderr


def test_a_broken_bundle_is_refused_whether_a_service_runs_or_not(stn: Stn, tmp_path: Path) -> None:
    broken = broken_bundle(tmp_path / "broken", find_bundle("digits"))
    done = stn("deploy", "--bundle", broken)
    assert done.status == 2
    assert "classifier.onnx is not the file the manifest describes" in done.stderr


def test_no_service_at_the_port(stn: Stn) -> None:
    (port,) = free_ports(1)
    for words in (("deploy", "--bundle", "digits"), ("rollback",)):
        done = stn(*words, "--port", port)
        assert done.status == 3
        assert f"no service that this user started with `stn serve` is at port {port}" in done.stderr


def test_the_environment_of_a_node_has_no_secret_and_can_be_evaluated(stn: Stn, tmp_path: Path) -> None:
    done = stn("node-environment", "--folder", tmp_path / "of ray")
    assert done.status == 0
    lines = done.stdout.splitlines()
    assert "export RAY_USAGE_STATS_ENABLED=0" in lines
    assert not any("TOKEN" in line for line in lines)
    assert (tmp_path / "of ray").stat().st_mode & 0o077 == 0
    assert all(f"'{tmp_path}/of ray" in line for line in lines if "SOCKET_PATH" in line)
