//! Printing: a table for people, tab-separated values for pipes, JSON for
//! programs.
//!
//! A table never wraps: columns that do not fit are dropped, the least important
//! first, and the last resort is to cut a cell with `…`. Colours and other
//! escape codes appear on a terminal only.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use serde_json::{Value, json};

use crate::error::Trouble;

/// Changes only when a field is removed or takes another meaning.
const SCHEMA_VERSION: u32 = 1;

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// One document, with `schema_version`
    Json,
    /// One line per row
    Jsonl,
    /// Tab-separated, with a header line
    Tsv,
}

/// When there are colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal, unless NO_COLOR or TERM=dumb says otherwise
    #[default]
    Auto,
    /// In a pipe too
    Always,
    /// Nowhere
    Never,
}

/// Where output goes and how it looks.
pub(crate) struct Output {
    format: Format,
    colour: bool,
    terminal: bool,
    width: Option<usize>,
}

/// Text that comes in pieces: to a terminal line by line, without what could move
/// the cursor; elsewhere as it is.
pub(crate) struct Pour<'a> {
    output: &'a Output,
    begun: Vec<u8>,
}

/// A line that is longer is shown in parts.
const LINE_BYTES: usize = 1024 * 1024;

impl Pour<'_> {
    pub(crate) fn add(&mut self, piece: &[u8]) -> Result<(), Trouble> {
        if !self.output.terminal {
            return self.output.raw(piece);
        }
        self.begun.extend_from_slice(piece);
        while let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.begun.drain(..=end).collect();
            self.output.line(&harmless(&line))?;
        }
        match self.begun.len() > LINE_BYTES {
            true => self.end(),
            false => Ok(()),
        }
    }

    pub(crate) fn end(&mut self) -> Result<(), Trouble> {
        let rest = std::mem::take(&mut self.begun);
        match rest.is_empty() {
            true => Ok(()),
            false => self.output.raw(harmless(&rest).as_bytes()),
        }
    }
}

fn harmless(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    safe(&String::from_utf8_lossy(line))
}

/// A column of a table and of tab-separated values.
pub(crate) struct Column {
    pub(crate) header: &'static str,
    /// How important it is: 0 stays longest.
    pub(crate) rank: u8,
    /// For people.
    pub(crate) cell: fn(&Value) -> String,
    /// For programs: where the value stands in the API's answer, and so what it is
    /// called there, unit included. Without one, the cell serves both.
    pub(crate) raw: Option<&'static str>,
}

/// A column of what stands at a pointer, shown as it is, as a number, or by a
/// function of the row and the pointer; or of a function of the row alone.
macro_rules! column {
    ($header:literal, $rank:literal, $raw:literal) => {
        crate::output::Column {
            header: $header,
            rank: $rank,
            cell: |row| crate::show::text::text(row, $raw),
            raw: Some($raw),
        }
    };
    ($header:literal, $rank:literal, $raw:literal, number $show:path) => {
        crate::output::Column {
            header: $header,
            rank: $rank,
            cell: |row| crate::show::text::number(row, $raw, $show),
            raw: Some($raw),
        }
    };
    ($header:literal, $rank:literal, $raw:literal, $show:path) => {
        crate::output::Column {
            header: $header,
            rank: $rank,
            cell: |row| $show(row, $raw),
            raw: Some($raw),
        }
    };
    ($header:literal, $rank:literal, = $cell:path) => {
        crate::output::Column {
            header: $header,
            rank: $rank,
            cell: $cell,
            raw: None,
        }
    };
}
pub(crate) use column;

impl Column {
    fn name(&self) -> String {
        match self.raw {
            Some(pointer) => pointer.trim_start_matches('/').replace('/', "_"),
            None => self.header.to_lowercase(),
        }
    }

    fn plain(&self, row: &Value) -> String {
        match self.raw {
            None => (self.cell)(row),
            Some(pointer) => match row.pointer(pointer) {
                Some(Value::String(text)) => text.clone(),
                None | Some(Value::Null) => String::new(),
                Some(other) => other.to_string(),
            },
        }
    }
}

impl Output {
    pub(crate) fn new(format: Option<Format>, colour: Colour) -> Output {
        let terminal = std::io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var("TERM").is_ok_and(|term| term == "dumb");
        Output {
            format: format.unwrap_or(if terminal { Format::Table } else { Format::Tsv }),
            colour: match colour {
                Colour::Auto => terminal && !plain,
                Colour::Always => true,
                Colour::Never => false,
            },
            terminal,
            width: terminal.then(terminal_width).flatten(),
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        matches!(self.format, Format::Json | Format::Jsonl)
    }

    /// Prints `rows`, or `nothing` to standard error where a person sees an
    /// empty table.
    pub(crate) fn list(
        &self,
        what: &str,
        rows: &[Value],
        columns: &[Column],
        nothing: &str,
    ) -> Result<(), Trouble> {
        match self.format {
            Format::Json => self.document(&json!({ what: rows })),
            Format::Jsonl => rows.iter().try_for_each(|row| self.line(&row.to_string())),
            Format::Tsv => self.tsv(rows, columns),
            Format::Table if rows.is_empty() => {
                talk(nothing);
                Ok(())
            }
            Format::Table => self.line(&self.table(rows, columns)),
        }
    }

    /// Prints a table for people.
    pub(crate) fn grid(&self, grid: &Grid) -> Result<(), Trouble> {
        self.line(&self.draw(grid))
    }

    /// Whether a table can be shown whole.
    pub(crate) fn fits(&self, grid: &Grid) -> bool {
        // comfy-table puts a space on either side of a cell
        let taken: usize = grid.harmless().widths().iter().map(|width| width + 2).sum();
        self.width.is_none_or(|width| taken <= width)
    }

    pub(crate) fn has_colours(&self) -> bool {
        self.colour
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Prints one thing: `facts` for people, all of it as JSON.
    pub(crate) fn item(&self, item: &Value, facts: &[(&str, String)]) -> Result<(), Trouble> {
        match self.format {
            Format::Json => self.document(item),
            Format::Jsonl => self.line(&item.to_string()),
            Format::Tsv => facts
                .iter()
                .try_for_each(|(name, value)| self.line(&format!("{name}\t{}", safe(value)))),
            Format::Table => {
                let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
                facts
                    .iter()
                    .filter(|(_, value)| !value.is_empty())
                    .try_for_each(|(name, value)| {
                        self.line(&format!("{name:width$}  {}", safe(value)))
                    })
            }
        }
    }

    /// A JSON document of ours.
    pub(crate) fn document(&self, body: &Value) -> Result<(), Trouble> {
        let mut document = json!({ "schema_version": SCHEMA_VERSION });
        if let (Some(all), Some(fields)) = (document.as_object_mut(), body.as_object()) {
            all.extend(fields.clone());
        }
        let text = serde_json::to_string_pretty(&document)
            .map_err(|error| Trouble::Garbled(error.to_string()))?;
        self.line(&text)
    }

    /// Text that comes in pieces.
    pub(crate) fn pour(&self) -> Pour<'_> {
        Pour {
            output: self,
            begun: Vec::new(),
        }
    }

    /// One line of what a server says, on standard output.
    pub(crate) fn said(&self, text: &str) -> Result<(), Trouble> {
        self.line(&safe(text))
    }

    /// One line on standard output.
    pub(crate) fn line(&self, text: &str) -> Result<(), Trouble> {
        self.raw(format!("{text}\n").as_bytes())
    }

    /// Bytes on standard output. A closed pipe is no error.
    #[expect(clippy::unused_self, reason = "all output goes through one place")]
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), Trouble> {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes)
            .and_then(|()| out.flush())
            .map_err(|error| {
                if error.kind() == std::io::ErrorKind::BrokenPipe {
                    Trouble::Closed
                } else {
                    Trouble::local("write the output", error)
                }
            })
    }

    fn tsv(&self, rows: &[Value], columns: &[Column]) -> Result<(), Trouble> {
        let header: Vec<_> = columns.iter().map(Column::name).collect();
        self.line(&header.join("\t"))?;
        rows.iter().try_for_each(|row| {
            let cells: Vec<_> = columns
                .iter()
                .map(|column| safe(&column.plain(row)))
                .collect();
            self.line(&cells.join("\t"))
        })
    }

    fn table(&self, rows: &[Value], columns: &[Column]) -> String {
        let cells = rows.iter().map(|row| {
            let cells = columns.iter().map(|column| (column.cell)(row));
            cells.collect()
        });
        self.draw(&Grid {
            headers: columns
                .iter()
                .map(|column| column.header.to_owned())
                .collect(),
            ranks: columns.iter().map(|column| column.rank).collect(),
            rows: cells.collect(),
        })
    }

    fn draw(&self, grid: &Grid) -> String {
        let grid = grid.harmless();
        let (kept, longest) = fit(&grid.ranks, &grid.widths(), self.width);
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(kept.iter().map(|place| cut(&grid.headers[*place], longest)));
        for row in &grid.rows {
            table.add_row(kept.iter().map(|place| {
                let text = cut(&row[*place], longest);
                match self.colour.then(|| colour_of(&text)).flatten() {
                    Some(colour) => Cell::new(text).fg(colour),
                    None => Cell::new(text),
                }
            }));
        }
        if self.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// A table for people whose columns are known only when it is printed. Every row
/// has as many cells as there are headers and ranks.
pub(crate) struct Grid {
    pub(crate) headers: Vec<String>,
    /// How important each column is: 0 stays longest.
    pub(crate) ranks: Vec<u8>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Grid {
    fn harmless(&self) -> Grid {
        let safe_all = |texts: &Vec<String>| texts.iter().map(|text| safe(text)).collect();
        Grid {
            headers: safe_all(&self.headers),
            ranks: self.ranks.clone(),
            rows: self.rows.iter().map(safe_all).collect(),
        }
    }

    fn widths(&self) -> Vec<usize> {
        let of = |place: usize| {
            let cells = self.rows.iter().map(|row| width_of(&row[place]));
            cells
                .chain([width_of(&self.headers[place])])
                .max()
                .unwrap_or(0)
        };
        (0..self.headers.len()).map(of).collect()
    }
}

/// Which columns fit into `width`, and how long a cell may be. comfy-table puts a
/// space on either side of a cell.
fn fit(ranks: &[u8], widths: &[usize], width: Option<usize>) -> (Vec<usize>, usize) {
    let mut kept: Vec<usize> = (0..ranks.len()).collect();
    let Some(width) = width else {
        return (kept, usize::MAX);
    };
    let taken = |kept: &[usize]| kept.iter().map(|place| widths[*place] + 2).sum::<usize>();
    while kept.len() > 1 && taken(&kept) > width {
        let Some(least) = kept
            .iter()
            .copied()
            .max_by_key(|place| (ranks[*place], *place))
        else {
            break;
        };
        if ranks[least] == 0 {
            break;
        }
        kept.retain(|place| *place != least);
    }
    let mut longest = kept.iter().map(|place| widths[*place]).max().unwrap_or(0);
    let cut_to = |longest: usize| {
        kept.iter()
            .map(|place| widths[*place].min(longest) + 2)
            .sum::<usize>()
    };
    while longest > 4 && cut_to(longest) > width {
        longest -= 1;
    }
    (kept, longest)
}

fn cut(text: &str, longest: usize) -> String {
    if width_of(text) <= longest {
        return text.to_owned();
    }
    let kept: String = text.chars().take(longest.saturating_sub(1)).collect();
    format!("{kept}…")
}

fn width_of(text: &str) -> usize {
    text.chars().count()
}

/// State words carry their own colour; the word itself says it as well.
fn colour_of(text: &str) -> Option<Color> {
    match text {
        "up" | "ok" | "resolved" | "delivered" | "done" | "on" => Some(Color::Green),
        "down" | "firing" | "critical" | "parked" | "denied" | "expired" => Some(Color::Red),
        "problem" | "pending" | "warning" | "unreachable" | "queued" => Some(Color::Yellow),
        _ => None,
    }
}

/// Text without anything that could move a cursor, reverse its direction or
/// break a line: devices write some of it.
pub(crate) fn safe(text: &str) -> String {
    text.chars()
        .map(|c| if c == '\n' || c == '\t' { ' ' } else { c })
        .filter(|c| !c.is_control() && !is_format_control(*c))
        .collect()
}

/// Bidirectional and zero-width controls (UAX #9, UAX #44 Cf).
fn is_format_control(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[expect(clippy::print_stderr, reason = "the client's talk")]
pub(crate) fn talk(text: &str) {
    eprintln!("{}", text.lines().map(safe).collect::<Vec<_>>().join("\n"));
}

pub(crate) fn complain(trouble: &Trouble) {
    talk(&format!("error: {trouble}"));
}

fn terminal_width() -> Option<usize> {
    let columns = std::env::var("COLUMNS")
        .ok()
        .and_then(|text| text.parse().ok());
    columns.or_else(|| Table::new().width().map(usize::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(row: &Value) -> String {
        row["name"].as_str().unwrap_or_default().to_owned()
    }

    fn os(row: &Value) -> String {
        row["os"].as_str().unwrap_or_default().to_owned()
    }

    const COLUMNS: [Column; 2] = [
        Column {
            header: "NAME",
            rank: 0,
            cell: name,
            raw: None,
        },
        Column {
            header: "OS",
            rank: 5,
            cell: os,
            raw: None,
        },
    ];

    fn table(width: Option<usize>) -> String {
        let rows = [json!({"name": "core1", "os": "a very long text about an operating system"})];
        let output = Output {
            format: Format::Table,
            colour: false,
            terminal: true,
            width,
        };
        output.table(&rows, &COLUMNS)
    }

    #[test]
    fn a_column_that_does_not_fit_is_dropped_and_never_wrapped() {
        assert_eq!(table(Some(30)), " NAME\n core1");
        assert_eq!(table(Some(6)), " NAME\n cor…");
        assert!(table(None).contains("operating system"));
    }

    #[test]
    fn what_a_device_says_cannot_move_the_cursor() {
        assert_eq!(safe("a\u{1b}[31mb\u{202e}c\nd\u{7}"), "a[31mbc d");
    }

    #[test]
    fn a_line_that_comes_in_pieces_cannot_move_the_cursor_either() {
        assert_eq!(harmless("a\u{1b}[2Jü\u{9b}b\r\n".as_bytes()), "a[2Jüb");
    }

    #[test]
    fn nothing_but_a_terminal_gets_escape_codes() {
        assert!(!table(Some(80)).contains('\u{1b}'));
    }
}
