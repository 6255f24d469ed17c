//! Notifications by ntfy.sh (<https://docs.ntfy.sh/publish/>).

use sotp_plugin::http::request;
use sotp_plugin::json::Json;
use sotp_plugin::notifier::by_status;
use sotp_plugin::prelude::*;

struct Ntfy;

impl Notifier for Ntfy {
    fn render(n: Notification) -> Result<Vec<Request>> {
        let priority = match (n.phase, n.severity) {
            (Phase::Resolved, _) => 2,
            (_, Severity::Critical) => 5,
            (_, Severity::Warning) => 4,
            (_, Severity::Info) => 3,
        };
        let host = n.hostname().unwrap_or("the network");
        let body = Json::object([
            ("topic", config::need::<String>("topic")?.into()),
            ("title", format!("{host}: {}", word(n.phase)).into()),
            ("message", n.summary.as_str().into()),
            ("priority", priority.into()),
            ("click", n.url.as_str().into()),
        ]);
        // the host puts the secret in where the setting's text stands
        let token: String = config::need("token")?;
        Ok(vec![
            request("POST", "https://ntfy.sh/")
                .header("authorization", format!("Bearer {token}"))
                .json(&body),
        ])
    }

    fn interpret(_n: Notification, answer: Response) -> Delivery {
        match (answer.status, answer.json()) {
            (200, Ok(body)) => Delivery::Delivered(body.at("id").text().map(str::to_owned)),
            _ => by_status(&answer),
        }
    }
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Opened => "opened",
        Phase::Changed => "changed",
        Phase::Resolved => "resolved",
        Phase::Remediated => "remediated",
        Phase::Test => "test",
    }
}

export_notifier!(Ntfy);

#[cfg(test)]
mod tests {
    use super::*;
    use sotp_plugin::testing;

    #[test]
    fn the_token_goes_into_a_header_and_never_into_the_text() {
        testing::host(|host| {
            host.settings.insert("topic".into(), "noc".into());
            host.settings
                .insert("token".into(), "${secret:token}".into());
        });
        let n = testing::notification(Phase::Opened, Severity::Critical, "core1 is \"down\"");
        let requests = Ntfy::render(n).unwrap();
        assert_eq!(requests[0].headers[0].1, "Bearer ${secret:token}");
        let body =
            Json::parse(&String::from_utf8_lossy(requests[0].body.as_ref().unwrap())).unwrap();
        assert_eq!(body.at("message").text(), Some("core1 is \"down\""));
        assert_eq!(body.at("priority").f64(), Some(5.0));
        assert!(!body.to_string().contains("secret"));
    }
}
