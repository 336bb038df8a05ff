"""`vedette alerts`: what operators see, what they can say, and what they are told when something is missing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.alert_store import AlertStore
from pipeline.alert_rows import incident_row
from pipeline.alert_words import clean
from pipeline.cli import main
from pipeline.exit_codes import CONFIG, OK, UNAVAILABLE, USAGE
from pipeline.incident import Phase
from tests.pipeline.alert_parts import START_US, id_of, message

CONFIG_TEXT = """
streams:
  - name: air
    topics: [air]
    step: 1m
    channels: [{{name: pm25, unit: ug/m3}}]
database: {{url: "{url}"}}
feedback: {{lookalikes_for: 10d}}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A config file whose database is not there yet."""
    path = tmp_path / "vedette.yaml"
    path.write_text(CONFIG_TEXT.format(url=f"sqlite:///{tmp_path}/state/vedette.db"))
    return str(path)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AlertStore]:
    """The database, with incidents 0 to 2; the first is over."""
    store = AlertStore(f"sqlite:///{tmp_path}/state/vedette.db")
    over = message(0, 1, phase=Phase.RESOLVED, resolved_us=START_US + 60_000_000, reason="It is over.")
    store.keep([incident_row(said) for said in (message(0), over, message(1), message(2, entity="\x1b[31mred"))])
    yield store
    store.close()


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Return the exit code, stdout and stderr of ``vedette alerts`` with these arguments."""
    code = main(["alerts", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def objects(text: str) -> list[dict[str, Any]]:
    """Return the JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def test_the_list_is_newest_first(config: str, store: AlertStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the first look: one line an incident, with a heading, its label and why."""
    store.label(id_of(1), "false_alarm", "fog", None, "kim", START_US)
    code, out, _ = run(capsys, "list", "--config", config)
    heading, *lines = out.splitlines()
    assert code == OK
    assert heading.split() == ["id", "opened", "stream", "entity", "kind", "tier", "score", "state", "label", "reason"]
    assert [line[:12] for line in lines] == [id_of(n)[:12] for n in (2, 1, 0)]
    assert lines[1].split()[1:10] == [
        "2026-03-02T00:01:00Z",
        "air",
        "station-1",
        "anomaly",
        "alert",
        "1.5",
        "open",
        "false",
        "alarm",
    ]
    assert "resolved" in lines[2]
    assert "far above the 20 to 60" in lines[2]


def test_the_list_is_narrowed(config: str, store: AlertStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects each of the list's options."""

    def listed(*options: str) -> list[str]:
        return [found["entity"] for found in objects(run(capsys, "list", "--config", config, "--json", *options)[1])]

    assert listed("--open", "--limit", "1") == ["\x1b[31mred"]
    assert listed("--entity", "station-1") == ["station-1"]
    assert listed("--stream", "water") == []
    assert listed("--since", "1m") == []
    assert len(listed("--since", "3650d")) == 3
    assert run(capsys, "list", "--config", config, "--stream", "water")[1] == "No incident fits.\n"


def test_nothing_of_a_sensors_name_reaches_the_terminal(
    config: str, store: AlertStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """Protects terminals from escape sequences in entities' names."""
    for arguments in (["list"], ["show", id_of(2)], ["label", id_of(2), "true"]):
        _, out, _ = run(capsys, arguments[0], "--config", config, *arguments[1:])
        assert "\x1b" not in out
        assert "\\x1b[31mred" in out
    assert clean("a\u202eb\ud800\x00") == "a\\u202eb\\ud800\\x00"


def test_show_tells_everything(config: str, store: AlertStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects whoever has to decide: values, band, messages, labels, and what a label does until when."""
    store.label(id_of(0), "true", "", None, "lee", START_US)
    store.label(id_of(0), "false_alarm", "fog", 4_102_444_800_000_000, "kim", START_US)
    (newest,) = (label for label in store.labels() if label.withdrawn_us is None)
    store.silenced({newest.id: 3})
    code, out, _ = run(capsys, "show", "--config", config, id_of(0)[:9])
    assert code == OK
    for said in (
        id_of(0),
        "PM2.5 is 182 µg/m³, far above",
        "20 to 60 µg/m³",
        "100 %",
        "opened",
        "It is over.",
        "true by lee at 2026-03-02T00:00:00Z; taken back or replaced at 2026-03-02T00:00:00Z",
        "false alarm by kim at 2026-03-02T00:00:00Z (fog): incidents like it at station-0 stay silent until"
        " 2100-01-01T00:00:00Z",
        "incidents it kept silent: 3",
    ):
        assert said in out


def test_show_as_json_holds_everything(config: str, store: AlertStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects scripts: the messages are those that were sent, and a label without an end of its own has one."""
    store.label(id_of(0), "false_alarm", "fog", None, "kim", START_US)
    (shown,) = objects(run(capsys, "show", "--config", config, "--json", id_of(0))[1])
    assert [said["type"] for said in shown["messages"]] == ["vedette.alert.opened", "vedette.alert.resolved"]
    assert shown["explanation"]["channels"][0]["observed"] == 182.0
    assert (shown["opened"], shown["resolved"]) == ("2026-03-02T00:00:00Z", "2026-03-02T00:01:00Z")
    assert shown["label"]["ends"] == "2026-03-12T00:00:00Z"
    assert [label["reason"] for label in shown["labels"]] == ["fog"]


def test_a_label_is_said_and_taken_back(
    config: str, store: AlertStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the way from the command line to the database, short ids included."""
    monkeypatch.setenv("LOGNAME", "kim")
    short = id_of(1)[:10]
    code, out, _ = run(
        capsys, "label", "--config", config, short, "expected", "--reason", "fair", "--until", "2100-01-01"
    )
    assert code == OK
    assert "stays silent until 2100-01-01T00:00:00Z" in out
    (label,) = store.labels()
    assert (label.kind, label.reason, label.author) == ("expected", "fair", "kim")
    assert label.until_us == 4_102_444_800_000_000
    code, out, _ = run(capsys, "label", "--config", config, short, "none", "--author", "lee", "--json")
    assert (code, objects(out)[0]["label"]) == (OK, None)
    assert store.labels()[0].withdrawn_us is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["label", "ID", "expected", "--until", "3d"], "expected needs a reason"),
        (["label", "ID", "expected", "--reason", "fair"], "expected needs an end"),
        (["label", "ID", "false-alarm", "--until", "soon"], '"soon" is no time'),
        (["label", "ffffffffffff", "true"], "there is no incident ffffffffffff"),
        (["show", "station-1"], "'station-1' is no incident's id"),
        (["show", ""], "is no incident's id"),
    ],
)
def test_what_cannot_be_done_is_explained(
    config: str, store: AlertStore, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """Protects operators from a guess, and the database from a wrong label."""
    command, *rest = [id_of(1) if argument == "ID" else argument for argument in arguments]
    code, out, err = run(capsys, command, "--config", config, *rest)
    assert (code, out) == (USAGE, "")
    assert said in err
    assert store.labels() == []


def test_an_ambiguous_beginning_is_listed(config: str, store: AlertStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects from labelling another incident than was meant."""
    store.keep([incident_row(message(n, incident_id=f"abc{n:029x}")) for n in range(10)])
    code, _, err = run(capsys, "label", "--config", config, "ABC", "true")
    assert code == USAGE
    first, *lines = err.splitlines()
    assert "several incidents" in first
    assert len(lines) == 9
    assert f"abc{9:029x}" in lines[0]
    assert lines[-1].strip() == "…"


def test_a_missing_database_says_what_to_do(config: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Protects those who look before anything ran; looking makes nothing."""
    code, out, err = run(capsys, "list", "--config", config)
    assert (code, out) == (UNAVAILABLE, "")
    assert f"there is no alert database at {tmp_path}/state/vedette.db: `vedette run --config {config}` makes it" in err
    assert os.listdir(tmp_path) == ["vedette.yaml"]


def test_an_absent_server_and_an_unusable_database_have_their_codes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Protects scripts that ask whether trying again can help; no message holds the password."""
    path = tmp_path / "vedette.yaml"
    path.write_text(CONFIG_TEXT.format(url="postgresql://kim:pass-word@127.0.0.1:1/db"))
    code, _, err = run(capsys, "list", "--config", str(path))
    assert code == UNAVAILABLE
    assert "see database.url" in err
    assert "pass-word" not in err
    notes = tmp_path / "notes.txt"
    notes.write_text("no database " * 100)
    path.write_text(CONFIG_TEXT.format(url=f"sqlite:///{notes}"))
    code, _, err = run(capsys, "list", "--config", str(path))
    assert (code, "is no SQLite database" in err) == (CONFIG, True)
    assert run(capsys, "list", "--config", str(tmp_path / "none.yaml"))[0] == CONFIG
