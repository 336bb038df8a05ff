"""The command line answers at once, reads well, and exits with the right code."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import cli, cli_arguments, preflight
from pipeline.config import Config, loads
from pipeline.exit_codes import CONFIG, OK, UNAVAILABLE, USAGE

CONFIG_TEXT = """
streams:
  - {{name: air, topics: [sensors.air], step: 10m, channels: [{{name: pm25}}]}}
state: {folder}
kafka: {{bootstrap_servers: '127.0.0.1:1'}}
"""
BACKTEST = ["backtest", "--data", "d.csv", "--time", "t", "--channels", "a,b", "--step", "10m", "--out", "s.csv"]


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "vedette.yaml"
    path.write_text(CONFIG_TEXT.format(folder=tmp_path))
    return path


def usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a wrong command line is told; it exits with 64."""
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    assert left.value.code == USAGE
    return capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    """Protects the 0.3 seconds of `vedette --help`."""
    heavy = ["torch", "numba", "pandas", "river", "kafka", "numpy", "pydantic", "prometheus_client", "sklearn"]
    program = (
        "import sys\nfrom pipeline import cli\n"
        "try: cli.main(['--help'])\nexcept SystemExit: pass\n"
        f"loaded = set({heavy!r}) & set(sys.modules)\nassert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("run", "check", "demo", "train", "backtest", "bench", "config-schema"):
        assert f"  {command}" in done.stdout


def test_the_backtest_contract() -> None:
    """Protects the scripts of others: the flags of the contract, their defaults and their text as given."""
    args = cli_arguments.parser().parse_args(BACKTEST)
    assert (args.data, args.time, args.entity, args.channels) == ("d.csv", "t", None, "a,b")
    assert (args.step, args.train_fraction, args.train_until, args.retrain_every) == ("10m", 0.15, None, None)
    assert (args.budget, args.config, args.seed, args.out, args.report) == (None, None, 0, "s.csv", None)
    more = ["--entity", "e", "--train-until", "2026-03-01T00:00:00Z", "--retrain-every", "7d", "--budget", "1 per 30d"]
    args = cli_arguments.parser().parse_args([*BACKTEST, *more, "--config", "c", "--seed", "3", "--report", "r.html"])
    assert (args.entity, args.train_until, args.retrain_every) == ("e", "2026-03-01T00:00:00Z", "7d")
    assert (args.budget, args.config, args.seed, args.report) == ("1 per 30d", "c", 3, "r.html")


def test_the_bench_contract() -> None:
    """Protects `vedette bench NAME --json` and its knobs."""
    words = ["bench", "step", "--json", "--entities", "9", "--hidden", "64", "--window", "16"]
    args = cli_arguments.parser().parse_args(words)
    assert (args.name, args.json, args.entities, args.hidden, args.window) == ("step", True, 9, 64, 16)
    assert cli_arguments.parser().parse_args(["bench", "restore"]).entities is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["run"], "required: --config"),
        ([*BACKTEST, "--step", "10x"], 'argument --step: "10x" is not a duration; allowed: a number with a unit'),
        ([*BACKTEST, "--step", "0s"], "must be longer than zero"),
        ([*BACKTEST, "--budget", "few"], '"few" is not a false-alarm budget; allowed: events per period'),
        ([*BACKTEST, "--train-until", "soon"], '"soon" is not a time; allowed: ISO 8601'),
        ([*BACKTEST, "--train-fraction", "1"], '"1" is not a share; allowed: 0 or more and below 1'),
        ([*BACKTEST, "--train-fraction", "nan"], '"nan" is not a share'),
        ([*BACKTEST, "--train-fraction", ".2", "--train-until", "2026-01-01"], "not allowed with argument"),
        ([*BACKTEST, "--seed", "-1"], '"-1" is not a whole number'),
        (["bench", "step", "--entities", "0"], '"0" is too small; allowed: 1 or more'),
        (["bench", "speed"], "invalid choice: 'speed'"),
    ],
)
def test_wrong_usage_is_told_and_exits_64(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Protects the person at the keyboard: what is wrong, what is allowed, where help is."""
    error = usage(arguments, capsys)
    assert told in error
    assert "--help" in error


def test_run_and_check_exit_78_with_all_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the exit code that tells a supervisor not to restart."""
    path = tmp_path / "bad.yaml"
    path.write_text("streams: 5\nsed: 1\n")
    for command in ("run", "check"):
        assert cli.main([command, "--config", str(path)]) == CONFIG
        error = capsys.readouterr().err
        assert "2 mistakes in the config" in error
        assert 'did you mean "seed"?' in error


def test_check_offline_reaches_for_the_directories(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Protects a first start: what can be checked without a broker is."""
    assert cli.main(["check", "--config", str(config_file), "--offline"]) == OK
    said = capsys.readouterr().out
    assert "air (1 channels, step 10m, budget 1 per 30d)" in said
    assert "kafka" not in said
    (tmp_path / "models").write_text("a file in the way")
    assert cli.main(["check", "--config", str(config_file), "--offline"]) == UNAVAILABLE
    assert "models       FAILED" in capsys.readouterr().out


def test_check_without_a_broker_exits_69(config_file: Path) -> None:
    """Protects the exit code that tells a supervisor to try again."""
    # a process of its own: importing kafka-python warns of what importlib will drop
    command = [sys.executable, "-m", "pipeline.cli", "check", "--config", str(config_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == UNAVAILABLE
    assert "no broker listens at" in done.stdout


def test_what_a_person_must_change_outweighs_what_is_away(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Protects the exit code where both are wrong."""
    (tmp_path / "models").write_text("a file in the way")

    def misconfigured(config: Config) -> preflight.Finding:
        return preflight.Finding("kafka", CONFIG, "no topic sensors.air")

    monkeypatch.setattr(preflight, "kafka_topics", misconfigured)
    assert cli.main(["check", "--config", str(config_file)]) == CONFIG


def test_an_output_file_without_its_directory_is_found(tmp_path: Path) -> None:
    """Protects alerts from a path that cannot be."""
    outputs = f"outputs: {{alerts_file: {tmp_path}/none/alerts.jsonl, scores_file: '-'}}"
    findings = list(preflight.examine(loads(CONFIG_TEXT.format(folder=tmp_path) + outputs, {}), None))
    assert [finding.code for finding in findings] == [OK, OK, OK, OK, UNAVAILABLE]
    assert "there is no directory" in findings[-1].detail


def test_check_changes_nothing(config_file: Path, tmp_path: Path) -> None:
    """Protects a database in service from a check with a newer version, and a disk from what only a run needs."""
    before = sorted(tmp_path.rglob("*"))
    cli.main(["check", "--config", str(config_file), "--offline"])
    assert [p for p in sorted(tmp_path.rglob("*")) if p not in before and p.name != "checkpoints"] == []


def test_effective_prints_a_config_that_loads(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects `check --effective > full.yaml`."""
    assert cli.main(["check", "--config", str(config_file), "--effective"]) == OK
    assert loads(capsys.readouterr().out, {}).streams[0].name == "air"


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Protects editors that are pointed at it."""
    assert cli.main(["config-schema"]) == OK
    assert json.loads(capsys.readouterr().out)["title"] == "Vedette"


@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError])
def test_leaving_early_is_no_defect(monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    """Protects ctrl-C and `| head` from stack traces."""

    def leave(args: argparse.Namespace) -> int:
        raise error

    closed: list[bool] = []
    monkeypatch.setitem(cli._COMMANDS, "config-schema", leave)
    monkeypatch.setattr(sys, "stderr", type("Quiet", (), {"close": lambda self: closed.append(True)})())
    assert cli.main(["config-schema"]) == (130 if error is KeyboardInterrupt else OK)
