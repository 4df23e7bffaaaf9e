//! The talk with the first SwiftProxy's local program: a line of JSON in, a line with the bound address out.
//!
//! Invariant: any refusal is a close without a word; that program knows no other.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;

use swiftproxy_wire::classic::{Request, reply};
use tokio::time::Instant;

use crate::context::Context;
use crate::deadline::Deadline;
use crate::inbox::{Fault, Inbox};
use crate::layer::Next;

/// Serves one client up to what is to be piped.
pub(crate) async fn serve(ctx: &Context, mut inbox: Inbox, deadline: Instant) -> Next {
    let Request { target, credentials } =
        match Deadline(deadline).hold(pin!(inbox.message(Request::parse))).await {
            Ok(request) => request,
            Err(Fault::Refused(refusal)) => {
                ctx.count(refusal);
                return None;
            }
            Err(Fault::Gone) => return None,
        };
    let opened =
        inbox.unless_reset(pin!(ctx.open("classic", target, Some(credentials), None))).await.ok()?.ok()?;
    let bound = opened.bound().unwrap_or(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
    inbox.say(reply(bound).as_bytes()).await.ok()?;
    Some((opened, Box::new(inbox.into_end())))
}

#[cfg(test)]
mod tests {
    use swiftproxy_core::error::Refusal;

    use crate::testing::{Passwords, Proxy};

    const CONFIG: &str = r#"{"protocols": ["classic"]}"#;

    fn line(host: &str, password: &str) -> String {
        format!(
            "{{\"dst\": \"{host}\", \"dport\": \"443\", \"user\": \"alice\", \"password\": \"{password}\"}}\r\n"
        )
    }

    #[tokio::test]
    async fn split_at_every_byte_and_all_in_one_segment() {
        let proxy = Proxy::start(CONFIG, Some(Passwords::default())).await;
        let all = line("example.org", "open sesame") + "early data";
        for step in [1, 3, all.len()] {
            let got = proxy.talk(all.as_bytes(), step, true).await;
            assert_eq!(String::from_utf8_lossy(&got), "192.0.2.77 4711\r\nhello early data");
        }
        let seen = proxy.seen();
        assert_eq!((seen[0].protocol, seen[0].target.as_str()), ("classic", "example.org:443"));
        assert_eq!(seen[0].credentials.as_deref(), Some("alice:open sesame"));
        assert_eq!(seen[1].account.as_deref(), Some("alice"), "known by now");
    }

    #[tokio::test]
    async fn any_failure_is_a_close() {
        let proxy = Proxy::start(CONFIG, Some(Passwords::default())).await;
        for refusal in Refusal::all() {
            let line = line(&format!("{}.refused", refusal.label()), "open sesame");
            assert_eq!(proxy.talk(line.as_bytes(), line.len(), false).await, b"");
        }
        let wrong = line("example.org", "wrong");
        for line in [wrong.as_str(), "{}\r\n", "{\"dst\"\n", &"{".repeat(5000)] {
            assert_eq!(proxy.talk(line.as_bytes(), line.len(), false).await, b"", "{line}");
        }
        assert_eq!(proxy.refusals(Refusal::Malformed), 3);
    }
}
