//! Real clients.

use std::process::{Command, Output, Stdio};
use std::sync::Once;

/// Brings the clients that are missing, once. Where that cannot be done, the tests that need them say what to do.
pub fn bring() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/clients/install");
        let brought = Command::new("bash").arg(script).stdin(Stdio::null()).output();
        if !brought.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("some clients could not be installed: {brought:?}");
        }
    });
}

/// One run of curl.
pub struct Curl {
    /// Its exit code (curl's manual, EXIT CODES).
    pub code: i32,
    /// The body.
    pub body: Vec<u8>,
    /// What `-v` and errors said.
    pub said: String,
}

/// curl's command line, which reads no configuration and obeys no environment.
pub fn curl_command(args: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["-q", "--silent", "--show-error", "--max-time", "60"]).args(args);
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"]
    {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs curl to its end.
pub fn curl(args: &[&str]) -> Curl {
    let Output { status, stdout, stderr } = curl_command(args).output().expect("curl is installed");
    Curl {
        code: status.code().unwrap_or(-1),
        body: stdout,
        said: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

impl Curl {
    /// The body of a transfer that succeeded.
    pub fn ok(self) -> Vec<u8> {
        assert_eq!(self.code, 0, "{}", self.said);
        self.body
    }
}
