"""Reads a deploy config strictly: Ray Serve silently drops a misspelt key, here it is an error."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from services.settings import Settings, UserConfig
from stn_core.errors import InvalidInput, brief

IMPORT_PATH = "services.app:build"


def shipped_configs() -> dict[str, Path]:
    """The deploy configs that come with the package, by name: in the checkout's ``deploy/``, or inside the package."""
    here = Path(__file__).parent
    return {file.stem: file for folder in (here / "deploy", here.parent / "deploy") for file in folder.glob("*.yaml")}


def read_deploy_config(path: str | Path) -> dict[str, Any]:
    """The config in the YAML file ``path``; InvalidInput names every key that nothing would read, and bad arguments."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"config {path}: cannot be read ({error.strerror}); there are some in deploy/") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"config {path}: expected YAML in UTF-8, got other bytes ({error}); save it as UTF-8"
        ) from None
    try:
        config = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidInput(f"config {path}: expected YAML, got something that does not parse: {error}") from None
    if not isinstance(config, dict):
        raise InvalidInput(f"config {path}: expected a mapping with 'applications', got {type(config).__name__}")
    problems = list(_problems(config))
    if problems:
        raise InvalidInput(f"config {path}: " + "; ".join(problems))
    return config


def our_applications(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The applications of ``config`` that are this service."""
    return [one for one in config["applications"] if one.get("import_path") == IMPORT_PATH]


def settings_by_application(config: dict[str, Any]) -> dict[str, Settings]:
    """The settings of each of them, by the application's name."""
    return {
        one.get("name", "default"): Settings.model_validate(one.get("args") or {}) for one in our_applications(config)
    }


def _problems(config: dict[str, Any]) -> Iterator[str]:
    from ray.serve.config import AutoscalingConfig, BackpressureConfig
    from ray.serve.schema import LoggingConfig, RayActorOptionsSchema, ServeDeploySchema

    nested: dict[str, type[BaseModel]] = {
        "ray_actor_options": RayActorOptionsSchema,
        "autoscaling_config": AutoscalingConfig,
        "backpressure_config": BackpressureConfig,
        "logging_config": LoggingConfig,
    }
    yield from _unknown_keys(config, ServeDeploySchema, "", nested)
    try:
        ServeDeploySchema.model_validate(config)
    except ValidationError as error:
        yield from _lines(error, "")
    except (AttributeError, KeyError, TypeError) as error:  # Ray's validators take the types of some parts for granted
        yield f"a part of it is of another type than Ray Serve expects ({error}); compare it with those in deploy/"
    yield from _unknown_functions(config.get("grpc_options"))
    applications = config.get("applications")
    if not isinstance(applications, list) or not applications:
        got = "an empty one" if applications == [] else type(applications).__name__
        yield f"applications: expected a list of at least one application, got {got}; see those in deploy/"
        return
    for index, application in enumerate(applications):
        if isinstance(application, dict) and application.get("import_path") == IMPORT_PATH:
            try:
                Settings.model_validate(application.get("args") or {})
            except ValidationError as error:
                yield from _lines(error, f"applications.{index}.args.")
            yield from _wrong_user_configs(application.get("deployments"), f"applications.{index}.deployments.")


def _wrong_user_configs(deployments: Any, where: str) -> Iterator[str]:
    for index, deployment in enumerate(deployments if isinstance(deployments, list) else ()):
        try:
            UserConfig.model_validate((deployment.get("user_config") if isinstance(deployment, dict) else None) or {})
        except ValidationError as error:
            yield from _lines(error, f"{where}{index}.user_config.")


def _unknown_functions(grpc_options: Any) -> Iterator[str]:
    """Functions that Ray would look for in vain, when all its processes have started."""
    from ray._common.utils import import_attr

    functions = grpc_options.get("grpc_servicer_functions") if isinstance(grpc_options, dict) else None
    for name in functions if isinstance(functions, list) else ():
        try:
            import_attr(name)
        except (ImportError, AttributeError, ValueError) as error:
            yield f"grpc_options.grpc_servicer_functions: {brief(name)} cannot be imported ({error})"


def _unknown_keys(value: Any, model: type[BaseModel], where: str, nested: dict[str, type[BaseModel]]) -> Iterator[str]:
    if not isinstance(value, dict):
        return
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    for key, item in value.items():
        if key not in fields:
            yield f"{where}{key}: no such key; expected one of {', '.join(sorted(fields))}"
            continue
        inner = nested.get(key) or _model_in(fields[key].annotation)
        if inner is None:
            continue
        if isinstance(item, list):
            for index, entry in enumerate(item):
                yield from _unknown_keys(entry, inner, f"{where}{key}.{index}.", nested)
        else:
            yield from _unknown_keys(item, inner, f"{where}{key}.", nested)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model inside an annotation such as ``Optional[List[Model]]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part)) is not None), None)


def _lines(error: ValidationError, where: str) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        yield f"{where}{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
