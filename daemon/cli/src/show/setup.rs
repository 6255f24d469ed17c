//! `sotp setup`, `sotp admin …`: for root on the server itself.

use serde_json::{Value, json};

use crate::client::Client;
use crate::command::{Admin, Setup};
use crate::error::Trouble;
use crate::input;
use crate::output::{Output, talk};

use super::people::{reset_password, reset_totp};
use super::text::{left, text};

/// The port that HTTPS has unless the settings say otherwise.
const HTTPS_PORT: u16 = 8443;

pub(super) async fn setup(words: &Setup, client: &Client, output: &Output) -> Result<(), Trouble> {
    let state = client.get_as_nobody("/api/v1/setup").await?.body;
    if state.get("set_up").and_then(Value::as_bool) == Some(true) {
        return Err(already());
    }
    match &words.admin_password_file {
        Some(file) => {
            let password = input::line(file, "the password").await?;
            let body = json!({ "user": words.user, "password": password });
            let made = client.post_for_secret("/api/v1/admin", &body).await;
            let user = made.map_err(explained)?.body;
            let name = text(&user, "/name");
            talk(&format!("{name} is the administrator and can sign in"));
            Ok(())
        }
        None => {
            let link = client
                .post_for_secret("/api/v1/setup-links", &json!({}))
                .await;
            show(&link.map_err(explained)?.body, &state, output)
        }
    }
}

fn already() -> Trouble {
    Trouble::NotNow(
        "it is set up already: whoever has an account signs in\nhint: is the password lost? sudo sotp admin reset NAME"
            .into(),
    )
}

/// The daemon says who may; we say how.
fn explained(trouble: Trouble) -> Trouble {
    match trouble.status() {
        Some(403) => Trouble::NotNow(format!("{trouble}\nhint: this is for root: use sudo")),
        _ => trouble,
    }
}

/// The link is alone on standard output, with the certificate to compare beside it.
fn show(link: &Value, state: &Value, output: &Output) -> Result<(), Trouble> {
    let links = links(link);
    if links.is_empty() {
        return Err(Trouble::NotNow(
            "HTTPS is off, so there is nothing to open in a browser\nhint: set https in [api], or: sudo sotp setup --admin-password-file FILE".into(),
        ));
    }
    let fingerprint = [link, state].map(|said| text(said, "/fingerprint"));
    let fingerprint = fingerprint.into_iter().find(|text| !text.is_empty());
    if output.is_json() {
        return output.document(&json!({
            "links": links,
            "expires": link.get("expires"),
            "fingerprint": fingerprint,
        }));
    }
    talk(&format!(
        "Open this in a browser within {}; it works once:",
        left(link, "/expires")
    ));
    links.iter().try_for_each(|link| output.said(link))?;
    if let Some(fingerprint) = fingerprint {
        talk(&format!(
            "The browser warns of a certificate that nobody vouches for. Its SHA-256 has to be\n  {fingerprint}"
        ));
    }
    Ok(())
}

/// The addresses with the token behind the `#`, where no server's log sees it.
fn links(link: &Value) -> Vec<String> {
    let token = text(link, "/token");
    urls(link)
        .into_iter()
        .map(|url| match url.contains("#token=") {
            true => url,
            false => {
                let base = url.trim_end_matches('/');
                format!("{}/setup#token={token}", base.trim_end_matches("/setup"))
            }
        })
        .collect()
}

/// Where the server can be opened: as it says, or as we guess if it says nothing.
fn urls(said: &Value) -> Vec<String> {
    match said.get("urls").and_then(Value::as_array) {
        Some(urls) => urls
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        None => vec![format!("https://{}:{HTTPS_PORT}", host_name())],
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

pub(super) async fn admin(words: &Admin, client: &Client, output: &Output) -> Result<(), Trouble> {
    let Admin::Reset { user, totp } = words;
    if *totp {
        reset_totp(user, client).await.map_err(explained)?;
        talk(&format!("{user} signs in without a code"));
    }
    let reset = reset_password(user, client, output).await;
    reset.map_err(explained)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_stands_behind_the_hash_whatever_the_daemon_says_of_addresses() {
        let made = |urls: Value| links(&json!({"token": "t", "urls": urls}));
        assert_eq!(
            made(json!(["https://h:8443"])),
            ["https://h:8443/setup#token=t"]
        );
        assert_eq!(
            made(json!(["https://h:8443/setup"])),
            ["https://h:8443/setup#token=t"]
        );
        assert_eq!(
            made(json!(["https://h/setup#token=t"])),
            ["https://h/setup#token=t"]
        );
        let guessed = links(&json!({"token": "t"}));
        assert!(
            guessed.len() == 1 && guessed[0].ends_with(":8443/setup#token=t"),
            "{guessed:?}"
        );
    }

    #[test]
    fn without_https_no_link_is_made_up() {
        assert!(links(&json!({"token": "t", "urls": []})).is_empty());
        let output = Output::new(None, crate::output::Colour::Never);
        let trouble = show(&json!({"token": "t", "urls": []}), &json!({}), &output);
        let text = trouble.unwrap_err().to_string();
        assert!(text.contains("--admin-password-file"), "{text}");
    }
}
