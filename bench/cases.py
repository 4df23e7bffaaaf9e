"""What is measured of a peer: one command of the generator, or a course of several."""

import dataclasses
import os
import resource
from collections.abc import Callable
from pathlib import Path

from peers import ACCOUNT_BYTES, CAP_BYTES, LIMIT_BYTES, LINK_BYTES, LINK_RTT, PAIR, Peer
from stage import Stage

WARMUP = 0.5
ACCOUNTS, FLOWS = 1000, 4
CAP_FLOWS = 50
UPLOADS = 4000
LEVELS = (1, 100, 5000, 20000)
# Descriptors that are not connections.
SPARE_FILES = 300


@dataclasses.dataclass
class Case:
    command: list[str] = dataclasses.field(default_factory=list)
    length: float = 1  # of the measured window, in units of the run's
    secs: float | None = None  # the window where it is fixed
    warmup: float = WARMUP
    one_cpu: bool = False  # everything on one CPU: no wake-ups across CPUs
    cpu_matters: bool = True  # worth repeating when something else took CPU time
    limit: int = LIMIT_BYTES  # what $rate stands for
    run: Callable | None = None  # (bench, peer, case, cpus) -> sample, instead of one command
    takes: float = 0  # seconds besides the window

    def window(self, secs: float) -> float:
        return self.secs or secs * self.length


def measure(bench, peer: Peer, case: Case, cpus: set[int]) -> dict:
    return (case.run or one_command)(bench, peer, case, cpus)


def timing(bench, case: Case) -> list[str]:
    return ["--secs", str(case.window(bench.options.secs)), "--warmup", str(case.warmup)]


def one_command(bench, peer: Peer, case: Case, cpus: set[int]) -> dict:
    with Stage(bench, peer, cpus, rate=str(case.limit)) as stage:
        command = [*case.command, *timing(bench, case)]
        if case.command == ["idle"]:
            command += ["--conns", str(bench.options.idle_conns)]
        return stage.generate(command, case.window(bench.options.secs) + 60)


def limit(bench, peer: Peer, case: Case, cpus: set[int]) -> dict:
    return one_command(bench, peer, case, cpus) | {"limit_bytes": case.limit}


def accounts(rate: int | None, count: int = ACCOUNTS) -> str:
    """Numbered accounts as SwiftProxy's configuration has them."""
    held = f'up = "{rate}B/s"\ndown = "{rate}B/s"\n' if rate else ""
    return "".join(f'[users.bench{n}]\npassword = "secret"\n{held}' for n in range(count))


def scale(bench, peer: Peer, case: Case, cpus: set[int]) -> dict:
    """Accounts held to a rate; then the same traffic, paced by the target and not limited."""
    command = ["accounts", "--accounts", ACCOUNTS, "--streams", FLOWS, "--limit", ACCOUNT_BYTES]
    command = [*map(str, command), *timing(bench, case)]
    found = []
    for held, pace in ((ACCOUNT_BYTES, 0), (None, ACCOUNT_BYTES // FLOWS)):
        with Stage(bench, peer, cpus, users=accounts(held)) as stage:
            found.append(stage.generate([*command, "--pace", str(pace)], case.window(0) + 120))
    return found[0] | {"paced": found[1], "foreign_cpu": max(one["foreign_cpu"] for one in found)}


def cap(bench, peer: Peer, case: Case, cpus: set[int]) -> dict:
    command = ["cap", "--streams", str(CAP_FLOWS), "--limit", str(CAP_BYTES), *timing(bench, case)]
    with Stage(bench, peer, cpus, rate=str(CAP_BYTES), users=accounts(None, 2)) as stage:
        return stage.generate(command, case.window(0) + 60) | {"limit_bytes": CAP_BYTES}


def live(bench, peer: Peer, case: Case, cpus: set[int]) -> dict:
    """A running download under three changes: of the store by a command, of the file, of the file again."""
    store, table, changed = 2_000_000, 4_000_000, 1_000_000
    with Stage(bench, peer, cpus, rate=str(case.limit)) as stage:
        file = stage.directory / "server.toml"
        user = stage.fill("[users.$user]\npassword = \"$password\"\n")
        edits = {
            store: lambda: stage.command([stage.fill(word) for word in peer.change] + [f"{store}B/s"]),
            table: lambda: replace(file, file.read_text() + user + f'down = "{table}B/s"\n'),
            changed: lambda: replace(file, file.read_text().replace(f'"{table}B/s"', f'"{changed}B/s"')),
        }

        def change(event: dict, go_on: Callable) -> None:
            go_on()  # the clock runs from here
            edits[event["rate"]]()

        rates = ",".join(map(str, edits))
        return stage.generate(["live", "--rates", rates, *timing(bench, case)], 60, {"change": change})


def replace(file: Path, text: str) -> None:
    """As editors do: a new file in the old one's place."""
    new = file.with_suffix(".new")
    new.write_text(text)
    os.replace(new, file)


def delayed(bench, peer: Peer, case: Case, cpus: set[int]) -> dict:
    """Over a slow and long link: opening unloaded, one stream each way, and an interactive one beside four of bulk."""
    secs = ["--secs", str(case.window(0))]
    with Stage(bench, peer, cpus, link_bytes=str(LINK_BYTES), link_rtt=str(LINK_RTT)) as stage:
        # The first one may have to wait for the tunnel; the probe has been one.
        opens = stage.generate(["open", "--conns", "30"], 60)
        down = stage.generate(["down", "--streams", "1", "--warmup", "3", *secs], 60)
        up = stage.generate(["up", "--streams", "1", "--warmup", "3", *secs], 60)
        mixed = stage.generate(["mixed", "--streams", "4", "--conns", "4", "--warmup", "3", *secs], 60)
    foreign = max(one["foreign_cpu"] for one in (down, up, mixed))
    return {"opens": opens, "down": down, "up": up, "mixed": mixed, "foreign_cpu": foreign}


def growth(bench, peer: Peer, case: Case, cpus: set[int]) -> dict:
    """Bulk and opens beside a growing number of open connections."""
    most = most_connections(peer)
    levels = []
    for nominal in LEVELS:
        level = {"level": nominal}

        def held(event: dict, go_on: Callable) -> None:
            level["held"] = event | stage.footprint()
            level["down"] = stage.generate(["down", "--streams", "1", *timing(bench, case)], 60)
            level["rate"] = stage.generate(["rate", "--conns", "16", *timing(bench, case)], 60)
            go_on()

        with Stage(bench, peer, cpus) as stage:
            command = ["hold", "--conns", str(min(nominal, most)), "--sources", "2"]
            level |= stage.generate(command, 240, {"held": held})
        levels.append(level)
    foreign = max(level[one]["foreign_cpu"] for level in levels for one in ("down", "rate"))
    return {"levels": levels, "foreign_cpu": foreign}


def uploads(bench, peer: Peer, case: Case, cpus: set[int]) -> dict:
    """An upload of each of many accounts, each with a tunnel of its own: what the remote grows by."""
    first = bench.ports.take(UPLOADS)
    tunnels = "".join(
        f'[listeners.l{n}]\nbind = "127.0.0.1:{first + n}"\nstack = ["detect", "stats"]\nrelay = "t{n}"\n'
        f'[relays.t{n}]\nkind = "tunnel"\nserver = "127.0.0.1:$p2"\nusername = "bench{n}"\npassword = "secret"\n'
        f'pin = "$pin"\nconnections = 1\n'
        for n in range(UPLOADS)
    )
    files = {file: text.replace("$tunnels", tunnels) for file, text in peer.files.items()}
    peer = dataclasses.replace(peer, files=files)
    with Stage(bench, peer, cpus, p1=str(first), users=accounts(ACCOUNT_BYTES, UPLOADS)) as stage:
        return grown(bench, stage, case, ["--spread", "1"]) | {"limit_bytes": ACCOUNT_BYTES * UPLOADS}


def uploads_shared(bench, peer: Peer, case: Case, cpus: set[int]) -> dict:
    """As many uploads of one account, over one tunnel."""
    with Stage(bench, peer, cpus, rate=str(case.limit)) as stage:
        return grown(bench, stage, case, []) | {"limit_bytes": case.limit}


def grown(bench, stage: Stage, case: Case, options: list[str]) -> dict:
    found = {}

    def look(name: str) -> Callable:
        def at(event: dict, go_on: Callable) -> None:
            found[name] = event | stage.footprint(stage.proxy.started[0].pid)
            go_on()

        return at

    command = ["uploads", "--accounts", str(UPLOADS), *options, *timing(bench, case)]
    return stage.generate(command, 240, {name: look(name) for name in ("ready", "loaded")}) | found


def most_connections(peer: Peer) -> int:
    """What the limit on open files leaves: one hop has two ends in one process."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES
    return files if peer.group == PAIR else files // 2


DOWN, UP = "down", "up"


def limited(direction: str, streams: int, bytes_per_s: int = LIMIT_BYTES, secs: float = 10, tick: float = 0.1) -> Case:
    command = [direction, "--streams", str(streams), "--windows", "1", "--tick", str(tick)]
    return Case(command, secs=secs, warmup=2, cpu_matters=False, limit=bytes_per_s, run=limit)


CASES = {
    "down1": Case(["down", "--streams", "1"]),
    "down8": Case(["down", "--streams", "8"]),
    "up1": Case(["up", "--streams", "1"]),
    "rate": Case(["rate", "--conns", "64"]),
    "lat1": Case(["pingpong", "--conns", "1"], length=0.6, one_cpu=True),
    "lat32": Case(["pingpong", "--conns", "32"], length=0.6),
    "mixed": Case(["mixed", "--streams", "4", "--conns", "16"]),
    "idle": Case(["idle"], cpu_matters=False),
    "limit1": limited(DOWN, 1),
    "limit4": limited(DOWN, 4),
    "limit1up": limited(UP, 1),
    "limit4up": limited(UP, 4),
    "limit1g": limited(DOWN, 4, 125_000_000),
    "limit1gup": limited(UP, 4, 125_000_000),
    "limit64k": limited(DOWN, 2, 8_000, secs=20, tick=1),
    "limit64kup": limited(UP, 2, 8_000, secs=20, tick=1),
    "scale": Case(secs=5, warmup=3, run=scale, takes=25),
    "cap": Case(secs=5, warmup=2, cpu_matters=False, run=cap, takes=6),
    "live": Case(secs=1, warmup=2, cpu_matters=False, run=live, takes=6),
    "delayed": Case(secs=6, cpu_matters=False, run=delayed, takes=30),
    "uploads": Case(secs=15, warmup=2, cpu_matters=False, run=uploads, takes=40),
    "uploads1": Case(secs=15, warmup=2, cpu_matters=False, limit=ACCOUNT_BYTES * 500, run=uploads_shared, takes=20),
    "growth": Case(secs=3, run=growth, takes=60),
}
QUICK_CASES = ["down1", "up1", "rate", "idle"]
