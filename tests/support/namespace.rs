//! Tests in a network and file system of their own, which takes root.

use std::process::{Command, Stdio};

/// Set for the test that runs inside.
const INSIDE: &str = "SWIFTPROXY_TEST_NAMESPACE";

/// Runs a test again in namespaces of its own, after `setup` has prepared them as a shell script; whether this is that
/// run. The outer run passes when the inner one has.
pub fn inside(test: &str, setup: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let script = format!("set -e; ip link set lo up; {setup}\nexec \"$0\" \"$@\"");
    let own = std::env::current_exe().expect("a path");
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "bash", "-c", &script])
        .arg(own)
        .args(["--exact", "--include-ignored", "--nocapture", test])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .expect("unshare is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && said.contains("1 passed");
    assert!(passed, "inside, as root:\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
    false
}
