//! `user`: the accounts of a store.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::json;
use swiftproxy_core::account::AccountRate;
use swiftproxy_core::config::{Config, Sources};
use swiftproxy_core::secret::Secret;
use swiftproxy_core::units::{Bytes, Rate};
use swiftproxy_store::{Counts, NewUser, Store, StoreError, User, UserChange, read_classic};

use crate::args::{self, Limits, RateArg, UserCommand};
use crate::sections::StoreConfig;
use crate::{instance, password};

/// Where `quickstart` keeps its store.
const QUICKSTART: &str = "swiftproxy-data/swiftproxy.db";

/// Carries a command out.
pub(crate) async fn user(args: args::User) -> anyhow::Result<()> {
    if let UserCommand::Hash { password_stdin } = &args.command {
        println!("{}", hash(&password::read(*password_stdin, "Password", true)?)?);
        return Ok(());
    }
    let url = url(&args.store)?;
    // `add` and `import` may be the first to use a store.
    let store = match &args.command {
        UserCommand::Add { .. } | UserCommand::Import { .. } => Store::open(&url).await?,
        _ => Store::open_existing(&url).await?,
    };
    match args.command {
        UserCommand::Add { name, limits, password_stdin, no_password } => {
            // Before anybody types a password for nothing.
            swiftproxy_store::check_name(&name)?;
            if store.user(&name).await.is_ok() {
                return Err(StoreError::NameTaken(name).into());
            }
            let hash = match no_password {
                true => None,
                false => Some(hash(&password::read(password_stdin, &format!("Password of {name}"), true)?)?),
            };
            let change = change(limits);
            let new = NewUser {
                up: change.up.unwrap_or_default(),
                down: change.down.unwrap_or_default(),
                weight: change.weight.unwrap_or(1),
                ..NewUser::new(name, hash)
            };
            println!("added {}", line(&store.add_user(&new).await?));
        }
        UserCommand::List { json } => list(&store, json).await?,
        UserCommand::Show { name, json } => show(&store, &name, json).await?,
        UserCommand::Set { name, limits, enable, disable, rename } => {
            let enabled = (enable || disable).then_some(enable);
            let change = UserChange { enabled, name: rename, ..change(limits) };
            if change == UserChange::default() {
                bail!("nothing to change; give --up, --down, --weight, --enable, --disable or --rename");
            }
            println!("{}", line(&store.update_user(&name, &change).await?));
        }
        UserCommand::Passwd { name, password_stdin } => {
            store.user(&name).await?;
            let hash = hash(&password::read(password_stdin, &format!("New password of {name}"), true)?)?;
            let change = UserChange { password_hash: Some(Some(hash)), ..UserChange::default() };
            store.update_user(&name, &change).await?;
            println!("{name} has a new password");
        }
        UserCommand::Remove { name } => {
            store.remove_user(&name).await?;
            println!("removed {name}; its usage is kept");
        }
        UserCommand::Import { file } => import(&store, &file).await?,
        UserCommand::Hash { .. } => {}
    }
    Ok(())
}

/// The store's URL by the arguments, the files, or the working directory.
fn url(args: &args::StoreArgs) -> anyhow::Result<String> {
    if let Some(url) = &args.store {
        return Ok(url.clone());
    }
    if !args.config.is_empty() {
        let sources = instance::sources(Sources::files(args.config.iter().cloned()));
        let config = Config::load(&sources)?;
        let store = config.section::<StoreConfig>("store")?;
        let store = store
            .context("these files have no [store] table; add one with url = \"sqlite://swiftproxy.db\"")?;
        return Ok(store.url_from(config.base()));
    }
    if Path::new(QUICKSTART).exists() {
        return Ok(format!("sqlite://{QUICKSTART}"));
    }
    bail!("which store? give -c FILE (its [store] table) or --store sqlite://swiftproxy.db")
}

pub(crate) fn hash(password: &Secret) -> anyhow::Result<String> {
    Ok(swiftproxy_auth::hash_password(password)?)
}

fn change(limits: Limits) -> UserChange {
    UserChange {
        up: limits.up.map(account_rate),
        down: limits.down.map(account_rate),
        weight: limits.weight,
        ..UserChange::default()
    }
}

fn account_rate(RateArg(rate): RateArg) -> AccountRate {
    match rate.map(Rate::get) {
        None => AccountRate::Default,
        Some(None) => AccountRate::Unlimited,
        Some(Some(rate)) => AccountRate::Limited(rate),
    }
}

fn shown(rate: AccountRate) -> String {
    match rate {
        AccountRate::Default => "default".into(),
        AccountRate::Unlimited => "unlimited".into(),
        AccountRate::Limited(rate) => Rate::bytes_per_second(rate).to_string(),
    }
}

fn line(user: &User) -> String {
    let state = match (user.enabled, &user.password_hash) {
        (false, _) => ", disabled",
        (true, None) => ", no password",
        (true, Some(_)) => "",
    };
    let weight = if user.weight == 1 { String::new() } else { format!(", weight {}", user.weight) };
    format!("{}: up {}, down {}{weight}{state}", user.name, shown(user.up), shown(user.down))
}

/// What each user of the store has used, by id.
async fn usage(store: &Store) -> anyhow::Result<HashMap<i64, Counts>> {
    Ok(store.usage_totals().await?.into_iter().map(|total| (total.id, total.counts)).collect())
}

async fn show(store: &Store, name: &str, json: bool) -> anyhow::Result<()> {
    let user = store.user(name).await?;
    let used = usage(store).await?.get(&user.id).copied().unwrap_or_default();
    if json {
        println!("{}", serde_json::to_string_pretty(&as_json(&user, used))?);
        return Ok(());
    }
    for (what, value) in [
        ("name", user.name.clone()),
        ("id", user.id.to_string()),
        ("state", state(&user).to_owned()),
        ("up limit", shown(user.up)),
        ("down limit", shown(user.down)),
        ("weight", user.weight.to_string()),
        ("sent", short(used.up)),
        ("received", short(used.down)),
        ("sessions", used.sessions.to_string()),
    ] {
        println!("{what:10}  {value}");
    }
    for problem in &user.problems {
        println!("the row is wrong: {problem}");
    }
    Ok(())
}

fn state(user: &User) -> &'static str {
    match (user.enabled, &user.password_hash) {
        (false, _) => "disabled",
        (true, None) => "no password",
        (true, Some(_)) => "enabled",
    }
}

async fn list(store: &Store, json: bool) -> anyhow::Result<()> {
    let (users, usage) = (store.users().await?, usage(store).await?);
    let used = |user: &User| usage.get(&user.id).copied().unwrap_or_default();
    if json {
        let rows: Vec<_> = users.iter().map(|user| as_json(user, used(user))).collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    if users.is_empty() {
        println!("no users yet; add one with: swiftproxy user add NAME --down 50Mbit/s");
        return Ok(());
    }
    let width = users.iter().map(|user| user.name.chars().count()).max().unwrap_or(0).max(4);
    println!(
        "{:width$}  {:>14}  {:>14}  {:>12}  {:>12}  STATE",
        "NAME", "UP LIMIT", "DOWN LIMIT", "SENT", "RECEIVED"
    );
    for user in &users {
        let counts = used(user);
        println!(
            "{:width$}  {:>14}  {:>14}  {:>12}  {:>12}  {}",
            user.name,
            shown(user.up),
            shown(user.down),
            short(counts.up),
            short(counts.down),
            state(user),
        );
        for problem in &user.problems {
            println!("{:width$}  the row is wrong: {problem}", "");
        }
    }
    Ok(())
}

fn as_json(user: &User, counts: Counts) -> serde_json::Value {
    let rate = |rate| match rate {
        AccountRate::Default => json!("default"),
        AccountRate::Unlimited => json!("unlimited"),
        AccountRate::Limited(rate) => json!(rate),
    };
    json!({
        "id": user.id,
        "name": user.name,
        "enabled": user.enabled,
        "rate_up": rate(user.up),
        "rate_down": rate(user.down),
        "weight": user.weight,
        "has_password": user.password_hash.is_some(),
        "up": counts.up,
        "down": counts.down,
        "sessions": counts.sessions,
        "problems": user.problems,
    })
}

/// Bytes to three digits.
pub(crate) fn short(bytes: u64) -> String {
    let value = bytes as f64;
    for (unit, factor) in [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)] {
        if value >= factor {
            return format!("{:.2} {unit}", value / factor);
        }
    }
    Bytes(bytes).0.to_string() + " B"
}

async fn import(store: &Store, file: &Path) -> anyhow::Result<()> {
    let classic = read_classic(file).await?;
    let total = classic.users.len();
    let (mut added, mut known) = (0, 0);
    let mut skipped = classic.skipped;
    for (at, user) in classic.users.into_iter().enumerate() {
        if store.user(&user.name).await.is_ok() {
            known += 1;
            continue;
        }
        if let Err(why) = password::check(&user.password) {
            skipped.push((user.name, why.to_string()));
            continue;
        }
        let rate = user.rate.map_or(AccountRate::Default, AccountRate::Limited);
        let new = NewUser { up: rate, down: rate, ..NewUser::new(user.name, Some(hash(&user.password)?)) };
        store.add_user(&new).await?;
        added += 1;
        if (at + 1) % 100 == 0 {
            eprintln!("{} of {total} …", at + 1);
        }
    }
    println!("added {added}, already there {known}, skipped {}", skipped.len());
    for (name, why) in &skipped {
        println!("  skipped {name}: {why}");
    }
    if added > 0 {
        println!(
            "each rate became the limit both ways; passwords are hashed now, the old file still has them in clear"
        );
    }
    Ok(())
}
