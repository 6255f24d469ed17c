//! Every path and its handlers.

use axum::{Router, middleware};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{
    Api, alerts, answer, credentials, devices, health, import, interfaces, metrics, openapi,
    outbox, rules, status,
};

/// What the Unix socket serves.
pub(crate) fn everything(api: Api) -> Router {
    let (router, _document) = parts();
    finished(router, api)
}

/// What the TCP socket serves.
pub(crate) fn health_and_metrics(api: Api) -> Router {
    let (router, _document) = small().split_for_parts();
    finished(router, api)
}

/// Every route with the document that describes them.
pub(crate) fn parts() -> (Router<Api>, OpenApi) {
    small().merge(resources()).split_for_parts()
}

fn finished(router: Router<Api>, api: Api) -> Router {
    router
        .fallback(answer::no_such_path)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(middleware::from_fn_with_state(api.clone(), answer::answer))
        .with_state(api)
}

fn small() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::expose_metrics))
}

fn resources() -> OpenApiRouter<Api> {
    let resources = OpenApiRouter::default()
        .routes(routes!(devices::list_devices, devices::create_device))
        .routes(routes!(import::import_devices))
        .routes(routes!(
            devices::get_device,
            devices::replace_device,
            devices::patch_device,
            devices::delete_device
        ))
        .routes(routes!(devices::restore_device))
        .routes(routes!(devices::poll_device))
        .routes(routes!(interfaces::list_interfaces))
        .routes(routes!(metrics::latest_metrics))
        .routes(routes!(metrics::metric_range))
        .routes(routes!(metrics::list_metrics))
        .routes(routes!(alerts::list_alerts))
        .routes(routes!(alerts::get_alert))
        .routes(routes!(rules::list_rules, rules::create_rule))
        .routes(routes!(
            rules::get_rule,
            rules::put_rule,
            rules::delete_rule
        ))
        .routes(routes!(outbox::list_outbox))
        .routes(routes!(outbox::get_delivery))
        .routes(routes!(outbox::retry_delivery))
        .routes(routes!(outbox::send_test))
        .routes(routes!(credentials::list_credentials))
        .routes(routes!(
            credentials::get_credential,
            credentials::put_credential,
            credentials::delete_credential
        ))
        .routes(routes!(status::get_status))
        .routes(routes!(openapi::get_openapi));
    OpenApiRouter::default().nest("/api/v1", resources)
}
