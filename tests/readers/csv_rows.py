"""Reads a CSV strictly. Usage: csv_rows.py FILE. Prints its rows in JSON."""
import csv
import json
import sys

with open(sys.argv[1], newline="", encoding="utf-8") as file:
    rows = list(csv.DictReader(file, strict=True))
assert all(None not in row and None not in row.values() for row in rows), "every row has as many cells as the header"
json.dump(rows, sys.stdout)
