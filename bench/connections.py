"""Many connections of one agent: 1,000 and then 10,000 users with a keep-alive connection each, that send something every
few seconds. Prints the agent's memory for each, what a user more costs, and the account.

nginx serves them; the limit of open files is raised as far as this process may. (Debian: apt-get install nginx-light)

    cargo build --release && python3 bench/connections.py
"""

import json
import os
import pathlib
import re
import resource
import shutil
import socket
import subprocess
import tempfile
import time

from common import BINARY, require_binary

FEW, MANY, SECONDS = 1_000, 10_000, 30

NGINX = """
daemon off; worker_processes 1; worker_rlimit_nofile 40000; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 30000; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "ok"; }} }}
}}
"""

PLAN = """
target: http://127.0.0.1:{port}
scenarios:
  idle:
    load: {{ users: {{ stages: [ {{ to: {users}, for: 10s }}, {{ to: {users}, for: {seconds}s }} ] }} }}
    flow: [ {{ get: / }}, {{ think: 4s..6s }} ]
"""


def resident(process):
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    return 0


def run(users, port, folder):
    """Greatest resident memory while all users are there, at its start and at its end, and the report."""
    (folder / "plan.yaml").write_text(PLAN.format(port=port, users=users, seconds=SECONDS))
    report = folder / "report.json"
    process = subprocess.Popen([BINARY, "run", folder / "plan.yaml", "--workers", "1", "--plain", "--out", report],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    samples = []
    for _ in range(SECONDS - 2):
        time.sleep(1)
        samples.append(resident(process))
    process.wait()
    settled = samples[14:]
    return settled[0], settled[-1], json.loads(report.read_text())


def main():
    require_binary()
    if not shutil.which("nginx"):
        raise SystemExit("skipped: nginx is not installed")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="groundswell-bench-"))
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    nginx = subprocess.Popen(["nginx", "-p", folder, "-c", folder / "nginx.conf"], stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    try:
        after = {}
        for users in (FEW, MANY):
            first, last, report = run(users, port, folder)
            after[users] = last
            total = report["total"]
            print(f"{users:>7,} users: {first / 2**20:.0f} MiB when all were there, {last / 2**20:.0f} MiB at the end; "
                  f"{report['verdict']['status']}, {total['ok']:,} of {total['issued']:,} well, "
                  f"connections opened {total['connect_ms']['count']:,}, p99 send lag {total['send_lag_ms']['p99']} ms")
            for reason in report["verdict"]["reasons"]:
                print(f"        {reason['message']}")
        print(f"a user more: {(after[MANY] - after[FEW]) / (MANY - FEW) / 1024:.1f} KiB")
    finally:
        nginx.terminate()
        nginx.wait()


if __name__ == "__main__":
    main()
