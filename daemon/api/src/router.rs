//! Every path, its handlers, and who may use them.

use axum::{Router, middleware};
use model::Permission as P;
use utoipa::openapi::OpenApi;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::SecurityRequirement;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use crate::gate::{self, Guard};
use crate::{
    Api, alerts, answer, credentials, devices, health, import, interfaces, metrics, openapi,
    outbox, rules, status,
};

/// What an operation says of who may use it.
pub(crate) const PERMISSION: &str = "x-permission";

/// What the Unix socket and the TLS listener serve.
pub(crate) fn everything(api: Api) -> Router {
    let (router, _document) = parts();
    finished(router, api)
}

/// What the plain TCP socket serves: metrics for everybody who reaches it.
pub(crate) fn health_and_metrics(api: Api) -> Router {
    let (router, _document) = small(Guard::Open).split_for_parts();
    finished(router, api)
}

/// Every route with the document that describes them.
pub(crate) fn parts() -> (Router<Api>, OpenApi) {
    small(Guard::Needs(P::TelemetryRead))
        .merge(resources())
        .split_for_parts()
}

fn finished(router: Router<Api>, api: Api) -> Router {
    router
        .fallback(answer::no_such_path)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(middleware::from_fn_with_state(api.clone(), gate::gate))
        .layer(middleware::from_fn_with_state(api.clone(), answer::answer))
        .with_state(api)
}

/// Routes that only those use whom `guard` lets through. Every route is added
/// by this or by [`guarded_secret`]: the document says so, and a test holds it
/// to that.
pub(crate) fn guarded(guard: Guard, routes: UtoipaMethodRouter<Api>) -> UtoipaMethodRouter<Api> {
    with_guard(guard, false, routes)
}

/// Like [`guarded`], for routes whose answer shows a secret once: it is never
/// kept, so an `Idempotency-Key` is refused.
pub(crate) fn guarded_secret(
    guard: Guard,
    routes: UtoipaMethodRouter<Api>,
) -> UtoipaMethodRouter<Api> {
    with_guard(guard, true, routes)
}

fn with_guard(
    guard: Guard,
    secret: bool,
    (schemas, mut paths, methods): UtoipaMethodRouter<Api>,
) -> UtoipaMethodRouter<Api> {
    for item in paths.paths.values_mut() {
        for operation in operations(item) {
            describe(operation, guard);
        }
    }
    let check = middleware::from_fn(move |request, next| gate::guard(guard, secret, request, next));
    (schemas, paths, methods.route_layer(check))
}

/// The operations of a path.
pub(crate) fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.patch,
        &mut item.delete,
    ]
    .into_iter()
    .flatten()
}

fn describe(operation: &mut Operation, guard: Guard) {
    let extensions = operation.extensions.get_or_insert_with(Extensions::default);
    extensions.insert(PERMISSION.to_owned(), guard.word().into());
    operation.security = match guard {
        Guard::Open | Guard::LocalRoot => Some(Vec::new()),
        Guard::SelfService | Guard::Needs(_) => Some(
            ["bearer", "mutualTLS", "hmac"]
                .map(|scheme| SecurityRequirement::new::<_, [&str; 0], _>(scheme, []))
                .to_vec(),
        ),
    };
}

fn small(metrics: Guard) -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(guarded(Guard::Open, routes!(health::live)))
        .routes(guarded(Guard::Open, routes!(health::ready)))
        .routes(guarded(metrics, routes!(health::expose_metrics)))
}

fn resources() -> OpenApiRouter<Api> {
    let needs = Guard::Needs;
    let resources = OpenApiRouter::default()
        .routes(guarded(
            needs(P::DevicesRead),
            routes!(devices::list_devices),
        ))
        .routes(guarded(
            needs(P::DevicesWrite),
            routes!(devices::create_device),
        ))
        .routes(guarded(
            needs(P::DevicesWrite),
            routes!(import::import_devices),
        ))
        .routes(guarded(needs(P::DevicesRead), routes!(devices::get_device)))
        .routes(guarded(
            needs(P::DevicesWrite),
            routes!(devices::replace_device, devices::patch_device),
        ))
        .routes(guarded(
            needs(P::DevicesDelete),
            routes!(devices::delete_device),
        ))
        .routes(guarded(
            needs(P::DevicesDelete),
            routes!(devices::restore_device),
        ))
        .routes(guarded(
            needs(P::DevicesPoll),
            routes!(devices::poll_device),
        ))
        .routes(guarded(
            needs(P::DevicesRead),
            routes!(interfaces::list_interfaces),
        ))
        .routes(guarded(
            needs(P::MetricsRead),
            routes!(metrics::latest_metrics),
        ))
        .routes(guarded(
            needs(P::MetricsRead),
            routes!(metrics::metric_range),
        ))
        .routes(guarded(
            needs(P::MetricsRead),
            routes!(metrics::list_metrics),
        ))
        .routes(guarded(needs(P::AlertsRead), routes!(alerts::list_alerts)))
        .routes(guarded(needs(P::AlertsRead), routes!(alerts::get_alert)))
        .routes(guarded(needs(P::RulesRead), routes!(rules::list_rules)))
        .routes(guarded(needs(P::RulesWrite), routes!(rules::create_rule)))
        .routes(guarded(needs(P::RulesRead), routes!(rules::get_rule)))
        .routes(guarded(
            needs(P::RulesWrite),
            routes!(rules::put_rule, rules::delete_rule),
        ))
        .routes(guarded(needs(P::OutboxRead), routes!(outbox::list_outbox)))
        .routes(guarded(needs(P::OutboxRead), routes!(outbox::get_delivery)))
        .routes(guarded(
            needs(P::OutboxRetry),
            routes!(outbox::retry_delivery),
        ))
        .routes(guarded(
            needs(P::NotificationsTest),
            routes!(outbox::send_test),
        ))
        .routes(guarded(
            needs(P::CredentialsRead),
            routes!(credentials::list_credentials),
        ))
        .routes(guarded(
            needs(P::CredentialsRead),
            routes!(credentials::get_credential),
        ))
        .routes(guarded(
            needs(P::CredentialsWrite),
            routes!(credentials::put_credential, credentials::delete_credential),
        ))
        .routes(guarded(needs(P::StatusRead), routes!(status::get_status)))
        .routes(guarded(Guard::SelfService, routes!(openapi::get_openapi)));
    OpenApiRouter::default().nest("/api/v1", resources)
}
