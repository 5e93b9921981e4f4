"""Why two workers are not twice one, on a machine of two cores: CPU time per request with one worker beside nginx, on
nginx's own core, two workers, and two processes of one worker each, in interleaved rounds; wrk the same way.

Two processes share nothing in groundswell. Where they cost the same as two workers of one process, the loss is that of
the core shared with the target, and of the kernel. (Debian: apt-get install nginx-light wrk)

    cargo build --release && python3 bench/cores.py
"""

import os
import shutil
import statistics
import subprocess
import tempfile

from common import require_binary
from cost import CONNECTIONS, ROUNDS, SECONDS, nginx, number, own, pinned, told

HALF = CONNECTIONS // 2


def cases(url, folder):
    """Name, and commands with their cores (None: all) and how to read the number of requests."""
    one, requests = own(url, folder, "one")
    two, _ = own(url, folder, "two", workers=2)
    half, _ = own(url, folder, "half", users=HALF)
    wrk = number(r"(\d+) requests in")
    yield "one worker, own core", [(one, 1, requests)]
    yield "one worker, nginx's core", [(one, 0, requests)]
    yield "two workers", [(two, None, requests)]
    yield "two processes", [(half, 0, requests), (half, 1, requests)]
    if shutil.which("wrk"):
        yield "wrk, one thread", [(["wrk", "-t1", "-c", str(CONNECTIONS), "-d", f"{SECONDS}s", url], 1, wrk)]
        yield "wrk, two threads", [(["wrk", "-t2", "-c", str(CONNECTIONS), "-d", f"{SECONDS}s", url], None, wrk)]
    else:
        print("skipped: wrk is not installed")


def measure(commands):
    """CPU seconds per million requests of all commands together."""
    with tempfile.TemporaryFile("w+") as errors:
        pipes = {"stdout": subprocess.PIPE, "stderr": errors, "text": True}
        started = [(subprocess.Popen(command if core is None else pinned(core, command), **pipes), requests_in)
                   for command, core, requests_in in commands]
        cpu = requests = 0
        for process, requests_in in started:
            text = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            requests += told(requests_in, " ".join(map(str, process.args)), text, status, errors)
            cpu += usage.ru_utime + usage.ru_stime
    return cpu / requests * 1e6


def main():
    require_binary()
    if not shutil.which("nginx"):
        raise SystemExit("skipped: nginx is not installed")
    if (os.cpu_count() or 1) < 2:
        raise SystemExit("skipped: this machine has one core")
    with nginx() as (url, _, folder):
        each = list(cases(url, folder))
        costs = {name: [] for name, _ in each}
        for _ in range(ROUNDS):
            for name, commands in each:
                costs[name].append(measure(commands))
    print(f"{'':26}{'CPU s per million requests':>28}{'range':>18}")
    for name, values in costs.items():
        print(f"{name:26}{statistics.median(values):>28.1f}{f'{min(values):.1f} to {max(values):.1f}':>18}")


if __name__ == "__main__":
    main()
