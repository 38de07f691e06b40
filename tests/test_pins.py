"""The pins that ``make audit`` looks up: exact, and what is really installed."""

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PINS = [
    line
    for line in (Path(__file__).parents[1] / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


def test_every_pin_is_one_exact_version() -> None:
    wrong = [line for line in PINS if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.!+-]+", line)]
    assert not wrong
    names = [re.sub(r"[._-]+", "-", line.partition("==")[0]).lower() for line in PINS]
    assert sorted(set(names)) == sorted(names)


def test_what_is_installed_is_what_is_pinned() -> None:
    installed = 0
    for line in PINS:
        name, _, pinned = line.partition("==")
        try:
            found = version(name)
        except PackageNotFoundError:  # of an extra that is not here
            continue
        installed += 1
        assert found == pinned, f"{name}: {found} is installed, {pinned} is pinned and audited"
    assert installed > 50
