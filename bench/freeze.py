"""The freeze: 1,000 requests a second for 60 s against a target that is stopped (SIGSTOP) from 20 s to 30 s.

Prints what groundswell reports beside a discrete-event model that is fed with what was measured of the freeze itself:
when the target stopped and went on, how long it serves, and how fast it worked off what had waited. Whoever would come
while the target is frozen waits; a truthful tool has to show it in its percentiles.

    cargo build --release && python3 bench/freeze.py
"""

import datetime
import heapq
import math
import signal
import time

from common import demo_target, finish, require_binary, start

RATE, LENGTH, FROM, TO = 1000, 60, 20.0, 30.0
IN_FLIGHT = 8

PLAN = """
target: {target}
ready: {{ get: /health }}
scenarios:
  freeze:
    load: {{ rate: 1000/s, for: 60s, max_in_flight: 8, queue: 100000 }}
    flow: [ {{ get: "/health?fault=delay:1ms", timeout: 60s }} ]
"""

FIGURES = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)]


def model(frozen_from, frozen_to, service, loaded):
    """Response times in seconds: arrivals wait for one of IN_FLIGHT lanes, which do nothing during the freeze.

    `service` is the time of a request with its send lag while nobody waits, `loaded` that of one while all lanes work off the backlog.
    """
    lanes = [0.0] * IN_FLIGHT
    responses = []
    for k in range(RATE * LENGTH):
        due = k / RATE
        begin = max(due, heapq.heappop(lanes))
        work = loaded if begin > due else service
        if begin + work <= frozen_from or begin >= frozen_to:
            end = begin + work
        else:
            done = max(0.0, frozen_from - begin)
            end = frozen_to + work - done
        heapq.heappush(lanes, end)
        responses.append(end - due)
    return sorted(responses)


def quantile(ordered, q):
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


def main():
    require_binary()
    with demo_target() as (target, url):
        run, path = start("run", PLAN.format(target=url), "--workers", "1")
        for line in run.stderr:
            if "running" in line:
                break
        time.sleep(FROM)
        stopped = time.time()
        target.send_signal(signal.SIGSTOP)
        time.sleep(TO - FROM)
        target.send_signal(signal.SIGCONT)
        resumed = time.time()
        code, report = finish(run, path)
    t0 = datetime.datetime.fromisoformat(report["run"]["started_at"].replace("Z", "+00:00")).timestamp()
    frozen_from, frozen_to = stopped - t0, resumed - t0
    total, ledger = report["total"], report["ledger"]
    # A second that lies wholly within the catching up tells how fast the target then is.
    second = math.ceil(frozen_to)
    caught_up = sum(row["ok"] for row in report["timeline"] if row["t_s"] == second)
    service = (total["service_ms"]["p50"] + total["send_lag_ms"]["p50"]) / 1e3
    loaded = IN_FLIGHT / caught_up
    expected = model(frozen_from, frozen_to, service, loaded)
    print(f"frozen from {frozen_from:.2f} s to {frozen_to:.2f} s; service {service * 1e3:.2f} ms; "
          f"then {caught_up}/s until nobody waited")
    print(f"samples {total['response_ms']['count']}, scheduled {ledger['scheduled']}, "
          f"ledger balanced: {ledger['balanced']}, verdict {report['verdict']['status']} (exit code {code})")
    print(f"{'':8}{'groundswell':>14}{'model':>12}{'difference':>12}{'service time alone':>22}")
    worst = 0.0
    for name, q in FIGURES:
        ours, truth = total["response_ms"][name], quantile(expected, q) * 1e3
        off = ours / truth - 1
        worst = max(worst, abs(off))
        print(f"{name:8}{ours:>11.1f} ms{truth:>9.1f} ms{off * 100:>+11.2f} %{total['service_ms'][name]:>19.1f} ms")
    print(f"largest difference: {worst * 100:.2f} %")


if __name__ == "__main__":
    main()
