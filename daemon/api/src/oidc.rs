//! Signing in at an OpenID provider: the way there and the way back, for
//! browsers.

use access::{OidcReturn, SecretText};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use crate::Api;
use crate::caller::Caller;
use crate::cookies::{self, SameSite};
use crate::problem::{Kind, Problem};
use crate::query;
use crate::sessions::{agent, not_let_in, refresh_cookie};

/// Seconds that somebody has to sign in at the provider.
const PATIENCE_S: u32 = 600;

/// Where a browser is sent that is signed in.
const SIGNED_IN: &str = "/signed-in";

/// Parameters that we look at; a provider may send others (RFC 6749 §4.1.2).
const PARAMETERS: [&str; 5] = ["code", "state", "iss", "error", "error_description"];

/// Sends a browser to the OpenID provider.
#[utoipa::path(
    get,
    path = "/oidc/login",
    tag = "access",
    responses(
        (status = 303, description = "To the provider", headers(("Location" = String, description = "The provider's page"), ("Set-Cookie" = String, description = "`__Host-sotp-oidc`: Secure, HttpOnly, SameSite=Lax, for ten minutes"))),
        (status = 404, description = "No provider is set up in the settings"),
        (status = 503, description = "The provider cannot be asked now, or too many people are signed in: see Retry-After"),
    )
)]
pub(crate) async fn oidc_login(State(api): State<Api>, uri: Uri) -> Result<Response, Problem> {
    query::none(&uri)?;
    let there = api.access().oidc_begin(api.now()).await?;
    let state = there.state_cookie.expose();
    let cookie = cookies::set(cookies::OIDC, state, SameSite::Lax, Some(PATIENCE_S));
    let location = location(&there.url)?;
    Ok((StatusCode::SEE_OTHER, [location, cookie]).into_response())
}

fn location(url: &str) -> Result<(HeaderName, HeaderValue), Problem> {
    match HeaderValue::from_str(url) {
        Ok(url) => Ok((header::LOCATION, url)),
        Err(_) => Err(Problem::new(
            Kind::Unavailable,
            "the OpenID provider says that its page is at something that is no address",
        )),
    }
}

/// Lets somebody in who comes back from the OpenID provider.
///
/// The refresh token is kept in a cookie that no script can read.
#[utoipa::path(
    get,
    path = "/oidc/callback",
    tag = "access",
    params(
        ("code" = String, Query, description = "What the provider gave; there is an error in its place if it let nobody in"),
        ("state" = String, Query, description = "What we gave, again"),
        ("iss" = Option<String>, Query, description = "Who the provider is (RFC 9207)"),
        ("error" = Option<String>, Query, description = "Why the provider let nobody in"),
        ("error_description" = Option<String>, Query, description = "The same in words"),
    ),
    responses(
        (status = 303, description = "They are signed in", headers(("Location" = String, description = "A page that says so"), ("Set-Cookie" = String, description = "`__Host-sotp-refresh`: Secure, HttpOnly, SameSite=Strict"))),
        (status = 400, description = "Something is missing of what a provider sends back"),
        (status = 401, description = "The provider's answer is not taken, or they are nobody here"),
        (status = 404, description = "No provider is set up in the settings"),
        (status = 503, description = "The provider cannot be asked now, or too many people are signed in: see Retry-After"),
    )
)]
pub(crate) async fn oidc_callback(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let back = Back::read(&uri)?;
    let cookie = cookies::get(&headers, cookies::OIDC).unwrap_or_default();
    let asked = OidcReturn {
        code: &back.code,
        state: &back.state,
        issuer: back.issuer.as_deref(),
        state_cookie: cookie,
    };
    let let_in = api
        .access()
        .oidc_finish(asked, agent(&headers), caller.origin(), api.now())
        .await
        .map_err(not_let_in)?;
    let mut response = StatusCode::SEE_OTHER.into_response();
    let answer = response.headers_mut();
    answer.insert(header::LOCATION, HeaderValue::from_static(SIGNED_IN));
    let (name, gone) = cookies::clear(cookies::OIDC);
    answer.append(name, gone);
    if let Some(token) = let_in.refresh_token.as_ref().map(SecretText::expose) {
        let (name, value) = refresh_cookie(token);
        answer.append(name, value);
    }
    Ok(response)
}

/// What a browser brings back.
#[derive(Debug, PartialEq, Eq)]
struct Back {
    code: String,
    state: String,
    issuer: Option<String>,
}

impl Back {
    fn read(uri: &Uri) -> Result<Back, Problem> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Problem::new(Kind::BadRequest, error.body_text()))?
            .0;
        let one = |name: &str| {
            let mut values = pairs.iter().filter(|(known, _)| known == name);
            match (values.next(), values.next()) {
                (_, Some(_)) => Err(query::wrong(name, format!("{name} is given twice"))),
                (found, None) => Ok(found.map(|(_, value)| value.clone())),
            }
        };
        let [code, state, issuer, error, description] = PARAMETERS.map(one);
        if let Some(error) = error? {
            let said = description?.unwrap_or(error);
            let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
            let detail = format!("the OpenID provider let nobody in: {said:?}");
            return Err(Problem::new(Kind::Unauthorized, detail));
        }
        let missing = |name| {
            query::wrong(
                name,
                format!("{name} is missing: begin at /api/v1/oidc/login"),
            )
        };
        Ok(Back {
            code: code?.ok_or_else(|| missing("code"))?,
            state: state?.ok_or_else(|| missing("state"))?,
            issuer: issuer?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(query: &str) -> Result<Back, Problem> {
        Back::read(&format!("/api/v1/oidc/callback?{query}").parse().unwrap())
    }

    #[test]
    fn what_a_provider_sends_beside_is_let_be() {
        let back = back("code=c&state=s&session_state=x&scope=openid").unwrap();
        assert_eq!((back.code.as_str(), back.state.as_str()), ("c", "s"));
    }

    #[test]
    fn what_is_missing_or_given_twice_is_named() {
        for (query, name) in [
            ("code=c", "state"),
            ("state=s", "code"),
            ("code=a&code=b&state=s", "code"),
        ] {
            let problem = back(query).unwrap_err();
            assert_eq!(
                problem.into_mistake().unwrap().parameter.as_deref(),
                Some(name)
            );
        }
        let problem = back("error=access_denied&error_description=no%0Away").unwrap_err();
        assert!(problem.detail().contains("noway"), "{problem:?}");
    }
}
