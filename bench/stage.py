"""What is started for one measurement: the target, a peer, the generator; and how they are watched."""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from string import Template

import proc
from peers import Peer

HERE = Path(__file__).resolve().parent
TOOLS = HERE / ".peers"
LOADGEN = HERE / "loadgen" / "target" / "release" / "loadgen"
FIRST_PORT, LAST_PORT = 20000, 29999
TARGET_PORTS = 4
PROBE_BYTES = 64 << 10
LIBC = ctypes.CDLL(None)


class Failure(Exception):
    """A measurement that gave no figure."""


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


class Stage:
    """A peer before a fresh target, both started and found working. `names` are filled in besides the usual ones.

    All processes end with the `with` block. `generate` may be called any number of times.
    """

    def __init__(self, bench, peer: Peer, cpus: set[int], **names: str):
        self.bench, self.peer, self.cpus = bench, peer, cpus
        self.directory = bench.new_directory(bench.scratch, f"{peer.name}-")
        (self.directory / "generator").mkdir()
        self.generator = Group(self.directory / "generator", cpus)
        self.proxy = Group(self.directory, cpus)
        self.names = bench.names | {f"p{i}": str(bench.ports.take()) for i in range(1, 10)}
        self.names |= {"dir": str(self.directory), "tools": str(TOOLS), "here": peer.here, "loadgen": str(LOADGEN)}
        self.names |= {"user": peer.user, "password": peer.password or "bench", "users": ""} | names
        self.env = bench.env | {key: self.fill(value) for key, value in peer.env.items()}

    def fill(self, text: str) -> str:
        return Template(text).substitute(self.names)

    def __enter__(self):
        try:
            self.start_target()
            self.start_peer()
            self.generate(["probe", "--bytes", str(min(PROBE_BYTES, int(self.names["rate"])))], timeout=20)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.generator.__exit__()
        self.proxy.__exit__()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start_target(self) -> None:
        first = self.bench.ports.take(TARGET_PORTS)
        self.names |= {"host": "127.0.0.1", "port": str(first)}
        self.address = f"127.0.0.1:{first}"
        command = [LOADGEN, "serve", "--target", self.address, "--ports", str(TARGET_PORTS)]
        command += ["--threads", str(self.bench.threads)]
        process = self.generator.start(command, self.env, stdout=subprocess.PIPE)
        if b"ready" not in process.stdout.readline():
            raise Failure("the target server did not start")

    def start_peer(self) -> None:
        peer = self.peer
        for file, text in peer.files.items():
            (self.directory / file).write_text(self.fill(text))
        for command in peer.prepare:
            self.command([self.fill(word) for word in command])
        for command in peer.processes:
            self.proxy.start([self.fill(word) for word in command], self.env)
        forwarder = peer.via == "direct" and peer.processes
        self.client = ["--target", self.address, "--ports", "1" if forwarder else str(TARGET_PORTS), "--via", peer.via]
        if peer.processes:
            self.client += ["--proxy", f"127.0.0.1:{self.names['p1']}"]
        if peer.user:
            self.client += ["--user", peer.user, "--pass", peer.password]

    def command(self, command: list[str]) -> None:
        """Runs something that ends by itself."""
        done = subprocess.run(command, env=self.env, cwd=self.directory, capture_output=True, text=True, timeout=30)
        if done.returncode:
            raise Failure(f"{Path(command[0]).name} ended ({done.returncode}): {done.stderr.strip()[-300:]}")

    def footprint(self, leader: int | None = None) -> dict[str, float]:
        """Of all the peer's processes, or of one."""
        return proc.footprint(proc.tree([leader]) if leader else self.proxy.pids())

    def generate(self, command: list, timeout: float, on: dict | None = None) -> dict:
        """Runs the generator's client, and reads CPU times and memory at its events.

        `on` maps an event's name to what is called with it and with what lets the generator go on.
        """
        command = [LOADGEN, *command, *self.client, "--threads", str(self.bench.threads)]
        client = self.generator.start(command, self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        watchdog = threading.Timer(timeout, client.kill)
        watchdog.start()
        sample, marks = {}, {}

        def go_on() -> None:
            client.stdin.write(b"\n")
            client.stdin.flush()

        try:
            for line in client.stdout:
                event = json.loads(line)
                kind = event.pop("event")
                if on and kind in on:
                    on[kind](event, go_on)
                elif kind in ("begin", "end"):
                    marks[kind] = self.cpu_times(client)
                elif kind in ("ready", "fresh", "used"):
                    sample[kind] = event | self.footprint()
                    go_on()
                elif kind == "opened":
                    sample["opened"] = event
                elif kind == "error":
                    self.proxy.check_alive()
                    raise Failure(event["message"])
                else:
                    sample |= event
        finally:
            watchdog.cancel()
        if client.wait() != 0:
            self.proxy.check_alive()
            raise Failure(f"the generator ended with {client.returncode}")
        self.generator.started.remove(client)
        if "end" in marks:
            spent = {key: marks["end"][key] - marks["begin"][key] for key in marks["end"]}
            ours = spent["proxy_cpu"] + spent["client_cpu"] + spent["target_cpu"] + spent["driver_cpu"]
            sample |= spent
            sample["foreign_cpu"] = round((spent["busy_cpu"] - ours) / spent["clock"], 3)
        self.proxy.check_alive()
        return sample

    def cpu_times(self, client: subprocess.Popen) -> dict[str, float]:
        return {
            "clock": time.monotonic(),
            "proxy_cpu": proc.cpu_seconds(self.proxy.pids()),
            "client_cpu": proc.cpu_seconds([client.pid]),
            "target_cpu": proc.cpu_seconds([self.generator.started[0].pid]),
            "driver_cpu": time.process_time(),
            "busy_cpu": proc.busy_seconds(),
        }
