"""Refusals: people read a page with a way out, programs read JSON, and neither obeys what a stranger wrote."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from pipeline.console.refusals import Refusals
from pipeline.console.rendering import Rendering
from pipeline.console.static_files import StaticFiles
from tests.browser.console_server import served
from tests.pipeline.console.console_parts import HOSTILE, console

PEOPLE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
OURS = {"accept": "text/html", "host": "localhost:9464"}


@pytest.fixture(scope="module")
def refusals() -> Refusals:
    """What writes them."""
    return Refusals(Rendering(StaticFiles()))


def test_people_get_a_page_and_programs_json(tmp_path: Path) -> None:
    """The same refusal reads as a page in a browser, and as JSON below /api and for whoever asks for no page."""
    asked = console(tmp_path).browser()
    page = asked.get("/nowhere", headers=PEOPLE)
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "There is no such page" in page.text
    nonce = page.headers["content-security-policy"].partition("'nonce-")[2].partition("'")[0]
    assert f'nonce="{nonce}"' in page.text
    for path, headers in (("/nowhere", {}), ("/api/nowhere", PEOPLE)):
        told = asked.get(path, headers=headers)
        assert (told.status_code, told.headers["content-type"]) == (404, "application/json")
        assert "no such page" in told.json()["error"]


def test_a_refused_form_is_a_page_with_all_headers(tmp_path: Path) -> None:
    """What the gate itself refuses, before the app, is a page as well, with the content policy of every other."""
    answer = console(tmp_path).browser().request(
        "POST", "/models/train", data={"csrf": "old"}, headers={**PEOPLE, "Origin": "http://localhost:9464"}
    )  # fmt: skip
    assert answer.status_code == 403
    assert "load its page again" in answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("referer", "back"),
    [
        ("http://localhost:9464/models?stream=air", "/models?stream=air"),
        ("http://localhost:9464//evil.example/", ""),
        ("https://evil.example/form", ""),
        ("http://localhost:9464.evil.example/", ""),
        ("javascript:alert(1)", ""),
    ],
)
def test_the_way_back_is_ours(refusals: Refusals, referer: str, back: str) -> None:
    """Protects from a page that leads to where a stranger wants."""
    _, body = refusals.answer(403, "too old", path="/models/train", headers={**OURS, "referer": referer})
    assert ("Back to the form" in body.decode()) is bool(back)
    assert (f'href="{back}"' in body.decode()) is bool(back)
    assert b"evil" not in body


def test_what_was_asked_for_is_text(refusals: Refusals) -> None:
    """Protects a page of refusal from the address and the reason that it repeats."""
    media, body = refusals.answer(503, f"no answer about {HOSTILE}", path=f"/{HOSTILE}", headers=OURS)
    assert media.startswith("text/html")
    assert b"<script" not in body
    assert "{{7*7}}" in body.decode()


def test_the_api_is_listed_from_its_description(tmp_path: Path) -> None:
    """Protects the list from leaving out what the API learns, and from loading anything from elsewhere."""
    with served(tmp_path) as shown, httpx.Client(base_url=shown.address, timeout=30.0) as client:
        page, described = client.get("/docs"), client.get("/api/openapi.json").json()["paths"]
    assert page.status_code == 200
    for path, methods in described.items():
        assert f"<code>{path}</code>" in page.text
        for operation in methods.values():
            for parameter in operation.get("parameters", ()):
                assert f">{parameter['name']}</th>" in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text
