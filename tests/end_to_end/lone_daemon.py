"""A daemon in a process of its own, on the embedded broker of another one: ``python -m tests.end_to_end.lone_daemon``.

Takes the path of the config; writes the port of its HTTP server to stdout and runs until it is told to stop or killed.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from pipeline.build import build_daemon
from pipeline.build_console import build_faces
from pipeline.config import load
from pipeline.housekeeping import Housekeeping
from pipeline.live import Live
from pipeline.metrics import Metrics


def main(path: Path) -> int:
    """Run the daemon; return its exit code."""
    config = load(path, {})
    metrics, live = Metrics(), Live()
    beside = Housekeeping(live=live)
    with build_faces(config, metrics, beside, live) as faces:
        sys.stdout.write(f"{faces.port}\n")
        sys.stdout.flush()
        daemon = build_daemon(config, embedded=True, metrics=metrics, housekeeping=beside)
        signal.signal(signal.SIGTERM, lambda *_: daemon.stop())
        return daemon.run()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
