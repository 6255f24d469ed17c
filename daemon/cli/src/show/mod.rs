//! Carrying commands out: what is asked of the daemon and what is printed.

mod alerts;
mod archives;
mod audit;
mod authors;
mod backups;
mod csv;
mod devices;
mod export;
mod login;
mod me;
mod metrics;
mod others;
mod people;
mod plugins;
mod secrets;
mod series;
mod setup;
mod status;
pub(crate) mod text;
mod tokens;
mod when;

use std::process::ExitCode;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::World;
use crate::client::Client;
use crate::command::{Backup, Command};
use crate::contexts::Book;
use crate::error::Trouble;
use crate::output::Output;
use crate::place::{Place, Shown};

/// Pages fetched of one list: 100,000 items. More are asked for with a filter.
const PAGES: usize = 100;

/// Most rows that one command lists.
const ROWS: usize = 10_000;

/// Carries `command` out.
pub(crate) async fn run(
    command: &Command,
    world: &World<'_>,
    output: &Output,
) -> Result<ExitCode, Trouble> {
    match command {
        Command::Login(words) => login::login(words, world, output).await?,
        Command::Logout => login::logout(world).await?,
        Command::Context(words) => login::contexts(words, world, output)?,
        Command::Setup(words) => setup::setup(words, &local(world).await?, output).await?,
        Command::Admin(words) => setup::admin(words, &local(world).await?, output).await?,
        // where there may be no daemon any more
        Command::Backup(Backup::Verify { opened }) => {
            archives::verify(opened, world, output).await?;
        }
        Command::Backup(Backup::Restore { opened, directory }) => {
            archives::restore(opened, directory, world, output).await?;
        }
        // plugins are written without a daemon
        Command::Plugin(words) if authors::is_local(words) => {
            return authors::run(words, output).await;
        }
        // what monitoring asks for is answered even if nobody can be asked
        Command::Status { check: true } => return status::check(chosen(world).await, output).await,
        asked => ask(asked, &chosen(world).await?, output).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask(command: &Command, client: &Client, output: &Output) -> Result<(), Trouble> {
    match command {
        Command::Devices(words) => devices::run(words, client, output).await,
        Command::Metrics(words) => metrics::run(words, client, output).await,
        Command::Backup(words) => backups::run(words, client, output).await,
        Command::Plugin(words) => plugins::run(words, client, output).await,
        Command::Alerts(words) => alerts::run(words, client, output).await,
        Command::Rules(words) => others::rules(words, client, output).await,
        Command::Outbox(words) => others::outbox(words, client, output).await,
        Command::Credentials(words) => others::credentials(words, client, output).await,
        Command::Notify(words) => others::notify(words, client, output).await,
        Command::Status { .. } => status::run(client, output).await,
        Command::Whoami => me::whoami(client, output).await,
        Command::Password(words) => me::password(words, client).await,
        Command::Totp(words) => me::totp(words, client, output).await,
        Command::Sessions(words) => me::sessions(words, client, output).await,
        Command::Users(words) => people::users(words, client, output).await,
        Command::Roles => people::roles(client, output).await,
        Command::Policy(words) => people::policy(words, client, output).await,
        Command::Tenants(words) => people::tenants(words, client, output).await,
        Command::Tokens(words) => tokens::run(words, client, output).await,
        Command::Secrets(words) => secrets::run(words, client, output).await,
        Command::Audit(words) => audit::run(words, client, output).await,
        Command::Login(_)
        | Command::Logout
        | Command::Context(_)
        | Command::Setup(_)
        | Command::Admin(_)
        | Command::Completions { .. }
        | Command::Man { .. } => Ok(()),
    }
}

/// The daemon that flags, environment and contexts come to.
async fn chosen(world: &World<'_>) -> Result<Client, Trouble> {
    let place = Place::choose(&world.chosen, world.env, &|| match Book::of(world.env) {
        Ok(book) => book.read(),
        // without a home there are no contexts
        Err(_nowhere) => Ok(crate::contexts::Contexts::default()),
    })?;
    let book = match place.shown {
        Shown::Context(_) => Some(Book::of(world.env)?),
        Shown::Nothing | Shown::TokenFile(_) => None,
    };
    Client::new(place, book).await
}

/// The daemon of this machine.
async fn local(world: &World<'_>) -> Result<Client, Trouble> {
    Client::new(Place::local(&world.chosen, world.env)?, None).await
}

/// Every item of a list, page by page, at most `most` of them.
async fn all(client: &Client, path: &str, most: usize) -> Result<Vec<Value>, Trouble> {
    let mut items = Vec::new();
    let mut page_path = path.to_owned();
    for _page in 0..PAGES {
        let mut page = client.get(&page_path).await?.body;
        match page.get_mut("items").map(Value::take) {
            Some(Value::Array(mut more)) => items.append(&mut more),
            _ => return Err(Trouble::Garbled(format!("{path} has no items"))),
        }
        let Some(next) = page
            .get("next")
            .and_then(Value::as_str)
            .filter(|_| items.len() < most)
        else {
            break;
        };
        let joint = if path.contains('?') { '&' } else { '?' };
        page_path = format!("{path}{joint}cursor={}", crate::client::segment(next));
    }
    items.truncate(most);
    Ok(items)
}

/// Text for the API; empty text unsets.
fn text_or_null(text: &str) -> Value {
    match text.is_empty() {
        true => Value::Null,
        false => json!(text),
    }
}

/// `name` as it is written for a thing of `tenant`: bare in the default one,
/// behind the tenant's name in any other.
fn qualified(tenant: Option<&str>, name: &str) -> Result<String, Trouble> {
    match (tenant, name.split_once('/')) {
        (None, _) => Ok(name.to_owned()),
        (Some(tenant), Some((prefix, _))) if prefix == tenant => Ok(name.to_owned()),
        (Some(tenant), Some(_)) => Err(Trouble::Usage(format!(
            "{name} does not belong to {tenant}: what stands before the slash is its tenant"
        ))),
        (Some("default"), None) => Ok(name.to_owned()),
        (Some(tenant), None) => Ok(format!("{tenant}/{name}")),
    }
}

/// An RFC 3339 time, or the first second of a day in UTC.
fn instant(text: &str) -> Option<Timestamp> {
    let day = || format!("{text}T00:00:00Z").parse().ok();
    text.parse().ok().or_else(day)
}

/// A span in one unit, such as 90d.
fn span(text: &str) -> Option<SignedDuration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u32 = number.parse().ok()?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    Some(SignedDuration::from_secs(i64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_with_its_tenant_unless_that_is_the_default_one() {
        let name = |tenant, name| qualified(tenant, name).unwrap();
        assert_eq!(name(None, "campus"), "campus");
        assert_eq!(name(None, "acme/campus"), "acme/campus");
        assert_eq!(name(Some("default"), "campus"), "campus");
        assert_eq!(name(Some("acme"), "campus"), "acme/campus");
        assert_eq!(name(Some("acme"), "acme/campus"), "acme/campus");
        assert!(qualified(Some("acme"), "other/campus").is_err());
        assert!(qualified(Some("default"), "acme/campus").is_err());
    }

    #[test]
    fn spans_and_instants_are_read_as_people_write_them() {
        assert_eq!(span("90d").unwrap().as_hours(), 90 * 24);
        assert_eq!(span("2w").unwrap().as_hours(), 14 * 24);
        for bad in ["", "d", "-1d", "1y", "1.5h", "ä"] {
            assert!(span(bad).is_none(), "{bad}");
        }
        assert_eq!(
            instant("2026-01-02").unwrap().to_string(),
            "2026-01-02T00:00:00Z"
        );
        assert!(instant("-1h").is_none());
    }
}
