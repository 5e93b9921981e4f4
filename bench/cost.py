"""CPU time per request, beside other tools: each loads the same nginx, in interleaved rounds. HTTP/1.1 over 50
connections; HTTP/2 over 10 connections with 10 streams each.

Tools that are not installed are skipped by name. nginx runs on the first core, the tools on the second, where there are
two; only "2 workers" has both. "bare hyper" is agent/examples/bare_hyper.rs: the HTTP library with three histograms
and nothing else. (Debian: apt-get install nginx-light wrk nghttp2-client hey; cargo install oha)

    cargo build --release && cargo build --release -p groundswell-agent --example bare_hyper && python3 bench/cost.py
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

CONNECTIONS, STREAMS, SECONDS, ROUNDS = 50, 10, 3, 5
BARE = BINARY.parent / "examples" / "bare_hyper"

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 "ok"; }} }}
  server {{ listen 127.0.0.1:{http2} http2; location / {{ return 200 "ok"; }} }}
}}
"""

PLAN = """
target: {url}
http: {http}
scenarios:
  cost:
    load: {{ users: {users}, for: {seconds}s }}
    flow: [ {{ get: / }} ]
"""


@contextlib.contextmanager
def nginx():
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        port, http2 = one.getsockname()[1], other.getsockname()[1]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="groundswell-bench-"))
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, http2=http2))
    process = subprocess.Popen(pinned(0, ["nginx", "-p", folder, "-c", folder / "nginx.conf"]), stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    try:
        yield f"http://127.0.0.1:{port}/", f"http://127.0.0.1:{http2}/", folder
    finally:
        process.terminate()
        process.wait()


def pinned(core, command):
    return ["taskset", "-c", str(core), *command] if (os.cpu_count() or 1) > 1 else list(command)


def number(pattern, factor=1):
    def find(text):
        found = re.search(pattern, text)
        return round(float(found.group(1).replace(",", "")) * factor) if found else 0
    return find


def own(url, folder, name, http="{}", users=CONNECTIONS, workers=1):
    path = folder / f"{name}.yaml"
    path.write_text(PLAN.format(url=url, http=http, users=users, seconds=SECONDS))
    return [BINARY, "run", path, "--workers", str(workers), "--plain"], number(r"\s([\d,]+) operations? against")


def http1(url, folder):
    """Name, command, and how many requests its output tells of."""
    count = str(CONNECTIONS)
    yield "groundswell", *own(url, folder, "one")
    yield "2 workers", *own(url, folder, "two", workers=2)
    yield "reqwest", *own(url, folder, "reqwest", http="{ transport: reqwest }")
    yield "bare hyper", [BARE, url, count, str(SECONDS)], number(r"(\d+) requests")
    yield "wrk", ["wrk", "-t1", "-c", count, "-d", f"{SECONDS}s", url], number(r"(\d+) requests in")
    yield "h2load", ["h2load", "--h1", "-t1", "-c", count, "-D", str(SECONDS), url], number(r"requests: (\d+) total")
    yield "hey", ["hey", "-cpus", "1", "-c", count, "-z", f"{SECONDS}s", url], number(r"Requests/sec:\s+([\d.]+)", SECONDS)
    yield "oha", ["oha", "--no-tui", "-c", count, "-z", f"{SECONDS}s", url], number(r"Requests/sec:\s+([\d.]+)", SECONDS)


def http2(url, folder):
    shared = f"{{ version: 2, connections: {{ shared: {STREAMS} }} }}"
    yield "groundswell", *own(url, folder, "http2", http=shared, users=STREAMS * STREAMS)
    streams = str(STREAMS)
    command = ["h2load", "-t1", "-c", streams, "-m", streams, "-D", str(SECONDS), url]
    yield "h2load", command, number(r"requests: (\d+) total")


def measure(name, command, requests_in):
    both = name == "2 workers"
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command if both else pinned(1, command), stdout=subprocess.PIPE, stderr=errors, text=True)
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        return (usage.ru_utime + usage.ru_stime) / told(requests_in, name, text, status, errors) * 1e6


def told(requests_in, name, text, status, errors):
    """The number of requests in what a tool printed; without one, the benchmark ends and says why."""
    requests = requests_in(text)
    if not requests:
        errors.seek(0)
        code = os.waitstatus_to_exitcode(status)
        raise SystemExit(f"{name} told no number of requests (exit code {code}); it said:\n{text}{errors.read()[-2000:]}")
    return requests


def table(title, tools, base):
    here = [tool for tool in tools if shutil.which(tool[1][0])]
    for name, command, _ in tools:
        if not shutil.which(command[0]):
            print(f"skipped: {name} is not installed")
    costs = {name: [] for name, _, _ in here}
    for _ in range(ROUNDS):
        for name, command, requests_in in here:
            costs[name].append(measure(name, command, requests_in))
    of = statistics.median(costs.get(base) or [float("nan")])
    print(f"{title:12}{'CPU s per million requests':>28}{'range':>18}{'of ' + base:>12}")
    for name, values in sorted(costs.items(), key=lambda entry: statistics.median(entry[1])):
        middle = statistics.median(values)
        print(f"{name:12}{middle:>28.1f}{f'{min(values):.1f} to {max(values):.1f}':>18}{middle / of:>12.2f}")


def main():
    require_binary()
    if not shutil.which("nginx"):
        raise SystemExit("skipped: nginx is not installed")
    with nginx() as (url, url2, folder):
        table("HTTP/1.1", list(http1(url, folder)), "wrk")
        table("HTTP/2", list(http2(url2, folder)), "h2load")


if __name__ == "__main__":
    main()
