"""`make stack`: the whole of it on one machine, without containers, until Ctrl-C.

A broker, stations that never end, Vedette with its console, Prometheus with our rules and Alertmanager. Everything that
they write lies in one folder; each is a process that is ended by its id.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import queue
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table

from connectors.free_ports import free_port
from pipeline.exit_codes import OK, UNAVAILABLE, USAGE
from pipeline.incident import rfc3339
from pipeline.planted import Fault
from pipeline.stack_configs import DASHBOARDS, DEPLOY, Ports
from pipeline.stack_servers import EmbeddedKafka, KafkaServer, LeftOut, Part, Server, taken
from pipeline.stack_starting import StackError, start
from pipeline.stack_stations import STEP_S, Stations, Tape, tapes

_LOOK_S = 0.25
_ASK_S = 5.0
_PATIENCE_S = 30.0
"""After so long people want to know what they wait for, again and again."""
_WIDTH = 120
"""Where stdout is no terminal."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add what can be said on the command line."""
    command.add_argument("--out", default="out/stack", metavar="DIR", help="where its files go (default: %(default)s)")
    command.add_argument("--free-ports", action="store_true", help="take ports that are free, not the usual ones")
    command.add_argument(
        "--history", type=float, default=8.0, metavar="DAYS", help="of 144 steps that are there before (%(default)s)"
    )
    command.add_argument("--embedded", action="store_true", help="the embedded broker even where KAFKA_HOME is set")


def main(args: argparse.Namespace) -> int:
    """Run the stack until it is told to stop; return the exit code."""
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH)
    if not (DEPLOY / "prometheus").is_dir():
        console.print(f"There is no {DEPLOY}: the stack runs from a checkout of the repository.", markup=False)
        return USAGE
    out = Path(args.out).absolute()
    try:
        with _alone(out), stopped_by_signals() as stop:
            return _run(console, args, out, stop)
    except StackError as error:
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        return UNAVAILABLE


class Stopped:
    """Whether somebody wants it to end; at the second wish everything is killed."""

    def __init__(self) -> None:
        self._wished = threading.Event()
        self.parts: list[Part] = []

    def wish(self, *_: object) -> None:
        """Take note, and say so at once; kill everything if it was wished before."""
        if self._wished.is_set():
            for part in self.parts:
                if isinstance(part, Server | KafkaServer):
                    part.kill()
            os._exit(UNAVAILABLE)
        self._wished.set()
        os.write(2, b"\nending all of it; another Ctrl-C kills it\n")

    def __bool__(self) -> bool:
        return self._wished.is_set()

    def wait(self, seconds: float) -> None:
        """Wait so long, or until it is wished."""
        self._wished.wait(seconds)


@contextmanager
def stopped_by_signals() -> Iterator[Stopped]:
    """Yield what Ctrl-C, SIGTERM and the end of the terminal set."""
    stop = Stopped()
    wishes = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup wants it to outlive the terminal
        wishes.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop.wish) for number in wishes}
    try:
        yield stop
    finally:
        for number, what in before.items():
            signal.signal(number, what)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Make the folder, without what an earlier stack left: its broker has forgotten what the rest remembers."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StackError(f"Another stack runs in {out}: end that one, or say --out ANOTHER.") from None
        for name in ("kafka", "vedette", "prometheus", "alertmanager"):
            shutil.rmtree(out / name, ignore_errors=True)
        (out / "stack.json").unlink(missing_ok=True)
        yield


def _run(console: Console, args: argparse.Namespace, out: Path, stop: Stopped) -> int:
    started_s = time.monotonic()
    home = None if args.embedded else os.environ.get("KAFKA_HOME")
    ports = _ports(args.free_ports, bool(home))
    played = tapes(args.history)
    with ExitStack() as ending:
        ending.callback(lambda: console.print("all of it has ended", highlight=False))
        ending.callback(_end, console, stop)
        parts = stop.parts
        stations = start(out, ports, home, played, parts)
        green = _until_green(console, parts, stop, started_s)
        if green is None:
            return OK if stop else UNAVAILABLE
        _show(console, out, parts, green)
        _write(out, parts)
        return _watch(console, parts, stations, stop)


def _ports(free: bool, kafka: bool) -> Ports:
    """Return where to listen: the usual ports, or free ones."""
    if free:
        return Ports(free_port(), free_port(), free_port(), free_port())
    ports = Ports()
    require_free(ports, kafka)
    return ports


def require_free(ports: Ports, kafka: bool) -> None:
    """Raise StackError naming the ports that another program has; ``kafka``: whether a real one is started."""
    wanted = {"Vedette": ports.vedette, "Prometheus": ports.prometheus, "Alertmanager": ports.alertmanager}
    if kafka:
        wanted["Kafka"] = ports.kafka
    lost = [f"{port} ({name})" for name, port in wanted.items() if taken(port)]
    if lost:
        raise StackError(
            f"Another program listens on port {', '.join(lost)}: end it, or take free ports:\n"
            "    .venv/bin/python -m pipeline.stack --free-ports"
        )


# ---- while it runs ----


def _until_green(console: Console, parts: Sequence[Part], stop: Stopped, started_s: float) -> float | None:
    """Wait until all parts are well; return after how many seconds, or None where it came to an end before."""
    waiting, next_word_s = {part.name: part for part in parts}, started_s + _PATIENCE_S
    while not stop:
        if _told_of_an_end(console, parts):
            return None
        for name, part in list(waiting.items()):
            if part.ailing() is None:
                del waiting[name]
                if not isinstance(part, LeftOut):
                    _say(console, f"{name}: well after {time.monotonic() - started_s:.0f} s")
        if not waiting:
            return time.monotonic() - started_s
        if time.monotonic() > next_word_s:
            next_word_s = time.monotonic() + _PATIENCE_S
            for part in waiting.values():
                _say(console, f"{part.name} is not well yet: {part.ailing()}")
        stop.wait(_LOOK_S)
    return None


def _watch(console: Console, parts: Sequence[Part], stations: Stations, stop: Stopped) -> int:
    """Tell of planted faults and of parts that are no longer well, until the end; return the exit code."""
    ill: dict[str, str] = {}
    next_look_s = 0.0
    while not stop:
        if _told_of_an_end(console, parts):
            return UNAVAILABLE
        with suppress(queue.Empty):
            while True:
                _say(console, _planted(*stations.begun.get_nowait()))
        if time.monotonic() >= next_look_s:
            _tell_changes(console, parts, ill)
            next_look_s = time.monotonic() + _ASK_S
        stop.wait(_LOOK_S)
    return OK


def _told_of_an_end(console: Console, parts: Sequence[Part]) -> bool:
    for part in parts:
        how = part.ended()
        if how is not None:
            _say(console, f"{part.name} {how}")
            return True
    return False


def _tell_changes(console: Console, parts: Sequence[Part], ill: dict[str, str]) -> None:
    for part in parts:
        why = part.ailing()
        if why is not None and part.name not in ill:
            _say(console, f"{part.name} is not well: {why}")
            ill[part.name] = why
        elif why is None and ill.pop(part.name, None) is not None:
            _say(console, f"{part.name} is well again")


def _planted(tape: Tape, fault: Fault) -> str:
    steps = round((fault.end_us - fault.start_us) / (tape.series.step_s * 1e6)) + 1
    kind = "as recorded" if not tape.series.simulated else "planted"
    what = ", ".join(fault.channels) if len(fault.channels) < len(tape.series.channels) else "all channels"
    return f"{kind}: {fault.stream}/{fault.entity}, {what}: {fault.note} (lasts {steps * STEP_S} s)"


# ---- what is shown ----


def _show(console: Console, out: Path, parts: Sequence[Part], green_s: float) -> None:
    table = Table(show_edge=False, pad_edge=False)
    for column in ("part", "where", "health", "pid"):
        table.add_column(column)
    for part in parts:
        pid = "" if part.pid is None else str(part.pid)
        health = "[yellow]left out[/]" if isinstance(part, LeftOut) else "[green]well[/]"
        where = f"{part.address} (embedded, in memory)" if isinstance(part, EmbeddedKafka) else part.address
        table.add_row(part.name, where, health, pid)
    console.print()
    console.print(table)
    left_out = any(isinstance(part, LeftOut) for part in parts)
    prometheus = next(part for part in parts if part.name == "Prometheus")
    vedette = next(part for part in parts if part.name == "Vedette")
    source = "a Prometheus" if isinstance(prometheus, LeftOut) else prometheus.address
    for line in (
        "",
        f"{'All that is there is' if left_out else 'All of it is'} well after {green_s:.0f} s.",
        f"Console: {vedette.address}/",
        f"Grafana is not part of this (Debian has none): give yours {source} as a Prometheus data source, and import",
        f"    {DASHBOARDS}/*.json",
        f"Logs and data: {out}",
        "A fault is planted every few minutes and told here; what Vedette says of it is in the console seconds later.",
        "Ctrl-C ends all of it.",
        "",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _write(out: Path, parts: Sequence[Part]) -> None:
    """Leave the addresses and process ids for other programs."""
    rows = [{"name": part.name, "address": part.address, "pid": part.pid} for part in parts]
    (out / "stack.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _say(console: Console, text: str) -> None:
    now = rfc3339(time.time_ns() // 1000)[11:19]
    console.print(f"{now}Z  {text}", markup=False, highlight=False, soft_wrap=True)


def _end(console: Console, stop: Stopped) -> None:
    """End everything that runs: who sends first, who is listened to last."""
    if stop.parts and not stop:
        _say(console, "ending the rest")
    order = ("stations", "Vedette", "Prometheus", "Alertmanager", "Kafka")
    for part in sorted(stop.parts, key=lambda part: order.index(part.name)):
        part.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.stack", description="The whole of it on one machine, until Ctrl-C."
    )
    add_arguments(parser)
    sys.exit(main(parser.parse_args()))
