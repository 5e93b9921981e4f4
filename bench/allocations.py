"""Allocations per request, by heaptrack: groundswell with all of it and the HTTP library alone, each for a short and for a
longer time over the same 50 connections, so that what is allocated once does not count. The noise of a machine does not
move these figures. (Debian: apt-get install nginx-light heaptrack)

    cargo build --release && cargo build --release -p groundswell-agent --example bare_hyper && python3 bench/allocations.py
"""

import re
import shutil
import subprocess

from common import BINARY, require_binary
from cost import BARE, CONNECTIONS, nginx, number

SHORT_S, LONG_S = 2, 8
CLOSED, OPEN = f"users: {CONNECTIONS}", f"rate: 5000/s, max_in_flight: {CONNECTIONS}"

PLAN = """
target: {url}
http: {{ version: {version} }}
scenarios:
  allocate:
    load: {{ {load}, for: {seconds}s }}
    flow: [ {{ get: / }} ]
"""


def tracked(command, folder, name):
    """Calls of allocation functions, and what the command printed."""
    trace = folder / name
    run = subprocess.run(["heaptrack", "-o", trace, *command], capture_output=True, text=True)
    traces = [path for path in folder.glob(f"{name}.*") if path.suffix in (".zst", ".gz")]
    if not traces:
        raise SystemExit(f"heaptrack wrote nothing: {run.stdout}{run.stderr}")
    told = subprocess.run(["heaptrack_print", "-p", "0", "-a", "0", "-T", "0", "-l", "0", traces[0]],
                          capture_output=True, text=True).stdout
    calls = re.search(r"calls to allocation functions: (\d+)", told)
    if not calls:
        raise SystemExit(f"heaptrack_print says no number:\n{told}")
    return int(calls.group(1)), run.stdout + run.stderr


def groundswell(url, version, load, seconds, folder):
    name = f"own-{version}-{load[:4]}-{seconds}"
    path = folder / f"{name}.yaml"
    path.write_text(PLAN.format(url=url, version=version, load=load, seconds=seconds))
    calls, told = tracked([BINARY, "run", path, "--workers", "1", "--plain"], folder, name)
    return calls, number(r"\s([\d,]+) operations? against")(told)


def bare(url, seconds, folder):
    calls, told = tracked([BARE, url, str(CONNECTIONS), str(seconds)], folder, f"bare-{seconds}")
    return calls, number(r"(\d+) requests")(told)


def show(name, measure, *arguments, folder):
    few, many = (measure(*arguments, seconds, folder) for seconds in (SHORT_S, LONG_S))
    calls, requests = many[0] - few[0], many[1] - few[1]
    if requests <= 0:
        raise SystemExit(f"{name}: {few[1]} requests in {SHORT_S} s and {many[1]} in {LONG_S} s")
    print(f"{name:31}{calls / requests:>6.2f} allocations per request ({calls:,} for {requests:,} more)", flush=True)


def main():
    require_binary()
    for tool in ("nginx", "heaptrack", "heaptrack_print"):
        if not shutil.which(tool):
            raise SystemExit(f"skipped: {tool} is not installed")
    with nginx() as (url, url2, folder):
        if BARE.exists():
            show("bare hyper, HTTP/1.1", bare, url, folder=folder)
        else:
            print(f"skipped: {BARE} is not built")
        show("groundswell, HTTP/1.1", groundswell, url, "1.1", CLOSED, folder=folder)
        show("groundswell, HTTP/1.1, a rate", groundswell, url, "1.1", OPEN, folder=folder)
        show("groundswell, HTTP/2", groundswell, url2, "2", CLOSED, folder=folder)


if __name__ == "__main__":
    main()
