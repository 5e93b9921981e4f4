"""Validates a JUnit file against the schema of Jenkins' xUnit plugin, and against what Windy Road's asks for beyond it.

Usage: junit.py SCHEMA FILE. Prints every testcase as [suite, name, outcome, type] in JSON.
"""
import json
import re
import sys

from lxml import etree

schema = etree.XMLSchema(etree.parse(sys.argv[1]))
document = etree.parse(sys.argv[2])
schema.assertValid(document)

cases = []
for number, suite in enumerate(document.getroot()):
    children = [child.tag for child in suite]
    tests = suite.findall("testcase")
    assert children == ["properties"] + ["testcase"] * len(tests) + ["system-out", "system-err"], children
    for attribute in ["name", "package", "hostname"]:
        assert suite.get(attribute).strip(), attribute
    assert suite.get("id") == str(number)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.get("timestamp")), suite.get("timestamp")
    float(suite.get("time"))
    outcomes = []
    for case in tests:
        assert case.get("name").strip() and case.get("classname").strip()
        float(case.get("time"))
        assert len(case) <= 1, "one outcome"
        outcome = case[0].tag if len(case) else "passed"
        outcomes.append(outcome)
        kind = case[0].get("type") if len(case) else None
        assert outcome in ["passed", "skipped"] or kind, "failures and errors have a type"
        cases.append([suite.get("name"), case.get("name"), outcome, kind])
    assert int(suite.get("tests")) == len(tests)
    for attribute, outcome in [("failures", "failure"), ("errors", "error"), ("skipped", "skipped")]:
        assert int(suite.get(attribute)) == outcomes.count(outcome), attribute
json.dump(cases, sys.stdout)
