// Axes: from values to pixels, and where the ticks stand.

import { clock } from "./format.js";

/** A linear scale from `from`…`to` onto the pixels `start`…`end`. */
export function linear(from, to, start, end) {
  const length = to - from || 1;
  return (value) => start + ((value - from) / length) * (end - start);
}

/** A logarithmic scale; what is below `from` lies at its start. */
export function logarithmic(from, to, start, end) {
  const place = linear(Math.log10(from), Math.log10(to), start, end);
  return (value) => place(Math.log10(Math.max(value, from)));
}

/** Round values from 0 to at least `most`, some five of them, no closer than `least`. */
export function linearTicks(most, least = 0) {
  const rough = (most || 1) / 5;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(least, [1, 2, 5, 10].map((factor) => factor * size).find((candidate) => candidate >= rough));
  const ticks = [];
  for (let index = 0; ticks.length === 0 || ticks.at(-1) < most; index += 1) {
    // Multiplied, not added up, so that 0.3 is 0.3.
    ticks.push(Number((index * step).toPrecision(12)));
  }
  return ticks;
}

/** Powers of ten around `least`…`most`, with 2 and 5 between them where there are few. */
export function logTicks(least, most) {
  const first = Math.floor(Math.log10(least));
  const last = Math.max(first + 1, Math.ceil(Math.log10(most)));
  const factors = last - first <= 2 ? [1, 2, 5] : [1];
  const ticks = [];
  for (let power = first; power < last; power += 1) {
    factors.forEach((factor) => ticks.push(factor * 10 ** power));
  }
  ticks.push(10 ** last);
  return ticks;
}

const TIME_STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200];

/** Ticks of a time axis that ends at `end` seconds, not more than `most`: value and text. */
export function timeTicks(end, most) {
  const step = TIME_STEPS_S.find((candidate) => end / candidate <= most) ?? 86_400 * Math.ceil(end / 86_400 / most);
  const ticks = [];
  for (let value = 0; value <= end; value += step) {
    ticks.push({ value, text: clock(value) });
  }
  return ticks;
}

/** Ticks of an axis of percentiles, where a place is 1 / (1 - part): 0 %, 90 %, 99 %… up to `most`. */
export function tailTicks(most) {
  const ticks = [];
  for (let place = 1; place <= most; place *= 10) {
    const nines = Math.log10(place);
    const text = nines === 0 ? "0 %" : nines === 1 ? "90 %" : `99${nines > 2 ? "." : ""}${"9".repeat(nines - 2)} %`;
    ticks.push({ value: place, text });
  }
  return ticks;
}

/** Index of the value nearest to `wanted` in an ascending list. */
export function nearest(values, wanted) {
  let [low, high] = [0, values.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (values[middle] <= wanted) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return Math.abs(values[high] - wanted) < Math.abs(values[low] - wanted) ? high : low;
}
