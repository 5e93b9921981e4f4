"""Whether memory grows with the length of a run: an agent and its coordinator in processes of their own, a steady load for
five minutes, or as many as are said. Prints the resident memory of both after one minute, after five and at the end, and
its slope over the second half.

    cargo build --release && python3 bench/memory.py [MINUTES]
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import time

from common import BINARY, demo_target, require_binary

MINUTES = int(sys.argv[1]) if len(sys.argv) > 1 else 5

PLAN = """
target: {target}
max_send_lag: 1s
scenarios:
  steady:
    load: {{ rate: 300/s, for: {minutes}m }}
    flow: [ {{ get: /health }}, {{ get: /health, name: again, expect: {{ status: 200 }} }} ]
"""


def resident_kib(process):
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    return 0


def slope(samples):
    """KiB per minute, by least squares over (seconds, KiB)."""
    middle_x = sum(x for x, _ in samples) / len(samples)
    middle_y = sum(y for _, y in samples) / len(samples)
    rise = sum((x - middle_x) * (y - middle_y) for x, y in samples)
    return rise / sum((x - middle_x) ** 2 for x, _ in samples) * 60


def main():
    require_binary()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="groundswell-bench-"))
    serve = subprocess.Popen([BINARY, "serve", "--listen", "127.0.0.1:0"], stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, text=True)
    started = [serve]
    try:
        line = next(line for line in serve.stderr if "coordinator listening on" in line)
        coordinator = re.search(r"http://\S+", line).group(0)
        agent = subprocess.Popen([BINARY, "agent", "--coordinator", coordinator, "--workers", "1"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started.append(agent)
        with demo_target() as (_, url):
            (folder / "plan.yaml").write_text(PLAN.format(target=url, minutes=MINUTES))
            run = subprocess.Popen([BINARY, "run", folder / "plan.yaml", "--coordinator", coordinator, "--plain"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            started.append(run)
            began, samples = time.monotonic(), {"agent": [], "coordinator": []}
            while run.poll() is None and time.monotonic() < began + MINUTES * 60:
                time.sleep(1)
                at = time.monotonic() - began
                samples["agent"].append((at, resident_kib(agent)))
                samples["coordinator"].append((at, resident_kib(serve)))
        print(f"{'':12}{'1 min':>12}{'5 min':>12}{f'{MINUTES} min':>12}{'slope':>18}")
        for name, all_of_it in samples.items():
            figures = [max((at, kib) for at, kib in all_of_it if at <= minutes * 60)[1] for minutes in (1, 5, MINUTES)]
            half = [sample for sample in all_of_it if sample[0] >= MINUTES * 30]
            cells = "".join(f"{kib / 1024:>8.1f} MiB" for kib in figures)
            print(f"{name:12}{cells}{slope(half):>10.0f} KiB/min")
    finally:
        for process in started:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
