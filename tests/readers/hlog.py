"""Reads an interval log with HdrHistogram's port to Python, and checks a percentile distribution against it.

Usage: hlog.py HLOG HGRM. Prints, in JSON, milliseconds by tag and percentile, the start, and the seconds with an interval.
"""
import json
import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

US_PER_MS = 1000


def empty():
    return HdrHistogram(1, 3_600_000_000, 3)


reader = HistogramLogReader(sys.argv[1], empty())
tags = {"all": empty()}
seconds = set()
while True:
    interval = reader.get_next_interval_histogram()
    if interval is None:
        break
    tags.setdefault(interval.get_tag(), empty()).add(interval)
    tags["all"].add(interval)
    seconds.add(round(interval.get_start_time_stamp() / 1000 - reader.get_start_time_sec()))

# Each line of the distribution: how many samples are not above a value, and that they are as many as it says.
everything = tags["all"]
counts = {"0.000": 0}
for value in everything.get_recorded_iterator():
    counts["%.3f" % (value.value_iterated_to / US_PER_MS)] = value.total_count_to_this_value
with open(sys.argv[2], encoding="utf-8") as file:
    lines = [line.split() for line in file if line.strip() and not line.startswith("#")]
assert lines[0] == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"], lines[0]
for value, percentile, count, *_ in lines[1:]:
    assert counts[value] == int(count), (value, count, counts[value])
    assert int(count) >= float(percentile) * everything.get_total_count() - 1e-6, (value, percentile, count)
assert lines[-1][1:] == ["1.000000000000", str(everything.get_total_count())], lines[-1]

figures = {
    tag: {str(p): histogram.get_value_at_percentile(p) / US_PER_MS for p in [50, 90, 99, 99.9]}
    | {"count": histogram.get_total_count()}
    for tag, histogram in tags.items()
}
json.dump(
    {"tags": figures, "start_s": reader.get_start_time_sec(), "seconds": sorted(seconds)},
    sys.stdout,
)
