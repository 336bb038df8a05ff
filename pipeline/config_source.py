"""Text to plain data: YAML with line numbers, ``${ENV}`` filled in, and every key counted once.

Plain words stay words: the channel ``NO`` is nitric oxide and not "false", ``12:30`` is not a number of seconds, and a
date is text until a field asks for a time. That is YAML 1.2's core schema, which PyYAML does not speak by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import yaml

from pipeline.config_errors import Mistake, Path, nearest

Scalar: TypeAlias = str | int | float | bool | None
Data: TypeAlias = "Scalar | list[Data] | dict[str, Data]"

_VARIABLE = re.compile(r"\$(\$)?\{([^}]*)\}")
_NAME = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)
_MAX_NODES = 200_000
"""A config has hundreds of values; aliases of aliases ("billion laughs") reach this before they fill the memory."""


@dataclass(slots=True)
class Document:
    """A config file as data, with the line of each key and element (1-based), and what was wrong with the text."""

    data: Data = None
    lines: dict[Path, int] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def line(self, path: Path) -> int | None:
        """Return the line of ``path``, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's plain scalars."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)", "tTfF"),
    ("null", r"(?:~|null|Null|NULL|)", "~nN"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _starts = [*_first, ""] if _tag == "null" else [*_first]
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^{_pattern}$"), _starts)


def read(text: str, environment: Mapping[str, str]) -> Document:
    """Return ``text`` as data; whatever is wrong with it is in ``mistakes``, and nothing is raised."""
    document = Document()
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            document.data = _Builder(loader, environment, document).build(node, ())
    except (yaml.YAMLError, RecursionError) as error:
        document.data = None
        document.mistakes.append(_syntax_mistake(error, text))
    return document


def _syntax_mistake(error: Exception, text: str) -> Mistake:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    line = mark.line + 1 if mark else None
    allowed = "YAML"
    if line is not None and any("${" in words for words in text.splitlines()[line - 1 : line]):
        allowed = 'quotes around "${NAME}" where it stands within { } or [ ]'
    return Mistake((), line, None, f"is not YAML: {problem}", allowed)


class _Builder:
    """Turns YAML nodes into data, depth first."""

    def __init__(self, loader: yaml.SafeLoader, environment: Mapping[str, str], document: Document) -> None:
        self.loader = loader
        self.environment = environment
        self.document = document
        self.nodes = 0
        self.around: list[yaml.Node] = []

    def build(self, node: yaml.Node, path: Path) -> Data:
        self.nodes += 1
        if self.nodes > _MAX_NODES or any(node is outer for outer in self.around):
            raise yaml.MarkedYAMLError(problem="aliases without end", problem_mark=node.start_mark)
        self.document.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, path)
        self.around.append(node)
        data = self.mapping(node, path) if isinstance(node, yaml.MappingNode) else self.sequence(node, path)
        self.around.pop()
        return data

    def mapping(self, node: yaml.MappingNode, path: Path) -> Data:
        data: dict[str, Data] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be a word", problem_mark=key_node.start_mark)
            key = key_node.value
            line = key_node.start_mark.line + 1
            if key in data:
                first = self.document.lines[(*path, key)]
                self.mistake((*path, key), line, None, f"is said twice (first on line {first})", "each key once")
                continue
            self.document.lines[(*path, key)] = line
            data[key] = self.build(value_node, (*path, key))
        return data

    def sequence(self, node: yaml.Node, path: Path) -> Data:
        return [self.build(child, (*path, index)) for index, child in enumerate(node.value)]

    def scalar(self, node: yaml.ScalarNode, path: Path) -> Scalar:
        text = _VARIABLE.sub(lambda match: self.fill(match, node, path), node.value)
        tag = node.tag
        if text != node.value and node.style is None:  # an unquoted ${PORT} is a number when its value is one
            tag = self.loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        filled = yaml.ScalarNode(tag, text, node.start_mark, node.end_mark, node.style)
        try:
            return self.loader.construct_object(filled)  # safe: the loader is a SafeLoader
        except ValueError as error:  # a number of 5,000 digits, or a tag that its text does not fit
            raise yaml.MarkedYAMLError(problem=f"not a value: {error}", problem_mark=node.start_mark) from error

    def fill(self, match: re.Match[str], node: yaml.ScalarNode, path: Path) -> str:
        if match[1]:
            return match[0][1:]
        variable = _NAME.fullmatch(match[2])
        line = node.start_mark.line + 1
        if variable is None:
            self.mistake(path, line, match[0], "is not a variable", "${NAME} or ${NAME:-default}; $${ for a plain ${")
            return ""
        name, default = variable["name"], variable["default"]
        value = self.environment.get(name)
        if value is None or (value == "" and default is not None):
            value = default
        if value is None:
            close = nearest(name, [known for known in self.environment if known.isupper()])
            allowed = "a set variable, or ${NAME:-default}"
            self.mistake(path, line, match[0], "is not set in the environment", allowed, close)
            return ""
        return value

    def mistake(
        self, path: Path, line: int, value: Scalar, problem: str, allowed: str, close: str | None = None
    ) -> None:
        self.document.mistakes.append(Mistake(path, line, value, problem, allowed, close))
