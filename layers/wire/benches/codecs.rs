//! What it costs to read what clients say, and to answer.

#![allow(clippy::unwrap_used, reason = "what fails stops the measurement")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, Method, header};
use swiftproxy_core::credentials::Credentials;
use swiftproxy_core::secret::Secret;
use swiftproxy_wire::http1::{encode_request, parse_request};
use swiftproxy_wire::{basic, socks4, socks5};

fn socks(c: &mut Criterion) {
    let mut group = c.benchmark_group("socks");
    group.bench_function("5 greeting", |b| {
        b.iter(|| socks5::Greeting::parse(black_box(&[5, 2, 0, 2])).unwrap())
    });
    let login = b"\x01\x05alice\x0dcorrect horse";
    group.bench_function("5 login", |b| b.iter(|| socks5::Login::parse(black_box(login)).unwrap()));
    let by_address = [5, 1, 0, 1, 192, 0, 2, 1, 1, 187];
    group.bench_function("5 request, IPv4", |b| {
        b.iter(|| socks5::Request::parse(black_box(&by_address)).unwrap())
    });
    let by_name = b"\x05\x01\x00\x03\x0fwww.example.com\x01\xbb";
    group.bench_function("5 request, name", |b| {
        b.iter(|| socks5::Request::parse(black_box(by_name)).unwrap())
    });
    let bound = "192.0.2.1:443".parse().unwrap();
    group.bench_function("5 reply", |b| b.iter(|| socks5::Reply::opened_bytes(black_box(bound))));
    let four = b"\x04\x01\x01\xbb\x00\x00\x00\x01alice\x00www.example.com\x00";
    group.bench_function("4a request", |b| b.iter(|| socks4::Request::parse(black_box(four)).unwrap()));
    group.finish();
}

fn heads(c: &mut Criterion) {
    let mut group = c.benchmark_group("http");
    let connect = b"CONNECT www.example.com:443 HTTP/1.1\r\nHost: www.example.com:443\r\n\
        Proxy-Authorization: Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==\r\nUser-Agent: curl/8.5.0\r\n\
        Proxy-Connection: Keep-Alive\r\n\r\n";
    group.bench_function("CONNECT head", |b| b.iter(|| parse_request(black_box(connect)).unwrap()));
    let get = b"GET http://www.example.com/index.html?a=b HTTP/1.1\r\nHost: www.example.com\r\n\
        User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
        Accept: text/html,application/xhtml+xml\r\nAccept-Language: en-US,en;q=0.5\r\n\
        Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nCookie: session=0123456789abcdef\r\n\r\n";
    group.bench_function("GET head", |b| b.iter(|| parse_request(black_box(get)).unwrap()));
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_static("www.example.com"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static("curl/8.5.0"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    let mut out = Vec::new();
    group.bench_function("GET head, written", |b| {
        b.iter(|| {
            out.clear();
            encode_request(&Method::GET, black_box("/index.html?a=b"), &headers, &mut out);
        });
    });
    group.finish();
}

fn logins(c: &mut Criterion) {
    let mut group = c.benchmark_group("basic");
    let value = b"Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==";
    group.bench_function("read", |b| b.iter(|| basic::parse(black_box(value)).unwrap()));
    let credentials = Credentials { name: "alice".into(), password: Secret::new("correct horse") };
    group.bench_function("write", |b| b.iter(|| basic::encode(black_box(&credentials))));
    group.finish();
}

criterion_group!(benches, socks, heads, logins);
criterion_main!(benches);
