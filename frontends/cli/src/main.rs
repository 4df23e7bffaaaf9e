//! The program `swiftproxy`: a TOML file decides what a process is.

mod args;
mod connect;
mod instance;
mod password;
mod quickstart;
mod reference;
mod run;
mod sections;
mod signals;
mod systemd;
mod top;
mod user;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command, Reference};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // What is not a connection: connections have workers (core/src/workers.rs).
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the system gives no threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(dispatch(cli.command));
    // What still runs has been told to stop.
    runtime.shutdown_timeout(instance::LAST);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in format!("{error:#}").lines() {
                eprintln!("error: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Quickstart(args) => quickstart::quickstart(args).await,
        Command::Run(config) => run::run(config).await,
        Command::Check(config) => run::check(config),
        Command::Connect(args) => connect::connect(args).await,
        Command::User(args) => user::user(args).await,
        Command::Top(args) => top::top(args).await,
        Command::Config(Reference::Reference) => {
            print!("{}", reference::reference(&swiftproxy_layers::registry()));
            Ok(())
        }
        Command::Config(Reference::Schema) => {
            println!("{:#}", reference::schema(&swiftproxy_layers::registry()));
            Ok(())
        }
    }
}
