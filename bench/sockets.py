"""WebSockets: 10,000 idle connections of one agent, opened at a set rate and pinged every few seconds, with the agent's
memory; then the CPU time for an echoed message beside the bare library.

The server of both is the library alone (`bare_websocket serve`). The limit of open files is raised as far as this
process may, and has to reach 20,050 for both sides.

    cargo build --release && cargo build --release -p groundswell-agent --example bare_websocket
    python3 bench/sockets.py
"""

import contextlib
import json
import pathlib
import resource
import socket
import statistics
import subprocess
import tempfile
import time

from common import BINARY, ROOT, finish, require_binary, start

BARE = ROOT / "target" / "release" / "examples" / "bare_websocket"
FEW, MANY, RATE, IDLE = 1_000, 10_000, 500, 30
CONNECTIONS, SECONDS, ROUNDS = 50, 5, 5

IDLE_PLAN = """
target: http://127.0.0.1:{port}
scenarios:
  idle:
    load: {{ users: {{ stages: [ {{ to: {users}, for: {ramp}s }}, {{ to: {users}, for: {idle}s }} ] }} }}
    flow:
      - websocket: /
        name: open
        flow: [ {{ repeat: 1000, flow: [ {{ think: 8s..12s }}, {{ ping: 5s, name: ping }} ] }} ]
"""

ECHO_PLAN = """
target: http://127.0.0.1:{port}
scenarios:
  echo:
    load: {{ users: {connections}, for: {seconds}s }}
    flow:
      - websocket: /
        name: open
        flow:
          - repeat: 1000000
            flow:
              - {{ send: {{ text: '{{"op":"echo","data":"0123456789"}}' }}, name: send }}
              - {{ receive: any, name: echo }}
"""


@contextlib.contextmanager
def echo_server():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(["taskset", "-c", "0", BARE, "serve", str(port)])
    time.sleep(0.3)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def resident(process):
    with contextlib.suppress(OSError):
        for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024
    return 0


def idle(port, users):
    ramp = max(users // RATE, 2)
    process, report = start("run", IDLE_PLAN.format(port=port, users=users, ramp=ramp, idle=IDLE), "--workers", "1")
    samples = []
    begun = time.monotonic()
    while time.monotonic() < begun + ramp + IDLE - 1:
        time.sleep(1)
        samples.append(resident(process))
    _, report = finish(process, report)
    memory = samples[-IDLE // 2:]
    opened = report["connections"][0]
    handshake = next(row for row in report["steps"] if row["kind"] == "websocket")
    ping = next(row for row in report["steps"] if row["kind"] == "ping")
    print(f"{users:>7,} connections: {max(memory) / 2**20:.0f} MiB; opened {opened['opened']:,} "
          f"({handshake['errors']} refused, p99 {handshake['response_ms']['p99']:.1f} ms), most open "
          f"{opened['most_open']:,}, {opened['pongs_received']:,} of {opened['pings_sent']:,} pings answered, "
          f"p99 {ping['response_ms']['p99']:.2f} ms, send lag p99 {report['total']['send_lag_ms']['p99']} ms, "
          f"{report['verdict']['status']}")
    return max(memory)


def cpu_of(command):
    """CPU seconds, user and system, of a command, and its output."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out = subprocess.run(["taskset", "-c", "1", *command], check=True, text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, out


def bare(port):
    cpu, out = cpu_of([BARE, "echo", f"ws://127.0.0.1:{port}/", str(CONNECTIONS), str(SECONDS)])
    return cpu / int(out.split()[0]) * 1e6


def ours(port):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="groundswell-bench-"))
    (folder / "plan.yaml").write_text(ECHO_PLAN.format(port=port, connections=CONNECTIONS, seconds=SECONDS))
    # A busy machine makes the verdict INVALID, which is no failure of this.
    command = f"{BINARY} run {folder}/plan.yaml --workers 1 --plain --out {folder}/report.json >/dev/null || true"
    cpu, _ = cpu_of(["sh", "-c", command])
    report = json.loads((folder / "report.json").read_text())
    return cpu / next(row for row in report["steps"] if row["step"] == "echo")["ok"] * 1e6


def main():
    require_binary()
    if not BARE.exists():
        raise SystemExit("skipped: build it with cargo build --release -p groundswell-agent --example bare_websocket")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with echo_server() as port:
        few, many = idle(port, FEW), idle(port, MANY)
        print(f"a connection more: {(many - few) / (MANY - FEW) / 1024:.1f} KiB")
        figures = {"bare tokio-tungstenite": [], "groundswell": []}
        for _ in range(ROUNDS):
            figures["bare tokio-tungstenite"].append(bare(port))
            figures["groundswell"].append(ours(port))
    floor = statistics.median(figures["bare tokio-tungstenite"])
    print(f"\n{'CPU s per million echoed messages':<36}{'range':>20}{'of the library':>16}")
    for name, samples in figures.items():
        middle = statistics.median(samples)
        spread = f"{min(samples):.1f} to {max(samples):.1f}"
        print(f"{name:<24}{middle:>12.1f}{spread:>20}{middle / floor:>16.2f}")


if __name__ == "__main__":
    main()
