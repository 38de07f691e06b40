"""The rules of docs/architecture.md, held by a test instead of by memory."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
PACKAGES = {
    "stn_core": "stn_core",
    "services": "services",
    "stn_bulk": "stn_bulk",
    "stn_cli": "stn_cli",
    "stn_client": "clients/stn_client",
}
SOURCES = [
    (package, file) for package, folder in PACKAGES.items() for file in sorted((CHECKOUT / folder).rglob("*.py"))
]
OURS = set(PACKAGES)
LIGHT = ("annotations", "draws", "errors", "moving", "points", "polygons", "tensors", "wire")
"""Modules of stn_core that load no more than NumPy and orjson."""
MAY_IMPORT = {  # patterns of module names; "stn_core" alone is its version
    "stn_core": ["stn_core*"],
    "services": ["services*", "stn_core*"],
    "stn_bulk": ["stn_bulk*", "stn_core*"],
    "stn_client": ["stn_client*", "stn_core", *(f"stn_core.{module}" for module in LIGHT)],
    "stn_cli": ["*"],
}
ONE_HOME = {  # a library that one room alone may import
    "ray": ("services/", "stn_bulk/"),
    "pyarrow": ("stn_bulk/",),
    "fsspec": ("stn_bulk/",),
    "starlette": ("services/",),
    "fastapi": ("services/",),
    "python_multipart": ("services/",),
    "grpc": ("services/",),
    "google": ("services/",),
    "imgaug": ("stn_core/pixels.py",),
    "cv2": ("stn_core/plain_pictures.py",),
    "typer": ("stn_cli/",),
    "rich": ("stn_cli/", "clients/stn_client/progress.py"),
    "pandas": ("clients/stn_client/rows.py",),
    "httpx": ("clients/", "stn_cli/in_process.py"),
}
MAX_LINES = 400


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            yield node.module or ""


@pytest.mark.parametrize(("package", "file"), SOURCES, ids=[str(file.relative_to(CHECKOUT)) for _, file in SOURCES])
def test_a_source_file_keeps_to_its_room(package: str, file: Path) -> None:
    place = str(file.relative_to(CHECKOUT))
    for name in _imports(file):
        root = name.split(".")[0]
        if root in OURS:
            allowed = any(fnmatch(name, pattern) for pattern in MAY_IMPORT[package])
            assert allowed, f"{place} may not import {name}"
        homes = ONE_HOME.get(root)
        assert homes is None or place.startswith(homes), f"{place} may not import {name}"
    assert len(file.read_text().splitlines()) <= MAX_LINES, f"{place}: one file, one room; this is two"


def test_the_rules_see_the_sources() -> None:
    assert len(SOURCES) > 40
    assert {package for package, _ in SOURCES} == OURS


@pytest.mark.parametrize(
    "module", ["stn_core", "stn_core.recipes", "stn_core.bundle", "stn_client", "stn_bulk", "stn_cli.main"]
)
def test_importing_it_loads_neither_tensorflow_nor_ray(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('tensorflow', 'ray', 'imgaug') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


def test_what_the_sdk_may_import_of_the_core_is_light() -> None:
    imports = ", ".join(f"stn_core.{module}" for module in LIGHT)
    code = f"import sys; had = set(sys.modules); import {imports}; print(*(set(sys.modules) - had))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    roots = {name.split(".")[0] for name in loaded.split()}
    assert {"numpy", "stn_core"} <= roots <= sys.stdlib_module_names | {"numpy", "orjson", "stn_core"}


def test_no_two_test_files_have_one_name() -> None:
    """The tests' folders are no packages, and pytest imports files of one name as one module."""
    names = [file.name for file in (CHECKOUT / "tests").rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)
