"""`groundswell search` on a target of known capacity, five times in a row.

The demo target works on 64 requests at a time, each of which takes a log-normal time (median 40 ms, sigma 0.4, one in a
hundred three times as long): its capacity is 64 / mean.

    cargo build --release && python3 bench/search.py
"""

import math

from common import demo_target, finish, require_binary, start

WORKERS, SCALE = 64, 10
MEAN = 0.004 * SCALE * math.exp(0.4**2 / 2) * (0.99 + 0.01 * 3)
ROUNDS = 5

PLAN = """
target: {target}
ready: {{ get: /health }}
scenarios:
  capacity:
    load: {{ search: {{ rate: {{ from: 200/s, to: 10000/s }}, within: 2% }}, for: 8s, warm_up: 2s, max_in_flight: 2000 }}
    flow: [ {{ get: /api/graph/stats }} ]
thresholds: [p95 < 150ms, error_rate < 1%]
"""


def main():
    require_binary()
    capacity = WORKERS / MEAN
    print(f"capacity {capacity:.0f}/s")
    worst = 0.0
    for round_number in range(1, ROUNDS + 1):
        with demo_target("--workers", str(WORKERS), "--latency-scale", str(SCALE), "--seed", str(round_number)) as (_, url):
            code, report = finish(*start("search", PLAN.format(target=url), "--agents", "2"))
        off = (report["level"] or 0.0) / capacity - 1
        worst = max(worst, abs(off))
        print(f"round {round_number}: {report['level']:.0f}/s ({off * 100:+.1f} %), limit: {report['limit']}, "
              f"{len(report['steps'])} steps, exit code {code}", flush=True)
    print(f"largest difference: {worst * 100:.1f} %")


if __name__ == "__main__":
    main()
