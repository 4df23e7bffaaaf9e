//! Password hashes in PHC form, of which a row may hold any: what is taken asks for no more than it may.
#![no_main]

use libfuzzer_sys::fuzz_target;
use swiftproxy_auth::{HashError, check_hash};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for phc in [text.to_owned(), format!("$argon2id$v=19${text}")] {
        match check_hash(&phc) {
            Ok(()) => {
                let number = |key: &str| {
                    // Of one that is said twice, the last counts.
                    let found = phc.split(['$', ',']).filter_map(|part| part.strip_prefix(key)).last();
                    found.map(|number| number.parse::<u64>().expect("a number"))
                };
                // What is not said has the library's default.
                let (memory, passes) = (number("m=").unwrap_or(19_456), number("t=").unwrap_or(2));
                assert!(phc.starts_with("$argon2"), "{phc:?}");
                assert!(memory <= 256 * 1024 && memory * passes <= 1024 * 1024, "{phc:?}");
                assert!(number("p=").unwrap_or(1) <= 16, "{phc:?}");
            }
            Err(HashError::Form | HashError::TooCostly) => {}
            Err(error) => panic!("{error}"),
        }
    }
});
