//! The audit log: who did what, from where, and how it ended; asked for with
//! filters, taken away as JSON lines or CSV, and verified.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use model::{AuditOutcome, AuditRecord, Permission, TenantName};
use serde::Serialize;
use serde_json::Value;
use store::{AuditAsk, AuditPage, AuditVerdict, OutcomeIs, Store};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::mistakes::did_you_mean;
use crate::page;
use crate::problem::{Kind, Problem};
use crate::query::{self, Query};
use crate::request::JsonAnswer;
use crate::{Api, when};

/// Lines of an export that are in memory at once.
const LINES_AT_ONCE: usize = 500;

/// Reads of the log at once. Each looks at thousands of lines on the threads
/// that hash passwords, too, and goes on when whoever asked has hung up.
const READS_AT_ONCE: usize = 2;

/// Walks through the whole log at once.
const VERIFIES_AT_ONCE: usize = 1;

/// How long somebody waits for their turn before they are told to come again.
const PATIENCE: Duration = Duration::from_secs(2);

/// When they come again.
const BUSY_FOR: Duration = Duration::from_secs(5);

/// Characters of a filter.
pub(crate) const FILTER_LETTERS: usize = 256;

pub(crate) const OUTCOMES: [&str; 2] = ["done", "denied"];

/// The columns of an export.
const COLUMNS: [&str; 14] = [
    "seq", "at", "actor", "origin", "request", "action", "object", "tenant", "outcome", "reason",
    "before", "after", "previous", "hash",
];

/// The turns of those who read the log.
pub(crate) struct Turns {
    reads: Arc<Semaphore>,
    verifies: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns {
            reads: Arc::new(Semaphore::new(READS_AT_ONCE)),
            verifies: Arc::new(Semaphore::new(VERIFIES_AT_ONCE)),
        }
    }
}

/// One of `turns`, if there is one within `patience`. Who has it gives it to
/// the thread that reads, as that may outlive the request.
async fn turn(turns: &Arc<Semaphore>, patience: Duration) -> Result<OwnedSemaphorePermit, Problem> {
    let turn = tokio::time::timeout(patience, Arc::clone(turns).acquire_owned()).await;
    let turn = turn.map_err(|_elapsed| {
        let detail = "others read the audit log at this moment; try again";
        Problem::new(Kind::Unavailable, detail).retry_after(BUSY_FOR)
    })?;
    Ok(turn.expect("the turns are never closed"))
}

/// One line of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditView {
    /// Counts from 1 without a gap.
    seq: u64,
    /// When.
    at: String,
    /// Who: user:NAME, certificate:NAME, token:NAME (ID), uid:NUMBER, system or
    /// anonymous.
    #[schema(example = "user:jane")]
    actor: String,
    /// From which address; `socket` for a local process.
    origin: String,
    /// The request's id.
    request: Option<String>,
    /// `resource.verb`.
    #[schema(example = "device.create")]
    action: String,
    /// On what: `kind:name`.
    #[schema(example = "device:core1")]
    object: String,
    /// Whose that is; null: the appliance's.
    tenant: Option<String>,
    /// done or denied.
    outcome: &'static str,
    /// Why it was denied.
    reason: Option<String>,
    /// What it was before, without secrets.
    #[schema(value_type = Option<Object>)]
    before: Option<Value>,
    /// What it is now, without secrets.
    #[schema(value_type = Option<Object>)]
    after: Option<Value>,
    /// `hash` of the line before, in hex; zeros for the first.
    previous: String,
    /// SHA-256 over all of the above, in hex.
    hash: String,
}

/// One page of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditList {
    /// The lines, newest first.
    items: Vec<AuditView>,
    /// `cursor` of the next page; null on the last one. A page of few that meet
    /// the filters among very many can be short or empty, and yet have one.
    next: Option<String>,
}

/// Whether every line is as it was written.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditVerdictView {
    /// Whether every line is there and as it was written.
    ok: bool,
    /// Lines that are there and good, up to the break if there is one.
    lines: u64,
    /// The oldest line that has to be there; those before it were removed
    /// because of their age or number.
    first: u64,
    /// The newest line. Who keeps it elsewhere can tell later that nobody wrote
    /// the whole log anew.
    head: AuditHeadView,
    /// The first line that is not as it was written.
    broken: Option<AuditBreakView>,
}

/// The newest line of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditHeadView {
    /// Its number; 0 if there was never one.
    seq: u64,
    /// Its hash, in hex.
    hash: String,
}

/// Where the audit log is broken.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditBreakView {
    /// The line's number.
    seq: u64,
    /// What is wrong with it.
    why: String,
}

impl From<&AuditRecord> for AuditView {
    fn from(record: &AuditRecord) -> AuditView {
        let json = |text: &Option<String>| {
            let text = text.as_deref()?;
            // what is no JSON is shown as the text that it is
            Some(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())))
        };
        let (outcome, reason) = outcome(record);
        AuditView {
            seq: record.seq,
            at: record.at.to_string(),
            actor: record.actor.clone(),
            origin: record.origin.clone(),
            request: record.request.clone(),
            action: record.action.clone(),
            object: record.object.clone(),
            tenant: record.tenant.as_ref().map(ToString::to_string),
            outcome,
            reason: reason.map(str::to_owned),
            before: json(&record.before),
            after: json(&record.after),
            previous: record.previous.hex(),
            hash: record.hash.hex(),
        }
    }
}

fn outcome(record: &AuditRecord) -> (&'static str, Option<&str>) {
    match &record.outcome {
        AuditOutcome::Done => ("done", None),
        AuditOutcome::Denied(why) => ("denied", Some(why)),
    }
}

impl From<&AuditVerdict> for AuditVerdictView {
    fn from(verdict: &AuditVerdict) -> AuditVerdictView {
        AuditVerdictView {
            ok: verdict.broken.is_none(),
            lines: verdict.lines,
            first: verdict.first,
            head: AuditHeadView {
                seq: verdict.head,
                hash: verdict.hash.hex(),
            },
            broken: verdict.broken.as_ref().map(|broken| AuditBreakView {
                seq: broken.seq,
                why: broken.why.clone(),
            }),
        }
    }
}

/// How the answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A page, in JSON.
    Page,
    /// All lines, each as JSON.
    JsonLines,
    /// All lines, as a table.
    Csv,
}

impl Form {
    /// The first of the types in `Accept` that we write.
    fn wanted(headers: &HeaderMap) -> Form {
        headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|range| range.split(';').next())
            .find_map(|range| match range.trim().to_ascii_lowercase().as_str() {
                "application/x-ndjson" => Some(Form::JsonLines),
                "text/csv" => Some(Form::Csv),
                "application/json" | "application/*" | "*/*" => Some(Form::Page),
                _ => None,
            })
            .unwrap_or(Form::Page)
    }

    fn content_type(self) -> &'static str {
        match self {
            Form::Page => "application/json",
            Form::JsonLines => "application/x-ndjson",
            Form::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    /// Under which name a browser keeps it.
    fn disposition(self) -> &'static str {
        match self {
            Form::Csv => "attachment; filename=\"audit.csv\"",
            Form::JsonLines | Form::Page => "attachment; filename=\"audit.ndjson\"",
        }
    }

    /// `records` as they are written.
    fn write(self, records: &[AuditRecord]) -> Result<Vec<u8>, io::Error> {
        match self {
            Form::Csv => table(records),
            Form::JsonLines | Form::Page => {
                let mut lines = Vec::new();
                for record in records {
                    serde_json::to_writer(&mut lines, &AuditView::from(record))?;
                    lines.push(b'\n');
                }
                Ok(lines)
            }
        }
    }

    /// What stands before the first line.
    fn head(self) -> Result<Vec<u8>, io::Error> {
        match self {
            Form::Csv => rows([COLUMNS.map(str::to_owned)]),
            Form::JsonLines | Form::Page => Ok(Vec::new()),
        }
    }
}

fn table(records: &[AuditRecord]) -> Result<Vec<u8>, io::Error> {
    rows(records.iter().map(|record| {
        let (outcome, reason) = outcome(record);
        let said = |text: &Option<String>| text.clone().unwrap_or_default();
        [
            record.seq.to_string(),
            record.at.to_string(),
            record.actor.clone(),
            record.origin.clone(),
            said(&record.request),
            record.action.clone(),
            record.object.clone(),
            record
                .tenant
                .as_ref()
                .map_or(String::new(), ToString::to_string),
            outcome.to_owned(),
            reason.unwrap_or_default().to_owned(),
            said(&record.before),
            said(&record.after),
            record.previous.hex(),
            record.hash.hex(),
        ]
        .map(harmless)
    }))
}

/// Rows of a table (RFC 4180).
fn rows<const N: usize>(rows: impl IntoIterator<Item = [String; N]>) -> Result<Vec<u8>, io::Error> {
    let mut table = csv::WriterBuilder::new()
        .has_headers(false)
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    for row in rows {
        table.write_record(row)?;
    }
    table.into_inner().map_err(csv::IntoInnerError::into_error)
}

/// `field` so that no spreadsheet takes it for a formula: names and addresses
/// come from people, and what begins a formula gets a quote before it.
fn harmless(field: String) -> String {
    match field.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{field}"),
        false => field,
    }
}

/// Shows who did what, newest first.
///
/// With `Accept: application/x-ndjson` or `text/csv` all lines that the filters
/// leave come at once. Who may read the log of some tenants sees the lines of
/// those alone.
#[utoipa::path(
    get,
    path = "/audit",
    tag = "audit",
    params(
        ("actor" = Option<String>, Query, description = "By whom, such as user:jane; with * at its end all that begin so, such as token:*"),
        ("action" = Option<String>, Query, description = "What, such as device.create or device.*"),
        ("object" = Option<String>, Query, description = "On what, such as device:core1 or device:*"),
        ("tenant" = Option<String>, Query, description = "On something of this tenant"),
        ("outcome" = Option<String>, Query, description = "done or denied"),
        ("from" = Option<String>, Query, description = "At this instant or later: RFC 3339, seconds since 1970, or a span before now such as -1h"),
        ("to" = Option<String>, Query, description = "Before this instant"),
        ("q" = Option<String>, Query, description = "With this text in any field, in any case"),
        ("limit" = Option<usize>, Query, description = "Lines in a page, 1 to 1000; by default 100; an export has no pages"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before; an export begins there"),
    ),
    responses(
        (status = 200, description = "A page of the log, or all of it", content((AuditList = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"))),
        (status = 400, description = "A parameter is wrong"),
        (status = 503, description = "Others read the log at this moment: see Retry-After"),
    )
)]
pub(crate) async fn list_audit(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let ask = read(&api, &caller, &uri)?;
    match Form::wanted(&headers) {
        Form::Page => one_page(&api, ask).await,
        form => export(api, ask, form).await,
    }
}

/// What is asked for of what the caller may see.
fn read(api: &Api, caller: &Caller, uri: &Uri) -> Result<AuditAsk, Problem> {
    let known = [
        "actor", "action", "object", "tenant", "outcome", "from", "to", "q", "limit", "cursor",
    ];
    let query = Query::read(uri, &known)?;
    let text = |name: &str| {
        let text = query.one(name)?;
        if text.chars().count() > FILTER_LETTERS {
            let message = format!("{name} has at most {FILTER_LETTERS} characters");
            query.mistakes.parameter(name, message);
        }
        Some(text.to_owned())
    };
    let time = |name: &str| {
        let read = when::read(query.one(name)?, api.now());
        read.map_err(|why| query.mistakes.parameter(name, why)).ok()
    };
    let ask = AuditAsk {
        actor: text("actor"),
        action: text("action"),
        object: text("object"),
        tenants: seen(caller, text("tenant").map(TenantName)),
        outcome: read_outcome(&query),
        from: time("from"),
        to: time("to"),
        text: text("q"),
        before: page::before(&query)?,
        limit: page::limit(&query),
    };
    query.or(ask)
}

fn read_outcome(query: &Query) -> Option<OutcomeIs> {
    match query.one("outcome")? {
        "done" => Some(OutcomeIs::Done),
        "denied" => Some(OutcomeIs::Denied),
        other => {
            let hint = did_you_mean(other, &OUTCOMES);
            let message = format!("unknown outcome {other:?}: {hint}");
            query.mistakes.parameter("outcome", message);
            None
        }
    }
}

/// The tenants whose lines the caller sees of those that are asked for; `None`:
/// all lines, those of the appliance too.
fn seen(caller: &Caller, asked: Option<TenantName>) -> Option<Vec<TenantName>> {
    use access::Tenants;
    match (caller.whole_tenants(Permission::AuditRead), asked) {
        (Tenants::All, None) => None,
        (Tenants::Some(tenants), None) => Some(tenants.into_iter().collect()),
        (seen, Some(asked)) if seen.contains(&asked) => Some(vec![asked]),
        (_, Some(_)) => Some(Vec::new()),
    }
}

async fn one_page(api: &Api, ask: AuditAsk) -> Result<Response, Problem> {
    let turn = turn(&api.audit_turns().reads, PATIENCE).await?;
    let page = lines(api, &ask, turn).await?;
    Ok(JsonAnswer(AuditList {
        items: page.lines.iter().map(AuditView::from).collect(),
        next: page.looked_to.map(page::newest_first),
    })
    .into_response())
}

/// All lines that are asked for. The first of them are read before the answer
/// begins, so that a store that cannot be read is answered as what it is; if it
/// fails later, the answer breaks off, which the client sees.
async fn export(api: Api, mut ask: AuditAsk, form: Form) -> Result<Response, Problem> {
    ask.limit = LINES_AT_ONCE;
    let turn = turn(&api.audit_turns().reads, PATIENCE).await?;
    let first = lines(&api, &ask, turn).await?;
    let mut export = Export { api, ask, form };
    let first = export.written(&first, true).map_err(|error| {
        let detail = format!("the export cannot be written: {error}");
        Problem::new(Kind::Internal, detail)
    })?;
    let rest = stream::try_unfold(export, |mut export| async move {
        let bytes = export.next().await?;
        Ok(bytes.map(|bytes| (bytes, export)))
    });
    let all = stream::once(std::future::ready(Ok::<_, io::Error>(first))).chain(rest);
    let headers = [
        (header::CONTENT_TYPE, form.content_type()),
        (header::CONTENT_DISPOSITION, form.disposition()),
    ];
    Ok((headers, Body::from_stream(all)).into_response())
}

async fn lines(
    api: &Api,
    ask: &AuditAsk,
    turn: OwnedSemaphorePermit,
) -> Result<AuditPage, Problem> {
    let ask = ask.clone();
    let read = move |store: &Store| {
        let _until_it_is_read = turn;
        store.audit_page(&ask)
    };
    api.read(read).await
}

/// An export on its way: what is left to be read. It has a turn only while it
/// reads, and reads nothing more once its client is gone.
struct Export {
    api: Api,
    /// Without lines once all are read.
    ask: AuditAsk,
    form: Form,
}

impl Export {
    /// The next lines; read only once those before them are taken.
    async fn next(&mut self) -> Result<Option<Bytes>, io::Error> {
        if self.ask.limit == 0 {
            return Ok(None);
        }
        let failed = |problem: Problem| io::Error::other(problem.detail().to_owned());
        let patience = self.api.limits().request_timeout;
        let turn = turn(&self.api.audit_turns().reads, patience).await;
        let page = lines(&self.api, &self.ask, turn.map_err(failed)?).await;
        self.written(&page.map_err(failed)?, false).map(Some)
    }

    /// The lines of `page` as they are written; afterwards what comes next is
    /// what the page did not look at.
    fn written(&mut self, page: &AuditPage, first: bool) -> Result<Bytes, io::Error> {
        let mut bytes = match first {
            true => self.form.head()?,
            false => Vec::new(),
        };
        bytes.extend(self.form.write(&page.lines)?);
        match page.looked_to {
            Some(seq) => self.ask.before = Some(seq),
            None => self.ask.limit = 0,
        }
        Ok(bytes.into())
    }
}

/// Verifies the audit log: whether every line is there and as it was written.
///
/// Walks all of it, which takes a while if it is long.
#[utoipa::path(
    get,
    path = "/audit/verify",
    tag = "audit",
    responses(
        (status = 200, description = "What was found", body = AuditVerdictView),
        (status = 403, description = "You may read the log of a part of the appliance only"),
        (status = 503, description = "It is being verified at this moment: see Retry-After"),
    )
)]
pub(crate) async fn verify_audit(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<AuditVerdictView>, Problem> {
    caller.need_everywhere(Permission::AuditRead)?;
    query::none(&uri)?;
    let turn = turn(&api.audit_turns().verifies, PATIENCE).await?;
    let verify = move |store: &Store| {
        let _until_it_is_read = turn;
        store.verify_audit()
    };
    let verdict = api.read(verify).await?;
    Ok(JsonAnswer(AuditVerdictView::from(&verdict)))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use model::Timestamp;

    use super::*;

    fn record(object: &str) -> AuditRecord {
        AuditRecord {
            seq: 7,
            at: Timestamp(1_800_000_000_000),
            actor: "user:jane".to_owned(),
            origin: "203.0.113.9".to_owned(),
            request: None,
            action: "device.create".to_owned(),
            object: object.to_owned(),
            tenant: Some(TenantName::default_tenant()),
            outcome: AuditOutcome::Denied("no, \"never\"".to_owned()),
            before: None,
            after: Some(r#"{"name":"x"}"#.to_owned()),
            previous: model::Digest([0; 32]),
            hash: model::Digest([0xab; 32]),
        }
    }

    #[tokio::test]
    async fn a_third_reader_and_a_second_verifier_are_told_to_come_again() {
        let turns = Turns::default();
        let short = Duration::from_millis(10);
        let first = turn(&turns.reads, short).await.unwrap();
        let _second = turn(&turns.reads, short).await.unwrap();
        let answer = turn(&turns.reads, short).await.unwrap_err().answer("r");
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()[header::RETRY_AFTER], "5");
        // verifying has a turn of its own
        let _verifies = turn(&turns.verifies, short).await.unwrap();
        turn(&turns.verifies, short).await.unwrap_err();
        // who is patient gets theirs
        let waits = turn(&turns.reads, PATIENCE);
        let (waited, ()) = tokio::join!(waits, async { drop(first) });
        let _its_turn = waited.unwrap();
    }

    #[test]
    fn no_field_of_a_table_is_a_formula() {
        let table = table(&[record("=HYPERLINK(\"http://evil\")")]).unwrap();
        let table = String::from_utf8(table).unwrap();
        assert!(table.contains("\"'=HYPERLINK("), "{table}");
        for evil in ["=1", "+1", "-1", "@x", "\t=1", "\r=1"] {
            assert_eq!(harmless(evil.to_owned()), format!("'{evil}"));
        }
        assert_eq!(harmless("device:=1".to_owned()), "device:=1");
    }

    #[test]
    fn a_table_has_a_column_for_every_field_and_quotes_what_needs_it() {
        let mut text = Form::Csv.head().unwrap();
        text.extend(Form::Csv.write(&[record("device:a,b")]).unwrap());
        let mut table = csv::Reader::from_reader(text.as_slice());
        let columns = table.headers().unwrap().clone();
        let row = table.records().next().unwrap().unwrap();
        let field = |name: &str| &row[columns.iter().position(|known| known == name).unwrap()];
        assert_eq!(field("object"), "device:a,b");
        assert_eq!(field("outcome"), "denied");
        assert_eq!(field("reason"), "no, \"never\"");
        assert_eq!(field("after"), r#"{"name":"x"}"#);
        assert!(field("hash").starts_with("abab"));
    }

    #[test]
    fn a_json_line_is_a_line() {
        let lines = Form::JsonLines
            .write(&[record("a\nb"), record("c")])
            .unwrap();
        let lines = String::from_utf8(lines).unwrap();
        assert_eq!(lines.lines().count(), 2);
        let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        assert_eq!(first["object"], "a\nb");
        assert_eq!(first["after"]["name"], "x");
    }

    #[test]
    fn the_first_type_that_we_write_is_taken() {
        let wanted = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            Form::wanted(&headers)
        };
        assert_eq!(Form::wanted(&HeaderMap::new()), Form::Page);
        assert_eq!(wanted("*/*"), Form::Page);
        assert_eq!(wanted("text/html, text/CSV;q=0.9"), Form::Csv);
        assert_eq!(wanted("application/x-ndjson, */*"), Form::JsonLines);
        assert_eq!(wanted("image/png"), Form::Page);
    }
}
