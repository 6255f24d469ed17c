//! `sotp audit …`.

use serde_json::Value;

use crate::client::{Client, query};
use crate::command::{Audit, AuditFilters, ExportFormat};
use crate::error::Trouble;
use crate::output::{Column, Output, column, talk};

use super::text::text;
use super::{all, instant};

const PATH: &str = "/api/v1/audit";

const LINES: [Column; 8] = [
    column!("SEQ", 0, "/seq"),
    column!("TIME", 0, "/at"),
    column!("WHO", 0, "/actor"),
    column!("FROM", 3, "/origin"),
    column!("ACTION", 0, "/action"),
    column!("ON", 0, "/object"),
    column!("OUTCOME", 1, "/outcome"),
    column!("WHY", 2, "/reason"),
];

pub(super) async fn run(words: &Audit, client: &Client, output: &Output) -> Result<(), Trouble> {
    match words {
        Audit::Ls { filters, limit } => list(filters, *limit, client, output).await,
        Audit::Export { filters, format } => {
            let accept = match format {
                ExportFormat::Jsonl => "application/x-ndjson",
                ExportFormat::Csv => "text/csv",
            };
            let path = format!("{PATH}{}", asked(filters, None));
            client.stream(&path, accept, output).await
        }
        Audit::Verify { head } => {
            let head = head.as_deref().map(Head::read).transpose()?;
            verify(head, client, output).await
        }
    }
}

fn asked(filters: &AuditFilters, limit: Option<String>) -> String {
    let time = |text: &Option<String>| {
        let text = text.as_ref()?;
        // what the daemon reads itself, it reads itself
        Some(instant(text).map_or_else(|| text.clone(), |at| at.to_string()))
    };
    query(&[
        ("actor", filters.actor.clone()),
        ("action", filters.action.clone()),
        ("object", filters.object.clone()),
        ("tenant", filters.tenant.clone()),
        ("outcome", filters.outcome.clone()),
        ("from", time(&filters.from)),
        ("to", time(&filters.to)),
        ("q", filters.search.clone()),
        ("limit", limit),
    ])
}

async fn list(
    filters: &AuditFilters,
    limit: u32,
    client: &Client,
    output: &Output,
) -> Result<(), Trouble> {
    let page = limit.saturating_add(1).min(1_000).to_string();
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let path = format!("{PATH}{}", asked(filters, Some(page)));
    let mut lines = all(client, &path, most.saturating_add(1)).await?;
    if lines.len() > most {
        lines.truncate(most);
        talk(&format!(
            "the newest {most}; there are more: --limit, or sotp audit export"
        ));
    }
    output.list("audit", &lines, &LINES, "nothing is written down of that")
}

/// A line that somebody noted down: its number and its hash.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    seq: u64,
    hash: String,
}

impl Head {
    fn read(text: &str) -> Result<Head, Trouble> {
        let bad = || {
            Trouble::Usage(format!(
                "{text:?} is no head: SEQ:HASH, as sotp audit verify prints it"
            ))
        };
        let (seq, hash) = text.split_once(':').ok_or_else(bad)?;
        let hex = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        match (seq.parse(), hex) {
            (Ok(seq), true) => Ok(Head {
                seq,
                hash: hash.to_ascii_lowercase(),
            }),
            _ => Err(bad()),
        }
    }
}

/// What became of a line that was noted down.
#[derive(Debug, PartialEq, Eq)]
enum Noted {
    Same,
    /// It is too old to be kept.
    Dropped,
    Other(String),
    Missing,
}

async fn verify(noted: Option<Head>, client: &Client, output: &Output) -> Result<(), Trouble> {
    let verdict = client.get(&format!("{PATH}/verify")).await?.body;
    let whole = verdict.get("ok").and_then(Value::as_bool) == Some(true);
    let found = match &noted {
        Some(head) => Some(compare(head, &verdict, client).await?),
        None => None,
    };
    let head = format!(
        "{}:{}",
        text(&verdict, "/head/seq"),
        text(&verdict, "/head/hash")
    );
    output.item(
        &verdict,
        &[
            ("whole", text(&verdict, "/ok")),
            ("lines", text(&verdict, "/lines")),
            ("first", text(&verdict, "/first")),
            ("head", head),
            ("broken at", text(&verdict, "/broken/seq")),
            ("why", text(&verdict, "/broken/why")),
        ],
    )?;
    if !whole {
        return Err(Trouble::Partly(format!(
            "the log is not as it was written: line {}: {}",
            text(&verdict, "/broken/seq"),
            text(&verdict, "/broken/why")
        )));
    }
    match noted.zip(found) {
        Some((head, found)) => judged(&head, &found),
        None => Ok(()),
    }
}

fn judged(head: &Head, found: &Noted) -> Result<(), Trouble> {
    let seq = head.seq;
    let bad = |text: String| Err(Trouble::Partly(text));
    match found {
        Noted::Same => {
            talk(&format!(
                "line {seq} is the one that was noted down: all up to there is as it was"
            ));
            Ok(())
        }
        Noted::Dropped => bad(format!(
            "line {seq} is older than what is kept, so it cannot be compared: note the head down more often"
        )),
        Noted::Other(hash) => bad(format!(
            "line {seq} is another than was noted down: its hash is {hash}; the log was written anew"
        )),
        Noted::Missing => bad(format!(
            "there is no line {seq}: the end of the log was cut off"
        )),
    }
}

/// Looks for the line that was noted down, from the newest back.
async fn compare(noted: &Head, verdict: &Value, client: &Client) -> Result<Noted, Trouble> {
    let number = |pointer: &str| verdict.pointer(pointer).and_then(Value::as_u64);
    if number("/head/seq").is_some_and(|last| last < noted.seq) {
        return Ok(Noted::Missing);
    }
    if number("/first").is_some_and(|first| first > noted.seq) {
        return Ok(Noted::Dropped);
    }
    let mut cursor = None;
    loop {
        let asked = query(&[("limit", Some("1000".into())), ("cursor", cursor)]);
        let page = client.get(&format!("{PATH}{asked}")).await?.body;
        let lines = page.get("items").and_then(Value::as_array);
        let of = |line: &&Value| line.get("seq").and_then(Value::as_u64) == Some(noted.seq);
        if let Some(line) = lines.into_iter().flatten().find(of) {
            let hash = text(line, "/hash").to_ascii_lowercase();
            return Ok(match hash == noted.hash {
                true => Noted::Same,
                false => Noted::Other(hash),
            });
        }
        cursor = page.get("next").and_then(Value::as_str).map(str::to_owned);
        if cursor.is_none() {
            return Ok(Noted::Missing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_a_number_and_a_hash() {
        let hash = "AB".repeat(32);
        let head = Head::read(&format!("7:{hash}")).unwrap();
        assert_eq!((head.seq, head.hash), (7, "ab".repeat(32)));
        for bad in [
            "7",
            &hash,
            "7:ab",
            &format!("x:{hash}"),
            &format!("7:{}", "zz".repeat(32)),
        ] {
            assert!(Head::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_noted_line_itself_is_good() {
        let head = Head {
            seq: 7,
            hash: String::new(),
        };
        judged(&head, &Noted::Same).unwrap();
        for found in [Noted::Dropped, Noted::Missing, Noted::Other("x".into())] {
            assert!(
                judged(&head, &found)
                    .unwrap_err()
                    .to_string()
                    .contains("line 7")
            );
        }
    }

    #[test]
    fn a_date_is_turned_into_an_instant_and_a_span_is_left_to_the_daemon() {
        let filters = AuditFilters {
            actor: Some("user:jane".into()),
            action: None,
            object: None,
            tenant: None,
            outcome: None,
            from: Some("2026-01-01".into()),
            to: Some("-1h".into()),
            search: None,
        };
        assert_eq!(
            asked(&filters, None),
            "?actor=user%3Ajane&from=2026-01-01T00%3A00%3A00Z&to=-1h"
        );
    }
}
