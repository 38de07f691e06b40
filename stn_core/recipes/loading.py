"""Recipes by name, from a file, or from data."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from stn_core.errors import BadRecipe, brief, shortened
from stn_core.recipes.steps import Recipe

MAX_RECIPE_BYTES = 64 * 1024


@cache
def _shipped(name: str) -> Recipe:
    text = (resources.files("stn_core.recipes") / "shipped" / f"{name}.yaml").read_text()
    return parse_recipe(_parse_yaml(text, name))


@cache
def _shipped_names() -> tuple[str, ...]:
    folder = resources.files("stn_core.recipes") / "shipped"
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def shipped_recipes() -> list[str]:
    """The names of the recipes that come with the package."""
    return list(_shipped_names())


def load_recipe(source: str | Path) -> Recipe:
    """A shipped recipe by name, or the recipe in a YAML or JSON file; BadRecipe says what is wrong."""
    if str(source) in shipped_recipes():
        return _shipped(str(source))
    path = Path(source)
    if not path.is_file():
        raise BadRecipe(
            f"recipe {str(source)!r}: neither a file nor the name of a shipped recipe ({', '.join(shipped_recipes())})"
        )
    if path.stat().st_size > MAX_RECIPE_BYTES:
        raise BadRecipe(f"recipe {path}: expected at most {MAX_RECIPE_BYTES} bytes, got {path.stat().st_size}")
    return parse_recipe(_parse_yaml(path.read_text(errors="replace"), str(path)))


def parse_recipe(data: str | dict[str, Any]) -> Recipe:
    """The recipe in ``data``: the name of a shipped one, a JSON text, or a mapping. Opens no file; BadRecipe if wrong.

    This is what a request may hold: no path ever comes from outside.
    """
    if isinstance(data, str):
        _check_size(len(data))
        if data in shipped_recipes():
            return load_recipe(data)
        if not data.lstrip().startswith("{"):
            raise BadRecipe(
                f"recipe {brief(data)}: expected one of {', '.join(shipped_recipes())}, or a recipe as JSON"
            )
        try:
            data = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise BadRecipe(f"recipe: expected JSON, got something that does not parse: {error}") from None
    else:
        # As JSON, which takes milliseconds where validating a mapping of megabytes takes seconds.
        try:
            _check_size(len(orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)))
        except TypeError as error:  # orjson's, for what JSON cannot hold or what is nested too deep
            raise BadRecipe(
                f"recipe: expected what JSON can hold, got something else: {shortened(str(error))}"
            ) from None
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise BadRecipe(f"recipe: {_first_problems(error)}") from None
    except RecursionError:
        raise BadRecipe("recipe: nested too deep") from None


def _check_size(size: int) -> None:
    if size > MAX_RECIPE_BYTES:
        raise BadRecipe(f"recipe: expected at most {MAX_RECIPE_BYTES} bytes of JSON, got {size}; use fewer steps")


def _parse_yaml(text: str, source: str) -> dict[str, Any]:
    import yaml

    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise BadRecipe(f"recipe {source}: expected YAML or JSON, got something that does not parse: {error}") from None
    if not isinstance(data, dict):
        raise BadRecipe(f"recipe {source}: expected a mapping with name and steps, got {type(data).__name__}")
    return data


def _first_problems(error: ValidationError, most: int = 3) -> str:
    problems = error.errors(include_url=False, include_input=False)
    # What is wrong with a step is also a missing item of the list that it stands in: only the innermost says why.
    outer = {problem["loc"][:depth] for problem in problems for depth in range(len(problem["loc"]))}
    problems = [problem for problem in problems if problem["loc"] not in outer]
    lines = [f"{_place(problem['loc'])}: {_message(problem)}" for problem in problems[:most]]
    return "; ".join(lines) + (f"; and {len(problems) - most} more" if len(problems) > most else "")


def _place(location: tuple[int | str, ...]) -> str:
    """Where in the recipe; a key that nothing knows is part of it, however long it is."""
    return shortened(".".join(shortened(str(part), 40) for part in location), 120) or "recipe"


def _message(problem: ErrorDetails) -> str:
    """What is wrong there; pydantic repeats an unknown ``op`` in full."""
    tag = str(problem.get("ctx", {}).get("tag", ""))
    return problem["msg"].replace(tag, shortened(tag, 40)) if len(tag) > 40 else problem["msg"]
