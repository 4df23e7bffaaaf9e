//! Each message of RFC 1928 and RFC 1929, as either side may read it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use swiftproxy_fuzz::{message, read_back};
use swiftproxy_wire::socks5::{Greeting, Login, LoginReply, Method, MethodReply, Reply, Request};

fuzz_target!(|bytes: &[u8]| {
    let mut out = Vec::new();
    if let Some(greeting) = message(bytes, Greeting::parse) {
        let offered: Vec<bool> = (0..=255).map(|method| greeting.offers(Method(method))).collect();
        assert!(!offered[255], "0xFF is no offer");
        greeting.encode(&mut out).expect("what was read has room");
        read_back(&out, &greeting, Greeting::parse);
    }
    if let Some(reply) = message(bytes, MethodReply::parse) {
        read_back(&reply.encode(), &reply, MethodReply::parse);
    }
    out = Vec::new();
    if let Some(login) = message(bytes, Login::parse) {
        let _ = (login.credentials(), format!("{login:?}"));
        login.encode(&mut out).expect("what was read has room");
        read_back(&out, &login, Login::parse);
    }
    if let Some(reply) = message(bytes, LoginReply::parse) {
        read_back(&reply.encode(), &reply, LoginReply::parse);
    }
    out = Vec::new();
    if let Some(request) = message(bytes, Request::parse) {
        request.encode(&mut out).expect("what was read has room");
        read_back(&out, &request, Request::parse);
    }
    out = Vec::new();
    if let Some(reply) = message(bytes, Reply::parse) {
        reply.encode(&mut out).expect("what was read has room");
        read_back(&out, &reply, Reply::parse);
    }
});
