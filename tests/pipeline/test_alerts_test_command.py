"""`vedette alerts test` shows for each receiver whether an alert would arrive, and sends nothing like one."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from connectors.errors import Misconfigured
from connectors.free_ports import free_port
from connectors.webhook import verify
from pipeline.alerts_test_command import main
from pipeline.build_receivers import build_receivers, console_url, instances
from pipeline.config import Config, OutputsConfig, loads
from pipeline.exit_codes import CONFIG, OK, UNAVAILABLE, USAGE
from pipeline.incident import Kind, Phase, decode
from pipeline.receiver_checks import receiver_conflicts
from tests.alertmanager_server import AlertmanagerServer
from tests.alertmanager_server import alertmanager as alertmanager  # a fixture
from tests.http_receiver import HttpReceiver
from tests.http_receiver import receiver as receiver  # a fixture
from tests.pipeline.alert_parts import id_of, message
from tests.pipeline.receiver_parts import Numbers, wait_until

Write = Callable[[str], Path]

STREAMS = "streams:\n  - {name: air, topics: [air], step: 10m, channels: [{name: pm25, unit: ug/m3}]}\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a config with these receivers, a YAML list."""

    def write(receivers: str) -> Path:
        path = tmp_path / "vedette.yaml"
        path.write_text(f"{STREAMS}state: {tmp_path}/state\noutputs:\n  receivers: {receivers}\n")
        return path

    return write


def run(path: Path, receiver: str | None = None, as_json: bool = True) -> int:
    """Run the command."""
    return main(argparse.Namespace(config=str(path), receiver=receiver, json=as_json))


def config_of(write: Write, receivers: str) -> Config:
    """Return the config with these receivers."""
    return loads(write(receivers).read_text())


def test_each_receiver_gets_a_message_that_is_no_alert(
    write: Write, tmp_path: Path, receiver: HttpReceiver, alertmanager: AlertmanagerServer,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Protects the operator's first question: does it arrive? Nobody may take it for an incident."""
    away = f"http://127.0.0.1:{free_port()}"
    path = write(
        f"[{{name: ops, kind: alertmanager, urls: ['{alertmanager.url}', '{away}']}},"
        f" {{name: hook, kind: webhook, urls: ['{receiver.url}/x'], secret: s3cret}},"
        f" {{name: log, kind: file, path: {tmp_path}/alerts.jsonl}}]"
    )
    assert run(path) == UNAVAILABLE
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["receiver"], each["delivered"]) for each in found] == [
        ("ops", True), ("ops", False), ("hook", True), ("log", True),
    ]  # fmt: skip
    assert "cannot be reached" in found[1]["said"]
    (alert,) = alertmanager.alerts()
    assert (alert["labels"]["alertname"], alert["labels"]["receiver"]) == ("VedetteTest", "ops")
    (request,) = receiver.requests
    head = request.headers
    assert verify("s3cret", head["x-vedette-timestamp"], head["x-vedette-signature"], request.body, time.time())
    for body in (request.body, (tmp_path / "alerts.jsonl").read_bytes()):
        assert json.loads(body)["type"] == "vedette.test"
        with pytest.raises(ValueError, match="not a vedette alert event"):
            decode(body)
    assert not (tmp_path / "state").exists()


def test_people_see_a_table(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the plain call."""
    path = write(f"[{{name: log, kind: file, path: {tmp_path}/alerts.jsonl}}]")
    assert run(path, as_json=False) == OK
    shown = capsys.readouterr().out
    assert "log" in shown
    assert "delivered" in shown


@pytest.mark.parametrize(
    ("receivers", "name", "code", "said"),
    [
        ("[]", None, USAGE, "names no receiver"),
        ("[{name: a, kind: file, path: x}]", "b", USAGE, "no receiver 'b'; it names a"),
        ("[{name: a, kind: file}]", None, CONFIG, "outputs.receivers[0].path: is missing, but a file needs it"),
        ("[{name: a, kind: alertmanager}]", None, CONFIG, "urls: is missing, but an Alertmanager needs it"),
        (
            "[{name: a, kind: webhook, urls: ['http://a', 'http://b']}]",
            None,
            CONFIG,
            "urls: holds 2 addresses, but a webhook has one",
        ),
        ("[{name: a, kind: file, path: x, urls: ['http://a']}]", None, CONFIG, "of no use to a file"),
        ("[{name: a, kind: webhook, path: x, urls: ['http://a']}]", None, CONFIG, "of no use to kind webhook"),
        ("[{name: a, kind: file, path: x, kinds: [anomly]}]", None, CONFIG, "'anomly', which is no kind"),
        ("[{name: a, kind: webhook, urls: ['http://a'], secret: ''}]", None, CONFIG, "is empty"),
        ("[{name: a, kind: alertmanager, urls: ['http://a', 'http://a']}]", None, CONFIG, "an address twice"),
        (
            "[{name: a, kind: alertmanager, urls: ['http://a'], secret: x}]",
            None,
            CONFIG,
            "of no use to kind alertmanager",
        ),
    ],
)
def test_what_is_wrong_is_said(
    write: Write, capsys: pytest.CaptureFixture[str], receivers: str, name: str | None, code: int, said: str
) -> None:
    """Protects the operator from a receiver that silently gets nothing."""
    assert run(write(receivers), name) == code
    assert said in capsys.readouterr().err


def test_receivers_are_built_as_configured(
    write: Write, tmp_path: Path, receiver: HttpReceiver, alertmanager: AlertmanagerServer
) -> None:
    """Protects the way from config to people: routes, secret, link; and nothing is built where nobody is named."""
    assert build_receivers(config_of(write, "[]"), Numbers().metrics, "") is None
    config = config_of(
        write,
        f"[{{name: ops, kind: alertmanager, urls: ['{alertmanager.url}/'], streams: [air], linger: 0s}},"
        f" {{name: hook, kind: webhook, urls: ['{receiver.url}'], secret: s3cret, kinds: [silence], tier: watch}}]",
    )
    receivers = build_receivers(config, Numbers().metrics, console_url(config, 9999))
    assert receivers is not None
    receivers.start()
    receivers.add([message(0), message(1, stream="water", kind=Kind.SILENCE)])
    wait_until(lambda: len(alertmanager.alerts()) == 1)
    receiver.wait_until(lambda: len(receiver.requests) == 1)
    (alert,) = alertmanager.alerts()
    assert alert["annotations"]["link"] == f"http://127.0.0.1:9999/incidents/{id_of(0)}"
    assert decode(receiver.requests[0].body).stream == "water"
    assert {(s.receiver, s.kind) for s in receivers.status()} == {("ops", "alertmanager"), ("hook", "webhook")}
    receivers.add([message(0, sequence=1, phase=Phase.RESOLVED)])
    wait_until(lambda: alertmanager.alerts() == [])  # which does not linger
    receivers.close()


def test_each_receiver_has_a_name_of_its_own(write: Write) -> None:
    """Protects two receivers from sharing a queue; all that is wrong is said at once, with its place."""
    path = write("[{name: a, kind: file, path: x}, {name: a, kind: file}]")
    outputs = OutputsConfig.model_validate(yaml.safe_load(path.read_text())["outputs"])
    found = [(where, problem) for where, _, problem, _ in receiver_conflicts(outputs)]
    assert found == [
        (("outputs", "receivers", 1, "name"), "is the name of another receiver too"),
        (("outputs", "receivers", 1, "path"), "is missing, but a file needs it"),
    ]


def test_the_same_host_twice_is_two_instances(write: Write) -> None:
    """Protects two Alertmanagers behind one proxy from sharing a queue; no secret of an address is a name."""
    config = config_of(
        write,
        "[{name: ops, kind: alertmanager, urls: ['http://u:secret@h:1/a', 'http://h:1/b', 'http://h:2']}]",
    )
    found = instances(config.outputs.receivers[0])
    assert [each.name for each in found] == ["h:1", "h:1 2", "h:2"]
    assert len({each.queue for each in found}) == 3


def test_an_outbox_in_use_is_said(write: Write, tmp_path: Path) -> None:
    """Protects two daemons from delivering the same queue."""
    config = config_of(write, f"[{{name: log, kind: file, path: {tmp_path}/alerts.jsonl}}]")
    first = build_receivers(config, Numbers().metrics, "")
    assert first is not None
    with pytest.raises(Misconfigured, match="used by another process"):
        build_receivers(config, Numbers().metrics, "")
    first.close()
