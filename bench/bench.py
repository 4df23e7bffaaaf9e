#!/usr/bin/env python3
"""Measures TCP proxies side by side on loopback, in one interleaved run.

  bench.py install            build the load generator and install the peers
  bench.py list               show the peers and whether they are installed
  bench.py run                measure; see README.md for the cases
  bench.py run --quick        three minutes; fails if SwiftProxy got slower or larger
  bench.py readme             rebuild, measure, and print the tables of the project's README
  bench.py report FILE.json   write FILE.md again

Linux, Python 3.11 or newer, standard library only.
"""

import argparse
import base64
import datetime
import hashlib
import json
import os
import platform
import resource
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

import cases
import guard
import proc
import report
from cases import CASES, QUICK_CASES, Case
from peers import DIRECT, LIMIT_BYTES, PEERS, Peer, read_candidates
from stage import TOOLS, Failure, Ports

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OURS = HERE / "swiftproxy.toml"
MAX_RETRIES = 2
QUICK_PEERS = ["direct", guard.PEER, "swiftproxy", "swiftproxy-pair"]
QUICK_SECONDS = 160
QUICK_CONNS = 3000
README_PEERS = [
    *("direct", "haproxy-splice", "haproxy", "microsocks", "dante", "tinyproxy", "xray", "squid-limit"),
    *("haproxy-tls", "ss-libev", "ss-rust", "ss-rust-2022", "trojan", "xray-vless", "link", "ss-rust-2022-far"),
]


class Bench:
    """Everything a run keeps: its options, scratch directory and certificate."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.scratch = self.new_directory(None, "bench-")
        self.ports = Ports()
        self.lock = proc.Lock(options.lock, options.lock_hold)
        self.all_cpus = os.sched_getaffinity(0)
        self.threads = max(1, len(self.all_cpus) // 2)
        self.env = os.environ | {"PATH": f"{TOOLS / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin"}
        self.names = self.certificate()

    @staticmethod
    def new_directory(parent: Path | None, prefix: str) -> Path:
        """A fresh directory that a peer may enter under another user."""
        directory = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        directory.chmod(0o755)
        return directory

    def certificate(self) -> dict[str, str]:
        cert, key, pem = (self.scratch / name for name in ("cert.pem", "key.pem", "both.pem"))
        request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30"
        request += " -subj /CN=localhost -addext subjectAltName=DNS:localhost"
        subprocess.run([*request.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
        pem.write_text(cert.read_text() + key.read_text())
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(cert.read_text())).hexdigest()
        public = subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-outform", "der"], check=True, capture_output=True)
        pin = "sha256//" + base64.b64encode(hashlib.sha256(public.stdout).digest()).decode()
        names = {"cert": str(cert), "key": str(key), "pem": str(pem), "cert_sha256": digest, "pin": pin}
        return names | {"rate": str(LIMIT_BYTES), "swiftproxy": str(self.options.swiftproxy)}

    def close(self) -> None:
        self.lock.release()
        shutil.rmtree(self.scratch, ignore_errors=True)

    # ---- one measurement

    def measure(self, peer: Peer, name: str) -> dict:
        """One sample, repeated if other work on the machine disturbed it too much."""
        case, best = CASES[name], None
        for attempt in range(MAX_RETRIES + 1):
            self.lock.take()
            sample = self.attempt(peer, name, case)
            sample["attempt"] = attempt
            if best is None or sample["foreign_cpu"] < best["foreign_cpu"]:
                best = sample
            if not case.cpu_matters or sample["foreign_cpu"] <= self.options.max_foreign:
                break
        return best

    def attempt(self, peer: Peer, name: str, case: Case) -> dict:
        cpus = {max(self.all_cpus)} if case.one_cpu else self.all_cpus
        sample = {"peer": peer.name, "case": name, "foreign_cpu": 0.0}
        try:
            return sample | cases.measure(self, peer, case, cpus)
        except Failure as failure:
            return sample | {"error": self.without_paths(str(failure))}

    def without_paths(self, text: str) -> str:
        """The text with this machine's directories left out, fit for a result file."""
        for path, name in ((self.scratch, "$scratch"), (TOOLS, "$tools"), (HERE, "$bench"), (Path.home(), "~")):
            text = text.replace(str(path), name)
        return text


# ---- a run -----------------------------------------------------------------------


class More:
    """Further rounds of some cases and peers, where few leave a doubt: ROUNDS:CASES:PEERS."""

    def __init__(self, text: str):
        rounds, cases, peers = text.split(":")
        self.rounds, self.cases, self.peers = int(rounds), cases.split(","), peers.split(",")

    def has(self, number: int, case: str, peer: str) -> bool:
        return number <= self.rounds and case in self.cases and peer in self.peers


def passes(peers: list[Peer], names: list[str], rounds: int, more: list[More]):
    """The order of measurements: per round and case all peers, each round from another start."""
    for number in range(1, max([rounds, *(further.rounds for further in more)]) + 1):
        for case in names:
            able = [peer for peer in peers if case in peer.cases]
            if number > rounds:
                able = [peer for peer in able if any(further.has(number, case, peer.name) for further in more)]
            others = [peer for peer in able if peer.name != DIRECT.name]
            shift = (number - 1) * len(others) // rounds % max(1, len(others))
            order = others[shift:] + others[:shift]
            if len(others) < len(able):
                # The reference goes first and last, which shows the drift within the pass.
                order = [DIRECT, *order, DIRECT] if len(others) > 2 else [DIRECT, *order]
            for peer in order:
                yield number, case, peer


def run(options: argparse.Namespace) -> dict:
    peers, names = choose(options)
    steps = list(passes(peers, names, options.rounds, options.more))
    if options.quick:
        fit_quick(options, steps)
        steps = list(passes(peers, names, options.rounds, options.more))
    raise_file_limit(options)
    print(f"{len(steps)} measurements, about {estimate(options, steps) / 60:.0f} min")
    bench = Bench(options)
    samples = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        for done, (number, case, peer) in enumerate(steps, 1):
            sample = {"round": number} | bench.measure(peer, case)
            samples.append(sample)
            print(f"[{done}/{len(steps)}] round {number} {case:10} {peer.name:18} {report.one_line(sample)}", flush=True)
    finally:
        bench.close()
        if samples:
            results = {"meta": describe(options, peers, names), "samples": samples}
            write(results, options)
    return results


def write(results: dict, options: argparse.Namespace) -> None:
    results["summary"] = report.summarize(results["samples"])
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"{options.name}.json"
    file.write_text(report.dump(results))
    file.with_suffix(".md").write_text(report.markdown(results))
    print(report.overview(results))
    print(f"written: {file.name} and {file.with_suffix('.md').name}")


def choose(options: argparse.Namespace) -> tuple[list[Peer], list[str]]:
    ours = read_candidates(OURS)
    candidates = [peer for file in options.candidate for peer in read_candidates(file)]
    known = {peer.name: peer for peer in [*PEERS, *ours, *candidates]}
    chosen = options.peers or list(known)
    if not options.peers and options.command == "readme":
        chosen = README_PEERS + [peer.name for peer in [*ours, *candidates]]
    elif not options.peers and options.quick:
        chosen = QUICK_PEERS + [peer.name for peer in candidates]
    names = options.cases or (QUICK_CASES if options.quick else list(CASES))
    more = getattr(options, "more", [])
    for name in [name for name in chosen + [name for further in more for name in further.peers] if name not in known]:
        sys.exit(f"unknown peer {name}; known: {' '.join(known)}")
    for name in [name for name in names + [name for further in more for name in further.cases] if name not in CASES]:
        sys.exit(f"unknown case {name}; known: {' '.join(CASES)}")
    return [known[name] for name in chosen], names


def estimate(options: argparse.Namespace, steps: list) -> float:
    """Seconds, from what starting, probing and stopping a peer takes."""
    seconds = 0.0
    for _, name, _ in steps:
        case = CASES[name]
        seconds += 4 + options.idle_conns / 1000 if name == "idle" else case.window(options.secs) + case.warmup
        seconds += 0.7 + case.takes
    return seconds


def fit_quick(options: argparse.Namespace, steps: list) -> None:
    """Chooses windows, and if need be fewer rounds, so that the run stays under three minutes."""
    options.idle_conns = min(options.idle_conns, QUICK_CONNS)
    for options.rounds in (3, 2, 1):
        part = steps[: len(steps) * options.rounds // 3]
        for options.secs in (3, 2, 1.5, 1, 0.7):
            if estimate(options, part) < QUICK_SECONDS:
                return
    print("too many peers and cases for three minutes: expect more")


def raise_file_limit(options: argparse.Namespace) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        wanted = max(hard, 131072)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # A proxy needs two descriptors per connection, and some keep pipes besides.
    most = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - cases.SPARE_FILES) // 3
    if options.idle_conns > most:
        print(f"only {most} idle connections: the limit on open files is too low for more")
        options.idle_conns = most


def describe(options: argparse.Namespace, peers: list[Peer], names: list[str]) -> dict:
    cpu = next((l.split(":")[1].strip() for l in Path("/proc/cpuinfo").open() if l.startswith("model name")), "?")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "name": options.name,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(memory),
        "kernel": platform.release(),
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "rounds": options.rounds,
        "most_rounds": max([options.rounds, *(further.rounds for further in options.more)]),
        "secs": options.secs,
        "idle_conns": options.idle_conns,
        "limit_bytes": LIMIT_BYTES,
        "cases": names,
        "peers": [
            {
                "name": peer.name,
                "group": peer.group,
                "via": peer.via,
                "note": peer.note,
                "version": version(peer, options),
            }
            for peer in peers
        ],
    }


# ---- installing ------------------------------------------------------------------


def version(peer: Peer, options: argparse.Namespace) -> str:
    """The installed version, or nothing if it is not known."""
    if peer.here == str(HERE) and options.swiftproxy.exists():
        said = subprocess.run([options.swiftproxy, "--version"], capture_output=True, text=True).stdout.split()
        return " ".join(said[1:])
    kind, _, what = peer.install.partition(" ")
    what = what.split()[0].partition("[")[0] if what else ""
    if kind == "apt":
        command = ["dpkg-query", "-W", "-f", "${Version}", what]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    if kind == "cargo" and (TOOLS / ".crates.toml").exists():
        for line in (TOOLS / ".crates.toml").read_text().splitlines():
            if line.startswith(f'"{what} '):
                return line.split()[1]
    if kind == "pip" and (TOOLS / "venv").exists():
        command = [TOOLS / "venv/bin/pip", "show", what]
        for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines():
            if line.startswith("Version: "):
                return line.split()[1]
    return ""


def install(options: argparse.Namespace) -> None:
    """Debian packages, crates.io and PyPI only. The packages may start daemons of their own."""
    build_loadgen()
    TOOLS.mkdir(exist_ok=True)
    peers, _ = choose(options)
    for line in dict.fromkeys(peer.install for peer in peers if peer.install):
        kind, *what = line.split()
        print(f"installing: {line}", flush=True)
        if kind == "apt":
            command = ["apt-get", "install", "-y", "--no-install-recommends", *what]
        elif kind == "cargo":
            bins = [word for name in what[1:] for word in ("--bin", name)]
            command = ["cargo", "install", "--locked", "--root", TOOLS, what[0], *bins]
        else:
            subprocess.run([sys.executable, "-m", "venv", TOOLS / "venv"], check=True)
            command = [TOOLS / "venv/bin/pip", "install", *what]
        subprocess.run(command, check=True)


def show(options: argparse.Namespace) -> None:
    for peer in choose(options)[0]:
        state = version(peer, options) or ("" if not peer.install else "not installed")
        print(f"{peer.name:16} {peer.group:7} {peer.via:7} {state:22} {peer.note}")


def target_directory() -> Path:
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def readme(options: argparse.Namespace) -> None:
    """Rebuilds, runs, and prints the tables of README.md."""
    subprocess.run(["cargo", "build", "--release", "-p", "swiftproxy"], cwd=ROOT, check=True)
    build_loadgen()
    print(report.readme(run(options)))


def build_loadgen() -> None:
    env = {key: value for key, value in os.environ.items() if key != "CARGO_TARGET_DIR"}
    subprocess.run(["cargo", "build", "--release"], cwd=HERE / "loadgen", env=env, check=True)


def quick_or_not(options: argparse.Namespace) -> None:
    results = run(options)
    if options.quick and (complaints := guard.judge(results, options.baseline, options.update_baseline)):
        sys.exit("\n".join(complaints))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    names = lambda text: text.split(",")  # noqa: E731
    for name in ("run", "readme", "install", "list"):
        sub = commands.add_parser(name)
        sub.add_argument("--peers", type=names, help="comma-separated; default all")
        sub.add_argument("--cases", type=names, help=f"comma-separated of {','.join(CASES)}; default all")
        sub.add_argument("--candidate", type=Path, action="append", default=[], metavar="FILE", help="more peers")
        sub.add_argument("--quick", action="store_true", help="under three minutes; fails if it got slower")
        default = target_directory() / "release" / "swiftproxy"
        sub.add_argument("--swiftproxy", type=Path, default=default, metavar="FILE", help="the program to measure")
        if name not in ("run", "readme"):
            continue
        sub.add_argument("--rounds", type=int, default=3)
        sub.add_argument("--more", type=More, action="append", default=[], metavar="ROUNDS:CASES:PEERS", help="further rounds of some")
        sub.add_argument("--secs", type=float, default=5, help="measured window")
        sub.add_argument("--idle-conns", type=int, default=5000)
        sub.add_argument("--max-foreign", type=float, default=0.15, help="repeat above this many CPUs of other work")
        sub.add_argument("--lock", type=Path, metavar="FILE", help="hold this flock(1) file while measuring")
        sub.add_argument("--lock-hold", type=float, default=200, help="seconds after which to let others have it")
        sub.add_argument("--out", type=Path, default=HERE / "results")
        sub.add_argument("--name", default="latest", help="name of the result files")
        sub.add_argument("--baseline", type=Path, default=HERE / "baseline.json", help="what --quick compares with")
        sub.add_argument("--update-baseline", action="store_true", help="with --quick: write it instead")
    sub = commands.add_parser("report")
    sub.add_argument("file", type=Path)
    sub.add_argument("--readme", action="store_true", help="print the tables of README.md")
    options = parser.parse_args()
    if options.command == "report":
        results = json.loads(options.file.read_text())
        results["summary"] = report.summarize(results["samples"])
        options.file.with_suffix(".md").write_text(report.markdown(results))
        print(report.readme(results) if options.readme else report.overview(results))
    else:
        {"run": quick_or_not, "readme": readme, "install": install, "list": show}[options.command](options)


if __name__ == "__main__":
    main()
