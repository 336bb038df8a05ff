"""From plain data to a checked config, collecting every mistake on the way.

pydantic stops before the checks across fields when a single field is wrong. Here wrong values give way to defaults (or,
where a value is required, to the field's own example), and the checks across fields run on that, leaving out whatever
rests on such a stand-in. So a person mends a file once and not three times.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.config_errors import Mistake, Path, explain, nearest
from pipeline.config_source import Document

Model = TypeVar("Model", bound=BaseModel)
Conflict: TypeAlias = tuple[Path, object, str, str]
"""Where, the value, the problem, what is allowed."""

_ROUNDS = 20
"""Each round mends one level of nesting; the config is far shallower."""
_HIDDEN = re.compile(r"password|secret|token|^(?:api_?)?key$", re.IGNORECASE)
_HIDDEN_VALUE = re.compile(r"://[^/\s]*@")
"""An address that holds a password."""


def validate(
    model: type[Model], document: Document, find_conflicts: Callable[[Model, frozenset[Path]], Iterable[Conflict]]
) -> tuple[Model | None, list[Mistake]]:
    """Return the config, or None where nothing usable was left, and every mistake found, one for each path.

    Args:
        model: the whole config's model.
        document: the file as data; not changed.
        find_conflicts: given the config and the paths whose values are stand-ins, yields what contradicts each other.
    """
    if document.data is None:
        empty = Mistake((), None, None, "is empty", "at least one stream under streams:")
        return None, document.mistakes or [empty]
    mistakes = {mistake.path: mistake for mistake in document.mistakes}
    data = copy.deepcopy(document.data)
    for attempt in range(_ROUNDS):
        try:
            config = model.model_validate(data)
        except ValidationError as error:
            errors = _errors(error)
            for item in errors if attempt == 0 else ():
                mistake = _mistake(model, document, item)
                mistakes.setdefault(mistake.path, mistake)
            if not _mend(model, data, errors):
                return None, list(mistakes.values())
            continue
        for path, value, problem, allowed in find_conflicts(config, frozenset(mistakes)):
            if not any(path[:length] in mistakes for length in range(1, len(path) + 1)):
                mistakes[path] = Mistake(path, document.line(path), value, problem, allowed)
        return config, list(mistakes.values())
    return None, list(mistakes.values())


def _errors(error: ValidationError) -> list[Mapping[str, Any]]:
    """Return the errors without those that only follow from others: a list that is short of its wrong elements."""
    errors: list[Mapping[str, Any]] = list(error.errors(include_url=False))
    locations = [item["loc"] for item in errors]

    def follows(item: Mapping[str, Any]) -> bool:
        around = item["loc"]
        return item["type"] == "too_short" and any(
            len(location) > len(around) and location[: len(around)] == around for location in locations
        )

    return [item for item in errors if not follows(item)]


def _mistake(model: type[BaseModel], document: Document, item: Mapping[str, Any]) -> Mistake:
    kind, location = item["type"], item["loc"]
    path = _existing(document.data, location)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _wrong_kind(document, path, item)
    if kind == "missing":
        path = (*_existing(document.data, location[:-1]), location[-1])
        return Mistake(path, document.line(path), None, "is missing")
    if kind == "extra_forbidden":
        known = list(_section(model, path[:-1], document.data).model_fields)
        close = nearest(str(path[-1]), known)
        return Mistake(path, document.line(path), None, "is not a known key", ", ".join(known), close)
    problem, allowed = explain(kind, item.get("ctx", {}), item["msg"])
    close = None
    if kind == "literal_error":
        close = nearest(str(item["input"]), re.findall(r"'([^']*)'", item["ctx"]["expected"]))
    hidden = any(_HIDDEN.search(str(part)) for part in path) or _HIDDEN_VALUE.search(str(item["input"])) is not None
    return Mistake(path, document.line(path), None if hidden else item["input"], problem, allowed, close)


def _existing(data: Any, location: Iterable[str | int]) -> Path:
    """Return as much of ``location`` as there is in ``data``; pydantic adds union members and "[key]" to its own."""
    path: list[str | int] = []
    for part in location:
        if isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif isinstance(data, dict) and part in data:
            data = data[str(part)]
        elif isinstance(data, dict) and data.get("kind") == part:
            continue  # the member of a union of kinds; what is wrong lies deeper
        else:
            break
        path.append(part)
    return tuple(path)


def _mend(model: type[BaseModel], data: Any, errors: Iterable[Mapping[str, Any]]) -> bool:
    """Make ``data`` valid where ``errors`` say that it is not; False where that cannot be.

    Elements of lists keep their places, so that paths stay those of the file: a wrong section becomes an empty one, and
    a list with any other wrong element goes as a whole.
    """
    stand_ins: dict[Path, Any] = {}
    for item in errors:
        path = _existing(data, item["loc"])
        if item["type"] == "missing":
            path = (*_existing(data, item["loc"][:-1]), item["loc"][-1])
            section = _section(model, path[:-1], data).model_fields
            examples = section[str(path[-1])].examples
            if not examples:
                return False
            stand_ins[path] = copy.deepcopy(examples[0])
        elif path and isinstance(path[-1], int) and item["type"].startswith("model_"):
            stand_ins[path] = {}
        else:
            stand_ins[_around_lists(path)] = None
    for path in sorted(stand_ins, key=len, reverse=True):
        if not path:
            return False
        if stand_ins[path] is None:
            del _at(data, path[:-1])[path[-1]]
        else:
            _at(data, path[:-1])[path[-1]] = stand_ins[path]
    return True


def _around_lists(path: Path) -> Path:
    while path and isinstance(path[-1], int):
        path = path[:-1]
    return path


def _at(data: Any, path: Path) -> Any:
    for part in path:
        data = data[part]
    return data


def _section(model: type[BaseModel], path: Path, data: Any) -> type[BaseModel]:
    """Return the model of the section at ``path``; where there are several, the one of the data's ``kind``."""
    section: type[BaseModel] = model
    models: list[type[BaseModel]] = [model]
    for part in path:
        data = _element(data, part)
        if isinstance(part, str) and part in section.model_fields:
            models = list(_models_in(section.model_fields[part].annotation))
        section = next((one for one in models if _is_of_kind(one, data)), models[0] if models else section)
    return section


def _element(data: Any, part: str | int) -> Any:
    """Return what ``data`` has there; None where it has nothing."""
    if isinstance(data, dict):
        return data.get(part)
    return data[part] if isinstance(data, list) and isinstance(part, int) and part < len(data) else None


def _is_of_kind(model: type[BaseModel], data: Any) -> bool:
    kind = data.get("kind") if isinstance(data, dict) else None
    field = model.model_fields.get("kind")
    return kind is not None and field is not None and kind in getattr(field.annotation, "__args__", ())


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)


def _wrong_kind(document: Document, path: Path, item: Mapping[str, Any]) -> Mistake:
    """Return the mistake of a section whose ``kind`` is missing or unknown."""
    given = item["input"].get("kind") if isinstance(item["input"], dict) else None
    at = (*path, "kind")
    if item["type"] == "union_tag_not_found":
        return Mistake(at, document.line(path), None, "is missing")
    kinds = re.findall(r"'([^']*)'", item["ctx"]["expected_tags"])
    return Mistake(at, document.line(at), given, "is no known kind", ", ".join(kinds), nearest(str(given), kinds))
