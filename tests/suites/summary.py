"""Judges a suite that has just run: summary.py WORK SUITE VERSION [PAGE].

Reads the suite's log in WORK, holds its failures against the known ones in reasons.tsv (next to this file), keeps its
figures in WORK/results, and, if it is told a PAGE, writes that anew from the figures of all suites.

Ends with 1 when something fails that is not known to, when something is known to fail and does not, when the module
crashed, or when fewer tests ran than there are.
"""

import datetime
import fnmatch
import json
import pathlib
import re
import sys

# The suites, and the fewest tests of each that must pass: a suite that found nothing to test has passed nothing.
SUITES = {
    "cryptoki": 90,
    "python-pkcs11": 130,
    "pykcs11": 55,
    "pkcs11-check-compat": 2000,
    "pkcs11-check-strict": 1500,
}
HEAD = """# Suites that others wrote

Written by `make suites` from their logs; do not edit. What is changed in a suite before it runs (SoftHSM's names, RSA
of 1024 bits) stands in `tests/suites/run`; expected failures of pkcs11-check (xfail) count as neither. Every failure is
known and has its reason in `tests/suites/reasons.tsv`: any other, and any that fails no longer, ends the run with an
error. `make test` runs the first three in the same way.

| suite | version | passed | failed | crashed | skipped | date |
|---|---|--:|--:|--:|--:|---|
"""


def of_cargo(log):
    passed = len(re.findall(r"^test .*ok$", log, re.MULTILINE))
    failed = re.findall(r"^test (\S+) .*FAILED$", log, re.MULTILINE)
    ended = log.count("process didn't exit successfully: ") - log.count("(exit status: 101)")
    return passed, failed, ended, len(re.findall(r"^test .*ignored", log, re.MULTILINE))


def of_pytest(log):
    def all_of(word):
        lines = re.findall(r"^\d+ .* in [0-9.:()s ]+$", log, re.MULTILINE)
        return sum(int(n) for line in lines for n in re.findall(rf"\b(\d+) {word}\b", line))

    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", log, re.MULTILINE)
    # A subtest stands with what it was given, which goes on for lines where it is a vector: its scheme is enough.
    for given, test in re.findall(r"^SUBFAILED\((.*)\)\s+(\S+\.py::\S+)", log, re.MULTILINE):
        scheme = re.search(r"'scheme': '(\w+)'", given)
        failed.append(f"{test}({scheme.group(1) if scheme else given})")
    return all_of("passed"), failed, log.count("Fatal Python error"), all_of("skipped")


def of_check(log, result):
    counts = result["summary"]
    failed = re.findall(r"^(?:FAILED|ERROR) \S*testcases/(\S+::\S+)", log, re.MULTILINE)
    gone = sum(counts.get(kind, 0) for kind in ("crashed", "timeout", "crash_limited", "child_crash", "child_timeout"))
    missing = counts.get("failed", 0) + counts.get("error", 0) - len(set(failed))
    failed += ["(not named in the log)"] * max(0, missing)
    return counts["passed"], failed, gone, counts["skipped"]


def figures_of(work, suite):
    log = (work / f"{suite}.log").read_text(encoding="utf-8", errors="replace")
    if suite == "cryptoki":
        return of_cargo(log)
    if suite.startswith("pkcs11-check"):
        return of_check(log, json.loads((work / suite / "result.json").read_text(encoding="utf-8")))
    return of_pytest(log)


def reasons_of(suite):
    """Why tests of a suite fail, by their names."""
    table = pathlib.Path(__file__).with_name("reasons.tsv").read_text(encoding="utf-8")
    lines = [line.split("\t") for line in table.splitlines() if line and not line.startswith("#")]
    return {test: why for pattern, test, why in lines if fnmatch.fnmatch(suite, pattern)}


def part_of(name, one):
    """A suite's part of the page: what fails, by reason."""
    reasons, by_reason = reasons_of(name), {}
    for test in one["failed"]:
        by_reason.setdefault(reasons.get(test, "**unexplained**"), []).append(test)
    text = f"\n## What fails in {name}, and why\n\n" if by_reason else ""
    for why, tests in by_reason.items():
        names = ", ".join(f"`{test.rsplit('::', 1)[-1]}`" for test in tests)
        text += f"- {why}\n  ({len(tests)}: {names})\n"
    return text


def page_of(work):
    text, rest = HEAD, ""
    for name in SUITES:
        path = work / "results" / f"{name}.json"
        if not path.exists():
            text += f"| {name} | not run | | | | | |\n"
            continue
        one = json.loads(path.read_text(encoding="utf-8"))
        text += f"| {name} | {one['version']} | {one['passed']} | {len(one['failed'])} | {one['crashed']} |"
        text += f" {one['skipped']} | {one['date']} |\n"
        rest += part_of(name, one)
    return text + rest


def main():
    work, suite, version = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    passed, failed, crashed, skipped = figures_of(work, suite)
    failed = sorted(set(failed))
    kept = {"version": version, "passed": passed, "failed": failed, "crashed": crashed, "skipped": skipped}
    kept["date"] = datetime.date.today().isoformat()
    (work / "results").mkdir(exist_ok=True)
    (work / "results" / f"{suite}.json").write_text(json.dumps(kept), encoding="utf-8")
    print(f"{suite}: {passed} passed, {len(failed)} failed, {crashed} crashed (log: {work}/{suite}.log)")
    if len(sys.argv) > 4:
        pathlib.Path(sys.argv[4]).write_text(page_of(work), encoding="utf-8")

    known = reasons_of(suite)
    wrong = [f"fails and is not known to: {test}" for test in failed if test not in known]
    wrong += [f"is known to fail and does not: {test}" for test in known if test not in failed]
    if crashed:
        wrong.append(f"the module crashed, or a test hung: {crashed} times")
    if passed < SUITES[suite]:
        wrong.append(f"only {passed} tests passed, of at least {SUITES[suite]}: was the suite found whole?")
    for line in wrong:
        print(f"{suite}: {line}")
    return 1 if wrong else 0


sys.exit(main())
