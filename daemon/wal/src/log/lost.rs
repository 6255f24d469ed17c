//! What was appended and will never be on the disk.

use std::collections::VecDeque;

use super::NotDurable;

/// So many outages are told apart; beyond it the oldest become one with what
/// lies between them. Who waits for something that old is told the worse.
const MAX_OUTAGES: usize = 64;

/// Ranges of places in the log, in order, with why.
#[derive(Debug, Default)]
pub(super) struct Lost {
    ranges: VecDeque<Range>,
}

/// From behind `after` up to `upto`.
#[derive(Debug)]
struct Range {
    after: u64,
    upto: u64,
    why: NotDurable,
}

impl Lost {
    /// Adds a range. It may lie around ones that are there: a record that was
    /// too long is lost before what is around it.
    pub(super) fn add(&mut self, mut after: u64, mut upto: u64, why: &NotDurable) {
        if after >= upto {
            return;
        }
        while let Some(inner) = self.ranges.pop_back_if(|last| last.after >= after) {
            upto = upto.max(inner.upto);
        }
        if let Some(last) = self.ranges.back() {
            after = after.max(last.upto);
        }
        if after >= upto {
            return;
        }
        match self.ranges.back_mut() {
            Some(last) if last.upto == after && last.why == *why => last.upto = upto,
            _ => self.ranges.push_back(Range {
                after,
                upto,
                why: why.clone(),
            }),
        }
        if self.ranges.len() > MAX_OUTAGES {
            self.join_oldest();
        }
    }

    pub(super) fn why(&self, place: u64) -> Option<&NotDurable> {
        let at = self.ranges.partition_point(|range| range.upto < place);
        let range = self.ranges.get(at)?;
        (range.after < place).then_some(&range.why)
    }

    fn join_oldest(&mut self) {
        if let Some(oldest) = self.ranges.pop_front()
            && let Some(next) = self.ranges.front_mut()
        {
            next.after = oldest.after;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str) -> NotDurable {
        NotDurable {
            why: text.to_owned(),
            full: false,
        }
    }

    #[test]
    fn what_lies_between_outages_is_not_lost() {
        let mut lost = Lost::default();
        lost.add(3, 5, &why("a"));
        lost.add(5, 6, &why("a"));
        lost.add(8, 9, &why("b"));
        let answers: Vec<_> = (1..=10).map(|place| lost.why(place).is_some()).collect();
        let expected = [3, 4, 5, 8].map(|place| place + 1);
        for (place, is_lost) in (1..=10).zip(answers) {
            assert_eq!(is_lost, expected.contains(&place), "{place}");
        }
        assert_eq!(lost.why(9), Some(&why("b")));
    }

    #[test]
    fn an_outage_around_others_takes_them_in() {
        let mut lost = Lost::default();
        lost.add(1, 2, &why("before"));
        lost.add(4, 5, &why("too long"));
        lost.add(7, 9, &why("too long"));
        lost.add(3, 12, &why("full"));
        for place in 1..=13 {
            let expected = place == 2 || (4..=12).contains(&place);
            assert_eq!(lost.why(place).is_some(), expected, "{place}");
        }
        assert_eq!(lost.ranges.len(), 2);
    }

    #[test]
    fn an_outage_that_begins_in_another_goes_on_behind_it() {
        let mut lost = Lost::default();
        lost.add(3, 6, &why("too long"));
        lost.add(5, 8, &why("full"));
        lost.add(7, 8, &why("full"));
        let answers: Vec<_> = (3..=9).map(|place| lost.why(place).cloned()).collect();
        let (long, full) = (Some(why("too long")), Some(why("full")));
        let expected = [&None, &long, &long, &long, &full, &full, &None];
        assert_eq!(answers.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_thousand_outages_are_never_taken_for_none() {
        let mut lost = Lost::default();
        for outage in 0..1000 {
            lost.add(outage * 2, outage * 2 + 1, &why("again"));
        }
        assert_eq!(lost.ranges.len(), MAX_OUTAGES);
        assert!((0..1000).all(|outage| lost.why(outage * 2 + 1).is_some()));
        assert!(lost.why(1998).is_none());
    }
}
