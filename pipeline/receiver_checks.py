"""What single values of a receiver cannot tell: whether it has what its kind needs, and a name of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.config_validation import Conflict
from pipeline.incident import Kind

if TYPE_CHECKING:
    from pipeline.config import OutputsConfig, ReceiverConfig


def receiver_conflicts(outputs: OutputsConfig) -> Iterator[Conflict]:
    """Yield everything that is wrong with receivers beyond single values, by its path in the config."""
    names = [receiver.name for receiver in outputs.receivers]
    for index, receiver in enumerate(outputs.receivers):
        base = ("outputs", "receivers", index)
        if receiver.name in names[:index]:
            yield (*base, "name"), receiver.name, "is the name of another receiver too", "each name once"
        for key, problem, allowed in problems(receiver):
            yield (*base, key), None, problem, allowed


def problems(receiver: ReceiverConfig) -> Iterator[tuple[str, str, str]]:
    """Yield what a receiver lacks, or has too much of, for its kind: the key, what is wrong and what is allowed."""
    kind, urls = receiver.kind, len(receiver.urls)
    if kind == "file" and receiver.path is None:
        yield "path", "is missing, but a file needs it", "the file that lines are appended to"
    if kind != "file" and receiver.path is not None:
        yield "path", f"is of no use to kind {kind}", "leave it out, or kind: file"
    if kind == "alertmanager" and not urls:
        yield "urls", "is missing, but an Alertmanager needs it", "the address of each instance"
    if kind == "webhook" and urls != 1:
        yield "urls", f"holds {urls} addresses, but a webhook has one", "one address; another receiver for another"
    if kind == "file" and urls:
        yield "urls", "is of no use to a file", "leave it out"
    if len(set(receiver.urls)) != urls:
        yield "urls", "holds an address twice", "each address once"
    if receiver.ca_file is not None and not any(url.startswith("https:") for url in receiver.urls):
        yield "ca_file", "is of no use without an https address", "leave it out"
    if receiver.secret is not None and kind != "webhook":
        yield "secret", f"is of no use to kind {kind}, which signs nothing", "leave it out"
    if receiver.secret is not None and not receiver.secret.get_secret_value():
        yield "secret", "is empty, so anybody could sign", "any long random text"
    known = {str(each) for each in Kind}
    for each in receiver.kinds:
        if each not in known:
            yield "kinds", f"names {each!r}, which is no kind of incident", ", ".join(Kind)
