//! The index finds what looking at every series finds.

use std::sync::Arc;

use model::{Columns, Labels, MetricKind, SeriesKey};
use proptest::prelude::*;
use regex::Regex;
use series::{ColumnsId, Found, Index, Matcher, MatcherKind, Selector};

fn key(metric: &str, labels: &[(&str, &str)]) -> SeriesKey {
    SeriesKey {
        metric: Arc::from(metric),
        labels: Arc::new(Labels::new(labels.iter().copied())),
        kind: MetricKind::Gauge,
    }
}

fn columns(keys: &[SeriesKey]) -> Arc<Columns> {
    Arc::new(Columns::new(keys.to_vec()))
}

/// Set 7: an `up` and octets of two interfaces; set 3: octets of one.
fn index() -> Index {
    let mut index = Index::default();
    let octets = |name| key("octets", &[("ifName", name)]);
    index.add(
        ColumnsId(7),
        &columns(&[key("up", &[]), octets("Gi0/1"), octets("Gi0/2")]),
    );
    index.add(ColumnsId(3), &columns(&[octets("Gi0/1")]));
    index
}

/// Number and places of each set that is found.
fn found(index: &Index, selector: &str) -> Vec<(u32, Vec<u32>)> {
    let found = index.find(&selector.parse().expect(selector));
    found
        .into_iter()
        .map(|found| (found.columns.0, found.places))
        .collect()
}

#[test]
fn places_are_found_by_metric_and_labels() {
    let index = index();
    assert_eq!(found(&index, "up"), [(7, vec![0])]);
    assert_eq!(found(&index, "octets"), [(3, vec![0]), (7, vec![1, 2])]);
    assert_eq!(found(&index, r#"{ifName="Gi0/2"}"#), [(7, vec![2])]);
    assert_eq!(
        found(&index, r#"octets{ifName!="Gi0/2"}"#),
        [(3, vec![0]), (7, vec![1])]
    );
    assert_eq!(
        found(&index, r#"octets{ifName=~"Gi0/.*"}"#),
        [(3, vec![0]), (7, vec![1, 2])]
    );
    assert_eq!(
        found(&index, r#"octets{ifName=~"Gi0/[23]"}"#),
        [(7, vec![2])]
    );
    assert_eq!(
        found(&index, r#"octets{ifName!~"Gi0/1|x"}"#),
        [(7, vec![2])]
    );
    assert_eq!(found(&index, "unheard_of"), []);
    assert_eq!(found(&index, r#"up{ifName="Gi0/1"}"#), []);
}

#[test]
fn a_label_that_is_not_there_reads_as_empty() {
    let index = index();
    for without in [
        r#"ifName="""#,
        r#"ifName!="Gi0/1",ifName!="Gi0/2""#,
        r#"ifName=~"x|""#,
        r#"ifName!~".+""#,
    ] {
        assert_eq!(
            found(&index, &format!("{{__name__=~\".+\",{without}}}")),
            [(7, vec![0])],
            "{without}"
        );
    }
    assert_eq!(found(&index, r#"up{nobody=""}"#), [(7, vec![0])]);
    assert_eq!(found(&index, r#"up{nobody!="x"}"#), [(7, vec![0])]);
    assert_eq!(found(&index, r#"up{nobody!=""}"#), []);
}

#[test]
fn without_matchers_everything_is_found() {
    let everything = index().find(&Selector::new(Vec::new()));
    let places: Vec<usize> = everything.iter().map(|found| found.places.len()).collect();
    assert_eq!(places, [1, 3]);
}

#[test]
fn a_label_named_as_the_metric_is_not_believed() {
    let mut index = Index::default();
    index.add(
        ColumnsId(0),
        &columns(&[key("up", &[("__name__", "down")])]),
    );
    assert_eq!(found(&index, "up").len(), 1);
    assert_eq!(found(&index, "down").len(), 0);
}

#[test]
fn names_and_values_are_listed_sorted() {
    let index = index();
    let metrics = index.metrics();
    assert_eq!(
        metrics.iter().map(|name| &**name).collect::<Vec<_>>(),
        ["octets", "up"]
    );
    assert_eq!(index.labels(), ["__name__", "ifName"]);
    assert_eq!(index.values("ifName"), ["Gi0/1", "Gi0/2"]);
    assert!(index.values("nobody").is_empty());
}

#[test]
fn a_number_is_taken_once() {
    let mut index = index();
    index.add(ColumnsId(3), &columns(&[key("other", &[])]));
    assert_eq!(found(&index, "other"), []);
    assert_eq!(found(&index, "octets").len(), 2);
}

#[test]
fn a_set_without_columns_takes_nobodys_place() {
    let mut index = index();
    index.add(ColumnsId(4), &columns(&[]));
    index.add(ColumnsId(5), &columns(&[key("up", &[])]));
    assert_eq!(found(&index, "up"), [(5, vec![0]), (7, vec![0])]);
    index.remove(&[ColumnsId(4)]);
    assert_eq!(found(&index, "up"), [(5, vec![0]), (7, vec![0])]);
}

#[test]
fn what_is_removed_is_found_no_more_and_may_come_again() {
    let mut index = index();
    index.remove(&[ColumnsId(7), ColumnsId(7), ColumnsId(99)]);
    assert_eq!(found(&index, "octets"), [(3, vec![0])]);
    assert_eq!(found(&index, "up"), []);
    assert_eq!(index.values("ifName"), ["Gi0/1"]);
    assert_eq!(index.metrics().len(), 1);
    index.add(ColumnsId(7), &columns(&[key("up", &[])]));
    assert_eq!(found(&index, "up"), [(7, vec![0])]);
    index.remove(&[ColumnsId(3), ColumnsId(7)]);
    assert!(index.labels().is_empty());
}

#[test]
fn coming_and_going_for_ever_does_not_make_it_grow() {
    let mut index = index();
    let wide: Vec<SeriesKey> = (0..40_000)
        .map(|n| key("wide", &[("n", &n.to_string())]))
        .collect();
    let wide = columns(&wide);
    // 200,000 numbers that nobody has: they are given anew on the way
    for round in 100..105 {
        index.add(ColumnsId(round), &wide);
        assert_eq!(found(&index, "octets"), [(3, vec![0]), (7, vec![1, 2])]);
        assert_eq!(found(&index, r#"wide{n="39999"}"#), [(round, vec![39_999])]);
        index.remove(&[ColumnsId(round)]);
    }
    assert_eq!(found(&index, "octets"), [(3, vec![0]), (7, vec![1, 2])]);
    assert_eq!(found(&index, "wide"), []);
}

/// What Prometheus says of one series, word for word and slowly.
fn accepts(key: &SeriesKey, (name, kind, value): &(String, MatcherKind, String)) -> bool {
    let of = match name.as_str() {
        "__name__" => &*key.metric,
        name => key.labels.get(name).unwrap_or(""),
    };
    let whole = || Regex::new(&format!("^(?s:{value})$")).expect("they are made so");
    match kind {
        MatcherKind::Equal => of == value,
        MatcherKind::NotEqual => of != value,
        MatcherKind::Matches => whole().is_match(of),
        MatcherKind::NotMatches => !whole().is_match(of),
    }
}

fn keys() -> impl Strategy<Value = Vec<SeriesKey>> {
    let labels = prop::collection::vec(("[abc]", "[xy]{0,2}"), 0..4);
    let key = ("[mn]{1,2}", labels).prop_map(|(metric, labels)| {
        let labels: Vec<_> = labels
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        key(&metric, &labels)
    });
    prop::collection::vec(key, 0..80)
}

fn conditions() -> impl Strategy<Value = Vec<(String, MatcherKind, String)>> {
    let kind = prop_oneof![
        Just(MatcherKind::Equal),
        Just(MatcherKind::NotEqual),
        Just(MatcherKind::Matches),
        Just(MatcherKind::NotMatches),
    ];
    let name = prop_oneof!["[abcd]", Just("__name__".to_owned())];
    let value = prop_oneof![
        "[xymn]{0,2}",
        "[xymn]{0,1}[.][*+]",
        "[xy]{0,2}[|][xy]{0,2}",
        "[(][xy]{0,2}[|][xy]{0,2}[)]",
        "[xymn][?*+]",
        Just("[xm].?".to_owned()),
        Just(".*y".to_owned()),
    ];
    prop::collection::vec((name, kind, value), 0..4)
}

fn looked_through(
    sets: &[Vec<SeriesKey>],
    gone: &[bool],
    conditions: &[(String, MatcherKind, String)],
) -> Vec<Found> {
    let places = |keys: &[SeriesKey]| {
        let meant = |key: &SeriesKey| conditions.iter().all(|condition| accepts(key, condition));
        (0..)
            .zip(keys)
            .filter(|(_, key)| meant(key))
            .map(|(place, _)| place)
            .collect()
    };
    let sets = (0..)
        .zip(sets.iter().zip(gone))
        .filter(|(_, (_, gone))| !**gone);
    let found = sets.map(|(id, (keys, _))| Found {
        columns: ColumnsId(id),
        places: places(keys),
    });
    found.filter(|found| !found.places.is_empty()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_finds_what_looking_at_every_series_finds(
        sets in prop::collection::vec((keys(), any::<bool>(), any::<bool>()), 1..6),
        conditions in conditions(),
    ) {
        let mut index = Index::default();
        let keys: Vec<Vec<SeriesKey>> = sets.iter().map(|(keys, ..)| keys.clone()).collect();
        for (id, keys) in (0..).zip(&keys) {
            index.add(ColumnsId(id), &columns(keys));
        }
        let removed: Vec<bool> = sets.iter().map(|(_, removed, _)| *removed).collect();
        let ids: Vec<ColumnsId> = (0..).map(ColumnsId).zip(&removed).filter(|(_, r)| **r).map(|(id, _)| id).collect();
        index.remove(&ids);
        let again: Vec<bool> = sets.iter().map(|(_, removed, again)| *removed && !*again).collect();
        for ((id, keys), (_, removed, again)) in (0..).zip(&keys).zip(&sets) {
            if *removed && *again {
                index.add(ColumnsId(id), &columns(keys));
            }
        }
        let matchers = conditions.iter().map(|(name, kind, value)| Matcher::new(name, *kind, value).unwrap());
        let selector = Selector::new(matchers.collect());
        let expected = looked_through(&keys, &again, &conditions);
        prop_assert_eq!(index.find(&selector), expected.clone(), "{}", selector);
        for (keys, id) in keys.iter().zip(0..) {
            let places = |found: &[Found]| found.iter().find(|f| f.columns == ColumnsId(id)).map(|f| f.places.clone());
            let one_by_one = (0..).zip(keys).filter(|(_, key)| selector.accepts(key)).map(|(place, _)| place);
            if let Some(places) = places(&expected) {
                prop_assert_eq!(places, one_by_one.collect::<Vec<u32>>());
            }
        }
    }
}
