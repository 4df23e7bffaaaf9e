//! A request's head: in one piece and in many, printed and read back, and read by another parser.
#![no_main]

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Version};
use libfuzzer_sys::fuzz_target;
use swiftproxy_fuzz::splits;
use swiftproxy_wire::http1::{
    BodyLength, HeadError, HeadReader, MAX_FIELDS, RequestHead, RequestTarget, encode_request,
    expects_continue, parse_request, persistence, strip_hop_by_hop, upgrade,
};
use swiftproxy_wire::{basic, proxy_status};

type Read = Result<Option<(RequestHead, usize)>, HeadError>;

/// Both read the same. Of a head that is too long, one may see that before it sees what else is wrong.
fn assert_same(pieces: &Read, whole: &Read) {
    match (pieces, whole) {
        (Err(HeadError::LineTooLong | HeadError::HeadersTooLarge), Err(_)) => {}
        _ => assert_eq!(pieces, whole),
    }
}

/// The target as [`encode_request`] is given it.
fn print(target: &RequestTarget) -> String {
    match target {
        RequestTarget::Authority(target) => target.to_string(),
        RequestTarget::Absolute { authority, path_and_query } if path_and_query == "*" => {
            format!("http://{authority}")
        }
        RequestTarget::Absolute { authority, path_and_query } => {
            format!("http://{authority}{path_and_query}")
        }
        RequestTarget::Origin(path) => path.to_string(),
        RequestTarget::Asterisk => "*".to_owned(),
    }
}

/// What we accept, others read with the same end, method and fields; `Host` apart, which we rewrite.
fn read_alike(bytes: &[u8], n: usize, head: &RequestHead) {
    let mut slots = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut slots);
    assert_eq!(request.parse(bytes), Ok(httparse::Status::Complete(n)));
    assert_eq!(request.method, Some(head.method.as_str()));
    let is_host = |name: &str| name.eq_ignore_ascii_case(HOST.as_str());
    let theirs = request.headers.iter().filter(|field| !is_host(field.name));
    assert_eq!(theirs.clone().count(), head.headers.len() - head.headers.get_all(HOST).iter().count());
    for field in theirs {
        let mut values = head.headers.get_all(field.name).iter();
        assert!(values.any(|value| value.as_bytes() == field.value), "{field:?}");
    }
}

/// A strict reader of HTTP that knows nothing of ours: method, target and fields.
fn other_reader(bytes: &[u8], method: &Method, target: &str, headers: &HeaderMap) {
    let mut slots = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut slots);
    let n = request.parse(bytes).expect("what we print is HTTP to others").unwrap();
    assert_eq!(n, bytes.len(), "the head ends elsewhere to others");
    assert_eq!(
        (request.method, request.path, request.version),
        (Some(method.as_str()), Some(target), Some(1))
    );
    assert_eq!(request.headers.len(), headers.len());
    for field in request.headers {
        let mut values = headers.get_all(field.name).iter();
        assert!(values.any(|value| value.as_bytes() == field.value), "{field:?}");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let whole = parse_request(bytes);
    let mut reader = HeadReader::new();
    let early = splits(bytes.len()).map(|n| reader.read(&bytes[..n])).find(|read| *read != Ok(None));
    assert_same(&early.unwrap_or_else(|| reader.read(bytes)), &whole);
    let Ok(Some((head, n))) = whole else { return };
    assert!(n <= bytes.len());
    assert_eq!(parse_request(&bytes[..n]).as_ref(), Ok(&Some((head.clone(), n))), "with nothing behind it");
    check(&head);
    read_alike(bytes, n, &head);

    let target = print(&head.target);
    assert!(target.bytes().all(|byte| byte > b' ' && byte != 0x7f), "{target:?}");
    let mut out = Vec::new();
    encode_request(&head.method, &target, &head.headers, &mut out);
    if head.version == Version::HTTP_10 && !head.headers.contains_key(HOST) {
        assert!(parse_request(&out).is_err(), "HTTP/1.1 without a Host");
        return;
    }
    let (again, m) = parse_request(&out).expect("what was printed").expect("what was printed whole");
    assert_eq!(m, out.len());
    assert_eq!(again, RequestHead { version: Version::HTTP_11, ..head.clone() });
    other_reader(&out, &head.method, &target, &head.headers);

    let mut headers = head.headers.clone();
    strip_hop_by_hop(&mut headers);
    for name in ["connection", "proxy-authorization", "transfer-encoding", "upgrade", "te", "keep-alive"] {
        assert!(!headers.contains_key(name), "{name} goes no further");
    }
    assert_eq!(headers.get(HOST), head.headers.get(HOST));
    assert_eq!(headers.get(CONTENT_LENGTH), head.headers.get(CONTENT_LENGTH));
});

fn check(head: &RequestHead) {
    let _ = (upgrade(&head.headers), basic::from_headers(&head.headers));
    let _ = (persistence(head.version, &head.headers), expects_continue(head.version, &head.headers));
    let _ = proxy_status::from_headers(&head.headers);
    assert!(head.headers.len() <= MAX_FIELDS + 1);
    for value in head.headers.values() {
        assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    }
    let declared = (head.headers.contains_key(CONTENT_LENGTH), head.headers.contains_key(TRANSFER_ENCODING));
    let expected = match head.body {
        BodyLength::None => (false, false),
        BodyLength::Length(_) => (true, false),
        BodyLength::Chunked => (false, true),
        BodyLength::UntilClose => panic!("no request has that"),
    };
    assert_eq!(declared, expected);
    assert_eq!(matches!(head.target, RequestTarget::Authority(_)), head.method == Method::CONNECT);
    if let RequestTarget::Origin(path) | RequestTarget::Absolute { path_and_query: path, .. } = &head.target {
        let path = path.as_str().as_bytes();
        assert!(std::str::from_utf8(path).is_ok() && !path.contains(&b'#'));
    }
}
