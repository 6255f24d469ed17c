//! Rows go in, and come out wherever they lie.

use model::{Breaks, Timestamp};

use super::lab::{HOUR, Lab, MINUTE, START, columns, group};
use crate::engine::Append;

#[test]
fn rows_are_found_in_the_head_in_segments_and_after_a_start() {
    let mut lab = Lab::new();
    let both = columns(&["a", "c"]);
    for minute in 0..300 {
        let at = START + minute * MINUTE;
        lab.keeps(1, at, &both, &[minute as f64, 7.0]);
        lab.lives(MINUTE);
    }
    let wanted: Vec<(u64, f64)> = (0..300)
        .map(|minute| (START + minute * MINUTE, minute as f64))
        .collect();
    assert_eq!(lab.points("a"), wanted);
    assert_eq!(lab.segments().len(), 5);
    let lab = lab.reopened();
    assert_eq!(lab.points("a"), wanted);
    assert_eq!(
        lab.selects("c", START + HOUR, START + 2 * HOUR).series[0]
            .points
            .len(),
        60
    );
}

#[test]
fn every_row_that_is_durable_survives_a_power_cut_and_a_cut() {
    let lab = Lab::new();
    let one = columns(&["a"]);
    lab.keeps(1, START, &one, &[1.0]);
    lab.samples.cut().unwrap();
    lab.keeps(1, START + 1, &one, &[2.0]);
    let lab = lab.after_power_cut(3);
    assert_eq!(lab.points("a"), [(START, 1.0), (START + 1, 2.0)]);
}

#[test]
fn a_note_is_found_again_beside_the_two_newest_rows() {
    let lab = Lab::new();
    let one = columns(&["a"]);
    for place in 0..3 {
        lab.keeps(1, START + place, &one, &[place as f64]);
    }
    let note = Append {
        group: group(1),
        at: Timestamp(0),
        columns: &one,
        values: &[],
        breaks: &Breaks::None,
        note: Some(b"restart 5"),
    };
    lab.append(&note).ticket.durable().unwrap();
    let check = |lab: &Lab| {
        let newest = lab.samples.newest();
        let [(key, note, rows)] = &newest[..] else {
            panic!("{newest:?}");
        };
        assert_eq!((*key, &note[..]), (group(1), &b"restart 5"[..]));
        let times: Vec<u64> = rows.iter().map(|row| row.at.0).collect();
        assert_eq!(times, [START + 2, START + 1]);
    };
    check(&lab);
    let lab = lab.reopened();
    check(&lab);
    lab.samples.cut().unwrap();
    let lab = lab.reopened();
    check(&lab);
}
