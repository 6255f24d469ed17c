//! Roles with the places where they hold, as people write them:
//! `{"role": "OPERATOR", "tenant": "acme", "sites": ["berlin"], "tags": []}`.

use std::collections::BTreeSet;

use model::{Binding, Permission, Role, Scope, TenantName, checked_name};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::mistakes::{Mistakes, Object, did_you_mean};

/// Bindings of one person or token; more are better told by another role.
const BINDINGS: usize = 64;

/// Sites or tags of one binding.
const NAMES: usize = 256;

const FIELDS: [&str; 4] = ["role", "tenant", "sites", "tags"];

/// A role, and where it holds: everywhere, if nothing else is said.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes in the document what `read` reads")]
pub(crate) struct BindingBody {
    /// ADMIN, OPERATOR, AUDITOR or READONLY.
    #[schema(example = "OPERATOR")]
    role: String,
    /// In this tenant alone; null: in all of them.
    #[schema(example = "acme")]
    tenant: Option<String>,
    /// For devices at one of these sites alone; empty: wherever they stand.
    #[schema(example = json!(["berlin"]))]
    sites: Option<Vec<String>>,
    /// For devices with at least one of these tags alone; empty: whatever tags
    /// they have.
    #[schema(example = json!(["core"]))]
    tags: Option<Vec<String>>,
}

/// A role, and where it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct BindingView {
    /// ADMIN, OPERATOR, AUDITOR or READONLY.
    #[schema(example = "OPERATOR")]
    role: &'static str,
    /// In this tenant alone; null: in all of them.
    tenant: Option<String>,
    /// For devices at one of these sites alone; empty: wherever they stand.
    sites: Vec<String>,
    /// For devices with at least one of these tags alone; empty: whatever tags
    /// they have.
    tags: Vec<String>,
}

impl From<&Binding> for BindingView {
    fn from(binding: &Binding) -> BindingView {
        BindingView {
            role: binding.role.word(),
            tenant: binding.scope.tenant.as_ref().map(ToString::to_string),
            sites: binding.scope.sites.iter().cloned().collect(),
            tags: binding.scope.tags.iter().cloned().collect(),
        }
    }
}

/// `bindings` as they are shown.
pub(crate) fn shown(bindings: &[Binding]) -> Vec<BindingView> {
    bindings.iter().map(BindingView::from).collect()
}

/// Reads the field `bindings` of `body`, where it is one; a tenant has to be
/// `known`.
pub(crate) fn read(
    body: &Value,
    known: &dyn Fn(&TenantName) -> bool,
    mistakes: &Mistakes,
) -> Vec<Binding> {
    let items = match body.get("bindings") {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Array(items)) if items.len() <= BINDINGS => items,
        Some(Value::Array(items)) => {
            let message = format!("there are {} and {BINDINGS} are allowed", items.len());
            mistakes.at("/bindings", message);
            return Vec::new();
        }
        Some(_) => {
            mistakes.at("/bindings", "this is not a list of objects with a role");
            return Vec::new();
        }
    };
    let read = items.iter().enumerate().filter_map(|(place, item)| {
        let pointer = format!("/bindings/{place}");
        let item = Object::read(item, &pointer, &FIELDS, mistakes)?;
        read_one(&item, known)
    });
    read.collect()
}

fn read_one(item: &Object<'_>, known: &dyn Fn(&TenantName) -> bool) -> Option<Binding> {
    let words = Role::ALL.map(Role::word);
    if !item.has("role") {
        item.wrong("role", format!("role is missing: {}", words.join(", ")));
    }
    let role = item.word("role", &words, Role::from_word);
    let scope = Scope {
        tenant: read_tenant(item, known),
        sites: names(item, "sites"),
        tags: names(item, "tags"),
    };
    Some(Binding { role: role?, scope })
}

fn read_tenant(item: &Object<'_>, known: &dyn Fn(&TenantName) -> bool) -> Option<TenantName> {
    let tenant = item.text("tenant")?.parse::<TenantName>();
    match tenant {
        Ok(tenant) if known(&tenant) => return Some(tenant),
        Ok(tenant) => item.wrong("tenant", format!("there is no tenant \"{tenant}\"")),
        Err(why) => item.wrong("tenant", why.to_string()),
    }
    None
}

fn names(item: &Object<'_>, field: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (pointer, name) in item.texts(field, NAMES) {
        if let Err(why) = checked_name(&name) {
            item.mistakes().at(&pointer, why.to_string());
        }
        names.insert(name);
    }
    names
}

/// Reads a list of permissions.
pub(crate) fn permissions(body: &Object<'_>, field: &str) -> BTreeSet<Permission> {
    let words: Vec<&str> = Permission::ALL.iter().map(|known| known.word()).collect();
    let mut permissions = BTreeSet::new();
    for (pointer, word) in body.texts(field, words.len()) {
        match Permission::from_word(&word) {
            Some(permission) => {
                permissions.insert(permission);
            }
            None => {
                let hint = did_you_mean(&word, &words);
                let message = format!("unknown permission {word:?}: {hint}");
                body.mistakes().at(&pointer, message);
            }
        }
    }
    permissions
}

/// Reads a list of roles.
pub(crate) fn roles(body: &Object<'_>, field: &str) -> BTreeSet<Role> {
    let words = Role::ALL.map(Role::word);
    let mut roles = BTreeSet::new();
    for (pointer, word) in body.texts(field, words.len()) {
        match Role::from_word(&word) {
            Some(role) => {
                roles.insert(role);
            }
            None => {
                let hint = did_you_mean(&word, &words);
                let message = format!("unknown role {word:?}: {hint}");
                body.mistakes().at(&pointer, message);
            }
        }
    }
    roles
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mistakes_of(bindings: Value) -> Vec<String> {
        let mistakes = Mistakes::default();
        let body = json!({ "bindings": bindings });
        read(&body, &|tenant| tenant.0 == "acme", &mistakes);
        let list = mistakes.into_list().into_iter();
        list.filter_map(|mistake| mistake.pointer).collect()
    }

    #[test]
    fn a_binding_reads_back_as_it_is_shown() {
        let shown_as = json!([
            {"role": "OPERATOR", "tenant": "acme", "sites": ["berlin"], "tags": ["core"]},
            {"role": "READONLY", "tenant": null, "sites": [], "tags": []},
        ]);
        let mistakes = Mistakes::default();
        let read = read(
            &json!({ "bindings": shown_as }),
            &|tenant| tenant.0 == "acme",
            &mistakes,
        );
        assert!(mistakes.is_empty());
        assert_eq!(serde_json::to_value(shown(&read)).unwrap(), shown_as);
    }

    #[test]
    fn every_mistake_in_a_binding_is_named_with_its_place() {
        let wrong = json!([
            {"role": "ROOT", "tenant": "nobody", "sites": ["1"]},
            {"rolle": "ADMIN"},
            {"role": "ADMIN", "tenant": "A B"},
            "ADMIN",
        ]);
        assert_eq!(
            mistakes_of(wrong),
            [
                "/bindings/0/role",
                "/bindings/0/tenant",
                "/bindings/0/sites/0",
                "/bindings/1/rolle",
                "/bindings/1/role",
                "/bindings/2/tenant",
                "/bindings/3",
            ]
        );
        assert_eq!(mistakes_of(json!("ADMIN")), ["/bindings"]);
        assert_eq!(mistakes_of(json!(null)), [""; 0]);
    }
}
