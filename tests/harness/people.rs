//! The first administrator, other people, and tokens of services.

use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::http::{Ask, Response};
use crate::https::Client;

/// The first administrator.
pub const ADMIN: &str = "ada";

/// A password that everybody in a test has.
pub const PASSWORD: &str = "Wolke-Kamel-41-Tulpe";

/// An instant that is in the future and within a year (RFC 3339).
#[must_use]
pub fn in_a_month() -> String {
    let output = std::process::Command::new("date")
        .args(["--utc", "--date=+30 days", "+%Y-%m-%dT%H:%M:%SZ"])
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    output.unwrap_or_default()
}

impl Daemon {
    /// Makes the first administrator with a set-up link, and signs in.
    ///
    /// # Panics
    ///
    /// If any of it is refused.
    #[track_caller]
    #[must_use]
    pub fn set_up(&self) -> Client {
        self.set_up_over(self.https())
    }

    /// The same by way of `client`.
    ///
    /// # Panics
    ///
    /// If any of it is refused.
    #[track_caller]
    #[must_use]
    pub fn set_up_over(&self, client: &Client) -> Client {
        let link = self.ask("POST", "/api/v1/setup-links", None);
        let token = link["token"].as_str().expect("a token");
        let wanted = json!({"token": token, "user": ADMIN, "password": PASSWORD});
        client.ask("POST", "/api/v1/setup", &wanted);
        client.signed_in(ADMIN, PASSWORD)
    }
}

impl Client {
    /// Tries to sign in.
    ///
    /// # Panics
    ///
    /// If there is no answer.
    #[track_caller]
    #[must_use]
    pub fn sign_in(&self, user: &str, password: &str) -> Response {
        let ask = Ask::new("POST", "/api/v1/sessions");
        self.stranger()
            .send(ask.json(&json!({"user": user, "password": password})))
    }

    /// The same client, signed in.
    ///
    /// # Panics
    ///
    /// If that is refused.
    #[track_caller]
    #[must_use]
    pub fn signed_in(&self, user: &str, password: &str) -> Client {
        let granted = self.sign_in(user, password).expect("a session");
        self.bearer(granted["access_token"].as_str().expect("a token"))
    }

    /// Makes somebody with these bindings (`[{"role": "OPERATOR"}]`), as an
    /// administrator.
    ///
    /// # Panics
    ///
    /// If that is refused.
    #[track_caller]
    pub fn add_person(&self, name: &str, bindings: &Value) {
        let person = json!({"name": name, "bindings": bindings, "password": PASSWORD, "must_change_password": false});
        self.ask("POST", "/api/v1/users", &person);
    }

    /// Makes somebody and signs in as them.
    ///
    /// # Panics
    ///
    /// If that is refused.
    #[track_caller]
    #[must_use]
    pub fn person(&self, name: &str, bindings: &Value) -> Client {
        self.add_person(name, bindings);
        self.signed_in(name, PASSWORD)
    }

    /// Makes a token for a service with these bindings, as an administrator.
    ///
    /// # Panics
    ///
    /// If that is refused.
    #[track_caller]
    #[must_use]
    pub fn service(&self, name: &str, bindings: &Value) -> Client {
        let wanted = json!({
            "name": name,
            "kind": "bearer",
            "bindings": bindings,
            "expires": in_a_month(),
            "requests_per_minute": 60_000,
        });
        let made = self.ask("POST", "/api/v1/tokens", &wanted);
        self.bearer(made["token"].as_str().expect("a token"))
    }
}
