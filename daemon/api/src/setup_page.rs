//! The few pages that a browser gets: to make the first administrator, and to
//! hear that a sign-in went well. They are part of the program, load nothing
//! from elsewhere, and may send requests to us alone.

use axum::http::{HeaderName, HeaderValue, Uri, header};
use axum::response::IntoResponse;

use crate::problem::Problem;
use crate::query;

/// What a page of ours may do (CSP level 3): its own script and style, and
/// requests to where it comes from. Nothing else, and in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// The headers of a page.
fn headers(kind: &'static str) -> [(HeaderName, HeaderValue); 2] {
    [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(POLICY),
        ),
    ]
}

/// Shows the page on which the first administrator is made.
///
/// It reads the token from the link's fragment.
#[utoipa::path(
    get,
    path = "/setup",
    tag = "setup",
    operation_id = "setup_page",
    responses((status = 200, description = "The page", body = String, content_type = "text/html"))
)]
pub(crate) async fn setup_page(uri: Uri) -> Result<impl IntoResponse, Problem> {
    query::none(&uri)?;
    Ok((headers(HTML), include_str!("page/setup.html")))
}

/// The script of the set-up page.
#[utoipa::path(
    get,
    path = "/setup.js",
    tag = "setup",
    responses((status = 200, description = "The script", body = String, content_type = "text/javascript"))
)]
pub(crate) async fn setup_script(uri: Uri) -> Result<impl IntoResponse, Problem> {
    query::none(&uri)?;
    Ok((headers(SCRIPT), include_str!("page/setup.js")))
}

/// The style of the pages.
#[utoipa::path(
    get,
    path = "/setup.css",
    tag = "setup",
    responses((status = 200, description = "The style", body = String, content_type = "text/css"))
)]
pub(crate) async fn setup_style(uri: Uri) -> Result<impl IntoResponse, Problem> {
    query::none(&uri)?;
    Ok((headers(STYLE), include_str!("page/setup.css")))
}

/// Shows that a sign-in at the OpenID provider went well.
#[utoipa::path(
    get,
    path = "/signed-in",
    tag = "access",
    responses((status = 200, description = "The page", body = String, content_type = "text/html"))
)]
pub(crate) async fn signed_in_page(uri: Uri) -> Result<impl IntoResponse, Problem> {
    query::none(&uri)?;
    Ok((headers(HTML), include_str!("page/signed-in.html")))
}
