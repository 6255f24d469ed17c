//! From the daemon's words to those of the contract, and back.

use std::sync::Arc;

use contract::{MetricDescriptor, Output, Table};
use model::{Device, Facts, Labels, SeriesKey};
use package::DeviceAbout;

/// `device`, as plugins see it.
pub(super) fn device(device: &Device, facts: Option<&Facts>) -> contract::Device {
    let system = facts.map(|facts| facts.system.clone()).unwrap_or_default();
    let mut attrs = vec![
        ("kind".to_owned(), device.kind.word().to_owned()),
        ("tenant".to_owned(), device.tenant.0.clone()),
    ];
    let known = [
        ("site", device.site.clone()),
        ("location", device.location.clone()),
        ("sys_object_id", system.object_id.clone()),
        ("sys_name", system.name),
    ];
    for (name, value) in known {
        attrs.extend(value.map(|value| (name.to_owned(), value)));
    }
    let tags = device.tags.iter();
    attrs.extend(tags.map(|tag| ("tag".to_owned(), tag.clone())));
    contract::Device {
        id: device.id.to_string(),
        hostname: device.name.clone(),
        address: device.address.to_string(),
        vendor: system.vendor.unwrap_or_default(),
        model: system.object_id.unwrap_or_default(),
        os: system.descr.unwrap_or_default(),
        os_version: String::new(),
        attrs,
    }
}

/// What decides whether a plugin is for a device.
pub(super) struct About {
    sys_object_id: Option<Vec<u32>>,
    vendor: String,
    sys_descr: String,
    kind: &'static str,
    tags: Vec<String>,
    site: String,
}

impl About {
    pub(super) fn of(device: &Device, facts: Option<&Facts>) -> About {
        let system = facts.map(|facts| &facts.system);
        let text = |text: Option<&String>| text.cloned().unwrap_or_default();
        let object_id = system.and_then(|system| system.object_id.as_deref());
        let object_id = object_id.and_then(|oid| oid.parse::<model::Oid>().ok());
        About {
            sys_object_id: object_id.map(|oid| oid.0),
            vendor: text(system.and_then(|system| system.vendor.as_ref())),
            sys_descr: text(system.and_then(|system| system.descr.as_ref())),
            kind: device.kind.word(),
            tags: device.tags.iter().cloned().collect(),
            site: text(device.site.as_ref()),
        }
    }

    pub(super) fn seen(&self) -> DeviceAbout<'_> {
        DeviceAbout {
            sys_object_id: self.sys_object_id.as_deref(),
            vendor: &self.vendor,
            sys_descr: &self.sys_descr,
            kind: self.kind,
            tags: &self.tags,
            site: &self.site,
        }
    }
}

/// What a parser or poller read, as columns of a row. Keeps the order of what
/// was described, so that the next row shares the columns of this one.
pub(super) fn series(
    descriptor: &MetricDescriptor,
    names: &[Arc<str>],
    output: &Output,
) -> Vec<(SeriesKey, f64)> {
    let mut series = Vec::with_capacity(output.rows.iter().map(|row| row.values.len()).sum());
    for row in &output.rows {
        let mut shared: Option<(&[String], Arc<Labels>)> = None;
        for (place, value) in &row.values {
            let place = *place as usize;
            // `contract::check` saw to it that there is one
            let (Some(metric), Some(name)) = (descriptor.metrics.get(place), names.get(place))
            else {
                continue;
            };
            let labels = match &shared {
                Some((names, labels)) if *names == metric.labels => Arc::clone(labels),
                _ => {
                    let values = row.labels.iter().map(|value| safe(value));
                    let labels = Arc::new(Labels::new(metric.labels.iter().cloned().zip(values)));
                    shared = Some((&metric.labels, Arc::clone(&labels)));
                    labels
                }
            };
            let key = SeriesKey {
                metric: Arc::clone(name),
                labels,
                kind: metric.kind.into(),
            };
            series.push((key, *value));
        }
    }
    series
}

/// Text that a plugin took from a device, safe to show.
pub(super) fn safe(text: &str) -> String {
    parse::safe_text(text.as_bytes())
}

/// A pivoted table, as plugins see it: columns of one kind of value as plain
/// lists.
pub(super) fn table(pivoted: &parse::Pivoted<'_>) -> Table {
    use contract::{Cells, Column, Octets, Oid, SnmpValue};
    let columns = pivoted.columns.iter().map(|column| {
        let values = || {
            column
                .cells
                .iter()
                .map(|(_, value)| SnmpValue::from(*value))
        };
        let ints: Option<Vec<i64>> = values()
            .map(|value| match value {
                SnmpValue::Integer(n) => Some(i64::from(n)),
                _ => None,
            })
            .collect();
        let uints = || -> Option<Vec<u64>> {
            values()
                .map(|value| match value {
                    SnmpValue::Unsigned32(n)
                    | SnmpValue::Counter32(n)
                    | SnmpValue::TimeTicks(n) => Some(u64::from(n)),
                    SnmpValue::Counter64(n) => Some(n),
                    _ => None,
                })
                .collect()
        };
        let octets = || -> Option<Vec<Vec<u8>>> {
            values()
                .map(|value| match value {
                    SnmpValue::Octets(octets) => Some(octets.0),
                    _ => None,
                })
                .collect()
        };
        let cells = match (ints, uints(), octets()) {
            (Some(ints), _, _) => Cells::Ints(ints),
            (_, Some(uints), _) => Cells::Uints(uints),
            (_, _, Some(octets)) => {
                let texts: Result<Vec<String>, _> =
                    octets.iter().cloned().map(String::from_utf8).collect();
                match texts {
                    Ok(texts) => Cells::Texts(texts),
                    Err(_) => Cells::Octets(octets.into_iter().map(Octets).collect()),
                }
            }
            _ => Cells::Mixed(values().collect()),
        };
        Column {
            base: Oid::from(&column.base),
            rows: column.cells.iter().map(|(row, _)| *row).collect(),
            cells,
        }
    });
    Table {
        indexes: pivoted.indexes.iter().map(Oid::from).collect(),
        columns: columns.collect(),
    }
}
