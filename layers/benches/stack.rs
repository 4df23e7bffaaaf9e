//! What a session costs on its way through a whole stack (auth, acl, ratelimit, stats) over a relay that opens at once:
//! admitted, called, and dropped.

#![allow(clippy::unwrap_used, reason = "what fails stops the measurement")]

use std::future::ready;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use criterion::{Criterion, criterion_group, criterion_main};
use swiftproxy_core::BoxFuture;
use swiftproxy_core::account::{AccountRate, AccountSpec};
use swiftproxy_core::endpoint::Endpoint;
use swiftproxy_core::listener::Listener;
use swiftproxy_core::node::Node;
use swiftproxy_core::opened::{Engine, Opened};
use swiftproxy_core::registry::{Build, LayerConfig as _};
use swiftproxy_core::session::Session;
use swiftproxy_core::stack::Stack;
use tokio::runtime::Builder;
use tower::{Layer as _, Service as _};

/// A target that is connected and silent.
struct Silent;

impl Endpoint for Silent {
    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
    fn poll_read(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
    fn poll_writable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
    fn poll_write(&mut self, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
    fn reset(&mut self) {}
}

/// Ends sessions without piping.
struct Ends;

impl Engine for Ends {
    fn run(&self, session: Session, _: Box<dyn Endpoint>, _: Box<dyn Endpoint>) -> BoxFuture<()> {
        drop(session);
        Box::pin(ready(()))
    }
}

/// Puts a layer of that configuration around what is further in.
macro_rules! around {
    ($build:expr, $config:expr, $inner:expr) => {
        Stack::new($config.build($build).unwrap().layer($inner))
    };
}

fn stack(node: &Arc<Node>, listener: &Arc<Listener>) -> Stack {
    let spec = AccountSpec {
        row: None,
        name: "bench".into(),
        password: None,
        enabled: true,
        up: AccountRate::Limited(1 << 40),
        down: AccountRate::Limited(1 << 40),
        weight: 1,
    };
    node.accounts.set_file(vec![spec]);
    let engine: Arc<dyn Engine> = Arc::new(Ends);
    let relay = move |session| ready(Ok(Opened::new(session, None, Box::new(Silent), engine.clone())));
    let auth = swiftproxy_auth::AuthConfig {
        method: swiftproxy_auth::Method::Address,
        addresses: [("127.0.0.0/8".to_owned(), "bench".to_owned())].into(),
    };
    let mut build =
        Build::new(node, listener, "127.0.0.1:0".parse().unwrap(), "layers.bench", Path::new("."));
    let stack = Stack::new(tower::service_fn(relay));
    let stack = around!(&mut build, swiftproxy_stats::Config::default(), stack);
    let stack = around!(&mut build, swiftproxy_ratelimit::Config::default(), stack);
    let stack = around!(&mut build, swiftproxy_acl::AclConfig::default(), stack);
    let stack = around!(&mut build, auth, stack);
    build.commit();
    stack
}

fn call(c: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let node = Node::new("bench");
    let listener = Listener::new(&node, "bench");
    let mut stack = stack(&node, &listener);
    let client = "127.0.0.1:1".parse().unwrap();
    for target in ["www.example.com:443", "93.184.215.14:443"] {
        c.bench_function(&format!("stack, session to {target}"), |b| {
            b.iter(|| {
                let session = Session::admit(&listener, client, "socks5", target.parse().unwrap()).unwrap();
                runtime.block_on(async { stack.call(session).await.unwrap().run(Box::new(Silent)).await });
            });
        });
    }
}

criterion_group!(benches, call);
criterion_main!(benches);
