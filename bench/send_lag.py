"""Send lag on this machine: how late the generator itself is at several rates, on an otherwise idle machine.

    cargo build --release && python3 bench/send_lag.py
"""

from common import demo_target, finish, require_binary, start

PLAN = """
target: {target}
ready: {{ get: /health }}
scenarios:
  arrive:
    load: {{ rate: {rate}/s, for: 20s, warm_up: 2s, arrivals: {arrivals} }}
    flow: [ {{ get: /health }} ]
"""

GOALS = [("p50", 0.1), ("p99", 1.0), ("p999", 5.0)]


def main():
    require_binary()
    print(f"{'rate':>8}  {'arrivals':8}  {'CPU':>5}  {'p50':>9}  {'p99':>9}  {'p99.9':>9}  {'max':>9}  verdict")
    cases = [(100, "uniform"), (1000, "uniform"), (1000, "poisson"), (3000, "uniform"), (10000, "uniform")]
    for rate, arrivals in cases:
        with demo_target() as (_, url):
            plan = PLAN.format(target=url, rate=rate, arrivals=arrivals)
            _, report = finish(*start("run", plan, "--workers", "1"))
        lag, cpu = report["total"]["send_lag_ms"], max(agent["cpu"] for agent in report["agents"])
        figures = "  ".join(f"{lag[name]:>6.3f} ms" for name in ("p50", "p99", "p999", "max"))
        print(f"{rate:>6}/s  {arrivals:8}  {cpu * 100:>3.0f} %  {figures}  {report['verdict']['status']}")
    print("goals at no more than 30 % CPU: " + ", ".join(f"{name} <= {goal} ms" for name, goal in GOALS))


if __name__ == "__main__":
    main()
