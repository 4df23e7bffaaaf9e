"""The proxies under test.

A peer is a `Peer` entry: what to install, which processes to start with which
configuration files, and how a client speaks to it. To add one, append to PEERS,
or describe it in a file for `--candidate` (see candidate.example.toml).

In commands, files and the environment these names are filled in:
  $p1 … $p9       free loopback ports; the client connects to $p1
  $host, $port    the target's address, for forwarders that need it fixed
  $dir            a fresh directory that holds the peer's files
  $cert $key $pem a self-signed P-256 certificate, its key, and both in one file
  $pin            the certificate's public key as "sha256//…"
  $tools          where `bench.py install` puts what is not a Debian package
  $here           the directory of the candidate file
  $swiftproxy     the program of this repository
  $loadgen        the generator, which is the delayed link too
  $user $password the login, if the peer has one
  $rate           the limit of the rate-limit cases, in bytes per second
  $users          the accounts of the scale, cap and uploads cases, as SwiftProxy's tables
  $tunnels        listeners and relays of the uploads case, likewise
"""

import json
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path

SINGLE = "single"  # client -> proxy -> target, in plain text
PAIR = "pair"  # client -> local proxy -> encrypted tunnel -> remote proxy -> target

LIMIT_BYTES = 1_000_000  # 8 Mbit/s
ACCOUNT_BYTES = 125_000  # 1 Mbit/s, of each of many accounts
CAP_BYTES = 12_500_000  # 100 Mbit/s, of all accounts together
LINK_BYTES, LINK_RTT = 25_000_000, 0.05  # 200 Mbit/s and 50 ms

BASIC_CASES = ["down1", "down8", "up1", "rate", "lat1", "lat32", "mixed", "idle"]
LIMIT_CASES = ["limit1", "limit4"]


@dataclass
class Peer:
    name: str
    group: str
    processes: list[list[str]]  # one command line each, kept in the foreground
    via: str = "socks5"  # how the client speaks: direct, socks5 or http
    files: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    user: str = ""
    password: str = ""
    install: str = ""  # "apt PACKAGE", "cargo CRATE [BIN…]" or "pip REQUIREMENT…"
    prepare: list[list[str]] = field(default_factory=list)  # command lines that end, before the processes start
    change: list[str] = field(default_factory=list)  # sets the rate that follows, of a running peer
    cases: list[str] = field(default_factory=lambda: list(BASIC_CASES))
    note: str = ""
    here: str = ""


# The limit itself: the generator alone. It starts nothing.
DIRECT = Peer("direct", SINGLE, [], via="direct", cases=[c for c in BASIC_CASES if c != "idle"])


# ---- configuration texts ---------------------------------------------------------

DANTE = """
logoutput: /dev/null
internal: 127.0.0.1 port = $p1
external: 127.0.0.1
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: root
client pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
socks pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
"""

TINYPROXY = """
Port $p1
Listen 127.0.0.1
Allow 127.0.0.0/8
Timeout 600
MaxClients 9000
LogLevel Critical
LogFile "$dir/log"
DisableViaHeader Yes
"""

SQUID = """
http_port 127.0.0.1:$p1
cache deny all
cache_mem 8 MB
access_log none
cache_log /dev/null
cache_store_log none
netdb_filename none
pid_filename $dir/pid
coredump_dir /
shutdown_lifetime 0 seconds
"""

SQUID_LIMIT = """
auth_param basic program /usr/lib/squid/basic_fake_auth
acl known proxy_auth REQUIRED
http_access allow known
delay_pools 1
delay_class 1 4
delay_access 1 allow all
delay_parameters 1 none none none $rate/$rate
"""


# `option splice-auto` was seen not to splice here (HAProxy 2.6), so splicing is forced;
# with pipes of the default 64 KiB it saves little.
SPLICE = "option splice-request\n  option splice-response"
SPLICE_PIPES = "maxpipes 1500\n  tune.pipesize 1048576"


def haproxy(bind: str, server: str, options: str = "", tuning: str = "") -> str:
    return f"""
global
  maxconn 6500
  {tuning}
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen relay
  bind {bind}
  {options}
  server target {server}
"""


def stunnel(accept: str, connect: str, options: str) -> str:
    return f"""
foreground = yes
debug = err
pid =
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[relay]
accept = {accept}
connect = {connect}
{options}
"""


def trojan(run_type: str, fields: dict, ssl: dict) -> str:
    # Ports are names to be filled in, so they are written as text and unquoted.
    config = {
        "run_type": run_type,
        "password": ["$password"],
        "log_level": 5,
        "ssl": {"alpn": ["http/1.1"], "reuse_session": True, "session_ticket": True} | ssl,
        "tcp": {"no_delay": True, "keep_alive": True, "reuse_port": False, "fast_open": False},
    }
    return ports_as_numbers(config | fields)


def v2(inbound: dict, outbound: dict) -> str:
    """A v2ray or Xray configuration of one inbound and one outbound."""
    config = {
        "log": {"loglevel": "none", "access": "none"},
        "inbounds": [{"listen": "127.0.0.1"} | inbound],
        "outbounds": [outbound],
    }
    return ports_as_numbers(config)


def ports_as_numbers(config: dict) -> str:
    text = json.dumps(config, indent=1)
    for name in ["$p1", "$p2", "$port"]:
        text = text.replace(f'"{name}"', name)
    return text


METHOD_2022 = "2022-blake3-aes-256-gcm"
KEY_2022 = "uKxZJLSbiGcYBVTXBhOEUiGNqZHhVuDSvOu3t5aQnWw="
UUID = "6f1c2c9e-5e5c-4a53-9f2b-0c1c5b9a7d11"
SOCKS_IN = {"port": "$p1", "protocol": "socks", "settings": {"auth": "noauth", "udp": False}}
FREEDOM = {"protocol": "freedom", "settings": {}}
# Xray's remote side keeps clients from loopback targets unless told otherwise.
XRAY_FREEDOM = {"protocol": "freedom", "settings": {"finalRules": [{"action": "allow"}]}}
TLS_SERVER = {
    "network": "tcp",
    "security": "tls",
    "tlsSettings": {"certificates": [{"certificateFile": "$cert", "keyFile": "$key"}]},
}


def tls_client(**more) -> dict:
    return {"network": "tcp", "security": "tls", "tlsSettings": {"serverName": "localhost"} | more}


def vnext(user: dict) -> dict:
    return {"vnext": [{"address": "127.0.0.1", "port": "$p2", "users": [{"id": UUID} | user]}]}


V2RAY_VMESS_LOCAL = v2(
    SOCKS_IN,
    {
        "protocol": "vmess",
        "settings": vnext({"alterId": 0, "security": "none"}),
        "streamSettings": tls_client(allowInsecure=True),
    },
)
V2RAY_VMESS_REMOTE = v2(
    {
        "port": "$p2",
        "protocol": "vmess",
        "settings": {"clients": [{"id": UUID, "alterId": 0}]},
        "streamSettings": TLS_SERVER,
    },
    FREEDOM,
)
V2RAY_TROJAN_LOCAL = v2(
    SOCKS_IN,
    {
        "protocol": "trojan",
        "settings": {"servers": [{"address": "127.0.0.1", "port": "$p2", "password": "$password"}]},
        "streamSettings": tls_client(allowInsecure=True),
    },
)
V2RAY_TROJAN_REMOTE = v2(
    {
        "port": "$p2",
        "protocol": "trojan",
        "settings": {"clients": [{"password": "$password"}]},
        "streamSettings": TLS_SERVER,
    },
    FREEDOM,
)
XRAY_VLESS_LOCAL = v2(
    SOCKS_IN,
    {
        "protocol": "vless",
        "settings": vnext({"encryption": "none"}),
        "streamSettings": tls_client(pinnedPeerCertSha256="$cert_sha256"),
    },
)
XRAY_VLESS_REMOTE = v2(
    {
        "port": "$p2",
        "protocol": "vless",
        "settings": {"clients": [{"id": UUID}], "decryption": "none"},
        "streamSettings": TLS_SERVER,
    },
    XRAY_FREEDOM,
)
XRAY_SS_LOCAL = v2(
    SOCKS_IN,
    {
        "protocol": "shadowsocks",
        "settings": {"servers": [{"address": "127.0.0.1", "port": "$p2", "method": METHOD_2022, "password": KEY_2022}]},
    },
)
XRAY_SS_REMOTE = v2(
    {
        "port": "$p2",
        "protocol": "shadowsocks",
        "settings": {"method": METHOD_2022, "password": KEY_2022, "network": "tcp"},
    },
    XRAY_FREEDOM,
)

# The PyPI wheel holds the whole of Xray as a Python extension.
XRAY = ["$tools/venv/bin/python", "-c", "import sys, xray; xray.startFromJSON(open(sys.argv[1]).read())"]
XRAY_INSTALL = "pip xray-core"
PPROXY = "$tools/venv/bin/pproxy"
# pproxy does not start on newer uvloop.
PPROXY_INSTALL = "pip pproxy pycryptodome uvloop<0.20"


def link(listen: str, to: str) -> list[str]:
    """The delayed link as a process between two others."""
    options = ["--limit", str(LINK_BYTES), "--rtt", str(LINK_RTT), "--queue", "0.02"]
    return ["$loadgen", "link", "--target", listen, "--proxy", to, *options]


def shadowsocks_rust(name: str, method: str, key: str, far: bool = False) -> Peer:
    common = ["-m", method, "-k", key, "--tcp-no-delay"]
    remote = "127.0.0.1:$p2"
    reached = "127.0.0.1:$p3" if far else remote
    processes = [
        ["$tools/bin/ssserver", "-s", remote, *common],
        ["$tools/bin/sslocal", "-b", "127.0.0.1:$p1", "-s", reached, *common],
    ]
    peer = Peer(name, PAIR, processes, install="cargo shadowsocks-rust sslocal ssserver", note=method)
    if far:
        peer.processes.append(link(reached, remote))
        peer.cases = ["delayed"]
        peer.note += ", over the delayed link"
    return peer


PEERS = [
    DIRECT,
    # ---- single hop, plain text
    Peer(
        "microsocks",
        SINGLE,
        [["microsocks", "-i", "127.0.0.1", "-p", "$p1"]],
        install="apt microsocks",
    ),
    Peer(
        "dante",
        SINGLE,
        [["danted", "-f", "$dir/conf", "-p", "$dir/pid"]],
        files={"conf": DANTE},
        install="apt dante-server",
    ),
    Peer(
        "squid",
        SINGLE,
        [["squid", "-N", "-n", "bench$p1", "-f", "$dir/conf"]],
        via="http",
        files={"conf": SQUID + "http_access allow all\n"},
        install="apt squid",
        note="CONNECT",
    ),
    Peer(
        "squid-limit",
        SINGLE,
        [["squid", "-N", "-n", "bench$p1", "-f", "$dir/conf"]],
        via="http",
        user="bench",
        password="bench",
        files={"conf": SQUID + SQUID_LIMIT},
        install="apt squid",
        cases=LIMIT_CASES,
        note="CONNECT, delay pool per user, Basic login",
    ),
    Peer(
        "tinyproxy",
        SINGLE,
        [["tinyproxy", "-d", "-c", "$dir/conf"]],
        via="http",
        files={"conf": TINYPROXY},
        install="apt tinyproxy-bin",
        note="CONNECT",
    ),
    Peer(
        "haproxy-splice",
        SINGLE,
        [["haproxy", "-db", "-q", "-f", "$dir/conf"]],
        via="direct",
        files={"conf": haproxy("127.0.0.1:$p1", "$host:$port", SPLICE, SPLICE_PIPES)},
        install="apt haproxy",
        note="forwarder, splice(2) with 1 MiB pipes: the physical reference",
    ),
    Peer(
        "haproxy",
        SINGLE,
        [["haproxy", "-db", "-q", "-f", "$dir/conf"]],
        via="direct",
        files={"conf": haproxy("127.0.0.1:$p1", "$host:$port")},
        install="apt haproxy",
        note="forwarder, copies through 16 KiB buffers",
    ),
    Peer(
        "xray",
        SINGLE,
        [[*XRAY, "$dir/conf"]],
        files={"conf": v2(SOCKS_IN, FREEDOM)},
        install=XRAY_INSTALL,
        note="SOCKS5 to freedom",
    ),
    Peer(
        "v2ray",
        SINGLE,
        [["v2ray", "-config", "$dir/conf.json"]],
        files={"conf.json": v2(SOCKS_IN, FREEDOM)},
        install="apt v2ray",
        note="SOCKS5 to freedom",
    ),
    Peer(
        "pproxy",
        SINGLE,
        [[PPROXY, "-l", "socks5://127.0.0.1:$p1"]],
        install=PPROXY_INSTALL,
        note="Python asyncio on uvloop",
    ),
    # ---- two hops, encrypted between them
    shadowsocks_rust("ss-rust", "aes-256-gcm", "$password"),
    shadowsocks_rust("ss-rust-2022", METHOD_2022, KEY_2022),
    shadowsocks_rust("ss-rust-2022-far", METHOD_2022, KEY_2022, far=True),
    Peer("link", PAIR, [link("127.0.0.1:$p1", "$host:$port")], "direct", cases=["delayed"], note="the delayed link alone"),
    Peer(
        "ss-libev",
        PAIR,
        [
            ["ss-server", *"-s 127.0.0.1 -p $p2 -k $password -m aes-256-gcm -t 3600 --no-delay".split()],
            ["ss-local", *"-s 127.0.0.1 -p $p2 -b 127.0.0.1 -l $p1 -k $password".split()]
            + "-m aes-256-gcm -t 3600 --no-delay".split(),
        ],
        install="apt shadowsocks-libev",
        note="aes-256-gcm",
    ),
    Peer(
        "trojan",
        PAIR,
        [["trojan", "-c", "$dir/remote"], ["trojan", "-c", "$dir/local"]],
        files={
            "remote": trojan(
                "server",
                {"local_addr": "127.0.0.1", "local_port": "$p2", "remote_addr": "$host", "remote_port": "$port"},
                {"cert": "$cert", "key": "$key"},
            ),
            "local": trojan(
                "client",
                {"local_addr": "127.0.0.1", "local_port": "$p1", "remote_addr": "127.0.0.1", "remote_port": "$p2"},
                {"verify": False, "verify_hostname": False, "sni": "localhost"},
            ),
        },
        install="apt trojan",
        note="TLS",
    ),
    Peer(
        "v2ray-vmess",
        PAIR,
        [["v2ray", "-config", "$dir/remote.json"], ["v2ray", "-config", "$dir/local.json"]],
        files={"remote.json": V2RAY_VMESS_REMOTE, "local.json": V2RAY_VMESS_LOCAL},
        install="apt v2ray",
        note="VMess in TLS, without a second encryption",
    ),
    Peer(
        "v2ray-trojan",
        PAIR,
        [["v2ray", "-config", "$dir/remote.json"], ["v2ray", "-config", "$dir/local.json"]],
        files={"remote.json": V2RAY_TROJAN_REMOTE, "local.json": V2RAY_TROJAN_LOCAL},
        install="apt v2ray",
        note="TLS",
    ),
    Peer(
        "xray-vless",
        PAIR,
        [[*XRAY, "$dir/remote"], [*XRAY, "$dir/local"]],
        files={"remote": XRAY_VLESS_REMOTE, "local": XRAY_VLESS_LOCAL},
        install=XRAY_INSTALL,
        note="VLESS in TLS, no flow",
    ),
    Peer(
        "xray-ss2022",
        PAIR,
        [[*XRAY, "$dir/remote"], [*XRAY, "$dir/local"]],
        files={"remote": XRAY_SS_REMOTE, "local": XRAY_SS_LOCAL},
        install=XRAY_INSTALL,
        note=METHOD_2022,
    ),
    Peer(
        "stunnel",
        PAIR,
        [["stunnel4", "$dir/remote"], ["stunnel4", "$dir/local"]],
        via="direct",
        files={
            "remote": stunnel("127.0.0.1:$p2", "$host:$port", "cert = $pem"),
            "local": stunnel("127.0.0.1:$p1", "127.0.0.1:$p2", "client = yes"),
        },
        install="apt stunnel4",
        note="forwarder, TLS",
    ),
    Peer(
        "haproxy-tls",
        PAIR,
        [["haproxy", "-db", "-q", "-f", "$dir/remote"], ["haproxy", "-db", "-q", "-f", "$dir/local"]],
        via="direct",
        files={
            "remote": haproxy("127.0.0.1:$p2 ssl crt $pem", "$host:$port"),
            "local": haproxy("127.0.0.1:$p1", "127.0.0.1:$p2 ssl verify none"),
        },
        install="apt haproxy",
        note="forwarder, TLS",
    ),
    Peer(
        "pproxy-pair",
        PAIR,
        [
            [PPROXY, "-l", "ss://aes-256-gcm:$password@127.0.0.1:$p2"],
            [PPROXY, "-l", "socks5://127.0.0.1:$p1", "-r", "ss://aes-256-gcm:$password@127.0.0.1:$p2"],
        ],
        install=PPROXY_INSTALL,
        note="aes-256-gcm, Python asyncio on uvloop",
    ),
]


def read_candidates(path: Path) -> list[Peer]:
    """The peers of a TOML or JSON file: a list `peer` of tables named like Peer's fields."""
    text = path.read_text()
    data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    known = {f.name for f in fields(Peer)}
    peers = []
    for entry in data["peer"]:
        unknown = set(entry) - known
        if unknown:
            raise ValueError(f"{path.name}: unknown keys {sorted(unknown)}")
        peers.append(Peer(**entry | {"here": str(path.resolve().parent)}))
    return peers
