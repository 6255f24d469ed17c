//! What the audit log says of things: JSON objects without hashes, seeds,
//! sealed texts or anything else that lets somebody in.

use std::time::Duration;

use model::{
    Binding, Channel, Condition, CredentialRecord, Delivery, Device, DownAfter, KeyRing,
    PluginRecord, PluginVersion, Policy, Rule, SecretRecord, Selector, Tenant, TokenProof,
    TokenRecord, User,
};
use serde_json::{Value, json};

fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}

pub(crate) fn device(device: &Device) -> Value {
    let parents: Vec<u64> = device.parents.iter().map(|id| id.0).collect();
    json!({
        "id": device.id.0,
        "name": device.name,
        "address": device.address.to_string(),
        "tenant": device.tenant.0,
        "kind": device.kind.word(),
        "vendor": device.vendor,
        "model": device.model,
        "os": device.os,
        "site": device.site,
        "location": device.location,
        "tags": device.tags,
        "parents": parents,
        "poll": {
            "icmp": {
                "enabled": device.poll.icmp.enabled,
                "every_s": device.poll.icmp.every.map(seconds),
            },
            "snmp": {
                "enabled": device.poll.snmp.enabled,
                "every_s": device.poll.snmp.every.map(seconds),
                "port": device.poll.snmp.port,
            },
        },
        "credential": device.credential.as_ref().map(|name| &name.0),
        "enabled": device.enabled,
        "deleted": device.deleted.map(|at| at.to_string()),
        "revision": device.revision,
    })
}

pub(crate) fn rule(rule: &Rule) -> Value {
    json!({
        "name": rule.name.0,
        "severity": rule.severity.word(),
        "enabled": rule.enabled,
        "selector": selector(&rule.selector),
        "condition": condition(&rule.condition),
        "note": rule.note,
        "revision": rule.revision,
    })
}

pub(crate) fn plugin(plugin: &PluginRecord) -> Value {
    let version = |version: &PluginVersion| {
        json!({
            "id": version.id,
            "version": version.version,
            "kind": version.kind,
            "sha256": version.digest.hex(),
            "signer": version.signer,
            "asks": version.asks.0,
        })
    };
    json!({
        "name": plugin.name.as_str(),
        "current": version(&plugin.current),
        "previous": plugin.previous.as_ref().map(version),
        "waiting": plugin.waiting.as_ref().map(version),
        "granted": plugin.granted.0,
        "settings": plugin.settings,
        "enabled": plugin.enabled,
        "revision": plugin.revision,
    })
}

fn selector(selector: &Selector) -> Value {
    let kinds: Vec<&str> = selector.kinds.iter().map(|kind| kind.word()).collect();
    json!({
        "devices": selector.devices,
        "sites": selector.sites,
        "kinds": kinds,
        "tags": selector.tags,
    })
}

fn condition(condition: &Condition) -> Value {
    match condition {
        Condition::Availability { check, after } => {
            let after = match after {
                DownAfter::Rounds(rounds) => json!({ "rounds": rounds }),
                DownAfter::Span(span) => json!({ "seconds": seconds(*span) }),
            };
            json!({ "check": check.word(), "after": after })
        }
        Condition::Threshold {
            metric,
            labels,
            comparison,
            limit,
            hold,
            clear,
        } => json!({
            "metric": metric,
            "labels": labels,
            "comparison": comparison.sign(),
            "limit": limit,
            "hold_s": seconds(*hold),
            "clear": clear,
        }),
        Condition::Plugin { plugin } => json!({ "plugin": plugin }),
    }
}

pub(crate) fn delivery(delivery: &Delivery) -> Value {
    json!({
        "event": delivery.event.word(),
        "state": delivery.state.word(),
        "attempts": delivery.attempts,
        "last_error": delivery.last_error,
    })
}

/// To whom a delivery goes.
pub(crate) fn addressed(delivery: &Delivery) -> Value {
    let event = delivery.event.word();
    match &delivery.channel {
        Channel::Mail { to } => json!({ "event": event, "to": to }),
        Channel::Plugin { plugin } => json!({ "event": event, "plugin": plugin }),
    }
}

pub(crate) fn credential(credential: &CredentialRecord) -> Value {
    json!({
        "name": credential.name.0,
        "kind": credential.kind.word(),
        "secret": credential.secret.0,
        "revision": credential.revision,
    })
}

pub(crate) fn secret(secret: &SecretRecord) -> Value {
    let versions: Vec<u32> = secret.versions.iter().map(|kept| kept.version).collect();
    json!({
        "name": secret.name.0,
        "note": secret.note,
        "set": true,
        "versions": versions,
        "revision": secret.revision,
    })
}

pub(crate) fn key_ring(ring: &KeyRing) -> Value {
    let keys: Vec<&str> = ring.keys.iter().map(|key| key.id.0.as_str()).collect();
    json!({ "keys": keys, "revision": ring.revision })
}

pub(crate) fn user(user: &User) -> Value {
    let totp = match &user.totp {
        None => "none",
        Some(totp) if totp.confirmed => "on",
        Some(_) => "pending",
    };
    let oidc = user.oidc.as_ref();
    json!({
        "name": user.name.0,
        "full_name": user.full_name,
        "email": user.email,
        "bindings": bindings(&user.bindings),
        "active": user.active,
        "password_set": user.password.is_some(),
        "password_changed": user.password_changed.map(|at| at.to_string()),
        "must_change_password": user.must_change_password,
        "totp": totp,
        "recovery_codes": user.totp.as_ref().map_or(0, |totp| totp.recovery.len()),
        "certificate": user.certificate,
        "oidc": oidc.map(|who| json!({ "issuer": who.issuer, "subject": who.subject })),
        "revision": user.revision,
    })
}

fn bindings(bindings: &[Binding]) -> Vec<Value> {
    let shown = bindings.iter().map(|binding| {
        json!({
            "role": binding.role.word(),
            "tenant": binding.scope.tenant.as_ref().map(|tenant| &tenant.0),
            "sites": binding.scope.sites,
            "tags": binding.scope.tags,
        })
    });
    shown.collect()
}

pub(crate) fn policy(policy: &Policy) -> Value {
    let roles: Vec<&str> = policy.require_totp.iter().map(|role| role.word()).collect();
    json!({ "require_totp": roles, "revision": policy.revision })
}

pub(crate) fn tenant(tenant: &Tenant) -> Value {
    json!({
        "name": tenant.name.0,
        "note": tenant.note,
        "quota": {
            "devices": tenant.quota.devices,
            "samples_per_second": tenant.quota.samples_per_second,
            "log_lines_per_second": tenant.quota.log_lines_per_second,
        },
        "revision": tenant.revision,
    })
}

pub(crate) fn token(token: &TokenRecord) -> Value {
    let kind = match token.proof {
        TokenProof::Bearer(_) => "bearer",
        TokenProof::Hmac(_) => "hmac",
    };
    let permissions: Vec<&str> = token.permissions.iter().map(|one| one.word()).collect();
    json!({
        "id": token.id.0,
        "name": token.name,
        "kind": kind,
        "bindings": bindings(&token.bindings),
        "permissions": permissions,
        "requests_per_minute": token.requests_per_minute,
        "created_by": token.created_by,
        "expires": token.expires.to_string(),
        "revision": token.revision,
    })
}
