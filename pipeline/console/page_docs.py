"""The HTTP API's own page: what its OpenAPI description says, as a list that needs no script and loads nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_READS = ("get", "head")
_WORDS = {"now": "Now", "incidents": "Incidents", "entities": "Entities", "models": "Models", "audit": "Who did what"}


def docs_view(described: Mapping[str, Any], address: str) -> dict[str, Any]:
    """Return what the template needs.

    Args:
        described: the OpenAPI document.
        address: where it lies.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            tag = next(iter(operation.get("tags", ())), "other")
            groups.setdefault(tag, []).append(_operation(path, method, operation, described))
    listed = [
        {"id": f"part-{i}", "name": _WORDS.get(tag, tag.capitalize()), "operations": operations}
        for i, (tag, operations) in enumerate(groups.items())
    ]
    about = described["info"].get("description", "")
    return {"groups": listed, "about": about, "openapi": address, "version": described["info"]["version"]}


def _operation(path: str, method: str, operation: Mapping[str, Any], described: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "method": method.upper(),
        "path": path,
        "reads": method in _READS,
        "text": (operation.get("description") or operation.get("summary", "")).replace("``", ""),
        "fields": [*_parameters(operation, described), *_body(operation, described)],
        "answer": _answer(operation),
    }


def _parameters(operation: Mapping[str, Any], described: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for parameter in operation.get("parameters", ()):
        schema = parameter.get("schema", {})
        text = parameter.get("description") or schema.get("description", "")
        yield _field(parameter["name"], parameter["in"], parameter.get("required", False), schema, text, described)


def _body(operation: Mapping[str, Any], described: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    schema = _resolved(content.get("schema", {}), described)
    for name, each in schema.get("properties", {}).items():
        required = name in schema.get("required", ())
        yield _field(name, "body", required, each, each.get("description", ""), described)


def _field(
    name: str, place: str, required: bool, schema: Mapping[str, Any], text: str, described: Mapping[str, Any]
) -> dict[str, Any]:
    type_ = type_text(schema, described)
    return {"name": name, "place": place, "required": required, "type": type_, "text": text.replace("``", "")}


def type_text(schema: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    """Return a schema's type in words: its values where they are few, its bounds where it has some.

    >>> type_text({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]}, {})
    'integer ≥ 0'
    >>> type_text({"enum": ["watch", "alert"], "type": "string"}, {}), type_text({"type": "boolean"}, {})
    ('watch, alert', 'boolean')
    """
    schema = _resolved(schema, described)
    if "anyOf" in schema:
        told = [type_text(each, described) for each in schema["anyOf"] if each.get("type") != "null"]
        return " or ".join(told)
    choices: Sequence[Any] = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if choices:
        return ", ".join(str(choice) for choice in choices)
    bounds = [
        f"{sign} {schema[key]}"
        for key, sign in (("minimum", "≥"), ("maximum", "≤"))
        if key in schema and abs(schema[key]) < 1e9
    ]
    return " ".join([str(schema.get("type", "any")), *bounds])


def _answer(operation: Mapping[str, Any]) -> str:
    """Return the name of what is answered when all is well; empty where it has none."""
    for status, answer in operation.get("responses", {}).items():
        if status.startswith("2"):
            for content in answer.get("content", {}).values():
                return str(content.get("schema", {}).get("$ref", "")).rpartition("/")[2]
    return ""


def _resolved(schema: Mapping[str, Any], described: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a schema, or the one that it refers to."""
    name = schema.get("$ref", "").rpartition("/")[2]
    found: Mapping[str, Any] = described["components"]["schemas"][name] if name else schema
    return found
