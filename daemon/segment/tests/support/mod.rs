//! Segments out of rows, and rows out of segments.

// each test binary uses its own part of this
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use codec::{Block, Effort, RowsRef, Scratch};
use model::{Breaks, Columns, Labels, MetricKind, SeriesKey};
use segment::{Lanes, Segment, SegmentWriter, Span, Summary, Tier};
use wal::fs::Fs;

#[derive(Clone, Debug)]
pub struct Row {
    pub at: u64,
    pub columns: u32,
    pub values: Vec<f64>,
    pub breaks: Breaks,
}

impl PartialEq for Row {
    fn eq(&self, other: &Row) -> bool {
        let bits = |row: &Row| -> Vec<u64> {
            let bit = |value: &f64| match value.is_nan() {
                true => f64::NAN.to_bits(),
                false => value.to_bits(),
            };
            row.values.iter().map(bit).collect()
        };
        let own = (self.at, self.columns, &self.breaks, bits(self));
        own == (other.at, other.columns, &other.breaks, bits(other))
    }
}

/// By group, by time.
pub type Groups = BTreeMap<u32, Vec<Row>>;

pub fn key(metric: &str, kind: MetricKind) -> SeriesKey {
    SeriesKey {
        metric: metric.into(),
        labels: Arc::new(Labels::default()),
        kind,
    }
}

/// Three sets that share some series, at other places.
pub fn columns(number: u32) -> Option<Arc<Columns>> {
    use MetricKind::{Counter32, Counter64, Gauge, State};
    let series = match number {
        1 => vec![
            key("wraps", Counter32),
            key("rises", Counter64),
            key("level", Gauge),
            key("state", State),
        ],
        2 => vec![key("level", Gauge), key("rises", Counter64)],
        3 => vec![
            key("other", Counter64),
            key("wraps", Counter32),
            key("level", Gauge),
        ],
        _ => return None,
    };
    Some(Arc::new(Columns::new(series)))
}

pub fn width(number: u32) -> usize {
    columns(number).unwrap().series().len()
}

pub fn row(at: u64, columns: u32, values: &[f64]) -> Row {
    Row {
        at,
        columns,
        values: values.to_vec(),
        breaks: Breaks::None,
    }
}

/// Writes rows in blocks of at most `most`, and lets the directory know.
pub fn write(
    fs: &Arc<dyn Fs>,
    path: &Path,
    (tier, span): (Tier, Span),
    groups: &Groups,
    most: usize,
) -> Result<Option<Summary>, segment::SegmentError> {
    let mut writer = SegmentWriter::create(fs, path, tier, span)?;
    let mut scratch = Scratch::default();
    for (group, rows) in groups {
        for run in rows.chunk_by(|a, b| a.columns == b.columns && a.at < b.at) {
            for rows in run.chunks(most) {
                let set = columns(rows[0].columns).unwrap();
                let lanes = Lanes::new(set.series());
                let mut bytes = Vec::new();
                encode(rows, &mut scratch, &mut bytes);
                let mut raw = set.series().iter().map(|key| key.kind);
                let mut of_lanes = (0..lanes.width()).map(|_| MetricKind::Gauge);
                match tier {
                    Tier::Raw => writer.push(*group, &bytes, &mut raw)?,
                    _ => writer.push(*group, &bytes, &mut of_lanes)?,
                }
            }
        }
    }
    writer.finish()
}

pub fn encode(rows: &[Row], scratch: &mut Scratch, out: &mut Vec<u8>) {
    let times: Vec<u64> = rows.iter().map(|row| row.at).collect();
    let values: Vec<f64> = rows.iter().flat_map(|row| row.values.clone()).collect();
    let breaks: Vec<(u32, Breaks)> = (0..)
        .zip(rows)
        .filter(|(_, row)| row.breaks != Breaks::None)
        .map(|(place, row)| (place, row.breaks.clone()))
        .collect();
    let block = RowsRef {
        columns: rows[0].columns,
        width: rows[0].values.len(),
        times: &times,
        values: &values,
        breaks: &breaks,
    };
    codec::encode_rows(block, Effort::Fast, scratch, out);
}

/// All rows of a segment; what is wrong with the first block that cannot be
/// read.
pub fn read(segment: &Segment) -> Result<Groups, String> {
    let mut groups = Groups::new();
    let mut bytes = Vec::new();
    for entry in segment.entries() {
        segment
            .read(entry, &mut bytes)
            .map_err(|error| error.to_string())?;
        let rows = read_block(&bytes).map_err(|corrupt| corrupt.to_string())?;
        groups.entry(entry.group).or_default().extend(rows);
    }
    Ok(groups)
}

fn read_block(bytes: &[u8]) -> Result<Vec<Row>, codec::Corrupt> {
    let block = Block::open(bytes)?;
    let mut scratch = Scratch::default();
    let mut times = Vec::new();
    block.times(&mut scratch, &mut times)?;
    let mut rows: Vec<Row> = times
        .iter()
        .map(|at| row(*at, block.columns(), &[]))
        .collect();
    for column in 0..block.width() {
        let mut values = Vec::new();
        block.column(column, &mut scratch, &mut values)?;
        for (row, value) in rows.iter_mut().zip(values) {
            row.values.push(value);
        }
    }
    for (place, breaks) in block.breaks()? {
        rows[place as usize].breaks = breaks;
    }
    Ok(rows)
}
