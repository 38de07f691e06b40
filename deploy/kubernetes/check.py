"""Runs the RayService's container as KubeRay would, without Kubernetes: one node that is head and worker at once.

    sudo python deploy/container/check.py --base /var/tmp/base     # builds the image's root
    sudo python deploy/kubernetes/check.py

The root that deploy/container/check.py built is started with the pod's environment, user, read-only root and volumes,
and with the start command that KubeRay makes of ``rayStartParams``; ``serveConfigV2`` is handed to Serve as the
operator does it. Then the probes must pass, a prediction must be right, and Ray's port must refuse who has no token.
Needs root and kubectl.
"""

import json
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "container"))
import check as container

HERE = Path(__file__).parent
FOLDER = Path("/var/tmp/stn-container")
READY_S = 400.0
_DEPLOY = """
import json, os, sys, urllib.request, yaml
request = urllib.request.Request(
    "http://localhost:8265/api/serve/applications/",
    json.dumps(yaml.safe_load(sys.argv[1])).encode(),
    {"content-type": "application/json", "authorization": "Bearer " + sys.argv[2]},
    method="PUT",
)
print(urllib.request.urlopen(request, timeout=60).status)
"""
_STATUS = """
import json, sys, urllib.request
request = urllib.request.Request(
    "http://localhost:8265/api/serve/applications/", headers={"authorization": "Bearer " + sys.argv[1]}
)
print({name: one["status"] for name, one in json.load(urllib.request.urlopen(request))["applications"].items()})
"""
_UNASKED = """
import urllib.error, urllib.request
try:
    print(urllib.request.urlopen("http://localhost:8265/api/serve/applications/").status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


def rendered() -> list[dict[str, Any]]:
    """What kustomize makes of the base."""
    done = subprocess.run(["kubectl", "kustomize", str(HERE / "base")], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


def start_command(parameters: dict[str, str]) -> str:
    """What KubeRay starts the head with."""
    options = " ".join(f"--{name}={said}" for name, said in parameters.items())
    return f"ulimit -n 65536; ray start --head --block --dashboard-agent-listen-port=52365 {options}"


def main() -> int:
    documents = rendered()
    cluster = next(one for one in documents if one["kind"] == "RayService")["spec"]
    variables = next(one for one in documents if one["kind"] == "ConfigMap")["data"]
    head, worker = (
        cluster["rayClusterConfig"]["headGroupSpec"],
        cluster["rayClusterConfig"]["workerGroupSpecs"][0],
    )
    root, environment, settings = json.loads((FOLDER / "stage.json").read_text())
    token = secrets.token_hex(32)
    environment |= variables | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    # One node for all replicas, so with as many logical CPUs as two workers have and more.
    command = start_command({**head["rayStartParams"], "num-cpus": "6"})
    settings |= {"ENTRYPOINT": json.dumps(["/bin/bash", "-c", "--"]), "CMD": json.dumps([command])}
    stage = container.Stage(Path(root), environment, settings)
    of_head, of_worker = (each["template"]["spec"]["containers"][0] for each in (head, worker))
    runner = container.start(stage)
    found: dict[str, Any] = {}
    try:
        pid = container._first_process(runner)
        alive = of_head["livenessProbe"]["exec"]["command"]
        found["raylet_alive_after_s"] = _until(stage, pid, alive, lambda done: done.returncode == 0)
        deployed = container._entered(stage, pid, ["python", "-c", _DEPLOY, cluster["serveConfigV2"], token])
        found["config_taken_with"] = deployed.stdout.strip() or deployed.stderr[-500:]
        asked = ["python", "-c", _STATUS, token]
        found["running_after_s"] = _until(stage, pid, asked, lambda done: "'stn': 'RUNNING'" in done.stdout)
        probe = of_worker["readinessProbe"]["exec"]["command"]
        found["worker_ready_after_s"] = _until(stage, pid, probe, lambda done: done.returncode == 0)
        answered = container._entered(stage, pid, ["python", "-c", container._QUESTION])
        found["answers"] = json.loads(answered.stdout) if answered.returncode == 0 else answered.stderr[-500:]
        found["without_token"] = container._entered(stage, pid, ["python", "-c", _UNASKED]).stdout.strip()
    finally:
        runner.kill()
        runner.wait()
    right = {"labels": list(range(10)), "moved": True}
    wrong = [name for name, said in (("answers", right), ("config_taken_with", "200")) if found.get(name) != said]
    wrong += [] if found.get("without_token") in ("401", "403") else ["without_token"]
    (HERE / "check.json").write_text(json.dumps({"failures": wrong, **found}, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    return len(wrong) > 0


def _until(stage: Any, pid: int, command: list[str], good: Any) -> float:
    """Seconds until ``command`` inside the container gives a ``good`` end."""
    started_s = time.monotonic()
    while not good(done := container._entered(stage, pid, command)):
        if time.monotonic() - started_s > READY_S:
            raise SystemExit(f"{command[:3]}: {done.stdout[-300:]} {done.stderr[-600:]}")
        time.sleep(2)
    return round(time.monotonic() - started_s, 1)


if __name__ == "__main__":
    sys.exit(main())
