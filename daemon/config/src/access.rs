//! Kinds of value that have to do with who may do what: roles, groups of a
//! provider, references to secrets.

use std::collections::BTreeSet;

use model::{Binding, Role, Scope, SecretName, TenantName, checked_name};
use toml::de::DeValue;

use crate::kinds::{One, quoted};
use crate::problem::{Mistake, did_you_mean};

/// The role of whoever comes through the local socket and is not root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketRole(pub Role);

impl Default for SocketRole {
    fn default() -> SocketRole {
        SocketRole(Role::Operator)
    }
}

/// The word of a role, in any case.
pub(crate) fn role() -> One<SocketRole> {
    let known = Role::ALL.map(|role| role.word().to_lowercase());
    One::of_text(format!("one of {}", known.join(", ")), |text| {
        role_named(text).map(SocketRole)
    })
}

fn role_named(word: &str) -> Result<Role, Mistake> {
    Role::from_word(word).ok_or_else(|| {
        let message = format!("{} is no role", quoted(word));
        Mistake::new(message, did_you_mean(word, &Role::ALL.map(Role::word)))
    })
}

/// The name of something that belongs to a tenant: `name` in the default
/// tenant, `tenant/name` in any other.
pub(crate) fn qualified_name(words: &str) -> One<String> {
    One::of_text(words, |text| {
        check_qualified(text)?;
        Ok(text.to_owned())
    })
}

fn check_qualified(text: &str) -> Result<(), Mistake> {
    let refuse = |why: String, hint: &str| {
        let message = format!("{} cannot be a name: {why}", quoted(text));
        Err(Mistake::new(message, hint))
    };
    let name = match text.split_once('/') {
        None => text,
        Some((_, name)) if name.contains('/') => {
            return refuse(
                "it has more than one /".to_owned(),
                "write \"name\", or \"tenant/name\" for a tenant",
            );
        }
        Some((tenant, name)) => match tenant.parse::<TenantName>() {
            Err(error) => {
                return refuse(
                    error.to_string(),
                    "before the / stands a tenant: \"acme/name\"",
                );
            }
            Ok(tenant) if tenant.is_default() => {
                return refuse(
                    "names in the tenant \"default\" stand alone".to_owned(),
                    "leave \"default/\" out",
                );
            }
            Ok(_) => name,
        },
    };
    match checked_name(name) {
        Ok(_) => Ok(()),
        Err(error) => refuse(
            error.why.to_string(),
            "choose a short word, such as \"core1\"",
        ),
    }
}

/// A reference to a secret that the daemon keeps: `secret://name`. Complaints
/// never repeat the value: it may be the secret itself.
pub(crate) fn secret_reference() -> One<Option<SecretName>> {
    One::new("a reference to a secret: \"secret://NAME\"", |value| {
        let reference = match value {
            DeValue::String(text) => SecretName::from_reference(text),
            _ => None,
        };
        let Some(name) = reference else {
            let hint = "put the secret away with: sotp secrets set NAME; then write \
                        \"secret://NAME\". If it was the secret that stood here, change it";
            return Err(Mistake::new("is no reference to a secret", hint));
        };
        if name.is_internal() {
            let message = format!("{} is one of the daemon's own secrets", quoted(&name.0));
            return Err(Mistake::new(
                message,
                "names that you give begin with a letter",
            ));
        }
        check_qualified(&name.0)?;
        Ok(Some(name))
    })
}

/// A group at the provider, and what its members may do: `noc=OPERATOR`,
/// `berlin=READONLY tenant:acme site:berlin tag:core`.
pub(crate) fn group() -> One<(String, Binding)> {
    One::of_text("groups and their roles", |text| {
        let (group, rest) = group_and_role(text)?;
        if group.trim() != group || group.is_empty() || group.chars().any(char::is_control) {
            let message = format!("{} is no name of a group", quoted(group));
            return Err(Mistake::new(message, GROUP_HINT));
        }
        let (role, limits) = rest.split_once(' ').unwrap_or((rest, ""));
        let role = role_named(role)?;
        let scope = scope(limits)?;
        Ok((group.to_owned(), Binding { role, scope }))
    })
}

const GROUP_HINT: &str = "write \"netadmins=ADMIN\" or \
                          \"berlin=READONLY tenant:acme site:berlin tag:core\"";

/// A group's name may have a = itself (`cn=noc,dc=example`): what counts is the
/// last one that a role stands after.
fn group_and_role(text: &str) -> Result<(&str, &str), Mistake> {
    let parts = text
        .rmatch_indices('=')
        .map(|(at, _)| (&text[..at], &text[at + 1..]));
    let has_role = |(_, rest): &(&str, &str)| {
        let word = rest.split(' ').next().unwrap_or_default();
        Role::from_word(word).is_some()
    };
    let with_role = parts.clone().find(has_role);
    with_role.or_else(|| parts.clone().next()).ok_or_else(|| {
        let message = format!("{} gives a group no role", quoted(text));
        Mistake::new(message, GROUP_HINT)
    })
}

/// What a limit begins with.
const LIMITS: [&str; 3] = ["tenant", "site", "tag"];

/// Where a role holds. Words without a colon belong to the name before them:
/// sites and tags may have spaces.
fn scope(text: &str) -> Result<Scope, Mistake> {
    let mut scope = Scope::default();
    let mut limits: Vec<(&str, String)> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match (word.split_once(':'), limits.last_mut()) {
            (Some((limit, name)), _) => limits.push((limit, name.to_owned())),
            (None, Some((_, name))) => {
                name.push(' ');
                name.push_str(word);
            }
            (None, None) => {
                let message = format!("{} is no limit of a role", quoted(word));
                return Err(Mistake::new(message, GROUP_HINT));
            }
        }
    }
    for (limit, name) in limits {
        limit_to(&mut scope, limit, &name)?;
    }
    Ok(scope)
}

fn limit_to(scope: &mut Scope, limit: &str, name: &str) -> Result<(), Mistake> {
    let refused = |why: String| Mistake::new(format!("{limit}:{} {why}", quoted(name)), GROUP_HINT);
    let insert = |names: &mut BTreeSet<String>| match checked_name(name) {
        Err(error) => Err(refused(format!("names nothing: {}", error.why))),
        Ok(name) if !names.insert(name.to_owned()) => Err(refused("stands twice".to_owned())),
        Ok(_) => Ok(()),
    };
    match limit {
        "site" => insert(&mut scope.sites),
        "tag" => insert(&mut scope.tags),
        "tenant" if scope.tenant.is_some() => Err(refused(
            "is a second tenant: give the group a line for each".to_owned(),
        )),
        "tenant" => {
            let tenant = name.parse::<TenantName>();
            scope.tenant = Some(tenant.map_err(|error| refused(format!("is refused: {error}")))?);
            Ok(())
        }
        _ => {
            let message = format!("{} limits nothing", quoted(&format!("{limit}:")));
            Err(Mistake::new(message, did_you_mean(limit, &LIMITS)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{read, says};

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_role_is_named_by_its_word_in_any_case() {
        for word in ["operator", "OPERATOR"] {
            let read = read(&role(), &format!("\"{word}\""));
            assert_eq!(read, Ok(SocketRole(Role::Operator)));
        }
        says(&role(), "\"operater\"", "did you mean \"OPERATOR\"?");
        says(
            &role(),
            "\"root\"",
            "known: ADMIN, OPERATOR, AUDITOR, READONLY",
        );
    }

    #[test]
    fn a_group_gets_a_role_and_where_it_holds() {
        for (text, group_name, role, scope) in [
            (
                "netadmins=ADMIN",
                "netadmins",
                Role::Admin,
                Scope::default(),
            ),
            (
                "berlin=READONLY tenant:acme site:berlin tag:core",
                "berlin",
                Role::ReadOnly,
                Scope {
                    tenant: Some(TenantName("acme".to_owned())),
                    sites: set(&["berlin"]),
                    tags: set(&["core"]),
                },
            ),
            (
                "cn=noc,dc=example=operator site:Berlin Mitte site:b=c  tag:a",
                "cn=noc,dc=example",
                Role::Operator,
                Scope {
                    tenant: None,
                    sites: set(&["Berlin Mitte", "b=c"]),
                    tags: set(&["a"]),
                },
            ),
        ] {
            let expected = (group_name.to_owned(), Binding { role, scope });
            let read = read(&group().or_none(), &format!("\"{text}\""));
            assert_eq!(read, Ok(Some(expected)));
        }
    }

    #[test]
    fn a_group_that_would_get_more_or_less_than_it_looks_like_is_refused() {
        for (text, said) in [
            ("netadmins", "gives a group no role"),
            ("=ADMIN", "is no name of a group"),
            ("noc =ADMIN", "is no name of a group"),
            ("noc=ADMINS", "did you mean \"ADMIN\"?"),
            ("noc= ADMIN", "is no role"),
            ("noc=ADMIN berlin", "is no limit of a role"),
            ("noc=ADMIN sites:berlin", "did you mean \"site\"?"),
            ("noc=ADMIN site:", "names nothing: it is empty"),
            ("noc=ADMIN site:a site:a", "stands twice"),
            ("noc=ADMIN tenant:Acme", "no name of a tenant"),
            ("noc=ADMIN tenant:a tenant:b", "a second tenant"),
        ] {
            says(&group().or_none(), &format!("\"{text}\""), said);
        }
    }

    #[test]
    fn a_name_has_at_most_one_tenant_before_it() {
        let kind = qualified_name("a name");
        for good in ["cpu-busy", "acme/cpu-busy", "a b"] {
            assert_eq!(read(&kind, &format!("\"{good}\"")), Ok(good.to_owned()));
        }
        for (bad, said) in [
            ("a/b/c", "more than one /"),
            ("/b", "no name of a tenant"),
            ("Acme/b", "no name of a tenant"),
            ("acme/", "it is empty"),
            ("acme/ b", "white space"),
            ("default/b", "leave \"default/\" out"),
            ("", "it is empty"),
        ] {
            says(&kind, &format!("\"{bad}\""), said);
        }
    }

    #[test]
    fn a_secret_is_named_and_never_repeated() {
        let kind = secret_reference();
        for (text, name) in [("secret://smtp", "smtp"), ("secret://acme/x", "acme/x")] {
            let read = read(&kind, &format!("\"{text}\"")).unwrap();
            assert_eq!(read, Some(SecretName(name.to_owned())));
        }
        for bad in [
            "\"hunter2\"",
            "\"Secret://hunter2\"",
            "424242",
            "[\"hunter2\"]",
        ] {
            let said = read(&kind, bad).unwrap_err().join("");
            assert!(said.contains("sotp secrets set"), "{said}");
            assert!(
                !said.contains("hunter2") && !said.contains("424242"),
                "{said}"
            );
        }
        says(&kind, "\"secret://.totp/ann\"", "the daemon's own");
        says(&kind, "\"secret://a/b/c\"", "more than one /");
        says(&kind, "\"secret://\"", "it is empty");
    }
}
