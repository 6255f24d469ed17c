//! The two cookies that a browser keeps for us. `__Host-` (RFC 6265bis §4.1.3)
//! binds each to this host, to TLS and to all of its paths.
//!
//! A browser also adds cookies and certificates to what the pages of others
//! send: [`comes_from_elsewhere`] tells whose page it was.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// The refresh token of a browser: no script can read it.
pub(crate) const REFRESH: &str = "__Host-sotp-refresh";

/// What a browser brings back from the OpenID provider.
pub(crate) const OIDC: &str = "__Host-sotp-oidc";

/// When a browser sends a cookie along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SameSite {
    /// With requests of our own pages alone.
    Strict,
    /// Also when a link or a redirect leads to us.
    Lax,
}

/// The header that sets a cookie; without `seconds` until the browser closes.
pub(crate) fn set(
    name: &str,
    value: &str,
    same_site: SameSite,
    seconds: Option<u32>,
) -> (HeaderName, HeaderValue) {
    let same_site = match same_site {
        SameSite::Strict => "Strict",
        SameSite::Lax => "Lax",
    };
    let age = seconds.map_or(String::new(), |age| format!("; Max-Age={age}"));
    let text = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite={same_site}{age}");
    let mut value = HeaderValue::try_from(text).expect("tokens are visible ASCII");
    value.set_sensitive(true);
    (header::SET_COOKIE, value)
}

/// The header that takes a cookie away.
pub(crate) fn clear(name: &str) -> (HeaderName, HeaderValue) {
    set(name, "", SameSite::Strict, Some(0))
}

/// The value of the cookie called `name`, if the browser sent exactly one.
pub(crate) fn get<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(known, value)| *known == name && !value.is_empty())
        .map(|(_, value)| value);
    let first = found.next();
    first.filter(|_| found.next().is_none())
}

/// Whether a browser says that a page which is not our own sends the request.
pub(crate) fn comes_from_another_site(headers: &HeaderMap) -> bool {
    comes_from_elsewhere(headers, &[])
}

/// The same, but that pages of the origins `known` may send it, where the
/// browser does not say that they are of another site.
///
/// Browsers send `Sec-Fetch-Site` (Fetch Metadata), and `Origin` (RFC 6454)
/// with all that changes something; programs send neither.
pub(crate) fn comes_from_elsewhere(headers: &HeaderMap, known: &[String]) -> bool {
    let site = headers.get_all("sec-fetch-site").iter();
    let from_another = site
        .into_iter()
        .any(|site| site != "same-origin" && site != "none");
    let origins = headers.get_all(header::ORIGIN).iter();
    from_another
        || origins
            .into_iter()
            .any(|origin| !is_ours(origin, headers) && !known.iter().any(|known| origin == known))
}

/// Whether `origin` is the one that this request is sent to. We are reached by
/// TLS alone where a browser has something to add.
fn is_ours(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let prefix = b"https://";
    origin
        .as_bytes()
        .strip_prefix(prefix)
        .is_some_and(|origin| origin.eq_ignore_ascii_case(host.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others_and_not_if_there_are_two() {
        let mut headers = HeaderMap::new();
        let cookies = "theme=dark; __Host-sotp-refresh=abc; x=__Host-sotp-refresh";
        headers.insert(header::COOKIE, HeaderValue::from_static(cookies));
        assert_eq!(get(&headers, REFRESH), Some("abc"));
        assert_eq!(get(&headers, OIDC), None);
        headers.append(
            header::COOKIE,
            HeaderValue::from_static("__Host-sotp-refresh=planted"),
        );
        assert_eq!(get(&headers, REFRESH), None);
    }

    #[test]
    fn pages_of_others_are_told_from_ours_and_from_programs() {
        let said = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            comes_from_elsewhere(&headers, &["https://wall.example".to_owned()])
        };
        let host = ("host", "sotp.example:8443");
        let ours = ("origin", "https://sotp.example:8443");
        for own in [
            &[][..],
            &[host],
            &[host, ours],
            &[("host", "SOTP.example:8443"), ours],
            &[host, ("sec-fetch-site", "same-origin"), ours],
            &[host, ("sec-fetch-site", "none")],
            &[host, ("origin", "https://wall.example")],
        ] {
            assert!(!said(own), "{own:?}");
        }
        for foreign in [
            &[host, ("origin", "https://sotp.example")][..],
            &[host, ("origin", "http://sotp.example:8443")],
            &[host, ("origin", "null")],
            &[host, ("origin", "https://evil.example")],
            &[host, ours, ("origin", "https://evil.example")],
            &[host, ("host", "evil.example"), ours],
            &[ours],
            &[host, ours, ("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")],
        ] {
            assert!(said(foreign), "{foreign:?}");
        }
    }

    #[test]
    fn cookies_have_every_attribute_that_keeps_them_ours() {
        let (_, refresh) = set(REFRESH, "t", SameSite::Strict, None);
        assert_eq!(
            refresh,
            "__Host-sotp-refresh=t; Path=/; Secure; HttpOnly; SameSite=Strict"
        );
        assert!(refresh.is_sensitive());
        let (_, gone) = clear(OIDC);
        assert!(gone.to_str().unwrap().ends_with("Max-Age=0"));
    }
}
