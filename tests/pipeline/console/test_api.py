"""The API: answers as they should be, for names that are hostile and lists that are long, and actions on record."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.errors import StoreUnavailable
from tests.pipeline.console.console_parts import GUARD, HOSTILE, NOW_US, STEP_US, Console, console, incident


@pytest.fixture
def one(tmp_path: Path) -> Console:
    """A console that trusts loopback."""
    return console(tmp_path)


def test_everything_can_be_asked(one: Console) -> None:
    """Protects that each address of the description answers, to whoever may act."""
    browser = one.browser()
    for path in browser.get("/api/openapi.json").json()["paths"]:
        assert path.startswith("/api/")
    for path in (
        "overview", "streams", "system", "incidents", "audit", "training", "whoami", "models?stream=air",
        "entities?stream=air", "entity?stream=air&entity=north", f"incidents/{'a' * 32}",
    ):  # fmt: skip
        assert browser.get(f"/api/{path}").status_code == 200, path


def test_the_overview_tells_what_is_open(one: Console) -> None:
    """Protects the first thing that people look at."""
    now = one.browser().get("/api/overview").json()
    assert [line["id"] for line in now["open"]] == ["a" * 32]
    assert now["open_total"] == 1
    assert now["streams"][0]["entities"] == 2
    assert now["streams"][0]["alerts"] == 1
    assert now["troubles"] == []


def test_an_incident_tells_its_series_and_why_not_earlier(one: Console) -> None:
    """Protects the answer to "why", and to "why not earlier"."""
    told = one.browser().get("/api/incidents/aaaa").json()
    assert told["series"]["entity"] == "north"
    assert told["series"]["times_us"] == [NOW_US + t * STEP_US for t in (-2, -1, 0)]
    assert told["series"]["values"] == [[0.0] * 3, [10.0] * 3]
    assert told["series"]["lower"][0][0] < told["series"]["expected"][0][0] < told["series"]["upper"][0][0]
    assert told["earlier"]["steps_to_open"] == 1
    assert told["messages"][0]["reason"] == "it is odd"
    assert told["limits"] == [{"channel": "pm25", "name": "limit", "above": 50.0, "below": None}]


def test_hostile_names_are_only_names(one: Console) -> None:
    """Protects from names that are paths, markup or templates: they come back as they are, as JSON."""
    browser = one.browser()
    answer = browser.get("/api/entity", params={"stream": "air", "entity": HOSTILE})
    assert answer.json()["entity"] == HOSTILE
    assert answer.headers["content-type"] == "application/json"
    assert browser.get("/api/entities", params={"stream": "air", "search": "ALERT(1)"}).json()["total"] == 1
    assert browser.get("/api/incidents", params={"entity": HOSTILE}).json()["total"] == 1


def test_a_forecast_comes_with_its_quantiles(one: Console) -> None:
    """Protects the fan of what is expected next: it opens around the forecast, wider for rarer quantiles."""
    ahead = one.browser().get("/api/entity?stream=air&entity=north").json()["forecast"]
    assert ahead["times_us"] == [NOW_US + STEP_US, NOW_US + 6 * STEP_US]
    at = [ahead["quantiles"][q][0][0] for q in ("0.025", "0.1", "0.25")] + [ahead["values"][0][0]]
    at += [ahead["quantiles"][q][0][0] for q in ("0.75", "0.9", "0.975")]
    assert at == sorted(at)
    assert len(set(at)) == 7


def test_a_hundred_thousand_entities_are_paged_and_searched_here(tmp_path: Path) -> None:
    """Protects the browser from long lists: it gets a page of them, and how many there are."""
    names = [f"sensor-{i:06d}" for i in range(100_000)]
    browser = console(tmp_path, names=names).browser()
    page = browser.get("/api/entities?stream=air&limit=3&order=name&offset=99998").json()
    assert [line["entity"] for line in page["entities"]] == names[-2:]
    assert page["total"] == 100_000
    found = browser.get("/api/entities?stream=air&search=SENSOR-01234&limit=200").json()
    assert [line["entity"] for line in found["entities"]] == [f"sensor-01234{i}" for i in range(10)]
    assert browser.get("/api/entities?stream=air&limit=1").json()["entities"][0]["entity"] == names[0]


def test_incidents_are_paged_and_searched_here(one: Console) -> None:
    """Protects lists of incidents: any page of them, any part of a name, and the count of all that fit."""
    more = [incident(f"{i:032x}", f"pump {i} 100%", opened_us=NOW_US - i * STEP_US) for i in range(1, 40)]
    one.store.keep(more)
    browser = one.browser()
    page = browser.get("/api/incidents?search=PUMP&limit=5&offset=5").json()
    assert [line["entity"] for line in page["incidents"]] == [f"pump {i} 100%" for i in range(6, 11)]
    assert page["total"] == 39
    assert browser.get("/api/incidents", params={"search": "3 100%"}).json()["total"] == 4
    assert browser.get("/api/incidents", params={"search": "%ump"}).json()["total"] == 0
    assert browser.get("/api/incidents?kind=silence").json()["total"] == 1


def test_a_label_is_kept_withdrawn_and_on_record(one: Console) -> None:
    """Protects the one click that matters: said, seen, taken back, and who did it."""
    browser = one.browser()
    path = f"/api/incidents/{'a' * 32}/label"
    assert browser.post(path, json={"label": "false_alarm", "reason": "a fair"}, headers=GUARD).status_code == 200
    label = browser.get("/api/incidents?search=aaaa").json()["incidents"][0]["label"]
    assert (label["kind"], label["reason"], label["author"]) == ("false_alarm", "a fair", "operator")
    assert browser.delete(path, headers=GUARD).status_code == 200
    assert browser.get("/api/incidents?search=aaaa").json()["incidents"][0]["label"] is None
    done = browser.get("/api/audit").json()["actions"]
    assert sorted((line["action"], line["outcome"], line["subject"]) for line in done) == [
        ("label", "done", "a" * 32), ("unlabel", "done", "a" * 32),
    ]  # fmt: skip


def test_what_cannot_be_done_is_refused_with_the_reason_and_on_record(one: Console) -> None:
    """Protects from actions that vanish: what was refused, and why, is kept too."""
    browser = one.browser()
    answer = browser.post("/api/models/promote", json={"stream": "air", "version": "nonsense"}, headers=GUARD)
    assert answer.status_code == 404
    assert "nonsense" in answer.json()["error"]
    assert browser.post("/api/models/rollback", json={"stream": "air"}, headers=GUARD).status_code == 409
    done = browser.get("/api/audit").json()["actions"]
    assert {(line["action"], line["outcome"]) for line in done} == {("promote", "refused"), ("roll back", "refused")}
    linear = browser.post("/api/models/promote", json={"stream": "air", "version": "linear"}, headers=GUARD)
    assert linear.json()["detail"]["champion"] == "linear"


def test_expected_needs_its_end(one: Console) -> None:
    """Protects from a silence for ever: what is expected has a reason and an end."""
    path = f"/api/incidents/{'a' * 32}/label"
    answer = one.browser().post(path, json={"label": "expected", "reason": "works"}, headers=GUARD)
    assert answer.status_code == 400
    assert "end" in answer.json()["error"]


def test_training_answers_as_the_plain_server_does(one: Console) -> None:
    """Protects `vedette train --now`: accepted 202, busy 409 with the same body, unknown stream 404."""
    browser = one.browser()
    first = browser.post("/api/train?stream=air", headers=GUARD)
    assert (first.status_code, first.json()["accepted"], one.trained) == (202, True, ["air"])
    busy = browser.post("/api/train", headers=GUARD)
    assert (busy.status_code, busy.json()["accepted"], busy.json()["job"]) == (409, False, "j1")
    assert browser.post("/api/train?stream=none", headers=GUARD).status_code == 404


def test_a_dead_database_is_told_and_the_rest_goes_on(one: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the console while the database is away: 503 with the reason, and everything else as ever."""

    def away(*_: object) -> None:
        raise StoreUnavailable("nobody answers at the database")

    for name in ("incidents", "find", "actions", "begin_action"):
        monkeypatch.setattr(one.store, name, away)
    browser = one.browser()
    answer = browser.get("/api/incidents")
    assert answer.status_code == 503
    assert "nobody answers" in answer.json()["error"]
    assert "Retry-After" in answer.headers
    now = browser.get("/api/overview").json()
    assert "nobody answers" in now["troubles"][0]
    assert now["streams"][0]["entities"] == 2
    entity = browser.get("/api/entity?stream=air&entity=north").json()
    assert entity["series"]["times_us"] != []
    assert "nobody answers" in entity["trouble"][0]
    assert browser.post("/api/train", headers=GUARD).status_code == 503
    assert one.trained == []  # what cannot be recorded is not done
    assert browser.get("/livez").status_code == 200


def test_mistakes_are_named(one: Console) -> None:
    """Protects whoever writes a script: what is wrong is said, as JSON, without a stack trace."""
    browser = one.browser()
    for path, status, word in (
        ("/api/entities?stream=none", 404, "none"),
        ("/api/entities", 422, "stream"),
        ("/api/entity?stream=air&entity=nobody", 404, "nobody"),
        ("/api/entity?stream=air&entity=north&from_us=5&to_us=4", 400, "before"),
        ("/api/incidents/xyz", 422, "incident_id"),
        (f"/api/incidents/{'c' * 32}", 404, "no incident"),
        ("/api/nothing", 404, "/docs"),
    ):
        answer = browser.get(path)
        assert (answer.status_code, word in answer.json()["error"]) == (status, True), answer.text
