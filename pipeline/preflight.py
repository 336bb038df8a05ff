"""`vedette check`: is the config right, and can everything that it names be reached? Changes nothing outside."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from pipeline.checkpointing import CheckpointError, CheckpointStore
from pipeline.config import Config, effective, load
from pipeline.config_errors import ConfigError
from pipeline.durations import format_duration
from pipeline.exit_codes import CONFIG, OK, UNAVAILABLE

_KAFKA_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. ``code`` is the exit code that it calls for."""

    what: str
    code: int
    detail: str


def main(args: argparse.Namespace) -> int:
    """Run ``vedette check``; return 0, 78 where a person has to change the config, 69 where something is away."""
    try:
        config = load(args.config)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return CONFIG
    if args.effective:
        sys.stdout.write(effective(config))
        return OK
    findings = [_summary(config), *examine(config, None if args.offline else kafka_topics)]
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        verdict = "ok" if finding.code == OK else "FAILED"
        sys.stdout.write(f"{finding.what:<{width}}  {verdict:<6}  {finding.detail}\n")
    codes = {finding.code for finding in findings}
    return CONFIG if CONFIG in codes else UNAVAILABLE if UNAVAILABLE in codes else OK


def examine(config: Config, kafka: Callable[[Config], Finding] | None) -> Iterator[Finding]:
    """Yield what the checks of everything outside found; ``kafka`` asks the brokers, none leaves them out."""
    if kafka is not None:
        yield kafka(config)
    yield _checkpoints(config)
    yield _models(config)
    yield _history(config)
    yield _database(config)
    if config.ingest.sources:
        yield _sources(config)
    for path in (config.outputs.alerts_file, config.outputs.scores_file):
        if path is not None and str(path) != "-":
            yield _file(path)


def kafka_topics(config: Config) -> Finding:
    """Ask the brokers whether the input topics are there, as the daemon itself would."""
    from connectors.errors import ConnectorError, Misconfigured
    from connectors.kafka_topics import require_topics

    servers = ", ".join(config.kafka.bootstrap_servers)
    topics = [topic for stream in config.streams for topic in stream.topics]
    settings = config.kafka.client_settings()
    del settings["bootstrap_servers"]
    try:
        require_topics(list(config.kafka.bootstrap_servers), topics, timeout_s=_KAFKA_TIMEOUT_S, settings=settings)
    except Misconfigured as error:
        return Finding("kafka", CONFIG, str(error))
    except ConnectorError as error:
        return Finding("kafka", UNAVAILABLE, str(error))
    return Finding("kafka", OK, f"{servers} has {', '.join(topics)}")


def _summary(config: Config) -> Finding:
    streams = ", ".join(
        f"{stream.name} ({len(stream.channels)} channels, step {format_duration(stream.step)}, budget {stream.budget})"
        for stream in config.streams
    )
    return Finding("config", OK, streams)


def _checkpoints(config: Config) -> Finding:
    directory = config.checkpoints.directory
    try:
        CheckpointStore(directory).probe()
    except CheckpointError as error:
        return Finding("checkpoints", UNAVAILABLE, str(error))
    return Finding("checkpoints", OK, f"{directory} can be written to")


def _models(config: Config) -> Finding:
    from models.registry import Registry, RegistryError

    directory = config.models.directory
    try:
        champions = [Registry(directory).champion_version(stream.name) for stream in config.streams]
    except RegistryError as error:
        return Finding("models", UNAVAILABLE, str(error))
    known = [f"{s.name} {version}" for s, version in zip(config.streams, champions, strict=True) if version]
    state = f"in charge: {', '.join(known)}" if known else "no trained model yet: streams start without"
    return Finding("models", OK, f"{directory}: {state}")


def _history(config: Config) -> Finding:
    from pipeline.history import HistoryError, HistoryStore

    directory = config.history.directory
    if directory is None:
        return Finding("history", OK, "nothing is kept, so nothing can be trained on")
    try:
        spans = [HistoryStore(directory).span(stream.name) for stream in config.streams]
    except HistoryError as error:
        return Finding("history", UNAVAILABLE, str(error))
    rows = [f"{s.name} {span.rows:,} rows" for s, span in zip(config.streams, spans, strict=True) if span is not None]
    return Finding("history", OK, f"{directory}: {', '.join(rows) if rows else 'nothing kept yet'}")


def _database(config: Config) -> Finding:
    from connectors.alert_store import AlertStore
    from connectors.errors import ConnectorError, Misconfigured, StoreMissing

    try:
        current = AlertStore(config.database.url.get_secret_value(), create=False).is_current()
    except StoreMissing as error:
        return Finding("database", OK, f"{error}: made at the start")
    except Misconfigured as error:
        return Finding("database", CONFIG, str(error))
    except ConnectorError as error:
        return Finding("database", UNAVAILABLE, str(error))
    state = "is up to date" if current else "is of an older version: migrated at the start"
    return Finding("database", OK, f"{config.model_dump(mode='json')['database']['url']} {state}")


def _sources(config: Config) -> Finding:
    from connectors.errors import Misconfigured
    from pipeline.ingest.build import source_of

    for options in config.ingest.sources:
        who = f"{options.name} ({options.kind})"
        for key, path in _files_of(options):
            if not os.access(path, os.R_OK):
                return Finding("sources", CONFIG, f"{who}: {key}: {path} is no file that can be read")
        try:
            source_of(config, options)
        except Misconfigured as error:
            return Finding("sources", CONFIG, f"{who}: {error}")
    return Finding("sources", OK, ", ".join(f"{options.name} ({options.kind})" for options in config.ingest.sources))


def _files_of(section: BaseModel, at: str = "") -> Iterator[tuple[str, Path]]:
    """Yield the files that a section names, keys and certificates, each with its key."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Path):
            yield at + name, value
        elif isinstance(value, BaseModel):
            yield from _files_of(value, f"{at}{name}.")


def _file(path: Path) -> Finding:
    folder = path.parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        return Finding("output file", UNAVAILABLE, f"{path}: there is no directory {folder} that can be written to")
    return Finding("output file", OK, f"{path} can be written")
