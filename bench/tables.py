"""Which figures stand in which table: of a result file, and of the project's README."""

LOW, HIGH = min, max  # which end of a column is the better one

LIMIT_WORDS = (
    "Measured over 10 s, after 2 s, where the bytes arrive (64 kbit/s: 20 s). `CV` is the coefficient of variation "
    "over 100 ms windows (64 kbit/s: 1 s)."
)
LEVELS = (1, 100, 5000, 20000)

# Title, explanation, and columns: case, metric, heading, scale, better end.
TABLES = [
    (
        "Bulk transfer",
        "GB is 10^9 bytes. `s/GB` is CPU time of the proxy's processes alone, over both hops for a pair. "
        "`×direct` is the throughput against no proxy in the same round.",
        [
            (case, *column)
            for case in ("down1", "down8", "up1")
            for column in [
                ("gbps", f"{case} Gbit/s", 1, HIGH),
                ("x_direct", "×direct", 1, HIGH),
                ("cpu_per_gb", "s/GB", 1, LOW),
            ]
        ],
    ),
    (
        "Connections",
        "64 workers: connect, handshake, 1-byte request, 1-byte reply, close.",
        [
            ("rate", "per_s", "conns/s", 1, HIGH),
            ("rate", "cpu_us", "proxy CPU µs/conn", 1, LOW),
            ("rate", "p50", "p50 ms", 1e-3, LOW),
            ("rate", "p99", "p99 ms", 1e-3, LOW),
        ],
    ),
    (
        "Small messages",
        "128-byte ping-pong. `+` is what the proxy adds over direct in the same round. "
        "lat1 runs everything on one CPU, so it counts work and not wake-ups across CPUs.",
        [
            ("lat1", "added_p50", "lat1 +p50 µs", 1, LOW),
            ("lat1", "added_p99", "lat1 +p99 µs", 1, LOW),
            ("lat32", "added_p50", "lat32 +p50 µs", 1, LOW),
            ("lat32", "added_p99", "lat32 +p99 µs", 1, LOW),
            ("lat32", "cpu_us", "lat32 proxy CPU µs/trip", 1, LOW),
        ],
    ),
    (
        "Bulk and small messages together",
        "4 bulk downloads beside 16 ping-pong connections.",
        [
            ("mixed", "p50", "ping-pong p50 ms", 1e-3, LOW),
            ("mixed", "p99", "ping-pong p99 ms", 1e-3, LOW),
            ("mixed", "gbps", "bulk Gbit/s", 1, HIGH),
        ],
    ),
    (
        "Idle connections",
        "KiB per connection above the started proxy, over all its processes. Fresh: only the handshake. "
        "Used: after 64 KiB each way and 3 s of rest. Where fewer fresh connections than 1.00 reached the "
        "target, the proxy waits for data before it connects on. Descriptors beyond 2 per process on the way "
        "are pipes or the like, whose memory the kernel holds.",
        [
            ("idle", "base_pss_mib", "base PSS MiB", 1, LOW),
            ("idle", "fresh_rss", "fresh RSS", 1, LOW),
            ("idle", "fresh_pss", "fresh PSS", 1, LOW),
            ("idle", "used_rss", "used RSS", 1, LOW),
            ("idle", "used_pss", "used PSS", 1, LOW),
            ("idle", "used_fds", "used descriptors", 1, LOW),
            ("idle", "reached_target", "fresh that reached the target", 1, None),
            ("idle", "lost", "lost", 1, LOW),
        ],
    ),
    (
        "Rate limit of 8 Mbit/s per user, download",
        LIMIT_WORDS,
        [
            (case, *column)
            for case in ("limit1", "limit4")
            for column in [
                ("of_limit", f"{case} measured/limit", 1, None),
                ("cv", "CV", 1, LOW),
                ("warmup_of_limit", "first 2 s/limit", 1, None),
                ("fairness", "fairness", 1, HIGH),
            ]
        ],
    ),
    *(
        (
            title,
            LIMIT_WORDS,
            [
                (case, *column)
                for case in names
                for column in [
                    ("of_limit", f"{case} measured/limit", 1, None),
                    ("cv", "CV", 1, LOW),
                    ("fairness", "fairness", 1, HIGH),
                ]
            ],
        )
        for title, names in [
            ("Rate limit of 8 Mbit/s per user, upload", ("limit1up", "limit4up")),
            ("Rate limit of 1 Gbit/s per user, 4 streams", ("limit1g", "limit1gup")),
            ("Rate limit of 64 kbit/s per user, 2 streams", ("limit64k", "limit64kup")),
        ]
    ),
    (
        "Scale of limits",
        "1,000 accounts with 4 downloads each, held to 1 Mbit/s each. `held` is the part of the accounts within 2 % "
        "of it. `paced` is the same traffic with no limits, sent at that rate by the target, 10 writes a second and "
        "stream.",
        [
            ("scale", "worst", "farthest off", 1, LOW),
            ("scale", "held", "held", 1, HIGH),
            ("scale", "jain_between", "Jain between accounts", 1, HIGH),
            ("scale", "jain_within", "Jain within the worst account", 1, HIGH),
            ("scale", "cpu_per_gb", "s/GB", 1, LOW),
            ("scale", "paced_cpu_per_gb", "s/GB paced", 1, LOW),
            ("scale", "cpu_x_paced", "×paced", 1, LOW),
        ],
    ),
    (
        "Cap of a listener",
        "100 Mbit/s for all; 50 downloads of one account beside one of another. `taken` is how long it takes until "
        "either has all of it after the other stopped, the slower of the two.",
        [
            ("cap", "of_cap", "measured/cap", 1, None),
            ("cap", "one_part", "the one download's part", 1, None),
            ("cap", "taken", "taken s", 1, LOW),
        ],
    ),
    (
        "Live change",
        "Seconds from the change until a running download has the new rate and keeps it for half a second: by a "
        "command on the store, and by editing the configuration (the slower of two edits).",
        [("live", "store", "store s", 1, LOW), ("live", "file", "file s", 1, LOW)],
    ),
    (
        "Delayed link",
        "200 Mbit/s, 50 ms round trip, drop-tail queue of 20 ms each way between local and remote. Shares are of "
        "payload, after 3 s. Opening is from connecting to the local side to its word of success, in round trips. "
        "`beside` is a 128-byte ping-pong beside 4 downloads. `link` is the link with no proxy; its connections "
        "open without a round trip, and so does every connection to a remote.",
        [
            ("delayed", "open_trips", "open p50", 1, LOW),
            ("delayed", "open_p99_trips", "p99", 1, LOW),
            ("delayed", "down_share", "1 download's share", 1, HIGH),
            ("delayed", "up_share", "1 upload's share", 1, HIGH),
            ("delayed", "beside_p50", "beside p50 ms", 1, LOW),
            ("delayed", "beside_p99", "beside p99 ms", 1, LOW),
            ("delayed", "beside_share", "the downloads' share", 1, HIGH),
        ],
    ),
    (
        "Many uploads held",
        "What the remote's resident memory grows by when 4,000 clients upload all they can: `uploads` of 4,000 accounts of "
        "1 Mbit/s, each with a tunnel of its own that was there before; `uploads1` of one account of 500 Mbit/s "
        "over one tunnel.",
        [
            (case, *column)
            for case in ("uploads", "uploads1")
            for column in [
                ("grown_mib", f"{case} grown MiB", 1, LOW),
                ("of_limit", "measured/limit", 1, None),
                ("lost", "lost", 1, LOW),
            ]
        ],
    ),
    (
        "Growth",
        "Beside 1, 100, 5,000 and 20,000 connections that are open and idle, or as many as the limit on open files "
        "allows: one download, opening by 16 workers, and what the connections grew the processes by.",
        [
            ("growth", f"{metric}_{level}", f"{heading} at {level:,}", 1, LOW if metric != "open" else None)
            for metric, heading in [
                ("open", "open"),
                ("cpu_per_gb", "s/GB"),
                ("open_us", "µs per open"),
                ("kib", "KiB each"),
            ]
            for level in LEVELS
            if metric not in ("open", "kib") or level > 1
        ],
    ),
]

GROUPS = {"single": "Single hop, plain text", "pair": "Two hops, encrypted between them"}

# Rows of the project's README: case, metric, heading, scale, better end, and whose figure stands for ours.
README_ROWS = {
    "single": [
        ("down1", "cpu_per_gb", "CPU s per GB, 1 download", 1, LOW, ""),
        ("down8", "cpu_per_gb", "… 8 downloads", 1, LOW, ""),
        ("up1", "cpu_per_gb", "… 1 upload", 1, LOW, ""),
        ("rate", "cpu_us", "CPU µs per connection (haproxy has no handshake to do)", 1, LOW, ""),
        ("rate", "cpu_us", "… SOCKS5 with a login", 1, LOW, "swiftproxy-login"),
        ("rate", "cpu_us", "… CONNECT with a login", 1, LOW, "swiftproxy-connect"),
        ("lat1", "added_p50", "added latency, 1 connection, p50 µs", 1, LOW, ""),
        ("lat32", "added_p50", "added latency, 32 connections, p50 µs", 1, LOW, ""),
        ("lat32", "added_p99", "… p99 µs", 1, LOW, ""),
        ("mixed", "p99", "ping-pong beside 4 bulk streams, p99 ms", 1e-3, LOW, ""),
        ("mixed", "gbps", "… and their Gbit/s", 1, HIGH, ""),
        ("idle", "used_pss", "memory per idle connection, KiB", 1, LOW, ""),
    ],
    "pair": [
        ("down1", "cpu_per_gb", "CPU s per GB, 1 download", 1, LOW, ""),
        ("down8", "cpu_per_gb", "… 8 downloads", 1, LOW, ""),
        ("up1", "cpu_per_gb", "… 1 upload", 1, LOW, ""),
        ("rate", "cpu_us", "CPU µs per connection, both ends", 1, LOW, ""),
        ("lat1", "added_p50", "added latency, 1 connection, p50 µs", 1, LOW, ""),
        ("lat32", "added_p50", "added latency, 32 connections, p50 µs", 1, LOW, ""),
        ("lat32", "added_p99", "… p99 µs", 1, LOW, ""),
        ("mixed", "p99", "ping-pong beside 4 bulk streams, p99 ms", 1e-3, LOW, ""),
        ("mixed", "gbps", "… and their Gbit/s", 1, HIGH, ""),
        ("idle", "used_pss", "memory per idle connection, both ends, KiB", 1, LOW, ""),
    ],
}
