//! Entries of `acl`; and names that a resolver takes for a private address, against the default rules.
#![no_main]

use std::cell::RefCell;
use std::ffi::CString;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use swiftproxy_acl::{Acl, AclConfig, Rule};
use swiftproxy_core::error::Refusal;
use swiftproxy_core::listener::Listener;
use swiftproxy_core::node::Node;
use swiftproxy_core::registry::{Build, LayerConfig};
use swiftproxy_core::session::Session;
use swiftproxy_core::stack::Stack;
use swiftproxy_core::target::{Host, Target};
use tower::{Layer, Service};

struct Default {
    listener: Arc<Listener>,
    acl: Acl,
}

impl Default {
    fn new() -> Self {
        let node = Node::new("fuzz");
        let listener = Listener::new(&node, "fuzz");
        let bind = "127.0.0.1:0".parse().expect("address");
        let mut build = Build::new(&node, &listener, bind, "layers.acl", std::path::Path::new(""));
        let layer = AclConfig::default().build(&mut build).expect("the default");
        build.commit();
        // What is let through ends here, with a word of its own.
        let inner = Stack::new(tower::service_fn(|_: Session| std::future::ready(Err(Refusal::Internal))));
        Self { acl: layer.layer(inner), listener }
    }

    /// Whether a session to `target` gets past the layer.
    fn passes(&mut self, target: Target) -> bool {
        let client = "127.0.0.1:1".parse().expect("address");
        let Ok(session) = Session::admit(&self.listener, client, "socks5", target) else { return false };
        let mut call = self.acl.call(session);
        match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Err(refusal)) => refusal == Refusal::Internal,
            Poll::Ready(Ok(_)) => true,
            Poll::Pending => panic!("nothing here waits"),
        }
    }
}

thread_local! {
    static DEFAULT: RefCell<Default> = RefCell::new(Default::new());
}

/// What the system's resolver makes of a name without asking anybody.
fn inet_aton(name: &str) -> Option<Ipv4Addr> {
    let name = CString::new(name).ok()?;
    let mut address = libc::in_addr { s_addr: 0 };
    // SAFETY: a string that ends in NUL, and a place for the address.
    let found = unsafe { inet_aton_of_libc(name.as_ptr(), &raw mut address) };
    (found != 0).then(|| Ipv4Addr::from_bits(u32::from_be(address.s_addr)))
}

unsafe extern "C" {
    #[link_name = "inet_aton"]
    fn inet_aton_of_libc(text: *const libc::c_char, address: *mut libc::in_addr) -> libc::c_int;
}

fuzz_target!(|text: &str| {
    if let Ok(rule) = text.parse::<Rule>() {
        let printed = rule.to_string();
        assert_eq!(printed.parse::<Rule>().as_ref(), Ok(&rule), "{printed}");
    }
    let Ok(target) = Target::from_domain(text, 80) else { return };
    let address = match &target.host {
        Host::Domain(name) => inet_aton(name),
        Host::Ip(ip) => match ip.to_canonical() {
            std::net::IpAddr::V4(ip) => Some(ip),
            std::net::IpAddr::V6(_) => None,
        },
    };
    let passes = DEFAULT.with_borrow_mut(|default| default.passes(target));
    if let Some(ip) = address {
        let private = ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.octets()[0] == 0;
        assert!(!(private && passes), "{text} is {ip}");
    }
});
