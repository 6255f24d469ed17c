//! Queries: their bounds, and what they never make up.

use std::path::Path;

use super::lab::{Lab, MINUTE, START, columns};
use crate::lock::lock;
use crate::query::QueryError;
use crate::read::{Reader, ViewGroup};

#[test]
fn a_reader_that_panics_is_never_half_an_answer() {
    let lab = Lab::new();
    let groups: Vec<ViewGroup> = (0..8).map(group).collect();
    let read = |group: &ViewGroup, _: &mut Reader| -> Result<u32, QueryError> {
        assert!(group.number != 6, "a test says so");
        Ok(group.number)
    };
    let inner = lab.samples.inner();
    let answer = std::panic::AssertUnwindSafe(|| inner.in_two(&groups, &read));
    assert!(std::panic::catch_unwind(answer).is_err());
    let (found, missing) = inner.in_two(&groups[..6], &read).unwrap();
    assert_eq!((found, missing), ((0..6).collect(), Vec::new()));
}

fn group(number: u32) -> ViewGroup {
    ViewGroup {
        key: super::lab::group(u64::from(number)),
        number,
        head: Vec::new(),
    }
}

#[test]
fn no_row_is_the_last_one_if_a_newer_one_cannot_be_read() {
    let mut lab = Lab::new();
    let set = columns(&["c"]);
    for part in 0..2_u64 {
        for row in 0..100 {
            let at = lab.now;
            lab.keeps(1, at, &set, &[(part * 100 + row) as f64]);
            lab.passes(MINUTE);
        }
        lab.maintains();
    }
    let last = |lab: &Lab, before: u64| {
        let inner = lab.samples.inner();
        let shelf = lock(&inner.head).shelf.clone();
        let number = shelf.segments[0].segment().unwrap().entries()[0].group;
        let last = inner.last_before(&shelf, number, before);
        last.map(|(at, _, values)| (at, values))
    };
    let cut = |part: u64| START + part * 100 * MINUTE;
    assert_eq!(last(&lab, cut(1)), Some((cut(1) - MINUTE, vec![99.0])));
    assert_eq!(last(&lab, cut(2)), Some((cut(2) - MINUTE, vec![199.0])));
    let (path, entry) = {
        let shelf = lock(&lab.samples.inner().head).shelf.clone();
        let newest = shelf.segments.last().unwrap().segment().unwrap().clone();
        (newest.path().clone(), *newest.entries().last().unwrap())
    };
    let place = entry.offset + u64::from(entry.length) - 6;
    lab.fs.flip(Path::new(&path), place, 1);
    assert_eq!(last(&lab, cut(2)), None);
    assert_eq!(last(&lab, cut(1)), Some((cut(1) - MINUTE, vec![99.0])));
}
