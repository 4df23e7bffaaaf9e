//! The value of `Proxy-Authorization` (RFC 7617): as it comes, and behind the scheme's name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use swiftproxy_core::credentials::Credentials;
use swiftproxy_core::secret::Secret;
use swiftproxy_wire::basic;

fn check(credentials: &Credentials) {
    let (name, password) = (&*credentials.name, credentials.password.expose());
    assert!(!name.contains(':') && !name.contains(char::is_control) && !password.contains(char::is_control));
    let value = basic::encode(credentials);
    assert!(value.is_sensitive());
    let found = basic::parse(value.as_bytes()).expect("what was printed");
    assert_eq!((&*found.name, found.password.expose()), (name, password));
}

fuzz_target!(|bytes: &[u8]| {
    for value in [bytes, &[b"Basic ", bytes].concat()] {
        if let Ok(credentials) = basic::parse(value) {
            check(&credentials);
        }
    }
    // The same as a text to be printed first.
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Some((name, password)) = text.split_once(':')
        && !text.contains(char::is_control)
    {
        check(&Credentials { name: name.into(), password: Secret::new(password) });
    }
});
