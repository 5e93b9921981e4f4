"""CPU time per request, beside other tools: each loads the same nginx with 50 connections, in interleaved rounds.

Tools that are not installed are skipped by name. nginx runs on the first core, the tools on the second, where there are
two. (Debian: apt-get install nginx-light wrk nghttp2-client hey)

    cargo build --release && python3 bench/cost.py
"""

import contextlib
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

from common import BINARY, require_binary

CONNECTIONS, SECONDS, ROUNDS = 50, 5, 5

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 "ok"; }} }}
}}
"""

PLAN = """
target: {url}
scenarios:
  cost:
    load: {{ users: {connections}, for: {seconds}s }}
    flow: [ {{ get: / }} ]
"""


@contextlib.contextmanager
def nginx():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="groundswell-bench-"))
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    process = subprocess.Popen(pinned(0, ["nginx", "-p", folder, "-c", folder / "nginx.conf"]), stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    try:
        yield f"http://127.0.0.1:{port}/", folder
    finally:
        process.terminate()
        process.wait()


def pinned(core, command):
    return ["taskset", "-c", str(core), *command] if (os.cpu_count() or 1) > 1 else list(command)


def tools(url, folder):
    """Name, command, and how many requests its output tells of."""
    def number(pattern, factor=1):
        def find(text):
            found = re.search(pattern, text)
            return round(float(found.group(1).replace(",", "")) * factor) if found else 0
        return find

    (folder / "plan.yaml").write_text(PLAN.format(url=url, connections=CONNECTIONS, seconds=SECONDS))
    own = [BINARY, "run", folder / "plan.yaml", "--workers", "1", "--plain"]
    count = str(CONNECTIONS)
    yield "groundswell", own, number(r"\s([\d,]+) operations? against")
    yield "wrk", ["wrk", "-t1", "-c", count, "-d", f"{SECONDS}s", url], number(r"(\d+) requests in")
    yield "h2load", ["h2load", "--h1", "-t1", "-c", count, "-D", str(SECONDS), url], number(r"requests: (\d+) total")
    yield "hey", ["hey", "-cpus", "1", "-c", count, "-z", f"{SECONDS}s", url], number(r"Requests/sec:\s+([\d.]+)", SECONDS)
    yield "oha", ["oha", "--no-tui", "-c", count, "-z", f"{SECONDS}s", url], number(r"Requests/sec:\s+([\d.]+)", SECONDS)


def measure(command, requests_in):
    process = subprocess.Popen(pinned(1, command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    text = process.stdout.read()
    _, _, usage = os.wait4(process.pid, 0)
    requests = requests_in(text)
    return (usage.ru_utime + usage.ru_stime) / requests * 1e6 if requests else float("nan")


def main():
    require_binary()
    if not shutil.which("nginx"):
        raise SystemExit("skipped: nginx is not installed")
    with nginx() as (url, folder):
        here = [tool for tool in tools(url, folder) if shutil.which(tool[1][0])]
        for name, command, _ in tools(url, folder):
            if not shutil.which(command[0]):
                print(f"skipped: {name} is not installed")
        costs = {name: [] for name, _, _ in here}
        for _ in range(ROUNDS):
            for name, command, requests_in in here:
                costs[name].append(measure(command, requests_in))
    base = statistics.median(costs.get("wrk") or [float("nan")])
    print(f"{'':12}{'CPU s per million requests':>28}{'range':>18}{'of wrk':>9}")
    for name, values in sorted(costs.items(), key=lambda entry: statistics.median(entry[1])):
        middle = statistics.median(values)
        print(f"{name:12}{middle:>28.1f}{f'{min(values):.1f} to {max(values):.1f}':>18}{middle / base:>9.2f}")


if __name__ == "__main__":
    main()
