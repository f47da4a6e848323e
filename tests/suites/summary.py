"""Reads a result file and the log of pkcs11-check: first line "passed failed", then each check that did not pass."""

import json
import re
import sys

BAD = ("failed", "error", "crashed", "timeout")

with open(sys.argv[1], encoding="utf-8") as file:
    result = json.load(file)
with open(sys.argv[2], encoding="utf-8", errors="replace") as file:
    log = file.read()

summary = result["summary"]
print(summary["passed"], sum(summary.get(kind, 0) for kind in BAD))
print("total", summary["total"], "skipped", summary["skipped"], "crashed", summary["crashed"], "timeout", summary["timeout"])
for unit in result["units"]:
    bad = {kind: unit["counts"][kind] for kind in BAD if unit["counts"].get(kind)}
    if bad or unit["status"] not in ("passed", "failed"):
        print("unit", unit["target"].rsplit("testcases/", 1)[-1], unit["status"], bad)
for line in dict.fromkeys(re.findall(r"^(?:FAILED|ERROR) \S*testcases/(.*)$", log, re.MULTILINE)):
    print(line[:240])
