#!/usr/bin/env python3
"""Measures TCP proxies side by side on loopback, in one interleaved run.

  bench.py install            build the load generator and install the peers
  bench.py list               show the peers and whether they are installed
  bench.py run                measure; see README.md for the cases
  bench.py report FILE.json   write FILE.md again

Linux, Python 3.11 or newer, standard library only.
"""

import argparse
import base64
import ctypes
import dataclasses
import datetime
import hashlib
import json
import os
import platform
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from string import Template

import proc
import report
from peers import DIRECT, LIMIT_BYTES, PEERS, Peer, read_candidates

HERE = Path(__file__).resolve().parent
TOOLS = HERE / ".peers"
LOADGEN = HERE / "loadgen" / "target" / "release" / "loadgen"
FIRST_PORT, LAST_PORT = 20000, 29999
WARMUP = 0.5
MAX_RETRIES = 2
LIBC = ctypes.CDLL(None)


@dataclasses.dataclass
class Case:
    command: list[str]
    length: float = 1  # of the measured window, in units of the run's
    secs: float | None = None  # the window where it is fixed
    warmup: float = WARMUP
    one_cpu: bool = False  # everything on one CPU: no wake-ups across CPUs
    cpu_matters: bool = True  # worth repeating when something else took CPU time

    def window(self, secs: float) -> float:
        return self.secs or secs * self.length


CASES = {
    "down1": Case(["down", "--streams", "1"]),
    "down8": Case(["down", "--streams", "8"]),
    "up1": Case(["up", "--streams", "1"]),
    "rate": Case(["rate", "--conns", "64"]),
    "lat1": Case(["pingpong", "--conns", "1"], length=0.6, one_cpu=True),
    "lat32": Case(["pingpong", "--conns", "32"], length=0.6),
    "mixed": Case(["mixed", "--streams", "4", "--conns", "16"]),
    "idle": Case(["idle"], cpu_matters=False),
    "limit1": Case(["down", "--streams", "1", "--windows", "1"], secs=10, warmup=2, cpu_matters=False),
    "limit4": Case(["down", "--streams", "4", "--windows", "1"], secs=10, warmup=2, cpu_matters=False),
}
QUICK_CASES = ["down1", "up1", "rate", "lat1"]
QUICK_PEERS = ["direct", "microsocks", "haproxy-splice", "ss-rust"]
QUICK_SECONDS = 160


class Failure(Exception):
    """A measurement that gave no figure."""


# ---- processes -------------------------------------------------------------------


def before_exec(cpus: set[int]):
    """What a started process does first: die with this driver, keep to its CPUs."""

    def prepare():
        LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        os.sched_setaffinity(0, cpus)

    return prepare


class Ports:
    """Free loopback ports, each handed out rarely enough to be out of TIME_WAIT."""

    def __init__(self):
        self.next = FIRST_PORT + os.getpid() % 1000 * 8

    def take(self, count: int = 1) -> int:
        """The first of `count` consecutive free ports."""
        for _ in range(1000):
            first, self.next = self.next, self.next + count
            if self.next > LAST_PORT:
                self.next = FIRST_PORT
            elif all(self.free(first + i) for i in range(count)):
                return first
        raise Failure("no free ports")

    @staticmethod
    def free(port: int) -> bool:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return True
            except OSError:
                return False


class Group:
    """Processes started together, and stopped together by process id."""

    def __init__(self, directory: Path, cpus: set[int]):
        self.directory = directory
        self.cpus = cpus
        self.started: list[subprocess.Popen] = []

    def __enter__(self):
        return self

    def start(self, command: list[str], env: dict[str, str], **options) -> subprocess.Popen:
        log = open(self.directory / f"log-{len(self.started)}", "w")
        options = {"stdin": subprocess.DEVNULL, "stdout": log} | options
        try:
            process = subprocess.Popen(
                command,
                stderr=log,
                env=env,
                cwd=self.directory,
                start_new_session=True,
                preexec_fn=before_exec(self.cpus),
                **options,
            )
        except FileNotFoundError:
            raise Failure(f"{Path(command[0]).name} is not installed") from None
        finally:
            log.close()
        self.started.append(process)
        return process

    def pids(self) -> list[int]:
        return proc.tree([process.pid for process in self.started])

    def check_alive(self) -> None:
        for number, process in enumerate(self.started):
            if process.poll() is not None:
                lines = (self.directory / f"log-{number}").read_text(errors="replace").strip().splitlines()
                raise Failure(f"{process.args[0]} ended ({process.returncode}): {' '.join(lines[-3:])[-300:]}")

    def __exit__(self, *_):
        if not self.started:
            return
        pids = self.pids()
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in pids:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
            end = time.monotonic() + 3
            while pids and time.monotonic() < end:
                for process in self.started:
                    process.poll()  # reaps
                pids = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
                time.sleep(0.01)
            if not pids:
                break


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
        return {"cert": str(cert), "key": str(key), "pem": str(pem), "cert_sha256": digest, "pin": pin}

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
        directory = self.new_directory(self.scratch, f"{peer.name}-")
        (directory / "generator").mkdir()
        sample = {"peer": peer.name, "case": name, "foreign_cpu": 0.0}
        with Group(directory / "generator", cpus) as generator, Group(directory, cpus) as proxy:
            try:
                address, count = self.start_target(generator)
                forwarder = peer.via == "direct" and peer.processes
                common = ["--target", address, "--ports", "1" if forwarder else str(count)]
                common += self.start_peer(proxy, peer, address, directory)
                self.generate(generator, ["probe", *common], timeout=20, proxy=proxy)
                secs = case.window(self.options.secs)
                command = [*case.command, *common, "--secs", str(secs), "--warmup", str(case.warmup)]
                command += ["--threads", str(self.threads)]
                if name == "idle":
                    command += ["--conns", str(self.options.idle_conns)]
                sample |= self.generate(generator, command, secs + 60, proxy)
                if name.startswith("limit"):
                    sample["limit_bytes"] = LIMIT_BYTES
                proxy.check_alive()
            except Failure as failure:
                sample["error"] = self.without_paths(str(failure))
        shutil.rmtree(directory, ignore_errors=True)
        return sample

    def without_paths(self, text: str) -> str:
        """The text with this machine's directories left out, fit for a result file."""
        for path, name in ((self.scratch, "$scratch"), (TOOLS, "$tools"), (HERE, "$bench"), (Path.home(), "~")):
            text = text.replace(str(path), name)
        return text

    def start_target(self, generator: Group) -> tuple[str, int]:
        count = 4
        address = f"127.0.0.1:{self.ports.take(count)}"
        command = [LOADGEN, "serve", "--target", address, "--ports", str(count), "--threads", str(self.threads)]
        process = generator.start(command, self.env, stdout=subprocess.PIPE)
        if b"ready" not in process.stdout.readline():
            raise Failure("the target server did not start")
        return address, count

    def start_peer(self, proxy: Group, peer: Peer, target: str, directory: Path) -> list[str]:
        """Starts the peer's processes; returns the generator's options to reach it."""
        host, port = target.split(":")
        names = self.names | {f"p{i}": str(self.ports.take()) for i in range(1, 10)}
        names |= {"dir": str(directory), "host": host, "port": port, "rate": str(LIMIT_BYTES)}
        names |= {"user": peer.user, "password": peer.password or "bench", "tools": str(TOOLS), "here": peer.here}
        for file, text in peer.files.items():
            (directory / file).write_text(Template(text).substitute(names))
        env = self.env | {key: Template(value).substitute(names) for key, value in peer.env.items()}
        for command in peer.processes:
            proxy.start([Template(word).substitute(names) for word in command], env)
        client = ["--via", peer.via]
        if peer.processes:
            client += ["--proxy", f"127.0.0.1:{names['p1']}"]
        if peer.user:
            client += ["--user", peer.user, "--pass", peer.password]
        return client

    def generate(self, generator: Group, command: list, timeout: float, proxy: Group) -> dict:
        """Runs the generator's client, and reads CPU times and memory at its events."""
        client = generator.start([LOADGEN, *command], self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        watchdog = threading.Timer(timeout, client.kill)
        watchdog.start()
        sample, marks = {}, {}
        try:
            for line in client.stdout:
                event = json.loads(line)
                kind = event.pop("event")
                if kind in ("begin", "end"):
                    marks[kind] = self.cpu_times(generator, proxy)
                elif kind in ("ready", "fresh", "used"):
                    sample[kind] = event | proc.footprint(proxy.pids())
                    client.stdin.write(b"\n")
                    client.stdin.flush()
                elif kind == "opened":
                    sample["opened"] = event
                elif kind == "error":
                    proxy.check_alive()
                    raise Failure(event["message"])
                else:
                    sample |= event
        finally:
            watchdog.cancel()
        if client.wait() != 0:
            proxy.check_alive()
            raise Failure(f"the generator ended with {client.returncode}")
        if "end" in marks:
            spent = {key: marks["end"][key] - marks["begin"][key] for key in marks["end"]}
            ours = spent["proxy_cpu"] + spent["client_cpu"] + spent["target_cpu"] + spent["driver_cpu"]
            sample |= spent
            sample["foreign_cpu"] = round((spent["busy_cpu"] - ours) / spent["clock"], 3)
        return sample

    @staticmethod
    def cpu_times(generator: Group, proxy: Group) -> dict[str, float]:
        target, client = generator.started[0].pid, generator.started[-1].pid
        return {
            "clock": time.monotonic(),
            "proxy_cpu": proc.cpu_seconds(proxy.pids()),
            "client_cpu": proc.cpu_seconds([client]),
            "target_cpu": proc.cpu_seconds([target]),
            "driver_cpu": time.process_time(),
            "busy_cpu": proc.busy_seconds(),
        }


# ---- a run -----------------------------------------------------------------------


def passes(peers: list[Peer], cases: list[str], rounds: int):
    """The order of measurements: per round and case all peers, each round from another start."""
    for number in range(1, rounds + 1):
        for case in cases:
            able = [peer for peer in peers if case in peer.cases]
            others = [peer for peer in able if peer.name != DIRECT.name]
            shift = (number - 1) * len(others) // rounds
            order = others[shift:] + others[:shift]
            if len(others) < len(able):
                # The reference goes first and last, which shows the drift within the pass.
                order = [DIRECT, *order, DIRECT] if len(others) > 2 else [DIRECT, *order]
            for peer in order:
                yield number, case, peer


def run(options: argparse.Namespace) -> None:
    peers, cases = choose(options)
    steps = list(passes(peers, cases, options.rounds))
    if options.quick:
        fit_quick(options, steps)
        steps = list(passes(peers, cases, options.rounds))
    raise_file_limit(options)
    print(f"{len(steps)} measurements, about {estimate(options, steps) / 60:.0f} min")
    bench = Bench(options)
    samples = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        for done, (number, case, peer) in enumerate(steps, 1):
            sample = {"round": number} | bench.measure(peer, case)
            samples.append(sample)
            print(f"[{done}/{len(steps)}] round {number} {case:7} {peer.name:16} {report.one_line(sample)}", flush=True)
    finally:
        bench.close()
        if samples:
            write({"meta": describe(options, peers, cases), "samples": samples}, options)


def write(results: dict, options: argparse.Namespace) -> None:
    results["summary"] = report.summarize(results["samples"])
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"{options.name}.json"
    file.write_text(report.dump(results))
    file.with_suffix(".md").write_text(report.markdown(results))
    print(report.overview(results))
    print(f"written: {file.name} and {file.with_suffix('.md').name}")


def choose(options: argparse.Namespace) -> tuple[list[Peer], list[str]]:
    candidates = [peer for file in options.candidate for peer in read_candidates(file)]
    known = {peer.name: peer for peer in [*PEERS, *candidates]}
    names = options.peers or (QUICK_PEERS + [peer.name for peer in candidates] if options.quick else list(known))
    cases = options.cases or (QUICK_CASES if options.quick else list(CASES))
    for name in [name for name in names if name not in known]:
        sys.exit(f"unknown peer {name}; known: {' '.join(known)}")
    for name in [name for name in cases if name not in CASES]:
        sys.exit(f"unknown case {name}; known: {' '.join(CASES)}")
    return [known[name] for name in names], cases


def estimate(options: argparse.Namespace, steps: list) -> float:
    """Seconds, from what starting, probing and stopping a peer takes."""
    seconds = 0.0
    for _, name, _ in steps:
        case = CASES[name]
        seconds += 4 + options.idle_conns / 1000 if name == "idle" else case.window(options.secs) + case.warmup
        seconds += 0.7
    return seconds


def fit_quick(options: argparse.Namespace, steps: list) -> None:
    """Chooses windows, and if need be fewer rounds, so that the run stays under three minutes."""
    options.idle_conns = min(options.idle_conns, 1000)
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
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 3
    if options.idle_conns > most:
        print(f"only {most} idle connections: the limit on open files is too low for more")
        options.idle_conns = most


def describe(options: argparse.Namespace, peers: list[Peer], cases: list[str]) -> dict:
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
        "secs": options.secs,
        "idle_conns": options.idle_conns,
        "limit_bytes": LIMIT_BYTES,
        "cases": cases,
        "peers": [
            {"name": peer.name, "group": peer.group, "via": peer.via, "note": peer.note, "version": version(peer)}
            for peer in peers
        ],
    }


# ---- installing ------------------------------------------------------------------


def version(peer: Peer) -> str:
    """The installed version, or nothing if it is not known."""
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
    subprocess.run(["cargo", "build", "--release"], cwd=HERE / "loadgen", check=True)
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
        state = version(peer) or ("" if not peer.install else "not installed")
        print(f"{peer.name:16} {peer.group:7} {peer.via:7} {state:22} {peer.note}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    names = lambda text: text.split(",")  # noqa: E731
    for name in ("run", "install", "list"):
        sub = commands.add_parser(name)
        sub.add_argument("--peers", type=names, help="comma-separated; default all")
        sub.add_argument("--cases", type=names, help=f"comma-separated of {','.join(CASES)}; default all")
        sub.add_argument("--candidate", type=Path, action="append", default=[], metavar="FILE", help="more peers")
        sub.add_argument("--quick", action="store_true", help="under three minutes for a few peers")
        if name != "run":
            continue
        sub.add_argument("--rounds", type=int, default=3)
        sub.add_argument("--secs", type=float, default=5, help="measured window")
        sub.add_argument("--idle-conns", type=int, default=5000)
        sub.add_argument("--max-foreign", type=float, default=0.15, help="repeat above this many CPUs of other work")
        sub.add_argument("--lock", type=Path, metavar="FILE", help="hold this flock(1) file while measuring")
        sub.add_argument("--lock-hold", type=float, default=200, help="seconds after which to let others have it")
        sub.add_argument("--out", type=Path, default=HERE / "results")
        sub.add_argument("--name", default="latest", help="name of the result files")
    commands.add_parser("report").add_argument("file", type=Path)
    options = parser.parse_args()
    if options.command == "report":
        results = json.loads(options.file.read_text())
        options.file.with_suffix(".md").write_text(report.markdown(results))
        print(report.overview(results))
    else:
        {"run": run, "install": install, "list": show}[options.command](options)


if __name__ == "__main__":
    main()
