//! What the document says of the values that are taken: which words, how long
//! a text, which numbers, for every parameter and every field of a body.
//!
//! Handlers read text and numbers; what of them is refused is decided while
//! reading, from the same constants as here. Whether a name is free, a tenant
//! exists or a password is a good one is not said: no document can.

use model::{Check, DeviceKind, Permission, Role, Severity};
use serde_json::Value;
use store::samples::Selector;
use utoipa::Number;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayItems, KnownFormat, Object, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{OpenApi, Ref, RefOr, Schema};

use crate::users::PASSWORD_BYTES;
use crate::{
    alerts, audit, credentials, devices, outbox, page, secret_routes, series_ask, sessions,
    tenants, tokens, users,
};

/// Which values are taken.
enum Taken {
    /// One of these words.
    Words(Vec<String>),
    /// Text with at least and at most so many characters.
    Letters(usize, usize),
    /// Text of this shape: a regular expression.
    Shape(&'static str),
    /// An instant (RFC 3339).
    Instant,
    /// A whole number from one to another.
    Whole(usize, usize),
    /// A list with at least and at most so many items.
    Items(usize, usize),
    /// Anything but null.
    NotNull,
}

use Taken::{Instant, Items, Letters, NotNull, Shape, Whole, Words};

/// A user's name.
const USER: Taken = Shape(r"^[A-Za-z0-9][A-Za-z0-9._+@-]{0,63}$");

/// A tenant's name.
const TENANT: Taken = Shape(r"^[a-z][a-z0-9-]{0,31}$");

/// The name of a device, a rule or a credential.
const NAME: Taken = Letters(1, 128);

/// A line of text.
const LINE: Taken = Shape(r"^[^\u0000-\u001f\u007f-\u009f]{0,256}$");

/// A span of time, such as 1h30m.
const SPAN: Taken = Shape(r"^([0-9]{1,6}(d|h|m|s|ms))+$");

/// Where a backup goes.
const PLACE: &str = r"^(/|s3://)[^\u0000-\u001f\u007f-\u009f]*$";

/// The length of a step, or none at all.
const STEP: Taken = Shape(r"^(raw|([0-9]{1,6}(d|h|m|s|ms))+)$");

/// A new password, where the settings demand the least.
const PASSWORD: Taken = Letters(8, PASSWORD_BYTES);

/// A password that is known already.
const KNOWN_PASSWORD: Taken = Letters(1, PASSWORD_BYTES);

/// Text in base64 (RFC 4648 §4).
const BASE64: Taken =
    Shape(r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$");

/// A mail address: two parts around an @.
const MAIL: Taken =
    Shape(r"^[^\s@<>,;\u0000-\u001f\u007f-\u009f]+@[^\s@<>,;\u0000-\u001f\u007f-\u009f]+$");

/// What `If-Match` holds.
const TAG: Taken = Shape(r#"^(\*|"[0-9]+")$"#);

/// Says in `document` what is taken.
pub(crate) fn say(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        for operation in crate::router::operations(item) {
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter {
                    say_of_parameter(path, parameter);
                }
            }
        }
    }
    let schemas = &mut document.components.get_or_insert_default().schemas;
    for (name, field, taken) in fields() {
        if let Some(RefOr::T(Schema::Object(body))) = schemas.get_mut(name)
            && let Some(field) = body.properties.get_mut(field)
        {
            taken.limit(field);
        }
    }
    add_devices(document);
    let schemas = &mut document.components.get_or_insert_default().schemas;
    let parts: Vec<String> = schemas.values().flat_map(parts).collect();
    for (name, schema) in schemas.iter_mut() {
        if name.ends_with("Body") && !parts.iter().any(|part| part.ends_with(&format!("/{name}"))) {
            close(schema);
        }
    }
}

/// The schemas that this one is made of, beside what it adds itself.
fn parts(schema: &RefOr<Schema>) -> Vec<String> {
    let RefOr::T(Schema::AllOf(all)) = schema else {
        return Vec::new();
    };
    let parts = all.items.iter().filter_map(|part| match part {
        RefOr::Ref(part) => Some(part.ref_location.clone()),
        RefOr::T(_) => None,
    });
    parts.collect()
}

/// A new device and a patch of one have the fields of a device.
fn add_devices(document: &mut OpenApi) {
    let schemas = &mut document.components.get_or_insert_default().schemas;
    let Some(RefOr::T(Schema::Object(device))) = schemas.get("DeviceBody").cloned() else {
        return;
    };
    let mut new = device.clone();
    if let Some(RefOr::T(Schema::AllOf(parts))) = schemas.get("NewDeviceBody") {
        for part in &parts.items {
            if let RefOr::T(Schema::Object(part)) = part {
                let own = part.properties.iter();
                let own = own.filter(|(name, _)| !device.properties.contains_key(*name));
                new.properties
                    .extend(own.map(|(name, schema)| (name.clone(), schema.clone())));
            }
        }
        new.description.clone_from(&parts.description);
    }
    if let Some(community) = new.properties.get_mut("snmp_community") {
        Letters(1, 255).limit(community);
    }
    let mut patch = device;
    patch.required.clear();
    patch.description = Some("What is to be changed of a device; null unsets.".to_owned());
    schemas.insert("NewDeviceBody".to_owned(), Schema::Object(new).into());
    schemas.insert("DevicePatchBody".to_owned(), Schema::Object(patch).into());
    let item = document.paths.paths.get_mut("/api/v1/devices/{device}");
    let patch: Option<&mut Operation> = item.and_then(|item| item.patch.as_mut());
    let Some(RefOr::T(body)) = patch.and_then(|patch| patch.request_body.as_mut()) else {
        return;
    };
    for content in body.content.values_mut() {
        if let RefOr::T(content) = content {
            content.schema = Some(Ref::from_schema_name("DevicePatchBody").into());
        }
    }
}

fn say_of_parameter(path: &str, parameter: &mut Parameter) {
    let name = parameter.name.as_str();
    let taken = match (&parameter.parameter_in, name) {
        (ParameterIn::Query, "limit") => Some(Whole(1, page::LIMIT_MAX)),
        (ParameterIn::Header, "If-Match") => Some(TAG),
        (ParameterIn::Header, "If-None-Match") => Some(Shape(r"^\*$")),
        (ParameterIn::Query, name) => {
            let resource = path.strip_prefix("/api/v1").unwrap_or(path);
            of_query(resource, name)
        }
        _ => None,
    };
    if let (Some(taken), Some(schema)) = (taken, &mut parameter.schema) {
        taken.limit(schema);
    }
}

/// What is taken for the parameter `name` of the list at `path`.
fn of_query(path: &str, name: &str) -> Option<Taken> {
    match (path, name) {
        (path, "sort") => sorts(path).map(either_way),
        ("/devices", "state") => Some(words(&devices::STATES)),
        ("/devices", "kind") => Some(kinds()),
        ("/alerts", "state") => Some(words(&alerts::STATES)),
        ("/alerts", "severity") => Some(severities()),
        ("/outbox", "state") => Some(words(&outbox::STATES)),
        ("/users", "role") => Some(roles()),
        ("/audit", "outcome") => Some(words(&audit::OUTCOMES)),
        ("/audit", "actor" | "action" | "object" | "tenant" | "q") => {
            Some(Letters(0, audit::FILTER_LETTERS))
        }
        ("/devices/{device}/metrics/{metric}" | "/series", "step") => Some(STEP),
        ("/series", "selector") => Some(Letters(1, Selector::LONGEST)),
        ("/series", "points" | "width") => {
            Some(Whole(*series_ask::STEPS.start(), *series_ask::STEPS.end()))
        }
        ("/series", "aggregate") => Some(words(&series_ask::AGGREGATES)),
        ("/series", "across") => Some(words(&series_ask::ACROSS)),
        ("/series", "source") => Some(words(&series_ask::SOURCES)),
        ("/series", "format") => Some(words(&series_ask::FORMATS)),
        ("/devices/{device}/metrics/{metric}", "view") => Some(words(&["rate", "raw"])),
        _ => None,
    }
}

/// What the list at `path` is sorted by.
fn sorts(path: &str) -> Option<&'static [&'static str]> {
    Some(match path {
        "/devices" => &devices::SORTS,
        "/credentials" => &credentials::SORTS,
        "/secrets" => &secret_routes::SORTS,
        "/sessions" => &sessions::SORTS,
        "/me/sessions" => &sessions::OWN_SORTS,
        "/tenants" => &tenants::SORTS,
        "/tokens" => &tokens::SORTS,
        "/users" => &users::SORTS,
        _ => return None,
    })
}

/// Orders from first to last, and with a - from last to first.
fn either_way(sorts: &[&str]) -> Taken {
    let turned = sorts.iter().map(|sort| format!("-{sort}"));
    Words(
        sorts
            .iter()
            .map(ToString::to_string)
            .chain(turned)
            .collect(),
    )
}

fn words(words: &[&str]) -> Taken {
    Words(words.iter().map(ToString::to_string).collect())
}

fn kinds() -> Taken {
    words(&DeviceKind::ALL.map(|(_, word)| word))
}

fn roles() -> Taken {
    words(&Role::ALL.map(Role::word))
}

fn severities() -> Taken {
    words(&[Severity::Info, Severity::Warning, Severity::Critical].map(Severity::word))
}

/// What is taken for which field of which body.
fn fields() -> Vec<(&'static str, &'static str, Taken)> {
    let permissions: Vec<&str> = Permission::ALL.iter().map(|known| known.word()).collect();
    let permissions = words(&permissions);
    let checks = words(&Check::ALL.map(Check::word));
    vec![
        ("AdminBody", "user", USER),
        ("AdminBody", "password", PASSWORD),
        ("AvailabilityBody", "check", checks),
        ("AvailabilityBody", "for", SPAN),
        ("AvailabilityBody", "rounds", Whole(1, 1_000)),
        ("NewBackupBody", "to", Shape(PLACE)),
        ("BindingBody", "role", roles()),
        ("BindingBody", "tenant", TENANT),
        ("BindingBody", "sites", NAME),
        ("BindingBody", "sites", Items(0, 256)),
        ("BindingBody", "tags", NAME),
        ("BindingBody", "tags", Items(0, 256)),
        ("CodeBody", "code", KNOWN_PASSWORD),
        ("ConfirmBody", "password", KNOWN_PASSWORD),
        ("CredentialBody", "kind", words(&credentials::KINDS)),
        ("CredentialBody", "community", Letters(1, 255)),
        ("CredentialBody", "secret", Shape("^secret://[^.].*$")),
        ("DeviceBody", "tenant", TENANT),
        ("DeviceBody", "name", NAME),
        ("DeviceBody", "address", Letters(1, 253)),
        ("DeviceBody", "kind", kinds()),
        ("DeviceBody", "vendor", LINE),
        ("DeviceBody", "model", LINE),
        ("DeviceBody", "os", LINE),
        ("DeviceBody", "site", LINE),
        ("DeviceBody", "location", LINE),
        ("DeviceBody", "tags", NAME),
        ("DeviceBody", "tags", Items(0, 64)),
        ("DeviceBody", "parents", NAME),
        ("DeviceBody", "parents", Items(0, 64)),
        ("IcmpBody", "every", SPAN),
        ("MatchBody", "devices", NAME),
        ("MatchBody", "devices", Items(0, 1_000)),
        ("MatchBody", "sites", NAME),
        ("MatchBody", "sites", Items(0, 1_000)),
        ("MatchBody", "kinds", kinds()),
        ("MatchBody", "tags", NAME),
        ("MatchBody", "tags", Items(0, 1_000)),
        ("NewTenantBody", "name", TENANT),
        ("NewTenantBody", "note", LINE),
        ("NewTokenBody", "name", Letters(1, 128)),
        ("NewTokenBody", "kind", words(&tokens::KINDS)),
        ("NewTokenBody", "bindings", Items(1, 64)),
        ("NewTokenBody", "permissions", permissions),
        ("NewTokenBody", "expires", Instant),
        ("NewUserBody", "name", USER),
        ("NewUserBody", "full_name", LINE),
        ("NewUserBody", "email", MAIL),
        ("NewUserBody", "bindings", Items(0, 64)),
        ("NewUserBody", "certificate", LINE),
        ("NewUserBody", "password", PASSWORD),
        ("OidcBody", "issuer", Letters(1, 256)),
        ("OidcBody", "subject", Letters(1, 256)),
        ("PasswordBody", "old", KNOWN_PASSWORD),
        ("PasswordBody", "new", PASSWORD),
        ("PolicyBody", "require_totp", roles()),
        ("ReauthenticateBody", "password", KNOWN_PASSWORD),
        (
            "RefreshBody",
            "refresh_token",
            Letters(0, sessions::TOKEN_BYTES),
        ),
        ("RuleBody", "name", Letters(1, 128)),
        ("RuleBody", "severity", severities()),
        ("RuleBody", "note", Letters(0, 1_000)),
        (
            "SecretBody",
            "value",
            Letters(1, secret_routes::VALUE_BYTES),
        ),
        ("SecretBody", "value_base64", BASE64),
        ("SecretBody", "note", LINE),
        ("SetupBody", "user", USER),
        ("SetupBody", "password", PASSWORD),
        ("SetupBody", "token", Letters(1, sessions::TYPED_BYTES)),
        ("SignInBody", "user", Letters(1, sessions::TYPED_BYTES)),
        ("SignInBody", "password", KNOWN_PASSWORD),
        ("SignInBody", "code", Letters(0, sessions::TYPED_BYTES)),
        ("SnmpBody", "every", SPAN),
        ("SnmpBody", "port", Whole(1, 65_535)),
        ("TenantBody", "note", LINE),
        ("TestBody", "to", MAIL),
        ("TestBody", "to", Items(0, outbox::TEST_RECIPIENTS)),
        ("ThresholdBody", "for", SPAN),
        ("TokenBody", "expires", Instant),
        ("TokenBody", "expires", NotNull),
        ("UserBody", "full_name", LINE),
        ("UserBody", "email", MAIL),
        ("UserBody", "bindings", Items(0, 64)),
        ("UserBody", "certificate", LINE),
    ]
}

impl Taken {
    /// Says it in `schema`; of a list, in what its items are.
    fn limit(&self, schema: &mut RefOr<Schema>) {
        match (self, schema) {
            (Items(least, most), RefOr::T(Schema::Array(list))) => {
                list.min_items = (*least > 0).then_some(*least);
                list.max_items = Some(*most);
            }
            (_, RefOr::T(Schema::Array(list))) => {
                if let ArrayItems::RefOrSchema(item) = &mut list.items {
                    self.limit(item);
                }
            }
            (_, RefOr::T(Schema::Object(value))) => self.limit_value(value),
            _ => {}
        }
    }

    fn limit_value(&self, value: &mut Object) {
        match self {
            Words(words) => {
                let mut words: Vec<Value> = words.iter().cloned().map(Value::from).collect();
                if takes_null(&value.schema_type) {
                    words.push(Value::Null);
                }
                value.enum_values = Some(words);
            }
            Letters(least, most) => {
                value.min_length = (*least > 0).then_some(*least);
                value.max_length = Some(*most);
            }
            Shape(shape) => value.pattern = Some((*shape).to_owned()),
            Instant => value.format = Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)),
            Whole(least, most) => {
                value.minimum = Some(Number::UInt(*least));
                value.maximum = Some(Number::UInt(*most));
            }
            NotNull => {
                if let SchemaType::Array(types) = &mut value.schema_type {
                    types.retain(|known| *known != Type::Null);
                    if let [only] = types.as_slice() {
                        value.schema_type = SchemaType::Type(only.clone());
                    }
                }
            }
            Items(..) => {}
        }
    }
}

fn takes_null(schema: &SchemaType) -> bool {
    matches!(schema, SchemaType::Array(types) if types.contains(&Type::Null))
}

/// No body takes fields that it does not know.
fn close(schema: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::Object(body)) = schema {
        let closed = AdditionalProperties::FreeForm(false);
        body.additional_properties
            .get_or_insert_with(|| Box::new(closed));
    }
}
