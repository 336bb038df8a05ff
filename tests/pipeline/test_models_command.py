"""`vedette models`: what operators see of models, and what they can do."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from models.registry import LINEAR, Action, Decision, Registry
from pipeline import cli
from pipeline.exit_codes import CONFIG, DATA, OK, UNAVAILABLE, USAGE
from pipeline.judging import ContenderScore, Judgement
from tests.models.stored_models import manifest, save_days, weights

CONFIG_TEXT = """
streams:
  - name: air
    topics: [sensors.air]
    step: 10m
    horizons: [1, 6, 36]
    channels: [{{name: pm25, unit: ug/m3}}, {{name: no2, unit: ug/m3}}]
{more}
models: {{directory: '{folder}/models', keep: 2, watch: 7s}}
history: {{directory: '{folder}/history'}}
"""
NOW = datetime(2026, 5, 1, tzinfo=UTC)


class Shell:
    """Runs `vedette models` against a registry of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], more: str = "") -> None:
        self.config = folder / "vedette.yaml"
        self.config.write_text(CONFIG_TEXT.format(folder=folder, more=more))
        self.registry = Registry(folder / "models", now=lambda: NOW)
        self._capsys = capsys

    def __call__(self, action: str, *arguments: str, code: int = OK) -> str:
        """Return what it says: on stdout when it went well, else on stderr, where the command is named."""
        assert cli.main(["models", action, "--config", str(self.config), *arguments]) == code
        out, err = self._capsys.readouterr()
        if code == OK:
            return str(out)
        assert out == ""
        assert err.startswith(f"vedette models {action}: ")
        return str(err)

    def json(self, action: str, *arguments: str) -> dict[str, Any]:
        """Return what it says to machines."""
        found = json.loads(self(action, *arguments, "--json"))
        assert isinstance(found, dict)
        return found


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A config with one stream, and no model yet."""
    return Shell(tmp_path, capsys)


def judged(version: str, against: str = LINEAR, **changes: Any) -> dict[str, Any]:
    """Return a judgement as a training job records it."""
    figures = ContenderScore(version, 0.42, {"0.5": 0.2}, 0.03, 0.91, 5000, faults_found=9, false_alerts=1)
    contenders = {"challenger": figures, "linear": replace(figures, version="linear", crps=0.5)}
    plain = Judgement(
        True, ("better",), against, 600, contenders, gain=0.04, gain_low=0.02, gain_high=0.06, gain_over_linear=0.16,
    )  # fmt: skip
    return replace(plain, **changes).to_json()


def promoted(shell: Shell, version: str, **evidence: Any) -> None:
    """Put a version in charge as a training job does."""
    decision = Decision(NOW, Action.PROMOTED, version, None, ("it beats the champion by 4 %",), evidence, "job")
    shell.registry.promote("air", version, decision)


def test_an_empty_registry_says_what_to_do(shell: Shell) -> None:
    """Protects the first look of a newcomer: nothing there is no error."""
    assert "it has none yet: vedette train makes one" in shell("list")
    assert "in charge: nobody yet, so the linear forecast alone" in shell("list")
    found = shell.json("list")
    assert (found["stream"], found["champion"], found["versions"]) == ("air", None, [])


def test_a_damaged_pointer_to_the_challenger_is_shown(shell: Shell) -> None:
    """Protects who asks why nobody is in shadow."""
    made = save_days(shell.registry, 1)
    (Path(shell.registry.directory) / "air" / "CHALLENGER").write_text(f"{made[0]}\nnever\n")
    text = " ".join(shell("list").split())
    assert "air/CHALLENGER is damaged: it says no time" in text
    assert "until then nobody is in shadow" in text
    assert shell.json("list")["challenger"] is None


def test_list_shows_who_is_who(shell: Shell) -> None:
    """Protects the answer to "what runs, and how good is it": newest first, roles, figures as judged, damage."""
    made = save_days(shell.registry, 5)
    promoted(shell, made[0])
    promoted(shell, made[1], **judged(made[1]))
    shell.registry.shadow("air", made[2])
    shell.registry.bar("air", made[3], "alert flood")
    path = Path(shell.registry.directory) / "air" / made[4] / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    lines = shell("list").splitlines()
    assert [line.split()[0] for line in lines[1:6]] == made[::-1]
    by_version = {line.split()[0]: line for line in lines[1:6]}
    assert "damaged" in by_version[made[4]]
    assert "barred" in by_version[made[3]]
    assert "challenger" in by_version[made[2]]
    assert all(text in by_version[made[1]] for text in ("champion", "f32", "+16.0 %", "0.42"))
    assert "previous" in by_version[made[0]]
    assert "+5.0 %" in by_version[made[0]]  # never judged: as its training saw it
    text = "\n".join(lines)
    assert f"in charge: {made[1]}; before it {made[0]}" in text
    assert f"barred: {made[3]}: alert flood" in text
    assert "has checksum" in text

    found = shell.json("list")
    assert [found[role] for role in ("champion", "challenger", "previous")] == [made[1], made[2], made[0]]
    assert found["challenger_since"] == NOW.isoformat()
    assert [each["version"] for each in found["versions"]] == made[::-1]
    damaged, _, _, champion, first = found["versions"]
    assert "checksum" in damaged["trouble"]
    assert (champion["crps"], champion["gain_over_linear"], champion["gain_over_champion"]) == (0.42, 0.16, 0.04)
    assert (champion["hidden"], champion["kind"], champion["parent"]) == (8, "f32", None)
    assert champion["size_bytes"] == len((path.parents[1] / made[1] / "weights.safetensors").read_bytes())
    assert (first["crps"], first["gain_over_linear"]) == (None, 0.05)


def test_show_tells_everything(shell: Shell) -> None:
    """Protects the question "where does this come from, and why is it in charge" a year later."""
    (first,) = save_days(shell.registry, 1)
    config = {"train": {"epochs": 20}, "hidden": 8}
    about = manifest(created=NOW, config=config, data_hash="abc123", parent=first, device="cpu", seconds=12.0)
    second = shell.registry.save(weights(7), about)
    promoted(shell, first)
    promoted(shell, second, **judged(second, against=first))
    shell.registry.record("air", Decision(NOW, Action.REFUSED, "other", "nobody", ("unrelated",)))
    text = shell("show", "champion")
    for part in (
        f"version {second}", f"made from    {first}", "train.epochs  20", "abc123", "in 12 s on cpu", "pm25 (ug/m3)",
        f"+4.0 % (95 %: +2.0 % to +6.0 %) against {first}", "it beats the champion by 4 %", "faults found",
        f"promoted: {second}, before it {first} (by job)", "1970-01-01 00:00 to 1970-01-12 13:46 UTC",
    ):  # fmt: skip
        assert part in text, part
    assert "unrelated" not in text
    assert f"made of it   {second}" in shell("show", first)
    found = shell.json("show", second[:12])
    assert (found["version"], found["config"], found["data_hash"]) == (second, config, "abc123")
    assert found["judgement"]["contenders"]["linear"]["crps"] == 0.5
    assert [d["action"] for d in found["decisions"]] == ["promoted"]
    assert found["network"]["sizes"]["hidden"] == 8
    assert "never, or not any more" in shell("show", "previous")


def test_compare_sets_figures_and_differences_side_by_side(shell: Shell) -> None:
    """Protects the choice between two: what differs, what does not is left out, and whether they ever met."""
    a = shell.registry.save(weights(1), manifest(created=NOW, config={"epochs": 20, "lr": 0.1}))
    b = shell.registry.save(weights(2, hidden=16), manifest(created=NOW, config={"epochs": 30, "lr": 0.1}, kind="int8"))
    text = shell("compare", a, b)
    row = next(line for line in text.splitlines() if line.startswith("epochs"))
    assert row.split() == ["epochs", "20", "30"]
    assert not any(line.startswith(("lr ", "channels", "grid")) for line in text.splitlines())
    assert "were not judged on the same steps" in text
    promoted(shell, b, **judged(b, against=a))
    assert f"they met: {b} +4.0 %" in shell("compare", a, b)
    found = shell.json("compare", a, "champion")
    assert found["differences"]["epochs"] == ["20", "30"]
    assert [each["version"] for each in found["versions"]] == [a, b]
    assert found["versions"][1]["judgement"]["gain"] == 0.04


def test_promote_records_who_and_why_and_says_what_comes_next(shell: Shell) -> None:
    """Protects the operator's hand: it takes charge, is on record with its reason, and the daemon's delay is told."""
    first, second = save_days(shell.registry, 2)
    text = shell("promote", second, "--reason", "the new one drifts")
    assert f"{second} is in charge of 'air'" in text
    assert "a running daemon takes it over within 7s" in text
    shell("promote", first)
    assert shell.registry.champion_version("air") == first
    told = shell.registry.decisions("air")
    assert [(d.action, d.version, d.champion_before, d.by) for d in told] == [
        (Action.PROMOTED, second, None, "operator"), (Action.PROMOTED, first, second, "operator"),
    ]  # fmt: skip
    assert told[0].reasons == ("the new one drifts",)
    assert f"{first} is in charge already" in shell("promote", "champion")
    assert shell.json("promote", LINEAR)["champion"] == LINEAR
    assert len(shell.registry.decisions("air")) == 3


def test_rollback_gives_the_champion_up_until_a_person_wants_it_back(shell: Shell) -> None:
    """Protects the way back and forth: predecessor, bar, and its lifting are done and said."""
    first, second = save_days(shell.registry, 2)
    shell("promote", first)
    shell("promote", second)
    text = shell("rollback", "--reason", "floods")
    assert f"{first} is in charge of 'air' again, {second} was given up" in text
    assert f"{second} is barred" in text
    assert shell.registry.barred("air") == {second: "floods"}
    assert shell.registry.decisions("air")[-1].reasons == ("floods",)
    assert "its bar is lifted (floods)" in shell("promote", second)
    found = shell.json("rollback", "--to", LINEAR)
    assert (found["champion"], found["before"], list(found["barred"])) == (LINEAR, second, [second])
    assert "no version is in charge of 'air'" in shell("rollback", code=USAGE)
    shell("promote", first)
    assert f"{first} is in charge of 'air': nothing to roll back to" in shell("rollback", "--to", first, code=USAGE)


def test_prune_says_what_goes_and_what_stays(shell: Shell) -> None:
    """Protects versions from a slip: --dry-run changes nothing, and the config's number is the default."""
    made = save_days(shell.registry, 5)
    shell("promote", made[0])
    found = shell.json("prune", "--dry-run")
    assert (found["removed"], found["left"], found["dry_run"]) == (made[1:3], [made[0], *made[3:]], True)
    assert len(shell.registry.versions("air")) == 5
    assert f"removed: {made[1]}" in shell("prune", "--keep", "3")
    assert "nothing to remove" in shell("prune", "--keep", "3")
    assert shell.registry.versions("air") == [made[0], *made[2:]]


def test_names_that_mean_nothing_list_those_that_do(shell: Shell) -> None:
    """Protects from a mistyped version: what there is stands in the message, and a beginning is enough."""
    first, second = save_days(shell.registry, 2)
    assert f"stream 'air' has no version 'nope'; it has {second}, {first}" in shell("show", "nope", code=USAGE)
    assert f"'20260' is not one version: {first}, {second} begin so" in shell("show", "20260", code=USAGE)
    for role in ("champion", "challenger", "previous"):
        assert f"stream 'air' has no {role} now; it has {second}" in shell("promote", role, code=USAGE)
    assert first in shell("show", first[:10])
    assert "no version 'linear'" in shell("show", LINEAR, code=USAGE)
    assert "no stream 'water' in" in shell("list", "--stream", "water", code=USAGE)


def test_the_stream_may_be_left_out_only_where_there_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects from acting on the wrong stream: with two, it must be named, and both are."""
    more = "  - {name: water, topics: [w], step: 1h, channels: [{name: flow}]}"
    shell = Shell(tmp_path, capsys, more)
    assert "air, water; say --stream NAME" in shell("list", code=USAGE)
    (first,) = save_days(shell.registry, 1)
    assert first in shell("list", "--stream", "air")
    assert first not in shell("list", "--stream", "water")


def test_what_does_not_fit_or_load_is_not_put_in_charge(shell: Shell) -> None:
    """Protects service from an operator's slip: another grid or damaged files are refused, the champion stays."""
    (first,) = save_days(shell.registry, 1)
    shell("promote", first)
    other = shell.registry.save(weights(1), manifest(created=NOW, step_us=1_000_000))
    assert "its step is 1s, the stream's 10m; train a new one" in shell("promote", other, code=USAGE)
    broken = shell.registry.save(weights(2), manifest(created=NOW + timedelta(days=1)))
    (Path(shell.registry.directory) / "air" / broken / "manifest.json").write_bytes(b"{")
    assert "remove it and train again" in shell("promote", broken, code=DATA)
    assert "remove it and train again" in shell("rollback", "--to", broken, code=DATA)
    assert shell.registry.champion_version("air") == first
    assert "damaged" in shell("show", broken)


def test_a_registry_that_is_away_and_a_wrong_config_have_codes_of_their_own(
    shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Protects scripts: 69 may be tried again, 78 needs a person."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "air").write_bytes(b"a file where a directory should be")
    assert "see models.directory in" in shell("prune", code=UNAVAILABLE)
    shell.config.write_text("streams: 3")
    assert cli.main(["models", "list", "--config", str(shell.config)]) == CONFIG
    assert "streams" in capsys.readouterr().err


def test_reasons_cannot_command_the_terminal(shell: Shell) -> None:
    """Protects whoever reads from control characters that came in with a reason."""
    first, second = save_days(shell.registry, 2)
    shell("promote", first)
    shell("promote", second, "--reason", "\x1b[2Jgone")
    shell("rollback", "--reason", "\x1b[2Jgone")
    for text in (shell("show", second), shell("list"), shell("promote", second)):
        assert "\x1b" not in text
        assert "\\x1b[2Jgone" in text
