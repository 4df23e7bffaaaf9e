"""What SwiftProxy is to reach, and whether a run shows it."""

import dataclasses
import math

OURS = "swiftproxy"


@dataclasses.dataclass
class Goal:
    title: str
    peer: str
    case: str
    metric: str
    most: float | None = None
    least: float | None = None
    of: str = ""  # a peer whose figure `most` and `least` are multiples of; "best" is the group's best but ours

    def judge(self, results: dict) -> "tuple[float, str, bool | None] | None":
        """The figure, the goal in words, and whether it is met; none where it was not measured."""
        value = figure(results, self.peer, self.case, self.metric)
        if value is None:
            return None
        words, met = [], True
        reference, name = self.reference(results)
        for bound, sign in ((self.most, "≤"), (self.least, "≥")):
            if bound is None:
                continue
            if not self.of:
                words.append(f"{sign} {bound:g}")
            elif reference is None:
                return value, f"{sign} {bound:g} × {self.of}", None
            else:
                words.append(f"{sign} {bound:g} × {name}'s {reference:.3g}")
                bound *= reference
            met &= value <= bound if sign == "≤" else value >= bound
        return value, ", ".join(words), met

    def reference(self, results: dict) -> tuple[float | None, str]:
        if self.of != "best":
            return figure(results, self.of, self.case, self.metric), self.of
        group = next(peer["group"] for peer in results["meta"]["peers"] if peer["name"] == self.peer)
        others = [p["name"] for p in results["meta"]["peers"] if p["group"] == group]
        others = [name for name in others if name != "direct" and not name.startswith(OURS)]
        found = [(figure(results, name, self.case, self.metric), name) for name in others]
        found = [one for one in found if one[0] is not None]
        if not found:
            return None, "best"
        return min(found) if self.most is not None else max(found)


def figure(results: dict, peer: str, case: str, metric: str) -> float | None:
    found = results["summary"].get(case, {}).get(peer, {}).get(metric)
    return None if found is None or math.isnan(found[0]) else found[0]


PAIR, CLEAR, FAR = "swiftproxy-pair", "swiftproxy-pair-clear", "swiftproxy-far"
SPLICE, HAPROXY, BEST = "haproxy-splice", "haproxy", "best"


def limits() -> list[Goal]:
    goals = []
    for peer, where in (("swiftproxy-limit", "one hop"), ("swiftproxy-pair-limit", "pair")):
        for case in ("limit1", "limit4", "limit1up", "limit4up", "limit1g", "limit1gup", "limit64k", "limit64kup"):
            off = 0.02 if "64k" in case else 0.01
            title = f"{where}, {case}"
            goals.append(Goal(f"{title}, measured/limit", peer, case, "of_limit", 1 + off, 1 - off))
            goals.append(Goal(f"{title}, variation", peer, case, "cv", 0.1))
            if case != "limit1" and case != "limit1up":
                goals.append(Goal(f"{title}, fairness", peer, case, "fairness", least=0.99))
    return goals


GOALS = [
    *(Goal(f"one hop, {case}, CPU s/GB", OURS, case, "cpu_per_gb", 1.10, of=SPLICE) for case in ("down1", "down8", "up1")),
    Goal("one hop, SOCKS5, CPU µs per connection", OURS, "rate", "cpu_us", 1.25, of=HAPROXY),
    Goal("… SOCKS5 with login", "swiftproxy-login", "rate", "cpu_us", 1.45, of=HAPROXY),
    Goal("… CONNECT with Basic login", "swiftproxy-connect", "rate", "cpu_us", 1.25, of=HAPROXY),
    Goal("one hop, lat1 +p50 µs", OURS, "lat1", "added_p50", 1, of=HAPROXY),
    Goal("one hop, lat32 +p50 µs", OURS, "lat32", "added_p50", 1, of=BEST),
    Goal("one hop, lat32 +p99 µs", OURS, "lat32", "added_p99", 1, of=BEST),
    Goal("one hop, lat32 CPU µs per trip", OURS, "lat32", "cpu_us", 1, of=BEST),
    Goal("one hop, mixed p99 µs", OURS, "mixed", "p99", 1, of=BEST),
    Goal("one hop, mixed bulk Gbit/s", OURS, "mixed", "gbps", least=0.85, of=SPLICE),
    Goal("one hop, idle KiB per connection, used", OURS, "idle", "used_pss", 4),
    Goal("pair, down1, CPU s/GB", PAIR, "down1", "cpu_per_gb", 0.55, of=BEST),
    *(Goal(f"pair, {case}, CPU s/GB", PAIR, case, "cpu_per_gb", 0.62, of=BEST) for case in ("down8", "up1")),
    Goal("pair, SOCKS5, CPU µs per connection", PAIR, "rate", "cpu_us", 0.65, of=BEST),
    Goal("pair, lat1 +p50 µs", PAIR, "lat1", "added_p50", 1, of=BEST),
    Goal("pair, lat32 +p50 µs", PAIR, "lat32", "added_p50", 1, of=BEST),
    Goal("pair, lat32 +p99 µs", PAIR, "lat32", "added_p99", 1, of=BEST),
    Goal("pair, mixed p99 µs", PAIR, "mixed", "p99", 1, of=BEST),
    Goal("pair, mixed bulk Gbit/s", PAIR, "mixed", "gbps", least=1, of=BEST),
    Goal("pair, idle KiB per connection, used", PAIR, "idle", "used_pss", 8),
    *(
        Goal(f"pair without TLS, {case}, CPU s/GB", CLEAR, case, "cpu_per_gb", 2.2, of=SPLICE)
        for case in ("down1", "down8", "up1")
    ),
    *limits(),
    Goal("delayed link, one download's share", FAR, "delayed", "down_share", least=0.9),
    Goal("delayed link, one upload's share", FAR, "delayed", "up_share", least=0.9),
    Goal("delayed link, open, round trips", FAR, "delayed", "open_trips", 1.1),
    Goal("delayed link, interactive p99 ms beside 4 bulk", FAR, "delayed", "beside_p99", 75),
    Goal("scale, accounts within 2 %", "swiftproxy-accounts", "scale", "held", least=1),
    Goal("scale, Jain between accounts", "swiftproxy-accounts", "scale", "jain_between", least=0.98),
    Goal("scale, Jain within the worst account", "swiftproxy-accounts", "scale", "jain_within", least=0.98),
    Goal("scale, CPU over the same paced", "swiftproxy-accounts", "scale", "cpu_x_paced", 1.3),
    Goal("node cap, the one flow's part", "swiftproxy-cap", "cap", "one_part", 0.525, 0.475),
    Goal("node cap, s until an unused share is taken", "swiftproxy-cap", "cap", "taken", 1),
    Goal("live change, s from a TOML edit", "swiftproxy-live", "live", "file", 1),
    Goal("live change, s from user set", "swiftproxy-live", "live", "store", 2),
    *(
        goal
        for peer, where in ((OURS, "one hop"), (PAIR, "pair"))
        for goal in (
            Goal(f"growth, {where}, CPU/GB at most open over at 100", peer, "growth", "cpu_x", 1.15),
            Goal(f"growth, {where}, KiB at most open over at 5,000", peer, "growth", "kib_x", 1.05),
        )
    ),
    Goal("4,000 uploads, a tunnel each: MiB grown", "swiftproxy-uploads", "uploads", "grown_mib", 64),
    Goal("4,000 uploads, a tunnel each: lost", "swiftproxy-uploads", "uploads", "lost", 0),
    Goal("4,000 uploads, one tunnel: MiB grown", "swiftproxy-pair-limit", "uploads1", "grown_mib", 64),
    Goal("4,000 uploads, one tunnel: lost", "swiftproxy-pair-limit", "uploads1", "lost", 0),
]


def table(results: dict) -> list[str]:
    """Markdown: every goal that the run has a figure for."""
    rows = []
    for goal in GOALS:
        if judged := goal.judge(results):
            value, words, met = judged
            verdict = "?" if met is None else "yes" if met else "**no**"
            rows.append(f"| {goal.title} | {value:.4g} | {words} | {verdict} |")
    return ["| figure | measured | goal | met |", "|---|--:|---|---|", *rows] if rows else []
