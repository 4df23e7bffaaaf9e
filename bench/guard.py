"""Whether SwiftProxy got slower or larger, by a run of `--quick` against a committed one.

Only CPU time over that of another proxy in the same round, and memory per connection, decide: throughput and
wall time say more about the machine. The ratio to `direct` is shown and decides nothing.
"""

import json
import math
from pathlib import Path
from statistics import median

from report import metrics

PEER = "haproxy"
OURS = ("swiftproxy", "swiftproxy-pair")
CPU = {"down1": "cpu_per_gb", "up1": "cpu_per_gb", "rate": "cpu_us"}
GENERATOR = {"cpu_per_gb": "gen_cpu_per_gb", "cpu_us": "gen_cpu_us"}
SLOWER, LARGER = 1.30, 1.15
KIB = "idle KiB"


def figures(results: dict) -> dict[str, dict[str, float]]:
    """By what is measured, the figure of each of ours."""
    found: dict = {}
    for case, metric in CPU.items():
        for name in OURS:
            for other, key, theirs in (
                (PEER, f"{case} CPU ×{PEER}", metric),
                ("direct", f"{case} CPU ×direct", GENERATOR[metric]),
            ):
                ratios = [a[metric] / b[theirs] for a, b in pairs(results, case, name, other) if b.get(theirs)]
                if ratios:
                    found.setdefault(key, {})[name] = round(median(ratios), 4)
    # Memory only errs upwards, so the least of the rounds is the nearest. Resident, not proportional: another
    # process of the same program changes the latter.
    for phase in ("fresh", "used"):
        for name in OURS:
            summary = results["summary"].get("idle", {}).get(name)
            if summary and not math.isnan(summary[f"{phase}_rss"][0]):
                found.setdefault(f"{phase} {KIB}", {})[name] = round(summary[f"{phase}_rss"][1], 3)
    return found


def pairs(results: dict, case: str, name: str, other: str):
    """The figures of two peers, round by round."""
    samples = [s for s in results["samples"] if s["case"] == case and "error" not in s]
    for number in sorted({sample["round"] for sample in samples}):
        of_round = {s["peer"]: metrics(s, None) for s in samples if s["round"] == number}
        if name in of_round and other in of_round:
            yield of_round[name], of_round[other]


def judge(results: dict, file: Path, update: bool) -> list[str]:
    """Prints the comparison; returns what is worse than it may be."""
    found = figures(results)
    if update:
        meta = {key: results["meta"][key] for key in ("date", "cpu", "cores", "kernel")}
        file.write_text(json.dumps(meta | {"figures": found}, indent=1) + "\n")
        print(f"written: {file.name}")
        return []
    known = json.loads(file.read_text())["figures"]
    complaints = []
    for what, of_peers in known.items():
        for name, then in of_peers.items():
            now = found.get(what, {}).get(name)
            if now is None:
                complaints.append(f"{name}, {what}: not measured")
                continue
            most = LARGER if what.endswith(KIB) else math.inf if what.endswith("direct") else SLOWER
            bad = now > then * most
            print(f"{name:16} {what:22} {then:8.3f} → {now:8.3f}  {now / then - 1:+.0%}{'  WORSE' if bad else ''}")
            if bad:
                complaints.append(f"{name}, {what}: {then:.3f} → {now:.3f}, more than {most - 1:.0%} worse")
    return complaints
