//! The roles, and what each of them allows.

use axum::http::Uri;
use model::{Permission, Role};
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::query;
use crate::request::JsonAnswer;

/// A role.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RoleView {
    /// Its name.
    #[schema(example = "OPERATOR")]
    name: &'static str,
    /// Whom it is for.
    help: &'static str,
    /// What it allows.
    #[schema(example = json!(["devices:read", "devices:write"]))]
    permissions: Vec<&'static str>,
}

/// A permission.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PermissionView {
    /// `resource:verb`.
    #[schema(example = "devices:read")]
    name: &'static str,
    /// What it allows.
    help: &'static str,
}

/// All roles and all permissions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RoleList {
    /// The roles.
    items: Vec<RoleView>,
    /// Every permission that there is.
    permissions: Vec<PermissionView>,
}

fn help(role: Role) -> &'static str {
    match role {
        Role::Admin => "Everything.",
        Role::Operator => "Runs the network: devices, rules, credentials; not people.",
        Role::Auditor => "Sees everything but secrets, the audit log too; changes nothing.",
        Role::ReadOnly => "Sees devices, metrics and alerts; changes nothing.",
    }
}

/// Lists the roles with what each of them allows.
#[utoipa::path(
    get,
    path = "/roles",
    tag = "people",
    responses((status = 200, description = "The roles and the permissions", body = RoleList))
)]
pub(crate) async fn list_roles(uri: Uri) -> Result<JsonAnswer<RoleList>, Problem> {
    query::none(&uri)?;
    let items = Role::ALL.map(|role| {
        let granted = Permission::ALL.iter().filter(|known| role.grants(**known));
        RoleView {
            name: role.word(),
            help: help(role),
            permissions: granted.map(|known| known.word()).collect(),
        }
    });
    let permissions = Permission::ALL.iter().map(|permission| PermissionView {
        name: permission.word(),
        help: permission.help(),
    });
    Ok(JsonAnswer(RoleList {
        items: items.into(),
        permissions: permissions.collect(),
    }))
}
