//! Rules: those of the API are kept here, those of files are handed in at
//! start and at each reload and win where both have a name.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{By, Rule, RuleName, RuleSource, TenantName, Timestamp};

use crate::audit::{self, Line};
use crate::book::Change;
use crate::error::{Answer, Refusal, or_refuse};
use crate::{checks, shown, tables};

/// Rules of the API that can be kept.
pub const MAX_RULES: usize = 10_000;

/// Bytes of one rule as it is kept: a few lists of names.
pub const MAX_RULE_BYTES: usize = 64 * 1024;

/// Puts a rule in, in the place of what had its name.
pub(crate) fn put(
    change: &mut Change<'_>,
    by: &By,
    rule: &Rule,
    expected: Option<u64>,
    now: Timestamp,
) -> Answer<Rule> {
    let before = change.book.rules.get(&rule.name);
    let revision = before.map(|known| known.revision);
    or_refuse!(check(change, rule, revision, expected));
    let rule = Rule {
        source: RuleSource::Api,
        updated: now,
        revision: revision.unwrap_or(0) + 1,
        ..rule.clone()
    };
    let line = Line::put("rule", &rule.name.0, before.map(shown::rule))
        .of(Some(TenantName::of(&rule.name.0)))
        .after(shown::rule(&rule));
    audit::append(change, by, now, line)?;
    tables::RULE.put(change.txn, rule.name.0.as_str(), &rule)?;
    Arc::make_mut(&mut change.book.rules).insert(rule.name.clone(), rule.clone());
    change.book.watched += 1;
    Ok(Ok(rule))
}

/// Takes a rule of the API away.
pub(crate) fn delete(
    change: &mut Change<'_>,
    by: &By,
    name: &RuleName,
    expected: Option<u64>,
    now: Timestamp,
) -> Answer<()> {
    let Some(before) = change.book.rules.get(name) else {
        let from_file = from_file(&change.file_rules, name);
        return Ok(Err(
            from_file.unwrap_or(Refusal::NoSuchRule { name: name.clone() })
        ));
    };
    or_refuse!(check_revision(expected, before.revision));
    let line = Line::on("rule.delete", &format!("rule:{name}"))
        .of(Some(TenantName::of(&name.0)))
        .before(shown::rule(before));
    audit::append(change, by, now, line)?;
    tables::RULE.remove(change.txn, name.0.as_str())?;
    Arc::make_mut(&mut change.book.rules).remove(name);
    change.book.watched += 1;
    Ok(Ok(()))
}

fn check(
    change: &Change<'_>,
    rule: &Rule,
    before: Option<u64>,
    expected: Option<u64>,
) -> Result<(), Refusal> {
    if let Some(refusal) = from_file(&change.file_rules, &rule.name) {
        return Err(refusal);
    }
    checks::qualified(&change.book.people, "rule", &rule.name.0)?;
    if before.is_none() && change.book.rules.len() >= MAX_RULES {
        return Err(Refusal::TooMany {
            what: "rules",
            limit: MAX_RULES,
        });
    }
    let too_long = postcard::to_stdvec(rule).map_or(true, |kept| kept.len() > MAX_RULE_BYTES);
    if too_long {
        return Err(Refusal::TooMany {
            what: "bytes in one rule",
            limit: MAX_RULE_BYTES,
        });
    }
    match (before, expected) {
        (Some(_), Some(0)) => checks::expected("rule", &rule.name.0, before, expected),
        (None, Some(1..)) => Err(Refusal::NoSuchRule {
            name: rule.name.clone(),
        }),
        (Some(before), _) => check_revision(expected, before),
        (None, None | Some(0)) => Ok(()),
    }
}

fn check_revision(expected: Option<u64>, found: u64) -> Result<(), Refusal> {
    match expected {
        Some(expected) if expected != found => Err(Refusal::RevisionMismatch { expected, found }),
        _ => Ok(()),
    }
}

fn from_file(files: &[Rule], name: &RuleName) -> Option<Refusal> {
    let rule = files.iter().find(|rule| rule.name == *name)?;
    let path = match &rule.source {
        RuleSource::File(path) => path.clone(),
        RuleSource::Api | RuleSource::Plugin => return None,
    };
    Some(Refusal::RuleFromFile {
        name: name.clone(),
        path,
    })
}

/// Both, sorted by name.
pub(crate) fn merged(kept: &BTreeMap<RuleName, Rule>, files: &[Rule]) -> Vec<Rule> {
    let mut all = kept.clone();
    all.extend(files.iter().map(|rule| (rule.name.clone(), rule.clone())));
    all.into_values().collect()
}
