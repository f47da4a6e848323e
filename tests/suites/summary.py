"""Writes docs/suites.md: summary.py WORK SUITE VERSION PAGE.

Reads the log of the suite that has just run, keeps its figures in WORK/results, and writes the page anew from the
figures of all suites. Why each remaining failure remains stands in reasons.tsv next to this file.
"""

import datetime
import json
import pathlib
import re
import sys

SUITES = ("cryptoki", "python-pkcs11", "pykcs11", "pkcs11-check-compat", "pkcs11-check-strict")
HEAD = """# Suites that others wrote

Written by `make suites` from their logs; do not edit. What is changed in a suite before it runs (SoftHSM's names, RSA
of 1024 bits) stands in `tests/suites/run`; expected failures of pkcs11-check (xfail) count as neither.

| suite | version | passed | failed | crashed | skipped | date |
|---|---|--:|--:|--:|--:|---|
"""


def of_cargo(log):
    passed = len(re.findall(r"^test .*ok$", log, re.MULTILINE))
    failed = re.findall(r"^test (\S+) .*FAILED$", log, re.MULTILINE)
    return passed, failed, log.count("process didn't exit successfully: ") - log.count("(exit status: 101)"), 0


def of_pytest(log):
    def all_of(word):
        lines = re.findall(r"^\d+ .* in [0-9.:()s ]+$", log, re.MULTILINE)
        return sum(int(n) for line in lines for n in re.findall(rf"\b(\d+) {word}\b", line))

    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", log, re.MULTILINE)
    # A subtest stands with what it was given, which goes on for lines.
    failed += re.findall(r"^SUBFAILED.*?\s(test_\w+\.py::\S+)", log, re.MULTILINE)
    return all_of("passed"), failed, log.count("Fatal Python error"), all_of("skipped")


def of_check(log, result):
    counts = result["summary"]
    failed = re.findall(r"^(?:FAILED|ERROR) \S*testcases/(\S+::\S+)", log, re.MULTILINE)
    gone = sum(counts.get(kind, 0) for kind in ("crashed", "timeout", "crash_limited", "child_crash", "child_timeout"))
    missing = counts.get("failed", 0) + counts.get("error", 0) - len(set(failed))
    failed += ["(not named in the log)"] * max(0, missing)
    return counts["passed"], failed, gone, counts["skipped"]


def reason_of(suite, test, reasons):
    for pattern, wanted, why in reasons:
        if re.fullmatch(pattern, suite) and re.search(wanted, test):
            return why
    return "**unexplained**"


def main():
    work, suite, version, page = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], pathlib.Path(sys.argv[4])
    log = (work / f"{suite}.log").read_text(encoding="utf-8", errors="replace")
    if suite == "cryptoki":
        figures = of_cargo(log)
    elif suite.startswith("pkcs11-check"):
        figures = of_check(log, json.loads((work / suite / "result.json").read_text(encoding="utf-8")))
    else:
        figures = of_pytest(log)
    passed, failed, crashed, skipped = figures
    today = datetime.date.today().isoformat()
    kept = {"version": version, "passed": passed, "failed": failed, "crashed": crashed, "skipped": skipped, "date": today}
    (work / "results").mkdir(exist_ok=True)
    (work / "results" / f"{suite}.json").write_text(json.dumps(kept), encoding="utf-8")
    print(f"{suite}: {passed} passed, {len(failed)} failed, {crashed} crashed (log: {work}/{suite}.log)")

    reasons = [
        line.split("\t")
        for line in pathlib.Path(__file__).with_name("reasons.tsv").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    text, rest = HEAD, ""
    for name in SUITES:
        path = work / "results" / f"{name}.json"
        if not path.exists():
            text += f"| {name} | not run | | | | | |\n"
            continue
        one = json.loads(path.read_text(encoding="utf-8"))
        text += f"| {name} | {one['version']} | {one['passed']} | {len(one['failed'])} | {one['crashed']} |"
        text += f" {one['skipped']} | {one['date']} |\n"
        by_reason = {}
        for test in one["failed"]:
            by_reason.setdefault(reason_of(name, test, reasons), []).append(test)
        if by_reason:
            rest += f"\n## What fails in {name}, and why\n\n"
        for why, tests in by_reason.items():
            names = ", ".join(f"`{test.rsplit('::', 1)[-1]}`" for test in tests)
            rest += f"- {why}\n  ({len(tests)}: {names})\n"
    page.write_text(text + rest, encoding="utf-8")


main()
