//! Many devices at once, from a table: what is good goes in, what is not is
//! reported by line and column.
//!
//! A line may name another line's device as its parent, in whatever order they
//! stand: lines go in by waves, parents first.

use std::collections::{BTreeSet, HashMap};

use axum::extract::State;
use axum::http::Uri;
use csv::{ByteRecord, ReaderBuilder, Trim};
use model::{DeviceDraft, DeviceId, TenantName};
use serde::Serialize;
use serde_json::{Map, Value, json};
use store::{Inventory, Refusal, Store};
use utoipa::ToSchema;

use crate::Api;
use crate::caller::Caller;
use crate::device_body::{self, Known};
use crate::devices::{home, may_place, may_point};
use crate::mistakes::{Mistakes, did_you_mean};
use crate::problem::{Kind, Mistake, Problem, not_written, refused, shortened};
use crate::query;
use crate::request::{Csv, JsonAnswer};

/// The columns that a table may have, in any order.
const COLUMNS: [&str; 13] = [
    "tenant",
    "name",
    "address",
    "kind",
    "vendor",
    "model",
    "os",
    "site",
    "location",
    "tags",
    "parents",
    "credential",
    "snmp_port",
];

/// The columns that a table has to have.
const REQUIRED: [&str; 2] = ["name", "address"];

/// Between the values of a cell that holds several.
const SEPARATOR: char = ';';

/// Lines in one table: five networks of the size we are built for.
const LINES: usize = 50_000;

/// Generations of devices that go in with one table. Each is a transaction of
/// its own, and no network is that deep.
const WAVES: usize = 64;

/// How an import went.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImportReport {
    /// Lines whose device is in.
    created: usize,
    /// Lines whose device is not.
    failed: usize,
    /// The lines whose device is in.
    devices: Vec<LineDone>,
    /// Every mistake of the other lines.
    failures: Vec<LineFailure>,
}

/// A line whose device is in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LineDone {
    /// Its number in the file; the header is 1.
    line: u64,
    /// The new device's id.
    id: u64,
    /// The new device's name.
    name: String,
}

/// What is wrong with a line.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LineFailure {
    /// Its number in the file; the header is 1.
    line: u64,
    /// In which column; null if it is about the line as a whole.
    column: Option<String>,
    /// What is wrong, and what would be right.
    message: String,
}

/// What is wrong with a line, while its number is known.
struct CellMistake {
    column: Option<String>,
    message: String,
}

impl CellMistake {
    fn new(column: Option<&str>, message: impl Into<String>) -> CellMistake {
        CellMistake {
            column: column.map(str::to_owned),
            message: shortened(&message.into()),
        }
    }
}

/// Enters many devices from a table.
///
/// The body is CSV (RFC 4180) with a header that names some of the columns
/// tenant, name, address, kind, vendor, model, os, site, location, tags, parents,
/// credential and snmp_port, in any order; name and address have to be among
/// them. Tags and parents are separated by `;`; a parent may be another line.
/// Good lines go in even if others are not good.
#[utoipa::path(
    post,
    path = "/devices/import",
    tag = "devices",
    request_body(content = String, content_type = "text/csv"),
    responses(
        (status = 200, description = "How each line went", body = ImportReport),
        (status = 413, description = "The body is too large"),
        (status = 415, description = "The body is not CSV"),
        (status = 422, description = "The header has mistakes; nothing was entered"),
    )
)]
pub(crate) async fn import_devices(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    csv: Csv,
) -> Result<JsonAnswer<ImportReport>, Problem> {
    query::none(&uri)?;
    let lines = {
        let caller = caller.clone();
        api.read(move |store| read_table(&csv.body, store, &caller))
            .await?
    };
    let lines = enter(&api, &caller, lines).await?;

    let report = report(lines);
    let counts = format!("{} lines, {} refused", report.created, report.failed);
    caller.did("devices imported", &counts);
    Ok(JsonAnswer(report))
}

fn report(lines: Vec<Line>) -> ImportReport {
    let mut report = ImportReport {
        created: 0,
        failed: 0,
        devices: Vec::new(),
        failures: Vec::new(),
    };
    for line in lines {
        match line.id {
            Some(id) => {
                report.created += 1;
                report.devices.push(LineDone {
                    line: line.number,
                    id: id.0,
                    name: line.name.unwrap_or_default(),
                });
            }
            None => {
                report.failed += 1;
                let failures = line.mistakes.into_iter().map(|mistake| LineFailure {
                    line: line.number,
                    column: mistake.column,
                    message: mistake.message,
                });
                report.failures.extend(failures);
            }
        }
    }
    report
}

/// One line on its way in.
struct Line {
    number: u64,
    tenant: TenantName,
    name: Option<String>,
    /// Until it is offered to the store.
    draft: Option<DeviceDraft>,
    /// Ids or names, of devices that exist or of other lines.
    parents: Vec<String>,
    id: Option<DeviceId>,
    mistakes: Vec<CellMistake>,
}

impl Line {
    fn is_waiting(&self) -> bool {
        self.draft.is_some() && self.mistakes.is_empty()
    }

    fn refuse(&mut self, mistake: CellMistake) {
        self.draft = None;
        self.mistakes.push(mistake);
    }
}

/// Reads a table without entering anything.
fn read_table(body: &[u8], store: &Store, caller: &Caller) -> Result<Vec<Line>, Problem> {
    // spreadsheets put a byte order mark before the header
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut table = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(Trim::All)
        .from_reader(body);
    let mut records = table.byte_records();
    let header = match records.next() {
        Some(Ok(header)) => read_header(&header)?,
        Some(Err(error)) => return Err(bad_table(error.to_string())),
        None => {
            return Err(bad_table(
                "the table is empty: its first line is the header",
            ));
        }
    };

    let inventory = store.inventory();
    let known = Known {
        inventory: &inventory,
        sees: &|device| caller.sees(device),
        credential: &|name| store.credential(name).is_some(),
        tenant: &home(caller),
    };
    let mut lines = Vec::new();
    let mut counter = LineCounter {
        body,
        at: 0,
        line: 1,
    };
    for record in records {
        if lines.len() == LINES {
            return Err(bad_table(format!(
                "the table has more than {LINES} lines; split it"
            )));
        }
        let record = record.map_err(|error| bad_table(error.to_string()))?;
        let number = counter.line_of(&record);
        lines.push(read_line(number, &header, &record, &known, caller));
    }
    Ok(lines)
}

fn bad_table(message: impl Into<String>) -> Problem {
    Problem::new(Kind::Invalid, message)
}

/// The columns of the table, in its order.
fn read_header(header: &ByteRecord) -> Result<Vec<&'static str>, Problem> {
    let mut columns = Vec::new();
    let mut errors = Vec::new();
    let mut wrong = |message| {
        errors.push(Mistake {
            pointer: None,
            parameter: None,
            message,
        });
    };
    for cell in header {
        let cell = String::from_utf8_lossy(cell).to_lowercase();
        match COLUMNS.iter().find(|column| **column == cell) {
            Some(column) if columns.contains(column) => {
                wrong(format!("the column {column} stands twice"));
            }
            Some(column) => columns.push(*column),
            None if cell.contains([';', '\t']) => wrong(
                "the columns are not separated by commas: save the table as CSV with commas"
                    .to_owned(),
            ),
            None => wrong(format!(
                "unknown column {cell:?}: {}",
                did_you_mean(&cell, &COLUMNS)
            )),
        }
    }
    for required in REQUIRED {
        if !columns.contains(&required) {
            wrong(format!("the column {required} is missing"));
        }
    }
    match errors.as_slice() {
        [] => Ok(columns),
        [first, ..] => Err(bad_table(first.message.clone()).with_errors(errors)),
    }
}

/// Counts lines as an editor shows them: a record's own position lies before
/// the line end, and the empty lines, that came before it.
struct LineCounter<'a> {
    body: &'a [u8],
    at: usize,
    line: u64,
}

impl LineCounter<'_> {
    /// The line on which `record`, which follows those asked for before,
    /// begins.
    fn line_of(&mut self, record: &ByteRecord) -> u64 {
        let begin = record.position().map_or(0, csv::Position::byte);
        let begin = usize::try_from(begin).unwrap_or(usize::MAX);
        while let Some(byte) = self.body.get(self.at) {
            let between = self.at >= begin;
            if between && !matches!(byte, b'\r' | b'\n') {
                break;
            }
            let ends = match byte {
                b'\n' => true,
                b'\r' => self.body.get(self.at + 1) != Some(&b'\n'),
                _ => false,
            };
            self.line += u64::from(ends);
            self.at += 1;
        }
        self.line
    }
}

fn read_line(
    number: u64,
    header: &[&str],
    record: &ByteRecord,
    known: &Known<'_>,
    caller: &Caller,
) -> Line {
    let mut line = Line {
        number,
        tenant: known.tenant.clone(),
        name: None,
        draft: None,
        parents: Vec::new(),
        id: None,
        mistakes: Vec::new(),
    };
    if record.len() != header.len() {
        line.refuse(CellMistake::new(
            None,
            format!(
                "it has {} cells and the header {}",
                record.len(),
                header.len()
            ),
        ));
        return line;
    }
    let mut body = Map::new();
    for (column, cell) in header.iter().zip(record) {
        match std::str::from_utf8(cell) {
            Ok("") => {}
            Ok(text) => put(&mut body, &mut line.parents, column, text),
            Err(_) => line.refuse(CellMistake::new(
                Some(column),
                "the text is not UTF-8; save the table as UTF-8",
            )),
        }
    }
    line.name = body.get("name").and_then(Value::as_str).map(str::to_owned);

    let mistakes = Mistakes::default();
    let draft = device_body::read(&Value::Object(body), known, &mistakes);
    let found = mistakes.into_list();
    line.mistakes.extend(found.into_iter().map(in_column));
    if let Some(draft) = &draft
        && let Err(problem) = may_place(caller, draft)
    {
        line.refuse(CellMistake::new(None, problem.detail()));
    }
    if let Some(draft) = &draft
        && let Err(problem) = may_point(caller, None, draft)
    {
        line.refuse(CellMistake::new(Some("credential"), problem.detail()));
    }
    if let Some(draft) = &draft {
        line.tenant = draft.tenant.clone();
    }
    line.draft = draft.filter(|_| line.mistakes.is_empty());
    line
}

/// Puts the text of a cell where the body of a device has it. Parents stay
/// apart until they are in.
fn put(body: &mut Map<String, Value>, parents: &mut Vec<String>, column: &str, text: &str) {
    let several = || {
        text.split(SEPARATOR)
            .map(str::trim)
            .filter(|value| !value.is_empty())
    };
    match column {
        "parents" => parents.extend(several().map(str::to_owned)),
        "tags" => {
            body.insert("tags".into(), several().collect());
        }
        "snmp_port" => {
            let port = text
                .parse::<u64>()
                .map_or_else(|_| json!(text), Value::from);
            body.insert("poll".into(), json!({"snmp": {"port": port}}));
        }
        _ => {
            body.insert(column.into(), json!(text));
        }
    }
}

/// A mistake of a body as one of a line.
fn in_column(mistake: Mistake) -> CellMistake {
    let pointer = mistake.pointer.unwrap_or_default();
    let field = pointer.split('/').nth(1).unwrap_or_default();
    let column = match field {
        "poll" => "snmp_port",
        field => field,
    };
    CellMistake::new(Some(column).filter(|c| !c.is_empty()), mistake.message)
}

/// Enters the good lines, parents before children.
async fn enter(api: &Api, caller: &Caller, mut lines: Vec<Line>) -> Result<Vec<Line>, Problem> {
    let mut entered = false;
    for _ in 0..WAVES {
        let wave = next_wave(&mut lines, &api.store().inventory(), caller);
        if wave.is_empty() {
            break;
        }
        let drafts = wave
            .iter()
            .filter_map(|place| lines[*place].draft.take())
            .collect();
        let written = api
            .store()
            .create_devices(&caller.by(), drafts, api.now())
            .await;
        let inventory = api.store().inventory();
        match written {
            Ok(results) => {
                for (place, result) in wave.iter().zip(results) {
                    match result {
                        Ok(device) => lines[*place].id = Some(device.id),
                        Err(refusal) => {
                            lines[*place].refuse(of_refusal(&refusal, &inventory, caller));
                        }
                    }
                }
                entered = true;
            }
            // nothing is in yet: the client can try the same again
            Err(error) if !entered => return Err(not_written(&error, &inventory)),
            Err(error) => {
                for place in wave {
                    lines[place].refuse(CellMistake::new(None, error.to_string()));
                }
            }
        }
    }
    for line in lines.iter_mut().filter(|line| line.is_waiting()) {
        line.refuse(CellMistake::new(
            Some("parents"),
            format!(
                "its parents lead back to itself, or more than {WAVES} generations deep; enter those first"
            ),
        ));
    }
    Ok(lines)
}

fn of_refusal(refusal: &Refusal, inventory: &Inventory, caller: &Caller) -> CellMistake {
    let problem = refused(refusal, inventory).without_what_is_hidden(caller);
    let problem_text = problem.detail().to_owned();
    match problem.into_mistake() {
        Some(mistake) => in_column(mistake),
        None => CellMistake::new(None, problem_text),
    }
}

/// The lines that can go in now, their parents filled in. Lines with a parent
/// that will never be are refused.
fn next_wave(lines: &mut [Line], inventory: &Inventory, caller: &Caller) -> Vec<usize> {
    let by_name: HashMap<(TenantName, String), usize> = lines
        .iter()
        .enumerate()
        .filter_map(|(place, line)| Some(((line.tenant.clone(), line.name.clone()?), place)))
        .rev()
        .collect();
    let known = Known {
        inventory,
        sees: &|device| caller.sees(device),
        credential: &|_| true,
        tenant: &TenantName::default_tenant(),
    };
    let mut wave = Vec::new();
    for place in 0..lines.len() {
        if !lines[place].is_waiting() {
            continue;
        }
        match parents(&lines[place], lines, &by_name, &known) {
            Parents::Known(ids) => {
                if let Some(draft) = &mut lines[place].draft {
                    draft.parents = ids;
                }
                wave.push(place);
            }
            Parents::Waiting => {}
            Parents::Never(why) => lines[place].refuse(CellMistake::new(Some("parents"), why)),
        }
    }
    wave
}

/// Whether a line's parents are in.
enum Parents {
    Known(BTreeSet<DeviceId>),
    Waiting,
    Never(String),
}

fn parents(
    child: &Line,
    lines: &[Line],
    by_name: &HashMap<(TenantName, String), usize>,
    known: &Known<'_>,
) -> Parents {
    let mut ids = BTreeSet::new();
    let mut waiting = false;
    for name in &child.parents {
        if let Some(id) = known.parent(name, &child.tenant) {
            ids.insert(id);
            continue;
        }
        let line = by_name.get(&(child.tenant.clone(), name.clone()));
        match line.map(|place| &lines[*place]) {
            Some(line) if line.is_waiting() => waiting = true,
            Some(line) => {
                return Parents::Never(format!(
                    "its parent {name:?} in line {} was refused",
                    line.number
                ));
            }
            None => {
                return Parents::Never(format!(
                    "there is no device {name:?}, and no line of that name"
                ));
            }
        }
    }
    match waiting {
        true => Parents::Waiting,
        false => Parents::Known(ids),
    }
}
