"""Pages that tell where the next one is, read one after the other; a broken one is never half used."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TypeVar

from connectors.errors import SourceUnavailable
from connectors.http_polling import Answer, Params, Poller


@dataclass(slots=True)
class LinkedPage:
    """What every page tells besides its rows."""

    next_link: str | None = None
    """Where the next page is; None on the last."""
    broken: str = ""
    """Why nothing of the page can be used; empty if it can."""


Page = TypeVar("Page", bound=LinkedPage)


def linked_pages(
    poller: Poller, link: str, params: Params, read: Callable[[bytes], Page], *, accept: Collection[int] = (200,)
) -> Iterator[Page]:
    """Yield page after page, asking for one when the one before was dealt with.

    Args:
        poller: asks.
        link, params: of the first page.
        read: makes a page of a body; never raises.
        accept: statuses that are success.

    Raises:
        SourceUnavailable: if a page does not come, or comes broken.
        SourceRefused: from the service.
        Stopping: if the process stops.
    """
    page: Page

    def following(answer: Answer) -> str | None:
        return page.next_link

    for number, answer in enumerate(poller.pages(link, params, next_link=following, accept=accept), 1):
        page = read(answer.body)
        if page.broken:
            kind = answer.headers.get("content-type", "no content type")
            raise SourceUnavailable(f"page {number} of {link} cannot be used ({kind}): {page.broken}")
        yield page
