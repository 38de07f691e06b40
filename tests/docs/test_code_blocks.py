"""Every code block of the pages runs; commands that take minutes or another machine are parsed by their own program."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from code_blocks import PAGES, REPOSITORY, Block, all_blocks, blocks_of, commands_of, lines_of, run_python
from PIL import Image

SHELL = ("bash", "sh", "console")
LANGUAGES = {*SHELL, "python", "json", "yaml", "text", ""}
RUN_ELSEWHERE = {  # pages whose Python has a test of its own, which looks at what comes out too
    "bulk.md": "tests/cli/test_bulk.py",
    "client.md": "tests/client/test_docs.py",
    "points.md": "tests/core/test_points_page.py",
    "service.md": "tests/services/test_serving.py",
    "grpc.md": "tests/services/test_grpc.py",
}
TRAINED_ELSEWHERE = {"datasets.md": ("reproduce(", "tests/core/test_reproduce.py")}
ADDRESS = "http://127.0.0.1:8000"
OTHERS = {"sudo", "mkdir", "ln", "printf", "echo", "ls", "find", "curl", "jq", "base64", "pip"}
"""Programs that are not ours: what they do is not what these pages promise."""

Names = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, digits: Any) -> Path:
    """The files that the pages speak of."""
    place = tmp_path_factory.mktemp("pages")
    images = [Image.fromarray(image[..., 0]) for image in digits[0][:4]]
    for name in ("digit.png", "straight.png"):
        images[0].save(place / name)
    images[1].save(place / "seven.webp")
    photo = images[2].resize((300, 200)).convert("RGB")
    photo.save(place / "photo.png")
    photo.save(place / "photo.jpg")
    for name in ("scans", "looks"):
        (place / name).mkdir()
        for index, image in enumerate(images):
            image.save(place / name / f"0000{index}.png")
    return place


def _images(digits: Any) -> Names:
    return {"images": digits[0][:20], "np": np}


def _decision(digits: Any) -> Names:
    from stn_core.engine import Engine

    return {**_images(digits), "Engine": Engine}


def _own_network() -> Names:
    import tf_keras

    layers = [tf_keras.layers.Input((28, 28, 1)), tf_keras.layers.Flatten(), tf_keras.layers.Dense(10)]
    network = tf_keras.Sequential(layers)
    network.save("mine.keras")
    return {"tf_keras": tf_keras, "your_network": network}


GIVEN: dict[str, Callable[[Any], Names]] = {
    "README.md": lambda digits: {**_images(digits), **_own_network()},
    "recipes.md": _images,
    "decision.md": _decision,
    "own-data.md": lambda digits: _own_network(),
}


@pytest.mark.service
@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks_of(page, "python")], ids=lambda page: page.name.removesuffix(".md")
)
def test_the_python_of_a_page_runs(
    page: Path, digits: Any, service_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if page.name in RUN_ELSEWHERE:
        assert page.name in (REPOSITORY / RUN_ELSEWHERE[page.name]).read_text()
        return
    monkeypatch.chdir(folder)
    names = GIVEN[page.name](digits) if page.name in GIVEN else {}
    replaced = {ADDRESS: service_url}
    if page.name in TRAINED_ELSEWHERE:
        call, test = TRAINED_ELSEWHERE[page.name]
        assert call in (REPOSITORY / test).read_text()
        replaced[f"\n{call}"] = "\n(lambda *given: None)("
    run_python(page, {"url": service_url, **names}, replaced)


@pytest.mark.service
def test_every_curl_is_answered(service_url: str, folder: Path) -> None:
    curls = [block for block in all_blocks(*SHELL) if re.search(r"\bcurl\b", block.text)]
    commands = [(block, line) for block in curls for line in lines_of(block) if re.search(r"\bcurl\b", line)]
    for block, line in commands:
        command = line.replace(ADDRESS, service_url).replace("curl ", "curl -sS --fail-with-body ")
        _run(command, folder, block, URL=service_url)
    assert len(commands) > 10


def _run(command: str, folder: Path, block: Block, **environment: str) -> None:
    made = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, f"{block.where}: {command}\n{made.stdout}{made.stderr}"


@pytest.mark.parametrize("block", all_blocks(*SHELL), ids=lambda block: block.where)
def test_every_command_is_one_that_there_is(block: Block) -> None:
    for words in commands_of(block):
        program = words[0].removeprefix(".venv/bin/")
        if program == "stn":
            _parse_stn(words[1:], block)
        elif program == "make":
            assert re.search(rf"^{words[1]}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE), block.where
        elif program == "python":
            assert words[1] == "-m" or (REPOSITORY / words[1]).is_file(), f"{block.where}: {words}"
        else:
            known = program in OTHERS or "=" in program
            assert known, f"{block.where}: {words}: run it in a test, or say whose program it is"


def _parse_stn(words: list[str], block: Block) -> None:
    """Lets the command itself parse its options."""
    import typer

    from stn_cli import main

    group: Any = typer.main.get_command(main.app)
    assert words[:1] and words[0] in group.commands, f"{block.where}: stn {' '.join(words)}"  # noqa: PT018
    try:
        group.commands[words[0]].make_context(f"stn {words[0]}", words[1:])
    except Exception as error:
        raise AssertionError(f"{block.where}: stn {' '.join(words)}: {error}") from error


@pytest.mark.parametrize("page", ["index.md", "command-line.md"])
def test_the_commands_for_files_run(page: str, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    stn = tmp_path / ".venv" / "bin" / "stn"
    stn.parent.mkdir(parents=True)
    stn.write_text(f'#!/bin/sh\nexec {sys.executable} -m stn_cli "$@"\n')
    stn.chmod(0o755)
    ran = 0
    for block in blocks_of(REPOSITORY / "docs" / page, *SHELL):
        for line in lines_of(block):
            if re.match(r"(find|echo|ls|stn|\.venv/bin/stn) ", line) and "jq" not in line:
                _run(line, tmp_path, block, PATH=f"{stn.parent}:{os.environ['PATH']}")
                ran += 1
    assert ran > 1


@pytest.mark.parametrize("block", all_blocks("json"), ids=lambda block: block.where)
def test_json_parses(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", all_blocks("yaml"), ids=lambda block: block.where)
def test_yaml_parses_and_recipes_are_recipes(block: Block) -> None:
    from stn_core.recipes import parse_recipe

    found = yaml.safe_load(block.text)
    if "steps" in found:
        parse_recipe(found)


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert {block.language for block in all_blocks()} <= LANGUAGES
