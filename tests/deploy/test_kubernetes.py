"""The manifests: what kustomize makes of them is what the operator knows, and what docs/deploying.md promises."""

import copy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from services.deploy_config import read_deploy_config
from services.launcher import _COMMON_ENVIRONMENT
from services.ports import RAYS_NETWORK

DEPLOY = Path(__file__).parents[2] / "deploy"
BASE, PRODUCTION = DEPLOY / "kubernetes" / "base", DEPLOY / "kubernetes" / "overlays" / "production"
SCHEMA = yaml.safe_load((Path(__file__).parent / "rayservice_schema.yaml").read_text())
NAME = {"app.kubernetes.io/name": "stn-rectify"}
Documents = list[dict[str, Any]]


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


def gathered(folder: Path) -> Documents:
    """The documents of a kustomization and those below it, its JSON patches applied; names of images left alone."""
    kustomization = read(folder / "kustomization.yaml")
    documents: Documents = []
    for resource in kustomization["resources"]:
        path = (folder / resource).resolve()
        documents += gathered(path) if path.is_dir() else [read(path)]
    for patch in kustomization.get("patches", ()):
        target = patch["target"]
        (patched,) = [d for d in documents if (d["kind"], d["metadata"]["name"]) == (target["kind"], target["name"])]
        for change in read(folder / patch["path"]):
            apply(patched, change)
    return documents


def apply(document: Any, change: dict[str, Any]) -> None:
    *way, last = change["path"].strip("/").split("/")
    for step in way:
        document = document[int(step)] if isinstance(document, list) else document[step]
    assert change["op"] in ("add", "replace")
    assert (last in document) == (change["op"] == "replace"), change["path"]
    document[last] = change["value"]


@pytest.fixture(params=[BASE, PRODUCTION], ids=["base", "production"])
def documents(request: pytest.FixtureRequest) -> Documents:
    return copy.deepcopy(gathered(request.param))


def of_kind(documents: Documents, kind: str) -> dict[str, Any]:
    return next(document for document in documents if document["kind"] == kind)


def cluster(documents: Documents) -> dict[str, Any]:
    found: dict[str, Any] = of_kind(documents, "RayService")["spec"]["rayClusterConfig"]
    return found


def templates(documents: Documents) -> Iterator[dict[str, Any]]:
    yield cluster(documents)["headGroupSpec"]["template"]
    for group in cluster(documents)["workerGroupSpecs"]:
        yield group["template"]


def problems(document: dict[str, Any]) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(SCHEMA).iter_errors(document)]


def test_the_operator_knows_every_field(documents: Documents) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert problems(of_kind(documents, "RayService")) == []


def test_a_field_that_the_operator_does_not_know_is_seen(documents: Documents) -> None:
    service = of_kind(documents, "RayService")
    service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]["envForm"] = []
    service["spec"]["rayClusterConfig"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    assert len(problems(service)) == 2


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl, which has kustomize")
@pytest.mark.parametrize("folder", [BASE, PRODUCTION], ids=["base", "production"])
def test_kustomize_makes_the_same_of_it(folder: Path) -> None:
    made = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True).stdout
    rendered = list(yaml.safe_load_all(made))
    ours = {(document["kind"], document["metadata"]["name"]): document for document in gathered(folder)}
    assert {(document["kind"], document["metadata"]["name"]) for document in rendered} == set(ours)
    for document in rendered:
        assert document["metadata"]["labels"].items() >= NAME.items()
        assert document["kind"] == "Namespace" or document["metadata"]["namespace"] == "stn-rectify"
    service = of_kind(rendered, "RayService")
    assert problems(service) == []
    for template in templates(rendered):
        (container,) = template["spec"]["containers"]
        assert container["image"].rpartition("/")[2].startswith("stn-rectify:")
        container["image"] = "stn-rectify"
    assert service["spec"] == of_kind(list(ours.values()), "RayService")["spec"]


@pytest.mark.parametrize("folder", [BASE, PRODUCTION], ids=["base", "production"])
def test_kubernetes_knows_every_field(folder: Path) -> None:
    """With ``pip install kubernetes-validate``, which brings the schemas of Kubernetes' own kinds."""
    validate = pytest.importorskip("kubernetes_validate")
    documents = gathered(folder)
    pods = [
        {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": one}
        for one in templates(documents)
    ]
    for document in [*documents, *pods]:
        if document["kind"] not in ("RayService", "PodMonitor"):
            validate.validate(document, validate.latest_version(), strict=True)


def test_pods_run_as_a_user_with_a_root_that_nobody_writes_to(documents: Documents) -> None:
    for template in templates(documents):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"]}
        assert volumes[mounts["/dev/shm"]]["medium"] == "Memory"
        assert "/tmp" in mounts
        assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
        assert {"livenessProbe", "readinessProbe"} <= set(container)


def test_ray_asks_for_a_token_and_every_node_has_the_same_environment(documents: Documents) -> None:
    assert cluster(documents)["authOptions"] == {"mode": "token"}
    environment = of_kind(documents, "ConfigMap")
    of_many = {name: said for name, said in _COMMON_ENVIRONMENT.items() if name != RAYS_NETWORK}  # which is one machine
    assert environment["data"] == of_many
    for template in templates(documents):
        (container,) = template["spec"]["containers"]
        assert container["envFrom"] == [{"configMapRef": {"name": environment["metadata"]["name"]}}]


def test_what_selects_pods_selects_ours(documents: Documents) -> None:
    for template in templates(documents):
        assert template["metadata"]["labels"] == NAME
    budget = of_kind(documents, "PodDisruptionBudget")
    assert budget["spec"]["selector"]["matchLabels"] == {**NAME, "ray.io/node-type": "worker"}
    policy = of_kind(documents, "NetworkPolicy")
    assert policy["spec"]["podSelector"]["matchLabels"] == NAME
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    open_ports = {port["port"] for rule in policy["spec"]["ingress"] for port in rule.get("ports", ())}
    assert open_ports == {8000, 8080, 8265}
    assert all(rule["from"] for rule in policy["spec"]["ingress"])
    monitors = [document for document in documents if document["kind"] == "PodMonitor"]
    for monitor in monitors:
        names = {
            port["name"] for template in templates(documents) for port in template["spec"]["containers"][0]["ports"]
        }
        assert {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]} <= names


def test_serve_gets_a_config_that_our_own_reader_takes(documents: Documents, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(of_kind(documents, "RayService")["spec"]["serveConfigV2"])
    served, shipped = read_deploy_config(config), read_deploy_config(DEPLOY / "cluster.yaml")
    assert served["http_options"] == {**shipped["http_options"], "host": "0.0.0.0"}
    assert served["proxy_location"] == "EveryNode"
    (ours,), (theirs,) = served["applications"], shipped["applications"]
    assert ours["args"].pop("engine") == "onnx"
    for stage in ("rectifier", "classifier", "augmenter", "limits"):
        assert ours["args"][stage].items() <= theirs["args"][stage].items()
    assert [each["name"] for each in ours["deployments"]] == [each["name"] for each in theirs["deployments"]]


def test_the_least_replicas_fit_the_least_workers_and_one_may_be_lost(documents: Documents) -> None:
    (application,) = yaml.safe_load(of_kind(documents, "RayService")["spec"]["serveConfigV2"])["applications"]
    asked = sum(
        each["autoscaling_config"]["min_replicas"] * each["ray_actor_options"]["num_cpus"]
        for each in application["deployments"]
    )
    (workers,) = cluster(documents)["workerGroupSpecs"]
    cpus = int(workers["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    assert asked <= workers["minReplicas"] * cpus
    assert workers["minReplicas"] >= 2
    most = sum(each["ray_actor_options"]["num_cpus"] for each in application["deployments"])
    assert most <= (workers["minReplicas"] - 1) * cpus
