"""Pages of the reference that are made of the code itself: commands, and the shipped recipes."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import typer


def pages() -> dict[str, str]:
    """The text of each page, by its name below ``docs``."""
    return {"reference/commands.md": _commands(), "reference/recipes.md": _recipes()}


def _commands() -> str:
    from stn_cli import main

    group: Any = typer.main.get_command(main.app)
    parts = ["# Commands", "What `stn COMMAND --help` tells of each, from the same source.", ""]
    for name in sorted(group.commands):
        parts.append(_command(name, group.commands[name]))
    return "\n".join(parts)


def _command(name: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not getattr(one, "hidden", False)]
    usage = " ".join([f"stn {name}", *((one.metavar or one.name or "").upper() for one in arguments), "[OPTIONS]"])
    lines = [f"## stn {name}", "", command.help or "", "", f"`{usage}`", ""]
    if options:
        lines += ["| option | | default |", "|---|---|---|"]
        for one in options:
            names = ", ".join(f"`{flag}`" for flag in (*one.opts, *one.secondary_opts))
            text = (getattr(one, "help", None) or "").replace("|", "\\|")
            lines.append(f"| {names} | {text} | {_default(one)} |")
    return "\n".join([*lines, ""])


def _default(option: Any) -> str:
    if option.required:
        return "must be given"
    value = option.default
    return "" if value is None or value is False or callable(value) else f"`{value}`"


def _recipes() -> str:
    from stn_core.recipes import load_recipe, shipped_recipes

    parts = [
        "# Shipped recipes",
        "",
        "What `--recipe NAME` stands for; [recipes.md](../recipes.md) explains the steps.",
        "",
    ]
    for name in shipped_recipes():
        text = (files("stn_core.recipes") / "shipped" / f"{name}.yaml").read_text()
        parts += [f"## {name}", "", load_recipe(name).description, "", "```yaml", text.strip(), "```", ""]
    return "\n".join(parts)
