//! Passwords from people and from standard input.

use std::io::{BufRead, IsTerminal};

use anyhow::{Context, anyhow, bail};
use swiftproxy_core::secret::Secret;

/// A password's most bytes: what SOCKS5 can carry (RFC 1929 §2).
const MOST: usize = 255;

/// Asks without echo, twice where `new`; or reads the first line of standard input.
pub(crate) fn read(stdin: bool, prompt: &str, new: bool) -> anyhow::Result<Secret> {
    let password = if stdin {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).context("standard input cannot be read")?;
        Secret::new(line.trim_end_matches(['\r', '\n']))
    } else {
        if !std::io::stdin().is_terminal() {
            bail!("there is no terminal to ask for the password; add --password-stdin and pipe it in");
        }
        let first = Secret::new(rpassword::prompt_password(format!("{prompt}: "))?);
        if new && first != Secret::new(rpassword::prompt_password("Once more: ")?) {
            bail!("the two passwords differ; nothing was changed");
        }
        first
    };
    check(&password)?;
    Ok(password)
}

/// Whether every protocol can carry it.
pub(crate) fn check(password: &Secret) -> anyhow::Result<()> {
    match password.expose() {
        "" => bail!("the password is empty"),
        text if text.len() > MOST => {
            bail!("the password is longer than {MOST} bytes, which SOCKS5 cannot carry")
        }
        text if text.chars().any(char::is_control) => bail!("the password has a control character"),
        _ => Ok(()),
    }
}

/// A new one of 20 letters and digits that are hard to mistake for one another.
pub(crate) fn generate() -> anyhow::Result<String> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    Ok(random::<20>()?.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect())
}

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("the system gives no random numbers: {error}"))?;
    Ok(bytes)
}
