"""The command line: what each command runs. Everything heavy is imported within its command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pipeline.cli_arguments import parser
from pipeline.exit_codes import CONFIG, OK, SOFTWARE

if TYPE_CHECKING:
    from pipeline.config import Config


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code. ``arguments``: those of the process if None."""
    args = parser().parse_args(arguments)
    _choose_products()
    try:
        return _COMMANDS[args.command](args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has left; Python would complain while it exits
        return OK


def _choose_products() -> None:
    """Have OpenBLAS use AVX-512 where the processor has it; must come before numpy is imported.

    It takes newer AMD processors for older ones; its AVX-512 products are 1.7 to 2 times as fast on them. A user's own
    OPENBLAS_CORETYPE stands. The loop is one thread, and its products are small: more threads only wait for each other.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    needed = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"}
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as info:
            flags = next((line.split() for line in info if line.startswith("flags")), [])
    except OSError:
        return
    if needed <= set(flags):
        os.environ.setdefault("OPENBLAS_CORETYPE", "SkylakeX")


def _run(args: argparse.Namespace) -> int:
    def run(config: Config) -> int:
        from pathlib import Path

        from pipeline import daemon

        return daemon.run(config, Path(args.config))

    return _configured(args.config, run)


def _ingest(args: argparse.Namespace) -> int:
    def run(config: Config) -> int:
        from pipeline.ingest.process import run_ingest

        if args.clock is None:
            return run_ingest(config)
        from pathlib import Path

        from pipeline.ingest.told_clock import ToldClock

        with ToldClock(Path(args.clock)) as clock:
            return run_ingest(config, clock.now_us)

    return _configured(args.config, run)


def _configured(path: str, run: Callable[[Config], int]) -> int:
    """Read the config, have logs written as it says, and run; a defect of ours is exit code 70."""
    from pipeline.config import load
    from pipeline.config_errors import ConfigError
    from pipeline.logs import configure

    try:
        config = load(path)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return CONFIG
    configure(config.log.level, config.log.format)
    import structlog

    try:
        return run(config)
    except Exception:
        structlog.get_logger("vedette.cli").exception("stopped by a defect of ours; please report it")
        return SOFTWARE


def _check(args: argparse.Namespace) -> int:
    from pipeline import preflight

    return preflight.main(args)


def _demo(args: argparse.Namespace) -> int:
    if args.site == "city":
        from pipeline import city_demo

        return city_demo.main(args)
    from pipeline import demo

    args.days = 45 if args.days is None else args.days
    return demo.main(args)


def _train(args: argparse.Namespace) -> int:
    from pipeline import training_job

    return training_job.main(args)


def _models(args: argparse.Namespace) -> int:
    from pipeline import models_command

    return models_command.main(args)


def _alerts(args: argparse.Namespace) -> int:
    from pipeline import alerts_command, alerts_test_command

    return alerts_test_command.main(args) if args.action == "test" else alerts_command.main(args)


def _history(args: argparse.Namespace) -> int:
    from pipeline import history_command

    return history_command.main(args)


def _backtest(args: argparse.Namespace) -> int:
    from pipeline import backtest

    return backtest.main(args)


def _bench(args: argparse.Namespace) -> int:
    from pipeline import bench

    return bench.main(args)


def _schema(args: argparse.Namespace) -> int:
    import json

    from pipeline.config import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
    return OK


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "ingest": _ingest,
    "check": _check,
    "demo": _demo,
    "train": _train,
    "models": _models,
    "alerts": _alerts,
    "history": _history,
    "backtest": _backtest,
    "bench": _bench,
    "config-schema": _schema,
}


if __name__ == "__main__":
    sys.exit(main())
