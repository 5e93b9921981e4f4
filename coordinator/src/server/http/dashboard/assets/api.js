// The coordinator's HTTP API (GET /api/v1/openapi.json describes it).

const PREFIX = "/api/v1";
/** After a lost connection it is tried again after so long, and at most so long. */
const FIRST_PAUSE_MS = 500;
const LAST_PAUSE_MS = 4_000;
/** Where nothing at all was heard for so long, the connection is taken for dead: a run says something every second. */
const SILENCE_MS = 20_000;

/** An answer that is an error (RFC 9457). */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function call(method, path, body) {
  const request = { method };
  if (body !== undefined) {
    request.headers = { "content-type": "application/json" };
    request.body = JSON.stringify(body);
  }
  const response = await fetch(PREFIX + path, request);
  if (response.ok) {
    const text = await response.text();
    return text === "" ? null : JSON.parse(text);
  }
  const problem = await response.json().catch(() => ({}));
  if (response.status === 401 && path !== "/login") {
    dispatchEvent(new Event("loggedout"));
  }
  throw new Problem(response.status, problem.detail ?? `${response.status} ${response.statusText}`);
}

const path = (id, what = "") => `/runs/${encodeURIComponent(id)}${what}`;

export const runs = (query) => call("GET", `/runs?${new URLSearchParams(query)}`);
export const run = (id) => call("GET", path(id));
export const submit = (submission) => call("POST", "/runs", submission);
export const cancel = (id) => call("POST", path(id, "/cancel"));
export const report = (id) => call("GET", path(id, "/report"));
export const frames = (id) => call("GET", path(id, "/frames"));
export const percentiles = (id) => call("GET", path(id, "/percentiles"));
export const plan = (id) => call("GET", path(id, "/plan"));
export const agents = () => call("GET", "/agents");
export const session = () => call("GET", "/session");
export const login = (token) => call("POST", "/login", { token });
export const logout = () => call("POST", "/logout");

/** Where a report lies in a format. */
export const reportUrl = (id, format) => `${PREFIX}${path(id, "/report")}?format=${encodeURIComponent(format)}`;

/** Where all of a run lies as one file, for another store. */
export const exportUrl = (id) => `${PREFIX}${path(id, "/export")}`;

/** The formats of a report, as the coordinator describes them. */
export async function formats() {
  const described = await call("GET", "/openapi.json");
  const parameters = described.paths[`${PREFIX}/runs/{id}/report`].get.parameters;
  return parameters.find((parameter) => parameter.name === "format").schema.enum;
}

/**
 * Watches a run until it is over or `signal` aborts. `hear` has a function for each event (`run`, `progress`, `frames`,
 * `finished`), and `lost` and `gone`: the connection broke and is tried again; there is nothing to watch.
 *
 * Reconnecting is done here and not left to EventSource, because browsers differ in whether they try again when a
 * coordinator refuses the connection for a while. What comes after `run` is everything anew.
 */
export function watch(id, hear, signal) {
  let source = null;
  let pause = FIRST_PAUSE_MS;
  let timer = 0;

  const close = () => {
    clearTimeout(timer);
    source?.close();
  };
  const expect = () => {
    clearTimeout(timer);
    timer = setTimeout(again, SILENCE_MS);
  };
  const open = () => {
    source = new EventSource(PREFIX + path(id, "/events"));
    for (const name of ["run", "progress", "frames", "finished"]) {
      source.addEventListener(name, (event) => {
        pause = FIRST_PAUSE_MS;
        if (name === "finished") {
          close();
        } else {
          expect();
        }
        hear[name](JSON.parse(event.data));
      });
    }
    source.addEventListener("error", again);
    expect();
  };
  const again = () => {
    close();
    hear.lost();
    timer = setTimeout(async () => {
      try {
        // An EventSource does not say why it failed; this does.
        const status = await run(id);
        if (signal.aborted) {
          return;
        }
        if (status.state === "unfinished") {
          hear.gone(new Problem(404, "the run was broken off: its coordinator ended and none took it up"));
        } else {
          open();
        }
      } catch (error) {
        if (signal.aborted) {
          return;
        }
        if (error instanceof Problem && error.status === 404) {
          hear.gone(error);
        } else {
          again();
        }
      }
    }, pause);
    pause = Math.min(2 * pause, LAST_PAUSE_MS);
  };

  signal.addEventListener("abort", close);
  open();
}

/** Calls `look` now and again after each pause while the page is seen, until `signal` aborts. */
export function poll(look, pauseMs, signal) {
  let timer = 0;
  const turn = async () => {
    clearTimeout(timer);
    if (!document.hidden) {
      await look();
    }
    if (!signal.aborted) {
      timer = setTimeout(turn, pauseMs);
    }
  };
  signal.addEventListener("abort", () => clearTimeout(timer));
  return turn();
}
