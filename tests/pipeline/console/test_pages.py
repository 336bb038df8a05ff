"""Pages without a browser: what is in them, what must never be, and how their files are kept by caches."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from pipeline.console.page_entity import last_us, range_us
from pipeline.console.page_incident import attention_map
from pipeline.console.rendering import microseconds, moment, number, percent, score, whole
from pipeline.console.shapes import Attention, Moment
from pipeline.console.troubles import BadQuestion
from tests.browser.console_server import Served, served
from tests.browser.console_world import HOSTILE, LONG, STREAM


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A console over a small simulated run."""
    with served(tmp_path_factory.mktemp("console")) as found:
        yield found


@pytest.fixture
def client(console: Served) -> Iterator[httpx.Client]:
    """Somebody on this machine."""
    with httpx.Client(base_url=console.address, timeout=30.0) as opened:
        yield opened


class Marks(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it."""
        self.found.append((tag, dict(attrs)))


def marks(text: str) -> list[tuple[str, dict[str, str | None]]]:
    """Return the elements of a page."""
    parser = Marks()
    parser.feed(text)
    return parser.found


def paths(console: Served) -> list[str]:
    """Return an address of each page, hostile names among them."""
    world = console.world
    incidents = [f"/incidents/{each}" for each in (world.open_id, world.past_id, world.hostile_id)]
    entities = [str(httpx.URL("/entities", params={"stream": STREAM, "entity": e})) for e in (HOSTILE, LONG, "market")]
    return ["/", "/incidents", "/entities", "/sites", "/models", "/system", *incidents, *entities]


def test_no_page_has_what_the_content_policy_forbids(console: Served, client: httpx.Client) -> None:
    """No handler in an attribute, no style, no script without the page's nonce, nothing from another host."""
    for path in paths(console):
        answer = client.get(path)
        assert answer.status_code == 200, path[:80]
        nonce = re.search(r"'nonce-([\w-]+)'", answer.headers["content-security-policy"])
        assert nonce is not None
        for tag, attributes in marks(answer.text):
            assert not [name for name in attributes if name.startswith("on") or name == "style"], (path[:80], tag)
            address = attributes.get("src") or attributes.get("href") or attributes.get("action") or ""
            assert address.startswith(("/", "#", "data:,")) or address == "", (path[:80], address[:80])
            if tag == "script":
                assert attributes["nonce"] == nonce[1]


def test_every_link_leads_somewhere(console: Served, client: httpx.Client) -> None:
    """Links and files of all pages answer with success, names full of slashes and markup included."""
    found = {a.get("href") or a.get("src") for path in paths(console) for _, a in marks(client.get(path).text)}
    links = sorted(link for link in found if link and link.startswith("/"))
    assert len(links) > 20
    for link in links:
        assert client.get(link).status_code == 200, link[:200]


def test_every_form_that_acts_carries_the_guard(console: Served, client: httpx.Client) -> None:
    """A form without what our own pages carry changes nothing."""
    page = client.get(f"/incidents/{console.world.open_id}").text
    assert page.count('name="csrf"') == page.count('method="post"') > 0
    label = f"/incidents/{console.world.open_id}/label"
    for guard in ({}, {"csrf": ""}, {"csrf": "guessed"}):
        assert client.post(label, data={"kind": "true", **guard}).status_code == 403
    assert console.world.answers.incident(console.world.open_id)["incident"]["label"] is None


def test_files_are_kept_for_ever_and_packed(client: httpx.Client) -> None:
    """Styles and scripts, Plotly's among them, come from here, cached by an address that changes with them."""
    page = client.get("/models").text
    plotly = next(a["src"] for tag, a in marks(page) if tag == "script" and "plotly" in (a.get("src") or ""))
    assert plotly is not None
    plain = client.get(plotly, headers={"Accept-Encoding": "identity"})
    assert "immutable" in plain.headers["cache-control"]
    assert plain.headers["content-type"] == "text/javascript; charset=utf-8"
    with client.stream("GET", plotly, headers={"Accept-Encoding": "gzip"}) as packed:
        raw = b"".join(packed.iter_raw())
    assert len(raw) < 0.5 * len(plain.content)
    assert gzip.decompress(raw) == plain.content
    assert client.get("/static/0/secret.txt").status_code == 404
    assert client.get("/static/0/..%2Fpages.py").status_code == 404


def test_the_database_may_be_away(tmp_path: Path) -> None:
    """Pages say what cannot be asked; what needs no database is shown all the same."""
    with served(tmp_path) as console, httpx.Client(base_url=console.address, timeout=30.0) as client:
        console.world.store.close()
        (tmp_path / "alerts.db").unlink()
        (tmp_path / "alerts.db").mkdir()
        now = client.get("/")
        assert now.status_code == 200
        assert "cannot be shown" in now.text
        assert client.get(f"/incidents/{console.world.open_id}").status_code == 503
        assert "entity=market" in client.get("/entities").text
        system = client.get("/system")
        assert system.status_code == 200
        assert "what people did cannot be shown" in system.text


def test_data_in_a_page_cannot_end_its_script(console: Served, client: httpx.Client) -> None:
    """What charts are drawn from is JSON that holds no angle bracket, whatever names are in it."""
    page = client.get(f"/incidents/{console.world.hostile_id}").text
    data = re.search(r'id="series-data"[^>]*>([^<]*)</script>', page)
    assert data is not None
    assert json.loads(data[1])["channels"][0]["name"] == "PM2.5"
    assert "<img" not in page


def looked(time: str, *moments: tuple[str, str, float]) -> Attention:
    """Return where the model looked at one time."""
    listed: list[Moment] = [{"what": w, "text": t, "weight": x, "time": None} for w, t, x in moments]
    return {"time": time, "moments": listed, "program_share": 0.5}


def test_attention_becomes_a_map() -> None:
    """Rows are moments, the program's first; columns messages; what one message does not list is empty, not zero."""
    shown = attention_map(
        [
            looked("2026-01-01T00:00:00Z", ("recent", "10 min before", 0.4), ("lag", "yesterday", 0.2)),
            looked("2026-01-01T01:00:00Z", ("lag", "yesterday", 0.1), ("example", "3 March", 0.3)),
        ]
    )
    assert shown is not None
    assert [row["text"] for row in shown["rows"]] == ["yesterday", "10 min before", "3 March"]
    assert [[cell["weight"] for cell in row["cells"]] for row in shown["rows"]] == [
        [0.2, 0.1],
        [0.4, None],
        [None, 0.3],
    ]
    assert [cell["level"] for row in shown["rows"] for cell in row["cells"]] == [4, 2, 8, 0, 0, 6]
    assert [(part["kind"], round(part["share"], 3)) for part in shown["parts"]] == [
        ("lag", 0.2), ("recent", 0.4), ("rest", 0.4),
    ]  # fmt: skip


def test_what_no_message_listed_counts_too() -> None:
    """Where the shares of all attention are known, they are shown, not those of what was listed."""
    row = looked("2026-01-01T00:00:00Z", ("recent", "10 min before", 0.1))
    shown = attention_map([row], {"recent": 0.7, "lag": 0.25, "odd": 0.05})
    assert shown is not None
    assert [(p["kind"], p["share"]) for p in shown["parts"]] == [("lag", 0.25), ("recent", 0.7), ("rest", 0.05)]
    assert shown["program"] == 0.25


def test_no_attention_is_no_map() -> None:
    """Where nothing was attended to there is nothing to draw."""
    assert attention_map([]) is None
    assert attention_map([looked("2026-01-01T00:00:00Z")]) is None


def test_numbers_and_times_as_people_read_them() -> None:
    """What is not known is a dash; a time that is none too; a name is cut only where nobody reads on."""
    assert [number(x) for x in (1.5, None, "x", True)] == ["1.5", "–", "–", "–"]
    assert [score(x) for x in (0.081, None)] == ["0.08", "–"]
    assert [percent(x) for x in (0.123, None)] == ["12 %", "–"]
    assert microseconds("2026-03-03T04:00:00Z") == 1_772_510_400_000_000
    assert microseconds("never") is None
    assert "–" in moment(None)
    assert 'title="3 March 2026 04:00 UTC"' in moment(1_772_510_400_000_000)
    assert whole("a\u202eb\x00c") == "a b c"
    assert len(whole(LONG)) == 300


def test_ranges_that_are_none_are_refused_in_words() -> None:
    """A range is ISO 8601, in UTC where it names no zone; only lengths with a button are known."""
    assert range_us("2026-03-03T04:00", "from") == range_us("2026-03-03T05:00+01:00", "from") == 1_772_510_400_000_000
    assert range_us("", "from") is None
    with pytest.raises(BadQuestion, match="no time"):
        range_us("yesterday", "from")
    assert last_us("24") == 86_400_000_000
    assert last_us("25") is None
