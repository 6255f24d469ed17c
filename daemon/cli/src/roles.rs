//! Roles as people write them: `ADMIN`, `OPERATOR@acme`,
//! `READONLY@acme,site=berlin,tag=core`.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value, json};

/// How a role is written, for help texts: the one place where it stands.
pub(crate) const SYNTAX: &str = "How a role is written:\n  \
    ROLE                              everywhere\n  \
    ROLE@TENANT                       in one tenant\n  \
    ROLE@TENANT,site=SITE,tag=TAG     there, for devices at that site with that tag\n  \
    ROLE@site=SITE                    at that site, in any tenant\n\
    ROLE is ADMIN, OPERATOR, AUDITOR or READONLY. site= and tag= may be given again: any of the sites, and any of \
    the tags. A comma or a backslash in a name has a backslash in front. Answers in JSON have the same under `roles`, \
    beside the parts under `bindings`.";

/// What it is called in an option's help.
pub(crate) const VALUE_NAME: &str = "ROLE[@TENANT][,site=SITE][,tag=TAG]";

/// The roles that there are.
const ROLES: [&str; 4] = ["ADMIN", "OPERATOR", "AUDITOR", "READONLY"];

/// A role, and where it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Binding {
    role: String,
    tenant: Option<String>,
    sites: Vec<String>,
    tags: Vec<String>,
}

impl Binding {
    /// As the API takes it.
    pub(crate) fn body(&self) -> Value {
        let mut body = Map::new();
        body.insert("role".into(), json!(self.role));
        if let Some(tenant) = &self.tenant {
            body.insert("tenant".into(), json!(tenant));
        }
        for (name, values) in [("sites", &self.sites), ("tags", &self.tags)] {
            if !values.is_empty() {
                body.insert(name.into(), json!(values));
            }
        }
        Value::Object(body)
    }

    /// As the API gives it.
    fn of(view: &Value) -> Binding {
        let text = |name: &str| view.get(name).and_then(Value::as_str).map(str::to_owned);
        let list = |name: &str| {
            let items = view.get(name).and_then(Value::as_array);
            let texts = items.into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        Binding {
            role: text("role").unwrap_or_default(),
            tenant: text("tenant"),
            sites: list("sites"),
            tags: list("tags"),
        }
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenant = self.tenant.iter().map(|tenant| escaped(tenant));
        let sites = self
            .sites
            .iter()
            .map(|site| format!("site={}", escaped(site)));
        let tags = self.tags.iter().map(|tag| format!("tag={}", escaped(tag)));
        let parts: Vec<_> = tenant.chain(sites).chain(tags).collect();
        f.write_str(&self.role)?;
        match parts.is_empty() {
            true => Ok(()),
            false => write!(f, "@{}", parts.join(",")),
        }
    }
}

impl FromStr for Binding {
    type Err = String;

    fn from_str(text: &str) -> Result<Binding, String> {
        let (role, place) = match text.split_once('@') {
            None => (text, None),
            Some((role, place)) => (role, Some(place)),
        };
        let mut binding = Binding {
            role: known_role(role)?,
            ..Binding::default()
        };
        let Some(place) = place else {
            return Ok(binding);
        };
        for (position, part) in parts(place)?.into_iter().enumerate() {
            binding.limit(position, part)?;
        }
        Ok(binding)
    }
}

impl Binding {
    fn limit(&mut self, position: usize, part: String) -> Result<(), String> {
        let not_empty = |value: &str, what: &str| match value.is_empty() {
            true => Err(format!("the name of a {what} is missing after {what}=")),
            false => Ok(value.to_owned()),
        };
        if let Some(site) = part.strip_prefix("site=") {
            self.sites.push(not_empty(site, "site")?);
        } else if let Some(tag) = part.strip_prefix("tag=") {
            self.tags.push(not_empty(tag, "tag")?);
        } else if position == 0 && !part.is_empty() && !part.contains('=') {
            self.tenant = Some(part);
        } else if part.is_empty() {
            return Err("a tenant, site=SITE or tag=TAG is missing after @ or a comma".to_owned());
        } else {
            return Err(format!(
                "{part:?} is neither site=SITE nor tag=TAG, and a tenant stands right behind the @"
            ));
        }
        Ok(())
    }
}

fn known_role(text: &str) -> Result<String, String> {
    let upper = text.to_ascii_uppercase();
    match ROLES.contains(&upper.as_str()) {
        true => Ok(upper),
        false => Err(format!(
            "{text:?} is no role; there are {}",
            ROLES.join(", ")
        )),
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace(',', "\\,")
}

/// Cut at commas that have no backslash in front.
fn parts(text: &str) -> Result<Vec<String>, String> {
    let mut parts = vec![String::new()];
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let last = parts.len() - 1;
        match letter {
            ',' => parts.push(String::new()),
            '\\' => match letters.next() {
                Some(next) => parts[last].push(next),
                None => return Err("a backslash at the end stands before nothing".to_owned()),
            },
            other => parts[last].push(other),
        }
    }
    Ok(parts)
}

/// The bindings of a view, as people write them.
pub(crate) fn shown(view: &Value) -> Vec<String> {
    let bindings = view.get("bindings").and_then(Value::as_array);
    bindings
        .into_iter()
        .flatten()
        .map(|binding| Binding::of(binding).to_string())
        .collect()
}

/// The view with its bindings under `roles` too, as people write them.
pub(crate) fn with_roles(mut view: Value) -> Value {
    let roles = shown(&view);
    if let Some(fields) = view.as_object_mut()
        && fields.contains_key("bindings")
    {
        fields.insert("roles".into(), json!(roles));
    }
    view
}

/// A list for the API.
pub(crate) fn bodies(bindings: &[Binding]) -> Value {
    bindings.iter().map(Binding::body).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Binding, String> {
        text.parse()
    }

    #[test]
    fn what_is_written_comes_back_as_it_was() {
        for text in [
            "ADMIN",
            "OPERATOR@acme",
            "READONLY@acme,site=berlin,tag=core",
            "READONLY@site=berlin,site=hamburg",
            "AUDITOR@tag=a=b",
            "READONLY@acme,site=Berlin\\, Mitte,tag=back\\\\slash",
        ] {
            let binding = read(text).unwrap();
            assert_eq!(binding.to_string(), text);
            assert_eq!(Binding::of(&binding.body()), binding);
        }
        assert_eq!(read("operator@acme").unwrap().to_string(), "OPERATOR@acme");
    }

    #[test]
    fn the_api_gets_the_parts_and_nothing_that_is_not_said() {
        assert_eq!(read("ADMIN").unwrap().body(), json!({"role": "ADMIN"}));
        assert_eq!(
            read("READONLY@acme,site=b,tag=c").unwrap().body(),
            json!({"role": "READONLY", "tenant": "acme", "sites": ["b"], "tags": ["c"]})
        );
    }

    #[test]
    fn a_mistake_is_told_with_what_would_be_right() {
        for (text, said) in [
            ("ROOT", "there are ADMIN, OPERATOR, AUDITOR, READONLY"),
            ("", "is no role"),
            ("ADMIN@", "missing after @"),
            ("ADMIN@acme,", "missing after @ or a comma"),
            ("ADMIN@acme,other", "a tenant stands right behind the @"),
            ("ADMIN@room=7", "neither site=SITE nor tag=TAG"),
            ("ADMIN@site=", "missing after site="),
            ("ADMIN@acme\\", "backslash at the end"),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.contains(said), "{text}: {why}");
        }
    }

    #[test]
    fn answers_have_roles_as_they_are_written() {
        let view = with_roles(
            json!({"bindings": [{"role": "OPERATOR", "tenant": "acme", "sites": [], "tags": []}]}),
        );
        assert_eq!(view["roles"], json!(["OPERATOR@acme"]));
        assert_eq!(with_roles(json!({"name": "x"})), json!({"name": "x"}));
    }
}
