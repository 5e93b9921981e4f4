"""What the benchmarks share: the release binary, a demo target on a port of its own, runs with their JSON reports."""

import contextlib
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = ROOT / "target" / "release" / "groundswell"


def require_binary():
    if not BINARY.exists():
        sys.exit(f"{BINARY} is not there; build it with: cargo build --release")


@contextlib.contextmanager
def demo_target(*flags):
    """A demo target in a process of its own; yields its process and its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([BINARY, "demo-target", "--listen", f"127.0.0.1:{port}", *flags],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.02)
        else:
            sys.exit("the demo target does not listen")
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def start(command, plan, *flags):
    """Starts `run` or `search` on a plan; returns the process and the path its report will have."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="groundswell-bench-"))
    (folder / "plan.yaml").write_text(plan)
    report = folder / "report.json"
    process = subprocess.Popen([BINARY, command, folder / "plan.yaml", "--plain", "--out", report, *flags],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return process, report


def finish(process, report):
    """Waits for a run; returns its exit code and its report."""
    _, stderr = process.communicate(timeout=1200)
    if not report.exists():
        sys.exit(f"no report:\n{stderr}")
    return process.returncode, json.loads(report.read_text())
