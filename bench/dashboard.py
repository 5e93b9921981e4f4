"""How long the dashboard takes for a run of an hour with 50 requests: real Chromium, the real page, a real run of ten seconds
whose frames are given back as 3,600 of one second each.

    cargo build --release && python bench/dashboard.py [SERIES] [SECONDS]

Needs Debian's chromium and Python's playwright.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

from common import BINARY, demo_target, require_binary

# Above this a person notices (RAIL: 100 ms for an answer to what they do).
FRAME = """async () => {
  const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  await painted();
  const begun = performance.now();
  ACTION;
  await painted();
  return performance.now() - begun;
}"""


def main():
    require_binary()
    series, seconds = (int(text) for text in (sys.argv[1:] + ["50", "3600"][len(sys.argv) - 1:]))
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as log:
        serve = subprocess.Popen([BINARY, "serve", "--listen", "127.0.0.1:0", "--data-dir", f"{folder}/data"], stderr=log)
        try:
            url = listening(serve, log)
            measure(url, Path(folder), series, seconds)
        finally:
            serve.terminate()
            serve.wait()


def listening(serve, log):
    while serve.poll() is None:
        log.seek(0)
        if found := re.search(r"listening on (http://\S+)\n", log.read()):
            return found[1]
    raise SystemExit("serve ended")


def measure(url, folder, series, seconds):
    steps = "\n".join(f"      - {{ get: /health, name: step-{number} }}" for number in range(series))
    plan = folder / "plan.yaml"
    with demo_target() as (_, target), subprocess.Popen(
            [BINARY, "agent", "--coordinator", url], stderr=subprocess.DEVNULL) as agent:
        plan.write_text(f"target: {target}\nscenarios:\n  all:\n    load: {{ rate: 4/s, for: 10s }}\n    flow:\n{steps}\n")
        subprocess.run([BINARY, "run", plan, "--coordinator", url, "--plain"], check=False, capture_output=True)
        agent.terminate()
    run = json.load(urllib.request.urlopen(f"{url}/api/v1/runs"))[0]["id"]
    real = json.load(urllib.request.urlopen(f"{url}/api/v1/runs/{run}/frames"))
    frames = [{**real["frames"][second % (len(real["frames"]) - 1)], "t_s": float(second)} for second in range(seconds)]
    body = json.dumps({**real, "length_s": 1.0, "frames": frames})
    with sync_playwright() as playwright:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=sandbox)
        page = chromium.new_page(viewport={"width": 1360, "height": 1200})
        page.route("**/frames*", lambda route: route.fulfill(body=body, content_type="application/json"))
        page.add_init_script("window.tasks = []; new PerformanceObserver((list) => list.getEntries().forEach((entry) =>"
                             " tasks.push(entry.duration))).observe({ type: 'longtask', buffered: true })")
        page.goto(f"{url}/#/runs/{run}")
        page.get_by_text(re.compile(r"issued in [\d, ]+ intervals of 1 s")).wait_for()
        print(f"{series} requests, {seconds} intervals, {len(body) / 1e6:.1f} MB of frames")
        page.wait_for_timeout(500)
        tasks = page.evaluate("tasks")
        print(f"first picture: longest task {max(tasks, default=0):.0f} ms, all tasks above 50 ms {sum(tasks):.0f} ms")
        actions = {
            "one request ticked": "document.querySelector('tbody input').click()",
            "another percentile": "Object.assign(document.querySelectorAll('main select')[0], { selectedIndex: 1 })"
                                  ".dispatchEvent(new Event('change', { bubbles: true }))",
            "logarithmic axis": "Object.assign(document.querySelectorAll('main select')[1], { selectedIndex: 1 })"
                                ".dispatchEvent(new Event('change', { bubbles: true }))",
            "ten requests ticked": "[...document.querySelectorAll('tbody input')].slice(1, 10).forEach((box) => box.click())",
            "the pointer over a chart": "document.querySelector('canvas').dispatchEvent(new PointerEvent('pointermove',"
                                        " { clientX: 300, clientY: 60, bubbles: true }))",
        }
        for name, action in actions.items():
            times = sorted(page.evaluate(FRAME.replace("ACTION", action)) for _ in range(5))
            print(f"{name}: {times[2]:.0f} ms (median of 5, {times[0]:.0f} to {times[-1]:.0f})")
        chromium.close()


main()
