"""The Dockerfile keeps to what docs/deploying.md promises, and its steps find what they copy.

``deploy/container/check.py`` executes the steps and runs what comes of them; here is what a test may take seconds for.
"""

import importlib.util
import json
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
FOLDER = CHECKOUT / "deploy" / "container"


def _load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


check = _load(FOLDER / "check.py", "container_check")
INSTRUCTIONS: list[tuple[str, str]] = check.instructions()
LAST = INSTRUCTIONS[max(at for at, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM") :]


def values(name: str, of: list[tuple[str, str]] = LAST) -> list[str]:
    return [value for instruction, value in of if instruction == name]


def test_the_image_runs_as_a_user_without_a_shell_and_without_a_compiler() -> None:
    (user,) = values("USER")
    assert int(user.split(":")[0]) > 0
    (installs,) = values("RUN")
    assert f"--uid {user.split(':')[0]}" in installs
    assert "nologin" in installs
    assert not {"gcc", "libc6-dev", "python3-venv"} & set(shlex.split(installs))
    order = [name for name, _ in LAST]
    assert order.index("USER") > order.index("RUN")


def test_lists_of_packages_and_recommendations_stay_out() -> None:
    for command in values("RUN", INSTRUCTIONS):
        if "apt-get install" in command:
            assert "--no-install-recommends" in command
            assert "rm -rf /var/lib/apt/lists/*" in command


def test_what_is_installed_is_pinned() -> None:
    assert any("PIP_CONSTRAINT=/src/constraints.txt" in value for value in values("ENV", INSTRUCTIONS))
    for command in values("RUN", INSTRUCTIONS):
        assert "http" not in command
        assert "latest" not in command


def test_commands_are_lists_so_that_signals_arrive() -> None:
    (entrypoint,), (command,), (health,) = values("ENTRYPOINT"), values("CMD"), values("HEALTHCHECK")
    assert json.loads(entrypoint) == ["stn", "serve", "--host", "0.0.0.0"]
    assert json.loads(command) == ["--config", "local"]
    assert json.loads(health.partition("CMD")[2])[0] == "python"


def test_only_the_temporary_folder_is_written_to() -> None:
    environment = dict(pair.split("=", 1) for value in values("ENV") for pair in shlex.split(value))
    for name in ("HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR"):
        assert environment[name].startswith("/tmp"), name


def test_every_copied_file_is_in_the_context_and_little_else() -> None:
    context = check.context_files()
    for value in values("COPY", INSTRUCTIONS):
        if "--from" not in value:
            for source in value.split()[:-1]:
                assert any(file == Path(source) or Path(source) in file.parents for file in context), source
    assert Path("stn_core/bundles/digits/localization.onnx") in context
    heads = {file.parts[0] for file in context}
    assert not heads & {".git", ".venv", "tests", "benchmarks", "docs", "drills"}
    assert not any("__pycache__" in file.parts or file.suffix == ".so" for file in context)


@pytest.mark.parametrize(
    ("name", "ignored"),
    [
        ("services/app.py", False),
        ("tests/a.py", True),
        ("services/__pycache__/a.pyc", True),
        ("deploy/other.yaml", True),
    ],
)
def test_the_ignore_file_is_read_as_it_is_meant(name: str, ignored: bool) -> None:
    rules = [line for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert check._ignored(name, rules) is ignored


def test_the_recorded_run_held() -> None:
    found: dict[str, Any] = json.loads((FOLDER / "check.json").read_text())
    assert found["failures"] == []
    assert check.failures(found) == []
    page = (CHECKOUT / "docs" / "deploying.md").read_text()
    assert f"{found['size_mib']['whole']:,} MiB" in page, "the page tells of another run"


def test_a_run_that_breaks_a_promise_is_told() -> None:
    found = json.loads((FOLDER / "check.json").read_text())
    found["process_1"]["Uid"] = "0\t0\t0\t0"
    found["writable_in_root"] = ["/opt/stn"]
    assert len(check.failures(found)) == 2


def test_an_extra_without_tensorflow_serves() -> None:
    (install,) = [command for command in values("RUN", INSTRUCTIONS) if "pip install '.[" in command]
    assert "'.[serve-onnx]'" in install


def test_the_healthcheck_asks_what_the_service_answers() -> None:
    (health,) = values("HEALTHCHECK")
    assert "/v2/health/ready" in health
    config = yaml.safe_load((CHECKOUT / "deploy" / "local.yaml").read_text())
    assert config["http_options"]["port"] == int(values("EXPOSE")[0])
