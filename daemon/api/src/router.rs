//! Every path, its handlers, and who may use them.

use axum::{Router, middleware};
use model::Permission as P;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{OpenApi, RefOr, Required};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use crate::gate::{self, Guard};
use crate::{
    Api, alerts, answer, audit, backups, credentials, devices, health, import, interfaces, me,
    metrics, oidc, openapi, outbox, plugin_bench, plugins, policy, roles, rules, secret_key,
    secret_routes, series, sessions, setup, setup_page, status, tenants, tokens, users,
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
        .merge(pages())
        .merge(OpenApiRouter::default().nest("/api/v1", people()))
        .merge(OpenApiRouter::default().nest("/api/v1", vault()))
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

/// Like [`guarded`], for routes whose answer shows a secret once, or is far too
/// long: it is never kept, so an `Idempotency-Key` is refused.
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
        let is_kept = !secret && guard != Guard::Open;
        if let Some(post) = item.post.as_mut().filter(|_| is_kept) {
            post.parameters
                .get_or_insert_default()
                .push(RefOr::T(idempotency_key()));
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

fn idempotency_key() -> Parameter {
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Any text of up to 255 visible ASCII characters that is used for this request alone: sent again within 24 hours, it is answered again and not done again",
        ))
        .schema(Some(
            ObjectBuilder::new()
                .schema_type(Type::String)
                .min_length(Some(1))
                .max_length(Some(255))
                .pattern(Some("^[!-~]+$")),
        ))
        .build()
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
            needs(P::MetricsDelete),
            routes!(metrics::forget_metrics),
        ))
        .routes(guarded(needs(P::MetricsRead), routes!(series::show_series)))
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
        .routes(guarded(
            needs(P::BackupsRead),
            routes!(backups::list_backups),
        ))
        .routes(guarded(
            needs(P::BackupsWrite),
            routes!(backups::create_backup),
        ))
        .routes(guarded(
            needs(P::BackupsRead),
            routes!(backups::get_backup_run),
        ))
        .routes(guarded_secret(
            needs(P::BackupsWrite),
            routes!(backups::stream_backup),
        ))
        .merge(extensions())
        .routes(guarded(needs(P::StatusRead), routes!(status::get_status)))
        .routes(guarded(Guard::SelfService, routes!(openapi::get_openapi)));
    OpenApiRouter::default().nest("/api/v1", resources)
}

/// Plugins, and what their authors need.
fn extensions() -> OpenApiRouter<Api> {
    let (read, write) = (Guard::Needs(P::PluginsRead), Guard::Needs(P::PluginsWrite));
    OpenApiRouter::default()
        .routes(guarded(read, routes!(plugins::list_plugins)))
        .routes(guarded(read, routes!(plugins::list_bundled_plugins)))
        .routes(guarded_secret(write, routes!(plugins::install_plugin)))
        .routes(guarded(read, routes!(plugins::get_plugin)))
        .routes(guarded(write, routes!(plugins::remove_plugin)))
        .routes(guarded(
            Guard::Needs(P::PluginsGrant),
            routes!(plugins::grant_plugin),
        ))
        .routes(guarded(write, routes!(plugins::enable_plugin)))
        .routes(guarded(write, routes!(plugins::disable_plugin)))
        .routes(guarded(write, routes!(plugins::roll_back_plugin)))
        .routes(guarded(write, routes!(plugins::set_plugin)))
        .routes(guarded(read, routes!(plugins::get_plugin_log)))
        .routes(guarded(
            write,
            routes!(plugin_bench::put_dev_plugin, plugin_bench::end_dev_plugin),
        ))
        .routes(guarded(write, routes!(plugin_bench::renew_dev_plugin)))
        .routes(guarded(write, routes!(plugin_bench::try_plugin)))
        .routes(guarded(write, routes!(plugin_bench::plan_of_plugin)))
        .routes(guarded(write, routes!(plugin_bench::ask_device)))
}

/// What a browser is shown.
fn pages() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(guarded(Guard::Open, routes!(setup_page::setup_page)))
        .routes(guarded(Guard::Open, routes!(setup_page::setup_script)))
        .routes(guarded(Guard::Open, routes!(setup_page::setup_style)))
        .routes(guarded(Guard::Open, routes!(setup_page::signed_in_page)))
}

/// Setting up, signing in, and who may do what.
fn people() -> OpenApiRouter<Api> {
    let needs = Guard::Needs;
    let own = Guard::SelfService;
    OpenApiRouter::default()
        .routes(guarded(Guard::Open, routes!(setup::get_setup)))
        .routes(guarded(Guard::Open, routes!(setup::set_up)))
        .routes(guarded_secret(
            Guard::LocalRoot,
            routes!(setup::create_setup_link),
        ))
        .routes(guarded(Guard::LocalRoot, routes!(setup::create_admin)))
        .routes(guarded_secret(
            Guard::Open,
            routes!(sessions::create_session),
        ))
        .routes(guarded_secret(
            Guard::Open,
            routes!(sessions::refresh_session),
        ))
        .routes(guarded(
            needs(P::SessionsRead),
            routes!(sessions::list_sessions),
        ))
        .routes(guarded(
            needs(P::SessionsEnd),
            routes!(sessions::end_session),
        ))
        .routes(guarded(Guard::Open, routes!(oidc::oidc_login)))
        .routes(guarded(Guard::Open, routes!(oidc::oidc_callback)))
        .routes(guarded(own, routes!(me::get_me)))
        .routes(guarded(own, routes!(me::sign_out)))
        .routes(guarded(own, routes!(me::list_own_sessions)))
        .routes(guarded(own, routes!(me::end_own_session)))
        .routes(guarded(own, routes!(me::change_password)))
        .routes(guarded_secret(
            own,
            routes!(me::begin_totp, me::confirm_totp, me::remove_own_totp),
        ))
        .routes(guarded(own, routes!(roles::list_roles)))
        .routes(guarded(needs(P::UsersRead), routes!(users::list_users)))
        .routes(guarded(needs(P::UsersWrite), routes!(users::create_user)))
        .routes(guarded(needs(P::UsersRead), routes!(users::get_user)))
        .routes(guarded(
            needs(P::UsersWrite),
            routes!(users::patch_user, users::delete_user),
        ))
        .routes(guarded_secret(
            needs(P::UsersWrite),
            routes!(users::reset_password),
        ))
        .routes(guarded(needs(P::UsersWrite), routes!(users::remove_totp)))
        .routes(guarded(needs(P::SessionsEnd), routes!(users::end_sessions)))
        .routes(guarded(needs(P::PolicyRead), routes!(policy::get_policy)))
        .routes(guarded(
            needs(P::PolicyWrite),
            routes!(policy::patch_policy),
        ))
        .routes(guarded(
            needs(P::TenantsRead),
            routes!(tenants::list_tenants),
        ))
        .routes(guarded(
            needs(P::TenantsWrite),
            routes!(tenants::create_tenant),
        ))
        .routes(guarded(needs(P::TenantsRead), routes!(tenants::get_tenant)))
        .routes(guarded(
            needs(P::TenantsWrite),
            routes!(tenants::patch_tenant, tenants::delete_tenant),
        ))
}

/// Tokens, secrets, and who did what.
fn vault() -> OpenApiRouter<Api> {
    let needs = Guard::Needs;
    OpenApiRouter::default()
        .routes(guarded(needs(P::TokensRead), routes!(tokens::list_tokens)))
        .routes(guarded_secret(
            needs(P::TokensWrite),
            routes!(tokens::create_token),
        ))
        .routes(guarded(needs(P::TokensRead), routes!(tokens::get_token)))
        .routes(guarded(
            needs(P::TokensWrite),
            routes!(tokens::patch_token, tokens::delete_token),
        ))
        .routes(guarded(
            needs(P::SecretsRead),
            routes!(secret_routes::list_secrets),
        ))
        .routes(guarded(
            needs(P::SecretsRead),
            routes!(secret_routes::get_secret),
        ))
        .routes(guarded(
            needs(P::SecretsWrite),
            routes!(secret_routes::put_secret, secret_routes::delete_secret),
        ))
        .routes(guarded(
            needs(P::SecretsRead),
            routes!(secret_key::get_secrets_key),
        ))
        .routes(guarded(
            needs(P::SecretsRotateKey),
            routes!(secret_key::rotate_secrets_key),
        ))
        .routes(guarded(needs(P::AuditRead), routes!(audit::list_audit)))
        .routes(guarded(needs(P::AuditRead), routes!(audit::verify_audit)))
}
