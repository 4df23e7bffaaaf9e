//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use swiftproxy_core::units::{Rate, UnitError};

/// A proxy that many people share: each logs in, is held to a rate, and is counted to the byte.
#[derive(Debug, Parser)]
#[command(name = "swiftproxy", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Try everything out on this machine: a remote and a local role, a user, a demo origin
    #[command(after_help = "Examples:
  swiftproxy quickstart
  swiftproxy quickstart --fresh             # a new user database, certificate and password
  swiftproxy quickstart --port 1080 --remote-port 1081")]
    Quickstart(Quickstart),

    /// Run what TOML files say
    #[command(after_help = "Examples:
  swiftproxy run -c configs/remote.toml
  swiftproxy run -c base.toml -c site.toml  # later files go over earlier ones
  swiftproxy run -c remote.toml --set layers.ratelimit.down=20Mbit/s
  SWIFTPROXY__NODE__ACCESS_LOG=true swiftproxy run -c remote.toml")]
    Run(Config),

    /// Say what TOML files would run, or everything that is wrong with them
    #[command(after_help = "Example:
  swiftproxy check -c configs/remote.toml && systemctl reload swiftproxy")]
    Check(Config),

    /// Run a local role without any file: log in to a remote and watch the rates
    #[command(after_help = "Examples:
  swiftproxy connect proxy.example.net:8889 -u alice
  swiftproxy connect proxy.example.net:8889 -u alice --pin sha256//K4ZH…=
  echo \"$PASSWORD\" | swiftproxy connect 127.0.0.1:8889 -u alice --password-stdin")]
    Connect(Connect),

    /// Manage the users of a store
    #[command(after_help = "Examples:
  swiftproxy user add alice --down 50Mbit/s --up 20Mbit/s -c remote.toml
  swiftproxy user set alice --down unlimited --store sqlite://swiftproxy.db
  swiftproxy user import old/user.db -c remote.toml

The store is the one of --store, of the files' [store] table, or ./swiftproxy-data/swiftproxy.db.
Changes bind on a running remote within two seconds, open connections included.")]
    User(User),

    /// Watch the rates of a running node, account by account
    #[command(after_help = "Examples:
  swiftproxy top
  swiftproxy top http://127.0.0.1:9001 --secret-file swiftproxy-data/secret")]
    Top(Top),

    /// What may stand in a configuration
    #[command(subcommand)]
    Config(Reference),
}

#[derive(Debug, Args)]
pub(crate) struct Config {
    /// A TOML file; may be given several times, later ones go over earlier ones
    #[arg(short, long = "config", value_name = "FILE", required = true)]
    pub(crate) config: Vec<PathBuf>,
    /// Overrides a key, such as node.access_log=true
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Quickstart {
    /// Starts over: throws the data folder's user database, certificate, password and configuration away
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Lets users reach private addresses of this machine and its networks, not only the demo origin
    #[arg(long)]
    pub(crate) allow_private: bool,
    /// Where the data is kept
    #[arg(long, value_name = "FOLDER", default_value = "swiftproxy-data")]
    pub(crate) data: PathBuf,
    /// The local role's port: SOCKS5 and HTTP for applications
    #[arg(long, default_value_t = 8888)]
    pub(crate) port: u16,
    /// The remote's port
    #[arg(long, default_value_t = 8889)]
    pub(crate) remote_port: u16,
    /// The local role's stats port
    #[arg(long, default_value_t = 9000)]
    pub(crate) stats_port: u16,
    /// The remote's stats port
    #[arg(long, default_value_t = 9001)]
    pub(crate) remote_stats_port: u16,
    /// The demo origin's port
    #[arg(long, default_value_t = 9002)]
    pub(crate) origin_port: u16,
}

#[derive(Debug, Args)]
pub(crate) struct Connect {
    /// The remote, such as proxy.example.net:8889
    #[arg(value_name = "HOST:PORT")]
    pub(crate) server: String,
    /// The account's name
    #[arg(short, long, value_name = "NAME")]
    pub(crate) user: String,
    /// Reads the password from the first line of standard input instead of asking for it
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// The remote's public key, where its certificate is self-signed (curl's --proxy-pinnedpubkey form)
    #[arg(long, value_name = "sha256//…")]
    pub(crate) pin: Option<String>,
    /// Speaks to the remote in clear text
    #[arg(long)]
    pub(crate) no_tls: bool,
    /// Lets the password travel in clear text beyond this machine
    #[arg(long, requires = "no_tls")]
    pub(crate) insecure: bool,
    /// Where applications connect
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8888")]
    pub(crate) bind: SocketAddr,
    /// Where stats are served
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9000")]
    pub(crate) stats: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct User {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(subcommand)]
    pub(crate) command: UserCommand,
}

#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// The store's URL, such as sqlite://swiftproxy.db
    #[arg(long, value_name = "URL", global = true)]
    pub(crate) store: Option<String>,
    /// Takes the store's URL from these files' [store] table
    #[arg(short, long = "config", value_name = "FILE", global = true, conflicts_with = "store")]
    pub(crate) config: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user
    Add {
        /// Its name
        name: String,
        #[command(flatten)]
        limits: Limits,
        /// Reads the password from the first line of standard input instead of asking for it
        #[arg(long)]
        password_stdin: bool,
        /// Adds it without a password: nobody can log in until `user passwd`
        #[arg(long, conflicts_with = "password_stdin")]
        no_password: bool,
    },
    /// List users with their limits and usage
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one user
    Show {
        /// Its name
        name: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Change a user's limits; binds on open connections within two seconds
    Set {
        /// Its name
        name: String,
        #[command(flatten)]
        limits: Limits,
        /// Lets it log in again
        #[arg(long, conflicts_with = "disable")]
        enable: bool,
        /// Ends its connections and lets it log in no more
        #[arg(long)]
        disable: bool,
        /// Gives it another name
        #[arg(long, value_name = "NAME")]
        rename: Option<String>,
    },
    /// Change a user's password
    Passwd {
        /// Its name
        name: String,
        /// Reads the password from the first line of standard input instead of asking for it
        #[arg(long)]
        password_stdin: bool,
    },
    /// Remove a user; its connections end, its usage is kept
    Remove {
        /// Its name
        name: String,
    },
    /// Take over the accounts of a first SwiftProxy's user.db
    Import {
        /// The old database
        file: PathBuf,
    },
    /// Print a password's hash, for password_hash in a TOML file
    Hash {
        /// Reads the password from the first line of standard input instead of asking for it
        #[arg(long)]
        password_stdin: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Limits {
    /// Client to target, such as 10Mbit/s, 1.5MiB/s, unlimited, or default (the layer's)
    #[arg(long, value_name = "RATE")]
    pub(crate) up: Option<RateArg>,
    /// Target to client, likewise
    #[arg(long, value_name = "RATE")]
    pub(crate) down: Option<RateArg>,
    /// Its share where users share a cap
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) weight: Option<u32>,
}

/// A rate, or none for the layer's default.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RateArg(pub(crate) Option<Rate>);

impl FromStr for RateArg {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        match text {
            "default" => Ok(Self(None)),
            _ => text.parse().map(|rate| Self(Some(rate))),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// The node's stats address
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:9001")]
    pub(crate) url: String,
    /// Reads the API's secret from this file
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Prints one table and ends
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Reference {
    /// Print every table and key with its meaning and default, as TOML
    Reference,
    /// Print a JSON Schema, for editors
    Schema,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_rate_says_what_to_write() {
        let error =
            Cli::try_parse_from(["swiftproxy", "user", "set", "a", "--down", "ten"]).expect_err("no rate");
        assert!(error.to_string().contains("10Mbit/s"), "{error}");
    }
}
