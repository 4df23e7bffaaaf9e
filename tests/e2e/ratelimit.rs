//! How fast. What is measured with care is in `tests/figures`.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Origin, Proxy, curl};

/// A cap over the whole listener holds those who have no limit of their own.
#[test]
fn a_cap_on_the_listener() {
    let origin = Origin::start();
    let proxy = Proxy::start(
        r#"
[listeners.lan]
bind = "127.0.0.1:0"
stack = ["detect", "cap"]
relay = "direct"

[layers.cap]
kind = "ratelimit"
per = "listener"
down = "16Mbit/s"
"#,
    );
    let address = format!("socks5h://{}", proxy.addr("lan"));
    let start = Instant::now();
    assert_eq!(curl(&["--proxy", &address, &origin.url("/bytes/3000000")]).ok().len(), 3_000_000);
    let time = start.elapsed();
    assert!(time > Duration::from_millis(1200) && time < Duration::from_millis(2500), "{time:?}");
}
