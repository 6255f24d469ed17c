//! Which columns a row has, and sharing them with the row before.
//!
//! A device answers with the same columns at nearly every poll, so that the
//! usual case compares them without building anything.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use model::{BUILT_IN_METRICS, Columns, Labels, MetricKind, SeriesKey};

/// A built-in metric's name, shared, and its kind.
#[derive(Debug)]
pub(crate) struct Metric {
    pub(crate) name: Arc<str>,
    pub(crate) kind: MetricKind,
}

/// The built-in metric called `name`.
pub(crate) fn metric(name: &str) -> &'static Metric {
    built_in(name).expect("this crate only asks for metrics that BUILT_IN_METRICS lists")
}

fn built_in(name: &str) -> Option<&'static Metric> {
    static METRICS: OnceLock<HashMap<&'static str, Metric>> = OnceLock::new();
    let all = METRICS.get_or_init(|| {
        let metrics = BUILT_IN_METRICS.iter().map(|info| {
            let metric = Metric {
                name: info.name.into(),
                kind: info.kind,
            };
            (info.name, metric)
        });
        metrics.collect()
    });
    all.get(name)
}

/// The series of the built-in metric called `name` with these labels.
pub(crate) fn series(name: &str, labels: &Arc<Labels>) -> SeriesKey {
    series_of(metric(name), labels)
}

fn series_of(metric: &Metric, labels: &Arc<Labels>) -> SeriesKey {
    SeriesKey {
        metric: Arc::clone(&metric.name),
        labels: Arc::clone(labels),
        kind: metric.kind,
    }
}

/// What a group of columns belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Device,
    Processor,
    Storage,
    Interface,
}

impl Owner {
    const COUNT: usize = 4;

    /// The label that tells one from another.
    pub(crate) fn label(self) -> Option<&'static str> {
        match self {
            Owner::Device => None,
            Owner::Processor => Some("hrDeviceIndex"),
            Owner::Storage => Some("hrStorageDescr"),
            Owner::Interface => Some("ifName"),
        }
    }
}

/// The columns of one thing: all metrics of its kind of owner, side by side.
struct Group<'a> {
    owner: Owner,
    label: Cow<'a, str>,
}

/// The columns of a row, group by group.
#[derive(Default)]
pub(crate) struct Layout<'a> {
    metrics: [Vec<&'static Metric>; Owner::COUNT],
    groups: Vec<Group<'a>>,
}

impl<'a> Layout<'a> {
    /// Every group of `owner` has these metrics. To be said before the first
    /// of them is added.
    pub(crate) fn set_metrics(&mut self, owner: Owner, metrics: Vec<&'static Metric>) {
        self.metrics[owner as usize] = metrics;
    }

    /// Adds the columns of one thing.
    pub(crate) fn add(&mut self, owner: Owner, label: Cow<'a, str>) {
        self.groups.push(Group { owner, label });
    }

    /// `previous` if it has exactly these columns, else new ones; of those that
    /// `previous` begins with, before the columns of plugins, only the list is.
    pub(crate) fn columns(&self, previous: Option<&Arc<Columns>>) -> Arc<Columns> {
        let known = previous.and_then(|columns| Some((columns, self.begins(columns)?)));
        match known {
            Some((columns, count)) if count == columns.series().len() => Arc::clone(columns),
            Some((columns, count)) => Arc::new(Columns::new(columns.series()[..count].to_vec())),
            None => Arc::new(self.build()),
        }
    }

    /// How many columns there are, if `columns` begins with them.
    fn begins(&self, columns: &Columns) -> Option<usize> {
        let mut rest = columns.series();
        for group in &self.groups {
            let metrics = &self.metrics[group.owner as usize];
            let (head, tail) = rest.split_at_checked(metrics.len())?;
            if !group.is(metrics, head) {
                return None;
            }
            rest = tail;
        }
        Some(columns.series().len() - rest.len())
    }

    fn build(&self) -> Columns {
        let mut all = Vec::new();
        for group in &self.groups {
            let labels = Arc::new(Labels::new(
                group.owner.label().map(|name| (name, &*group.label)),
            ));
            let metrics = &self.metrics[group.owner as usize];
            all.extend(metrics.iter().map(|metric| series_of(metric, &labels)));
        }
        Columns::new(all)
    }
}

impl Group<'_> {
    fn is(&self, metrics: &[&Metric], series: &[SeriesKey]) -> bool {
        let Some(first) = series.first() else {
            return metrics.is_empty();
        };
        self.has_label(&first.labels)
            && metrics.iter().zip(series).all(|(metric, series)| {
                series.kind == metric.kind
                    && (Arc::ptr_eq(&series.metric, &metric.name) || series.metric == metric.name)
                    && (Arc::ptr_eq(&series.labels, &first.labels) || series.labels == first.labels)
            })
    }

    fn has_label(&self, labels: &Labels) -> bool {
        let mut labels = labels.iter();
        let expected = self.owner.label().map(|name| (name, &*self.label));
        labels.next() == expected && labels.next().is_none()
    }
}

/// The labels of `owner`'s things in the built-in ones of `columns`, each once
/// if its columns stand side by side.
pub(crate) fn labels_of(columns: &Columns, owner: Owner) -> Vec<&str> {
    let name = owner.label().unwrap_or_default();
    let labels = columns
        .series()
        .iter()
        .filter(|series| built_in(&series.metric).is_some())
        .filter_map(|series| series.labels.get(name));
    let mut labels: Vec<&str> = labels.collect();
    labels.dedup();
    labels
}

/// Whether `columns` has the metric called `name`, whatever its labels.
pub(crate) fn has_metric(columns: &Columns, name: &str) -> bool {
    columns
        .series()
        .iter()
        .any(|series| &*series.metric == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout<'a>(storages: &[&'a str]) -> Layout<'a> {
        let mut layout = Layout::default();
        layout.set_metrics(Owner::Device, vec![metric("snmp_up")]);
        let storage = ["storage_size_bytes", "storage_used_bytes"];
        layout.set_metrics(Owner::Storage, storage.map(metric).to_vec());
        layout.add(Owner::Device, "".into());
        for storage in storages {
            layout.add(Owner::Storage, (*storage).into());
        }
        layout
    }

    #[test]
    fn the_same_columns_are_shared_and_others_are_new() {
        let first = layout(&["/", "/var"]).columns(None);
        assert!(Arc::ptr_eq(
            &layout(&["/", "/var"]).columns(Some(&first)),
            &first
        ));
        for other in [&["/"][..], &["/", "/home"], &["/", "/var", "/x"], &[]] {
            let second = layout(other).columns(Some(&first));
            assert_ne!(second, first, "{other:?}");
            assert_eq!(labels_of(&second, Owner::Storage), other);
        }
    }

    #[test]
    fn columns_that_came_back_from_the_store_are_shared_too() {
        let first = layout(&["/", "/var"]).columns(None);
        let apart = first.series().iter().map(|series| SeriesKey {
            metric: (*series.metric).into(),
            labels: Arc::new((*series.labels).clone()),
            kind: series.kind,
        });
        let read_back = Arc::new(Columns::new(apart.collect()));
        assert!(Arc::ptr_eq(
            &layout(&["/", "/var"]).columns(Some(&read_back)),
            &read_back
        ));
    }
}
