"""The gate: who may ask and act; what other sites, floods and large bodies come to. What is refused changes nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pipeline.console.answers import Role
from pipeline.console.auth import SESSION_S, Gatekeeper, Token
from pipeline.console.limits import MOST_BODY_BYTES, RateLimit
from tests.pipeline.console.console_parts import GUARD, Console, console

READ, ACT = Token("dashboards", "r" * 32, Role.READ), Token("anna", "a" * 32, Role.ACT)
LABEL = f"/api/incidents/{'a' * 32}/label"
WORD = {"label": "true"}


def bearer(token: Token) -> dict[str, str]:
    """Return the header that shows a token."""
    return {"Authorization": f"Bearer {token.secret}"}


@pytest.fixture
def guarded(tmp_path: Path) -> Console:
    """A console with a token for reading and one for acting."""
    return console(tmp_path, tokens=[READ, ACT])


@pytest.fixture
def trusting(tmp_path: Path) -> Console:
    """A console without tokens."""
    return console(tmp_path)


def unchanged(one: Console) -> bool:
    """Return whether nobody has labelled, trained or left a trace."""
    return one.store.labels_of(["a" * 32]) == [] and one.trained == [] and one.store.count_actions() == 0


def test_a_token_without_a_secret_is_nobodys() -> None:
    """Protects from an empty file or variable in the place of a secret: whoever shows none would be let in to act."""
    keeper = Gatekeeper([Token("anna", "", Role.ACT)])
    assert keeper.token("") is None
    assert keeper.asker({"authorization": "Bearer "}, "10.0.0.9").who is None


def test_probes_are_open_whoever_asks(guarded: Console) -> None:
    """Protects orchestrators and Prometheus: they bring no token, from anywhere."""
    browser = guarded.browser(peer="10.0.0.9", host="vedette.example")
    statuses = [browser.get(path).status_code for path in ("/livez", "/readyz", "/healthz", "/metrics")]
    assert statuses == [200, 503, 503, 200]
    assert "vedette_consumer_lag_records" in browser.get("/metrics").text
    assert browser.post("/livez").status_code == 405
    assert browser.request("HEAD", "/livez").content == b""


def test_without_a_token_nothing_is_shown_or_changed(guarded: Console) -> None:
    """Protects everything where tokens are configured, the description of the API included."""
    browser = guarded.browser()
    for path in ("/api/overview", "/api/openapi.json", "/api/events", "/api/nothing"):
        answer = browser.get(path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert browser.get("/incidents?x=1").headers["location"] == "/login?next=%2Fincidents%3Fx%3D1"
    for wrong in ("", "Bearer", "Bearer nonsense", "Basic abc", f"Bearer {'a' * 31}", "Bearer \xe9"):
        headers = {"Authorization": wrong.encode("latin-1"), "X-Vedette-Request": b"1"}
        assert browser.post(LABEL, json=WORD, headers=headers).status_code == 401
    assert unchanged(guarded)


def test_reading_is_not_acting(guarded: Console) -> None:
    """Protects from dashboards that act: a token for reading labels nothing."""
    browser = guarded.browser()
    assert browser.get("/api/overview", headers=bearer(READ)).status_code == 200
    assert browser.post(LABEL, json=WORD, headers=bearer(READ) | GUARD).status_code == 403
    assert browser.post("/api/train", headers=bearer(READ) | GUARD).status_code == 403
    assert unchanged(guarded)
    assert browser.post(LABEL, json=WORD, headers=bearer(ACT) | GUARD).status_code == 200
    assert guarded.store.actions(1)[0].who == "anna"


def test_a_write_needs_the_header_that_other_sites_cannot_send(guarded: Console) -> None:
    """Protects from forms elsewhere that post to the API."""
    assert guarded.browser().post(LABEL, json=WORD, headers=bearer(ACT)).status_code == 403
    assert unchanged(guarded)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9464.evil.example"},
        {"Origin": "http://localhost:1"},
    ],
)
def test_other_sites_change_nothing(trusting: Console, headers: dict[str, str]) -> None:
    """Protects whoever has the console and another page open, where loopback is trusted."""
    browser = trusting.browser()
    assert browser.post(LABEL, json=WORD, headers=GUARD | headers).status_code == 403
    assert browser.post("/api/train", headers=GUARD | headers).status_code == 403
    form = {"label": "true", "csrf": "guessed"}
    assert browser.post(f"/incidents/{'a' * 32}/label", data=form, headers=headers).status_code == 403
    assert unchanged(trusting)


def test_a_form_needs_what_only_our_pages_know(trusting: Console) -> None:
    """Protects from forms that a browser sends without saying where they come from."""
    browser = trusting.browser()
    for form in ({}, {"csrf": ""}, {"csrf": "guessed"}):
        assert browser.post(f"/incidents/{'a' * 32}/label", data={"label": "true", **form}).status_code == 403
    assert unchanged(trusting)


def test_another_name_for_our_address_is_refused(trusting: Console) -> None:
    """Protects from pages whose own name leads to loopback: to them the console would be their own site."""
    for host in ("evil.example", "evil.example:9464", "localhost.evil.example", ""):
        answer = trusting.browser(host=host or "x").get("/api/overview", headers={"Host": host})
        assert answer.status_code == 421, host
    for host in ("127.0.0.1:9464", "[::1]:9464", "localhost"):
        assert trusting.browser(host=host).get("/api/overview").status_code == 200


def test_without_tokens_others_than_loopback_only_read(trusting: Console) -> None:
    """Protects a console that was put on a network without tokens, directly or behind a proxy."""
    far = trusting.browser(peer="10.0.0.9")
    assert far.get("/api/overview").status_code == 200
    assert far.post(LABEL, json=WORD, headers=GUARD).status_code == 403
    near = trusting.browser()
    assert near.post(LABEL, json=WORD, headers=GUARD | {"X-Forwarded-For": "10.0.0.9"}).status_code == 403
    assert unchanged(trusting)
    mapped = trusting.browser(peer="::ffff:127.0.0.1")
    assert mapped.post(LABEL, json=WORD, headers=GUARD).status_code == 200


def test_a_session_begins_with_a_token_and_ends(guarded: Console) -> None:
    """Protects people's sessions: strict, out of scripts' reach, with a form token, and over after logging out."""
    browser = guarded.browser()
    answer = browser.post("/login", data={"token": ACT.secret, "next": "/incidents?x=1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/incidents?x=1")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    mine = {"Cookie": cookie.partition(";")[0]}
    assert browser.get("/api/whoami", headers=mine).json() == {"name": "anna", "role": "act"}
    assert browser.post(LABEL, json=WORD, headers=mine | GUARD).status_code == 200
    assert browser.post(LABEL, json=WORD, headers=mine).status_code == 403
    assert browser.post("/logout", headers=mine).status_code == 403  # without the form's token
    assert browser.post("/login", data={"token": "wrong"}).status_code == 401
    elsewhere = browser.post("/login", data={"token": ACT.secret, "next": "//evil.example"})
    assert elsewhere.headers["location"] == "/"


def test_who_comes_from_elsewhere_by_a_link_asks_again(guarded: Console) -> None:
    """Protects links in alerts: the strict cookie is not sent along, so the page asks once more from here."""
    answer = guarded.browser().get('/incidents/abcd?x="><b>', headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200
    assert "refresh" in answer.text
    assert "<b>" not in answer.text


def test_sessions_cannot_be_made_up_and_run_out() -> None:
    """Protects from cookies that are forged, changed, of another process, or old."""
    now_s = [1_000.0]
    keeper = Gatekeeper([ACT], now_s=lambda: now_s[0])
    session = keeper.session_cookie(ACT).partition(";")[0]

    def who(cookie: str, by: Gatekeeper = keeper) -> bool:
        return by.asker({"cookie": f"other=1; {cookie}"}, "127.0.0.1").who is not None

    assert who(session)
    assert not who(session, Gatekeeper([ACT], now_s=lambda: now_s[0]))
    for damaged in (
        session[:-1],
        session + "0",
        session.replace(".", "x", 1),
        "vedette_session=",
        "vedette_session=é.é",
    ):
        assert not who(damaged)
    now_s[0] += SESSION_S
    assert not who(session)


def test_every_answer_tells_browsers_what_it_may_do(guarded: Console) -> None:
    """Protects pages from scripts that are not ours: a strict policy, another nonce each time, also on refusals."""
    browser = guarded.browser()
    nonces = set()
    for path in ("/login", "/api/overview", "/nothing", "/api/nothing"):
        headers = browser.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        scripts = re.search(r"script-src ([^;]*);", policy)
        assert scripts is not None
        assert "unsafe" not in scripts[1]
        assert headers["x-content-type-options"] == "nosniff"
        nonces |= set(re.findall(r"nonce-([^']+)'", policy))
    assert len(nonces) == 4


def test_large_bodies_are_refused(trusting: Console) -> None:
    """Protects memory: neither a length that is told nor one that is not gets more than its share."""
    browser = trusting.browser()
    assert browser.post(LABEL, content=b"x" * (MOST_BODY_BYTES + 1), headers=GUARD).status_code == 413

    async def endless() -> object:
        while True:
            yield b"x" * 10_000

    assert browser.post(LABEL, content=endless(), headers=GUARD).status_code == 413
    assert unchanged(trusting)


def test_a_flood_is_slowed_down_but_not_the_probes(trusting: Console) -> None:
    """Protects everybody else from one client; probes are always answered."""
    browser = trusting.hasty_browser()
    statuses = [browser.get("/login").status_code for _ in range(220)]
    assert statuses == [200] * 200 + [429] * 20
    assert browser.get("/livez").status_code == 200


def test_guessing_tokens_is_slow(guarded: Console) -> None:
    """Protects weak tokens: after ten attempts in a row it takes seconds for each."""
    browser = guarded.hasty_browser()
    statuses = [browser.post("/login", data={"token": f"guess {i}"}).status_code for i in range(12)]
    assert statuses == [401] * 10 + [429] * 2


def test_a_rate_limit_refills_and_forgets() -> None:
    """Protects from a limit that never ends, and from a memory of all who ever asked."""
    now_s = [0.0]
    limit = RateLimit(2.0, 4.0, monotonic=lambda: now_s[0])
    assert [limit.allows("a") for _ in range(5)] == [True] * 4 + [False]
    assert limit.allows("b")
    now_s[0] = 1.0
    assert [limit.allows("a") for _ in range(3)] == [True, True, False]
    for i in range(10_000):
        limit.allows(str(i))
    assert limit.allows("a")


def test_what_goes_wrong_ends_with_its_request(trusting: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from stack traces in answers: a mistake of ours is 500 with a plain word, and logged once."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(trusting.answers, "streams", broken)
    with capture_logs() as logs:
        answer = trusting.browser().get("/api/streams")
    assert (answer.status_code, "secret" in answer.text) == (500, False)
    assert [line["event"] for line in logs] == ["a request failed"]
    monkeypatch.setattr(trusting.keeper, "asker", broken)
    assert trusting.browser().get("/api/streams").json()["error"].startswith("an internal error")
    assert trusting.browser().get("/livez").status_code == 200
