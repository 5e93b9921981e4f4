"""`groundswell compare` on equal runs, and on a target that is 20 % slower.

In each round the same plan runs three times on the demo target, one run after another: twice as it is and once with
every latency of the target times 1.2. Each run has a target of its own with another seed, as two days have other
requests. The two equal runs are compared (a regression is a false alarm), and the slow run with the second of them
(anything else is a miss). With several baselines, the slow run and an equal one are compared with those of other rounds.

    cargo build --release && python3 bench/compare.py [ROUNDS] [STORE]

A run takes about 23 s. With a STORE that has runs of an earlier call, they are compared again and none is made.
"""

import collections
import json
import pathlib
import subprocess
import sys
import tempfile

from common import BINARY, demo_target, finish, require_binary, start

PLAN = """
name: compare
target: {target}
max_send_lag: 50ms
ready: {{ get: /health }}
scenarios:
  browse:
    load: {{ rate: 150/s, for: 22s, warm_up: 2s, arrivals: poisson }}
    flow:
      - {{ get: /api/graph/stats, name: stats }}
      - {{ get: "/api/graph/nodes?q=a", name: search }}
      - {{ get: /api/graph/traverse/n1, name: traverse }}
"""
KINDS = [("first", "1"), ("second", "1"), ("slow", "1.2")]
BASELINES = 4
# A run that was INVALID because the machine was busy is made again, so often at the most.
TRIES = 5


def record(store, rounds):
    """Makes the runs; returns their ids by round and kind."""
    runs, index = {}, store / "runs.json"
    if index.exists():
        return json.loads(index.read_text())
    seed = 1
    for number in range(rounds):
        made = {}
        for kind, scale in KINDS:
            for _ in range(TRIES):
                seed += 1
                with demo_target("--seed", str(seed), "--latency-scale", scale) as (_, url):
                    _, report = finish(*start("run", PLAN.format(target=url), "--data-dir", store))
                status = report["verdict"]["status"]
                figures = {step["step"]: step["response_ms"]["p50"] for step in report["steps"]}
                print(f"round {number + 1} {kind}: {status} {figures}", file=sys.stderr, flush=True)
                if status == "passed":
                    break
            else:
                sys.exit("the machine is too busy: no valid run")
            made[kind] = report["run"]["id"]
        runs[str(number)] = made
        index.write_text(json.dumps(runs))
    return runs


def compare(store, run, *baselines):
    command = [BINARY, "compare", *baselines, run, "--data-dir", store, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode not in (0, 1):
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def tell(title, comparisons):
    """One line for the decisions, and one for the widest difference of each figure that any of them shows."""
    called = sum(one["decision"] == "regression" for one in comparisons)
    counts, largest = collections.Counter(), collections.defaultdict(float)
    for one in comparisons:
        counts.update(one["counts"])
        for request in one["requests"]:
            for figure in request["figures"]:
                moved = figure["relative"] if figure["relative"] is not None else figure["difference"]
                largest[figure["metric"]] = max(largest[figure["metric"]], abs(moved or 0.0), key=abs)
    share = sum(counts.values()) or 1
    print(f"{title}: {called} of {len(comparisons)} called a regression")
    print("  figures: " + ", ".join(f"{name} {counts[name] * 100 / share:.0f} %" for name in
                                    ("regression", "improvement", "no_difference", "cannot_tell")))
    print("  largest difference: " + ", ".join(f"{name} {value * 100:.1f} %" for name, value in largest.items()), flush=True)


def main():
    require_binary()
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    store = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp(prefix="groundswell-compare-"))
    store.mkdir(parents=True, exist_ok=True)
    runs = list(record(store, rounds).values())
    print(f"{3 * len(runs)} runs in {store}")
    tell("equal, one baseline", [compare(store, made["second"], made["first"]) for made in runs])
    tell("20 % slower, one baseline", [compare(store, made["slow"], made["second"]) for made in runs])
    around = [[runs[(number + other) % len(runs)]["first"] for other in range(1, BASELINES + 1)]
              for number in range(len(runs))]
    if len(runs) > BASELINES:
        pairs = list(zip(runs, around))
        tell(f"equal, {BASELINES} baselines", [compare(store, made["second"], *others) for made, others in pairs])
        tell(f"20 % slower, {BASELINES} baselines", [compare(store, made["slow"], *others) for made, others in pairs])


if __name__ == "__main__":
    main()
