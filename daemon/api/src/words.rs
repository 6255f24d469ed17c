//! Texts that people give to things: one line each, and names that say whose a
//! thing is.

use model::{TenantName, checked_name};

use crate::mistakes::Object;

/// Bytes of a line of text.
const LINE_BYTES: usize = 256;

/// A line of text without control characters; an empty one is none.
pub(crate) fn line(body: &Object<'_>, field: &str) -> Option<String> {
    let text = body.text(field)?;
    if text.len() > LINE_BYTES {
        body.wrong(field, format!("{field} is longer than {LINE_BYTES} bytes"));
    }
    if text.chars().any(char::is_control) {
        body.wrong(field, format!("{field} contains a control character"));
    }
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// `name`, if it can name a thing of a tenant: `name` in the default one and
/// `tenant/name` in any other, which has to be `known`.
///
/// # Errors
///
/// A sentence that says what is wrong with it.
pub(crate) fn qualified(
    name: &str,
    known: &dyn Fn(&TenantName) -> bool,
) -> Result<TenantName, String> {
    let (tenant, own) = match name.split_once('/') {
        None => (TenantName::default_tenant(), name),
        Some((tenant, own)) => {
            let tenant: TenantName = tenant
                .parse()
                .map_err(|why: model::NotATenant| format!("before the / stands a tenant: {why}"))?;
            (tenant, own)
        }
    };
    if name.contains('/') && tenant.is_default() {
        return Err(format!(
            "things of the tenant \"default\" are named without it: {own:?}"
        ));
    }
    if own.contains('/') {
        return Err(format!("{name:?} has more than one /: write tenant/name"));
    }
    checked_name(own).map_err(|why| why.to_string())?;
    match known(&tenant) {
        true => Ok(tenant),
        false => Err(format!("there is no tenant \"{tenant}\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_the_thing_is() {
        let known = |tenant: &TenantName| tenant.is_default() || tenant.0 == "acme";
        assert!(qualified("smtp", &known).unwrap().is_default());
        assert_eq!(qualified("acme/smtp", &known).unwrap().0, "acme");
        for wrong in [
            "",
            "1",
            "acme/",
            "/x",
            "a b/x",
            "other/x",
            "acme/a/b",
            "default/x",
        ] {
            assert!(qualified(wrong, &known).is_err(), "{wrong:?}");
        }
    }
}
