// Figures for people, as the text report writes them.

const NONE = "–";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** Three significant digits, thousands apart. */
function digits(value) {
  if (value === 0) {
    return "0";
  }
  const size = Math.floor(Math.log10(Math.abs(value)));
  return size >= 2 ? whole.format(value) : value.toFixed(Math.min(3, 2 - size));
}

/** A count. */
export function count(value) {
  return value === null || value === undefined ? NONE : whole.format(value);
}

/** So many of something. */
export function plural(value, word) {
  return `${count(value)} ${word}${value === 1 ? "" : "s"}`;
}

/** A latency given in milliseconds. */
export function ms(value) {
  if (value === null || value === undefined) {
    return NONE;
  }
  return value >= 10_000 ? `${digits(value / 1000)} s` : `${digits(value)} ms`;
}

/** A number of things a second. */
export function rate(value) {
  return value === null || value === undefined ? NONE : `${digits(value)}/s`;
}

/** A part of a whole. */
export function percent(ratio) {
  return ratio === null || ratio === undefined ? NONE : `${digits(ratio * 100)} %`;
}

/** By how much `to` differs from `from`, in percent; with a sign. */
export function change(from, to) {
  if (!from || to === null || to === undefined) {
    return NONE;
  }
  const ratio = to / from - 1;
  return `${ratio < 0 ? "−" : "+"}${(Math.abs(ratio) * 100).toFixed(1)} %`;
}

/** By how much a part of a whole differs, in points of a percent: relative to a small error rate, everything is much. */
export function points(from, to) {
  if (from === null || to === null || from === undefined || to === undefined) {
    return NONE;
  }
  const difference = (to - from) * 100;
  return `${difference < 0 ? "−" : "+"}${Math.abs(difference).toFixed(2)} points`;
}

/** Seconds of a run: 0:05, 12:00, 1:02:03. */
export function clock(seconds) {
  const two = (value) => String(value).padStart(2, "0");
  const total = Math.max(0, Math.floor(seconds));
  const [h, m, s] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** A moment (RFC 3339) in the reader's time. */
export function moment(text) {
  if (!text) {
    return NONE;
  }
  const at = new Date(text);
  const two = (value) => String(value).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} `
    + `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** A threshold's figure in its unit. */
export function figure(value, unit) {
  const forms = { ms, ratio: percent, "/s": rate, count };
  return (forms[unit] ?? count)(value);
}
