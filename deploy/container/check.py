"""Does what the Dockerfile says without a container engine, and runs what comes of it as a container would.

    debootstrap --variant=minbase bookworm /var/tmp/base      # what debian:bookworm-slim is made of
    sudo python deploy/container/check.py --base /var/tmp/base

Each stage is a copy of the base, its RUN steps are executed in it, its COPY steps heed .dockerignore. The last one
is then started by its ENTRYPOINT as process 1 of namespaces of its own (mounts, processes, IPC, network), as its USER,
with a read-only root and no capability; it must get healthy, answer, and end on SIGTERM with exit status 0. Needs root.
``--bind`` shows a file or folder of this machine, to be read only, to the RUN steps: certificates and settings of pip,
where the network needs any.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from dockerfile_parse import DockerfileParser

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = Path(__file__).parent / "Dockerfile"
RESULT = Path(__file__).parent / "check.json"
HEALTHY_S, STOPPED_S = 300.0, 60.0
_SHM_BYTES = 512 * 1024**2
_QUESTION = """
import json
from importlib import resources
import numpy as np
from PIL import Image
from stn_client import Client
digits = np.stack(np.split(np.asarray(Image.open(resources.files('services') / 'digits.png').convert('L')), 10, axis=1))
with Client('http://127.0.0.1:8000') as client:
    labels = client.predict(digits).label.tolist()
    distorted = client.augment(digits, recipe='elastic', seed=1).images
print(json.dumps({'labels': labels, 'moved': bool((distorted != digits).any())}))
"""


class Stage(NamedTuple):
    """A stage's root, and what its instructions set."""

    root: Path
    environment: dict[str, str]
    settings: dict[str, str]


def instructions(path: Path = DOCKERFILE) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile in order, names in capitals; comments left out."""
    with tempfile.TemporaryDirectory() as scratch:
        parser = DockerfileParser(path=scratch)
        parser.content = path.read_text()
        return [(one["instruction"], one["value"]) for one in parser.structure if one["instruction"] != "COMMENT"]


def context_files(root: Path = REPOSITORY) -> set[Path]:
    """What .dockerignore lets into the build's context, as paths from ``root``."""
    rules = [line for line in (root / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    found = set()
    for path in root.rglob("*"):
        name = path.relative_to(root)
        if ".git" not in name.parts and path.is_file() and not _ignored(str(name), rules):
            found.add(name)
    return found


def _ignored(name: str, rules: Sequence[str]) -> bool:
    ignored = False
    for rule in rules:  # the last one that fits counts
        pattern = rule.removeprefix("!")
        parts = Path(name).parts
        heads = ["/".join(parts[: end + 1]) for end in range(len(parts))]
        anywhere = pattern.removeprefix("**/") if pattern.startswith("**/") else None
        fits = any(fnmatch(part, anywhere) for part in parts) if anywhere else any(fnmatch(h, pattern) for h in heads)
        if fits:
            ignored = not rule.startswith("!")
    return ignored


def build(base: Path, folder: Path, binds: Sequence[str]) -> Stage:
    """The last stage of the Dockerfile, built below ``folder``."""
    stages: dict[str, Stage] = {}
    context = context_files()
    stage = Stage(base, {}, {})
    for name, value in instructions():
        if name == "FROM":
            label = value.split(" AS ")[-1] if " AS " in value else "final"
            root = folder / label
            _run("cp", "--archive", "--reflink=auto", str(base), str(root))
            stage = stages[label] = Stage(root, {}, {"WORKDIR": "/", "USER": "0:0"})
        elif name == "ENV":
            for pair in shlex.split(value.replace("\\\n", " ")):
                key, _, said = pair.partition("=")
                stage.environment[key] = said
        elif name == "COPY":
            _copy(stage, value, stages, context)
        elif name == "RUN":
            print(f"RUN {value[:100]}", flush=True)
            _run_step(stage, value, binds)
        elif name == "WORKDIR":
            (stage.root / value.lstrip("/")).mkdir(parents=True, exist_ok=True)
            stage.settings[name] = value
        else:
            stage.settings[name] = value
    return stage


def _copy(stage: Stage, value: str, stages: dict[str, Stage], context: set[Path]) -> None:
    *sources, target = [word for word in value.split() if not word.startswith("--")]
    given = next((word.partition("=")[2] for word in value.split() if word.startswith("--from=")), None)
    place = stage.root / os.path.join(stage.settings["WORKDIR"], target).lstrip("/")  # may be absolute
    if given is not None:
        _run("cp", "--archive", str(stages[given].root / sources[0].lstrip("/")), str(place))
        return
    for source in sources:
        files = [file for file in context if file == Path(source) or Path(source) in file.parents]
        if not files:
            raise SystemExit(f"COPY {source}: not in the context")
        for file in files:
            is_file = file == Path(source)
            to = place / file.name if is_file and target.endswith("/") else place / file.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / file, to)


def _run_step(stage: Stage, command: str, binds: Sequence[str]) -> None:
    mounts = [f"mount -t proc proc {stage.root}/proc", f"mount --bind /dev {stage.root}/dev"]
    for bind in ("/etc/resolv.conf", *binds):
        source, _, target = bind.partition(":")
        inside = stage.root / (target or source).lstrip("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        if Path(source).is_dir():
            inside.mkdir(exist_ok=True)
        else:
            inside.touch()
        # A package's script would else write to the machine itself.
        mounts += [f"mount --bind {Path(source).resolve()} {inside}", f"mount -o remount,bind,ro {inside}"]
    given = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    passed = {name: said for name, said in os.environ.items() if name.startswith("PIP_") or name.endswith("_proxy")}
    environment = {**given, **passed, **stage.environment}
    inside_root = f"cd {stage.settings['WORKDIR']} && {command}"
    chroot = ["chroot", str(stage.root), "env", "-i", *(f"{k}={v}" for k, v in environment.items()), "sh", "-c"]
    _run("unshare", "--mount", "sh", "-ec", "; ".join([*mounts, shlex.join([*chroot, inside_root])]))


def start(stage: Stage) -> "subprocess.Popen[bytes]":
    """The stage's ENTRYPOINT with its CMD, as process 1 of a container's namespaces."""
    command = [*json.loads(stage.settings["ENTRYPOINT"]), *json.loads(stage.settings["CMD"])]
    root = shlex.quote(str(stage.root))
    prepare = [
        f"echo 127.0.0.1 localhost > {root}/etc/hosts",  # which engines bring with them
        f"mount --bind {root} {root}",
        f"mount -o remount,bind,ro {root}",
        f"mount -t proc proc {root}/proc",
        f"mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs {root}/tmp",
        f"mount -t tmpfs -o mode=755 tmpfs {root}/dev",
        f"mkdir {root}/dev/shm",
        f"mount -t tmpfs -o size={_SHM_BYTES},mode=1777 tmpfs {root}/dev/shm",
        *(f"touch {root}/dev/{n}; mount --bind /dev/{n} {root}/dev/{n}" for n in ("null", "zero", "random", "urandom")),
        "ip link set lo up",
    ]
    script = "; ".join([*prepare, f"exec {shlex.join(_inside(stage, command))}"])
    isolated = ["unshare", "--mount", "--pid", "--ipc", "--net", "--fork", "--kill-child"]
    return subprocess.Popen([*isolated, "sh", "-ec", script], start_new_session=True)


def _inside(stage: Stage, command: Sequence[str]) -> list[str]:
    """``command`` as the stage's USER, with no capability and no way to get one."""
    uid, gid = stage.settings["USER"].split(":")
    dropped = ["--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    environment = [f"{name}={said}" for name, said in stage.environment.items()]
    user = ["setpriv", f"--reuid={uid}", f"--regid={gid}", *dropped, "env", "-i", *environment, *command]
    return ["chroot", str(stage.root), *user]


def _entered(stage: Stage, pid: int, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """``command`` inside the running container, as ``docker exec`` does it."""
    enter = ["nsenter", f"--target={pid}", "--mount", "--pid", "--ipc", "--net", "--"]
    return subprocess.run([*enter, *_inside(stage, command)], capture_output=True, text=True, check=False)


def _first_process(runner: "subprocess.Popen[bytes]") -> int:
    children = Path(f"/proc/{runner.pid}/task/{runner.pid}/children")
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        if found := children.read_text().split():
            return int(found[0])
        time.sleep(0.05)
    raise SystemExit("the container did not start")


def exercise(stage: Stage) -> Iterator[tuple[str, Any]]:
    """Starts the container and says of each check what came of it."""
    started_s = time.monotonic()
    runner = start(stage)
    try:
        pid = _first_process(runner)
        health = json.loads(stage.settings["HEALTHCHECK"].partition("CMD")[2].strip())
        while (asked := _entered(stage, pid, health)).returncode != 0:
            if time.monotonic() - started_s > HEALTHY_S or runner.poll() is not None:
                raise SystemExit(f"the container did not get healthy: {asked.stderr.strip()[-300:]}")
            time.sleep(1)
        yield "healthy_after_s", round(time.monotonic() - started_s, 1)
        answered = _entered(stage, pid, ["python", "-c", _QUESTION])
        if answered.returncode != 0:
            raise SystemExit(f"the container did not answer: {answered.stderr[-600:]}")
        yield "answers", json.loads(answered.stdout)
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        yield "process_1", {key: status[key].strip() for key in ("Name", "Uid", "CapEff", "CapBnd", "NoNewPrivs")}
        writable = "find / -xdev -writable -not -type l -not -path /tmp 2>/dev/null | head -n 20"
        yield "writable_in_root", _entered(stage, pid, ["sh", "-c", writable]).stdout.split()
        used = _entered(stage, pid, ["du", "-sm", "/tmp", "/dev/shm"]).stdout.split()
        yield "written_mib", {"/tmp": int(used[0]), "/dev/shm": int(used[2])}
        os.kill(pid, signal.SIGTERM)
        stopping_s = time.monotonic()
        yield "exit_status_after_sigterm", runner.wait(STOPPED_S)
        yield "ended_after_s", round(time.monotonic() - stopping_s, 1)
    finally:
        if runner.poll() is None:
            os.killpg(runner.pid, signal.SIGKILL)  # process 1 goes with unshare, and with it its namespace
            runner.wait()


def sizes(stage: Stage, base: Path) -> dict[str, int]:
    """What the image is made of, MiB before compression."""
    total, base_mib = _mib(stage.root), _mib(base)
    packages = stage.root / "opt/stn"
    largest = sorted(((_mib(each), each.name) for each in packages.glob("lib/python3*/site-packages/*")), reverse=True)
    parts = {f"of it {name}": mib for mib, name in largest[:6]}
    rest = total - base_mib - _mib(packages)
    return {"whole": total, "base": base_mib, "python3 from Debian": rest, "/opt/stn": _mib(packages), **parts}


def _mib(path: Path) -> int:
    return round(int(_run("du", "--summarize", "--block-size=1", str(path)).split()[0]) / 1024**2)


def failures(found: dict[str, Any]) -> list[str]:
    """What a container must not do, and this one does."""
    wanted = {
        "answers": {"labels": list(range(10)), "moved": True},
        "writable_in_root": [],
        "exit_status_after_sigterm": 0,
        "compilers": [],
    }
    wrong = [f"{name}: expected {said}, got {found[name]}" for name, said in wanted.items() if found[name] != said]
    process = found["process_1"]
    if process["Uid"].split() != ["10001"] * 4 or int(process["CapEff"], 16) or int(process["CapBnd"], 16):
        wrong.append(f"process 1 has rights that it needs not: {process}")
    return wrong


def _run(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)[:300]}: exit status {done.returncode}\n{done.stdout[-2000:]}")
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="the root of a minimal Debian, which stays as it is")
    parser.add_argument(
        "--folder", type=Path, default=Path("/var/tmp/stn-container"), help="where the stages are built"
    )
    parser.add_argument("--bind", action="append", default=[], metavar="SOURCE[:TARGET]", help="may be given again")
    parser.add_argument("--built", action="store_true", help="run what an earlier call has built")
    arguments = parser.parse_args()
    if not arguments.built:
        shutil.rmtree(arguments.folder, ignore_errors=True)
        arguments.folder.mkdir(parents=True)
        stage = build(arguments.base, arguments.folder, arguments.bind)
        (arguments.folder / "stage.json").write_text(json.dumps([str(stage.root), stage.environment, stage.settings]))
    root, *rest = json.loads((arguments.folder / "stage.json").read_text())
    stage = Stage(Path(root), *rest)
    found = dict(exercise(stage))
    found["compilers"] = [name for name in ("gcc", "cc", "g++", "clang", "pip") if _has(stage, name)]
    found["size_mib"] = sizes(stage, arguments.base)
    wrong = failures(found)
    RESULT.write_text(json.dumps({"failures": wrong, **found}, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    print("\n".join(wrong) or "all as promised")
    return len(wrong) > 0


def _has(stage: Stage, name: str) -> bool:
    return any((stage.root / folder / name).exists() for folder in ("usr/bin", "usr/local/bin", "opt/stn/bin"))


if __name__ == "__main__":
    sys.exit(main())
