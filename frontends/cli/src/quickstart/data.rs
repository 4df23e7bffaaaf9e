//! What `quickstart` keeps: a store, a certificate, a secret, and a configuration for each role.
//!
//! Invariant: what is there is used again; files with secrets are this user's alone.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use swiftproxy_core::account::AccountRate;
use swiftproxy_core::secret::Secret;
use swiftproxy_store::{NewUser, Store, StoreError};

use crate::{args, password, user};

const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";
const PASSWORD: &str = "password";
const SECRET: &str = "secret";
const STORE: &str = "swiftproxy.db";
const REMOTE: &str = "remote.toml";
const LOCAL: &str = "local.toml";
/// 20 Mbit/s and 50 Mbit/s.
const RATES: (u64, u64) = (2_500_000, 6_250_000);

/// The folder.
pub(super) struct Data {
    folder: PathBuf,
    password: String,
}

impl Data {
    /// Makes what is missing.
    pub(super) async fn open(args: &args::Quickstart) -> anyhow::Result<Self> {
        let folder = args.data.clone();
        let at = |error: std::io::Error| {
            anyhow::anyhow!("{}: {error}; choose another folder with --data", folder.display())
        };
        std::fs::create_dir_all(&folder).map_err(at)?;
        if args.fresh {
            let wal = [format!("{STORE}-wal"), format!("{STORE}-shm")];
            let names = [CERTIFICATE, KEY, PASSWORD, SECRET, STORE, REMOTE, LOCAL];
            for name in names.into_iter().chain(wal.iter().map(String::as_str)) {
                match std::fs::remove_file(folder.join(name)) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(at(error)),
                    _ => {}
                }
            }
        }
        let password = kept(&folder.join(PASSWORD), password::generate)?;
        let secret = kept(&folder.join(SECRET), password::generate)?;
        let pin = certificate(&folder)?;
        account(&folder, &password).await?;
        let remote = include_str!("remote.toml").replace("@SECRET@", &secret);
        kept(&folder.join(REMOTE), || Ok(remote))?;
        let local = include_str!("local.toml")
            .replace("@SECRET@", &secret)
            .replace("@PASSWORD@", &password)
            .replace("@PIN@", &pin);
        kept(&folder.join(LOCAL), || Ok(local))?;
        Ok(Self { folder, password })
    }

    /// Where it is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The remote's configuration.
    pub(super) fn remote(&self) -> PathBuf {
        self.folder.join(REMOTE)
    }

    /// The local role's configuration.
    pub(super) fn local(&self) -> PathBuf {
        self.folder.join(LOCAL)
    }

    /// demo's password.
    pub(super) fn password(&self) -> &str {
        &self.password
    }
}

/// The file's text; made first where it is missing.
fn kept(path: &Path, make: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = make()?;
            write(path, &text)?;
            Ok(text)
        }
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).with_context(|| path.display().to_string())?;
    file.write_all(text.as_bytes()).with_context(|| path.display().to_string())
}

/// The certificate's pin; made first where it is missing.
fn certificate(folder: &Path) -> anyhow::Result<String> {
    let (cert, key) = (folder.join(CERTIFICATE), folder.join(KEY));
    if !cert.exists() || !key.exists() {
        let made = rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()])?;
        for path in [&cert, &key] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        write(&key, &made.signing_key.serialize_pem())?;
        write(&cert, &made.cert.pem())?;
    }
    let certificate = CertificateDer::from_pem_file(&cert).with_context(|| cert.display().to_string())?;
    swiftproxy_wire::tls::pin_of(&certificate).with_context(|| cert.display().to_string())
}

/// Adds demo where there is none.
async fn account(folder: &Path, password: &str) -> anyhow::Result<()> {
    let store = Store::open(&swiftproxy_store::url_of(&folder.join(STORE))).await?;
    match store.user("demo").await {
        Err(StoreError::NoSuchUser(_)) => {}
        known => return known.map(drop).map_err(Into::into),
    }
    let hash = user::hash(&Secret::new(password))?;
    let (up, down) = RATES;
    let new = NewUser {
        up: AccountRate::Limited(up),
        down: AccountRate::Limited(down),
        ..NewUser::new("demo", Some(hash))
    };
    store.add_user(&new).await?;
    Ok(())
}
