"""Uses the dashboard as a person would, with Debian's Chromium.

    dashboard.py journey URL TARGET FOLDER      from the form that starts a run to a comparison of two
    dashboard.py markup URL TARGET FOLDER       markup in every name stays text
    dashboard.py restart URL RUN FOLDER         watches a run while the coordinator is killed and started again
    dashboard.py login URL TOKEN FOLDER         gets in with a token, and out again

Screenshots go to FOLDER. Everything is said on stderr; it ends with an exception where something is not as it should be.
"""

import json
import os
import re
import shutil
import struct
import sys
import urllib.request
import zlib
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import expect, sync_playwright

# Nothing takes so long, on however slow a machine; then it hangs.
PATIENCE_MS = 120_000
DESKTOP = {"width": 1360, "height": 2400}
PHONE = {"width": 390, "height": 844}
VERDICT = re.compile("PASSED|FAILED|DEGRADED|INVALID|ABORTED")


def say(text):
    print(text, file=sys.stderr, flush=True)


class Browser:
    """A page, and everything that went wrong in it."""

    def __init__(self, playwright, url, folder):
        self.url, self.folder = url.rstrip("/"), Path(folder)
        self.problems = []
        # Chromium's sandbox can't be had as root, which CI is.
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        self.chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=sandbox)
        # The CA of a coordinator is one that no browser knows.
        self.page = self.chromium.new_page(viewport=DESKTOP, ignore_https_errors=True)
        self.page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        self.page.on("console", lambda message: self.note(message.type == "error", "console", message.text))
        self.page.on("pageerror", lambda error: self.note(True, "exception", str(error)))
        self.page.on("dialog", lambda dialog: (self.note(True, "dialog", dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.note(not self.is_ours(request.url), "foreign request", request.url))
        # Chromium reports some breaches of the policy on the console and all of them here.
        self.page.add_init_script(
            "document.addEventListener('securitypolicyviolation', (event) =>"
            " console.error('policy', event.violatedDirective, event.blockedURI, event.sample))"
        )

    def note(self, is_wrong, what, text):
        if is_wrong:
            self.problems.append(f"{what}: {text}")

    def is_ours(self, url):
        return urlsplit(url).netloc == urlsplit(self.url).netloc

    def open(self, place):
        self.page.goto(f"{self.url}/#{place}")

    def shot(self, name):
        """A picture, after looking whether it shows something and fits."""
        self.page.wait_for_timeout(300)
        width, room = self.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width <= room, f"{name}: the page is {width} wide and has {room}"
        png = self.page.screenshot(path=self.folder / f"{name}.png", full_page=True)
        assert values_of(png) > 32, f"{name} is blank"

    def shots(self, name):
        """The same page on a desk, in the dark, and on a telephone."""
        self.shot(name)
        self.page.locator("#theme").select_option("dark")
        self.shot(f"{name}-dark")
        self.page.locator("#theme").select_option("system")
        self.page.set_viewport_size(PHONE)
        self.shot(f"{name}-phone")
        self.page.set_viewport_size(DESKTOP)

    def tab_to(self, selector):
        """Presses Tab until something has the focus, as those do who have no mouse; it must be seen to have it."""
        for _ in range(80):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                outline = self.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", f"the focus on {selector} is not seen"
                return
        raise AssertionError(f"Tab does not come to {selector}")

    def clean(self, allowed=r"^$"):
        wrong = [problem for problem in self.problems if not re.search(allowed, problem)]
        assert not wrong, wrong


def values_of(png):
    """How many different bytes a PNG's picture has; one colour all over has a handful."""
    at, data = 8, b""
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        if kind == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += 12 + length
    return len(set(zlib.decompress(data)))


def plan(target, seconds, name="dashboard", step="stats", scenario="browse"):
    quoted = {key: json.dumps(value) for key, value in {"name": name, "step": step, "scenario": scenario}.items()}
    return f"""name: {quoted["name"]}
max_send_lag: 10s
target: {target}
scenarios:
  {quoted["scenario"]}:
    load: {{ rate: 40/s, for: {seconds}s }}
    flow:
      - {{ get: /api/graph/stats, name: {quoted["step"]} }}
      - {{ get: "/api/graph/nodes?q=rust&fault=status:503&rate=0.2", name: search }}
thresholds: [error_rate < 90%]
"""


def get(url):
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)


def number(text):
    return int(re.search(r"[\d,]+", text).group().replace(",", ""))


def tile(page, name):
    return page.locator(".tiles div", has=page.get_by_text(name, exact=True)).locator("dd")


def shown(page):
    """The sum over the intervals that are shown."""
    return number(page.locator(".note", has_text=re.compile("operations? issued in")).inner_text())


def drawn(page):
    """Colours in each chart that can be seen."""
    return page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('.chart')].map((chart) => {
            const canvas = chart.querySelector('canvas');
            const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
            return [chart.querySelector('h3').textContent, new Set(new Uint32Array(pixels.buffer)).size];
        }))"""
    )


def start_by_keyboard(browser, target, seconds):
    """Fills in the form that starts a run, without a mouse, and returns the run's id."""
    page = browser.page
    browser.open("/runs")
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    browser.tab_to("button.primary")
    page.keyboard.press("Enter")
    browser.tab_to("[name=text]")
    page.keyboard.insert_text(plan(target, seconds))
    browser.tab_to("[name=labels]")
    page.keyboard.insert_text("branch=main, kind=browser")
    browser.tab_to("dialog button.primary")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"#/runs/\w+"))
    return page.url.rsplit("/", 1)[1]


def watch_live(browser):
    """Figures rise while it is watched, and the title says how far it is."""
    page = browser.page
    expect(page.locator(".badge", has_text="running")).to_be_visible()
    expect(page).to_have_title(re.compile(r"^\d+ % · dashboard · groundswell$"))
    expect(tile(page, "Issued")).not_to_have_text(re.compile(r"^\d{0,2}$"))
    first = number(tile(page, "Issued").inner_text())
    expect(tile(page, "Issued")).not_to_have_text(f"{first:,}")
    assert number(tile(page, "Issued").inner_text()) > first
    expect(page.locator(".note", has_text=re.compile("operations? issued in"))).to_be_visible()
    browser.shot("live")
    expect(page.locator("main .badge", has_text=VERDICT)).to_be_visible()
    expect(page).to_have_title(re.compile(f"^({VERDICT.pattern}) · dashboard · groundswell$"))


def read_finished(browser, run):
    page = browser.page
    report = get(f"{browser.url}/api/v1/runs/{run}/report")
    expect(tile(page, "Issued")).to_have_text(f"{report['ledger']['issued']:,}")
    assert shown(page) == report["ledger"]["issued"], "the intervals are not all operations"
    expect(page.get_by_role("region", name="Thresholds")).to_contain_text("holds")
    expect(page.get_by_role("region", name="Errors by class")).to_contain_text("status_503")
    for name, colours in drawn(page).items():
        assert colours > 20, f"the chart {name} has {colours} colours"
    formats = page.locator(".links a").all_inner_texts()
    assert {"json", "text", "html", "everything as one file"} <= set(formats), formats
    for link in page.locator(".links a").all():
        answer = page.request.get(browser.url + link.get_attribute("href"))
        assert answer.ok and answer.body(), link.get_attribute("href")
    browser.shots("run")


def use_keyboard(browser):
    """Charts, the choice of requests and the colours, without a mouse."""
    page = browser.page
    page.reload()
    expect(page.locator("main .badge", has_text=VERDICT)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    browser.tab_to("canvas")
    page.keyboard.press("Home")
    readout = page.locator(".chart").first.locator(".readout")
    expect(readout).to_contain_text("0:00")
    page.keyboard.press("ArrowRight")
    expect(readout).to_contain_text("0:01")
    page.keyboard.press("Escape")
    expect(readout).to_be_hidden()
    browser.tab_to("input[type=checkbox]")
    page.keyboard.press("Space")
    expect(page.locator(".chart").first.locator(".legend")).to_have_text(re.compile("^browse/(stats|search)$"))
    browser.shot("one-request")
    rows = page.get_by_role("region", name="Requests")
    rows.get_by_role("button", name="Issued").press("Enter")
    expect(rows.locator("th[aria-sort=descending]")).to_contain_text("Issued")
    page.locator("#theme").select_option("dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.locator("#theme").select_option("system")


def compare(browser, runs):
    """Ticks both runs in the list and follows the link."""
    page = browser.page
    browser.open("/runs")
    for run in runs:
        page.get_by_role("checkbox", name=re.compile(run)).check()
    browser.shots("list")
    page.get_by_role("link", name="Compare the two").click()
    table = page.get_by_role("region", name="Differences of each request")
    for name in ["total", "browse/stats", "browse/search"]:
        expect(table).to_contain_text(name)
    expect(page.locator(".chart").first.locator(".legend")).to_have_text("beforeafter")
    for name, colours in drawn(page).items():
        assert colours > 20, f"the chart {name} has {colours} colours"
    browser.shots("compare")
    page.get_by_role("link", name="Agents").click()
    expect(page.get_by_role("region", name="Agents")).to_contain_text("free")
    browser.shots("agents")


def search_and_cancel(browser, target):
    """A run that goes on is found by its label and stopped from the list."""
    page = browser.page
    run = start_by_keyboard(browser, target, 600)
    expect(page.locator(".badge", has_text="running")).to_be_visible()
    browser.open("/runs")
    page.get_by_role("searchbox").fill(run)
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("button", name=re.compile("^Cancel")).click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the run").click()
    expect(page.locator("tbody .badge", has_text="ABORTED")).to_be_visible()
    page.get_by_role("searchbox").fill("no run has this")
    expect(page.locator("tbody")).to_have_text("No runs.")


def journey(browser, target):
    runs = []
    for _ in range(2):
        runs.append(start_by_keyboard(browser, target, 12))
        watch_live(browser)
    read_finished(browser, runs[1])
    use_keyboard(browser)
    compare(browser, runs)
    search_and_cancel(browser, target)
    browser.clean()


HOSTILE = '<img src="/pwned" onerror="alert(1)"><script>alert(2)</script><b>&lt;'


def markup(browser, target):
    page = browser.page
    browser.open("/runs")
    page.get_by_role("button", name="Start a run").click()
    # A diagnostic repeats what the plan says.
    page.locator("[name=text]").fill(f"target: {target}\n{json.dumps(HOSTILE)}: 1\n")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("onerror")
    page.locator("[name=text]").fill(plan(target, 4, name=HOSTILE, step=HOSTILE, scenario=HOSTILE))
    page.locator("[name=labels]").fill(f"branch={HOSTILE}")
    page.locator("[name=name]").fill(f"{HOSTILE}.yaml")
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_url(re.compile(r"#/runs/\w+"))
    run = page.url.rsplit("/", 1)[1]
    expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
    expect(page.locator("main .badge", has_text=VERDICT)).to_be_visible()
    expect(page.get_by_role("region", name="Agents of the run")).to_contain_text(HOSTILE)
    expect(page.get_by_role("region", name="Requests")).to_contain_text(f"{HOSTILE}/{HOSTILE}")
    page.locator("tbody input").first.check()
    page.locator("canvas").first.hover()
    expect(page.locator(".readout").first).to_contain_text("onerror")
    is_text(browser, "run")
    for place, region in [("/runs", "Runs, the newest first"), (f"/compare/{run}/{run}", "Differences of each request"), ("/agents", "Agents")]:
        browser.open(place)
        expect(page.get_by_role("region", name=region)).to_contain_text("onerror")
        is_text(browser, place)
    browser.open(f"/{HOSTILE}")
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    browser.open(f"/runs/{HOSTILE}")
    expect(page.get_by_role("heading", name="No such run")).to_be_visible()
    is_text(browser, "no run")
    # That there is no such run, the browser says on the console too.
    browser.clean(r"the server responded with a status of (404|422)")


def is_text(browser, where):
    made = browser.page.evaluate("document.querySelectorAll('body img:not(.brand img), body script, main b b').length")
    assert made == 0, f"{where}: {made} elements were made of a name"


def restart(browser, run):
    page = browser.page
    browser.open(f"/runs/{run}")
    expect(tile(page, "Issued")).not_to_have_text(re.compile(r"^\d{0,2}$"))
    before = shown(page)
    say("watching")
    expect(page.locator("#notice")).to_contain_text("The connection to the coordinator is lost")
    say("lost")
    expect(page.locator("#notice")).to_be_empty()
    expect(page.locator(".marks")).to_contain_text("coordinator")
    # Still live: the curves have what was measured before, and go on.
    expect(page.get_by_role("button", name="Cancel the run")).to_be_visible()
    for _ in range(PATIENCE_MS // 100):
        live = shown(page)
        if live > before:
            break
        page.wait_for_timeout(100)
    assert live > before, f"{live} are shown after the restart, {before} were before"
    browser.shot("restarted")
    expect(page.locator("main .badge", has_text=VERDICT)).to_be_visible()
    issued = get(f"{browser.url}/api/v1/runs/{run}/report")["ledger"]["issued"]
    assert shown(page) == issued >= live, f"{shown(page)} are shown, {issued} were issued, {live} while it went on"
    # While nobody listens, the browser says so on the console.
    browser.clean(r"net::ERR_")


def login(browser, token):
    page = browser.page
    browser.open("/runs")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    expect(page.get_by_role("button", name="Log out")).to_be_hidden()
    browser.shots("login")
    page.get_by_label("Token").fill("gs.view.nonsense")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("unknown, revoked or expired")
    page.get_by_label("Token").fill(token)
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="Runs, the newest first")).to_be_visible()
    page.reload()
    expect(page.get_by_role("region", name="Runs, the newest first")).to_be_visible()
    assert page.evaluate("document.cookie") == "", "a script can read the cookie"
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    # A token that counts for nothing is an error on the console too.
    browser.clean(r"the server responded with a status of 401")


def main():
    what, url, more, folder = sys.argv[1:]
    with sync_playwright() as playwright:
        browser = Browser(playwright, url, folder)
        try:
            {"journey": journey, "markup": markup, "restart": restart, "login": login}[what](browser, more)
        except BaseException:
            say(f"problems: {browser.problems}")
            browser.page.screenshot(path=browser.folder / f"{what}-failed.png", full_page=True)
            raise
        browser.chromium.close()


main()
