//! What a caller may do where.

use std::collections::BTreeSet;

use model::{Binding, Permission, Role, TenantName};
use proptest::prelude::*;

use super::support::{NOW, device, everywhere, from, within};
use crate::{Caller, Tenants};

fn caller(bindings: Vec<Binding>) -> Caller {
    let mut user = model::User::new(model::UserName("jane".to_owned()), NOW);
    user.bindings = bindings;
    let session = model::SessionId("5e55".to_owned());
    Caller::person(user.into(), session, None, &from(1))
}

fn tenant(name: &str) -> TenantName {
    TenantName(name.to_owned())
}

#[test]
fn a_role_in_a_tenant_holds_there_and_nowhere_else() {
    let jane = caller(vec![within(Role::Operator, Some("acme"), &[], &[])]);
    let read = Permission::DevicesRead;
    assert!(jane.holds(read) && !jane.holds_everywhere(read));
    assert!(jane.on_device(read, &device("acme", None, &[])));
    assert!(!jane.on_device(read, &device("default", None, &[])));
    assert!(jane.on_tenant(Permission::RulesWrite, &tenant("acme")));
    assert!(!jane.on_tenant(Permission::RulesWrite, &tenant("default")));
    assert_eq!(jane.tenants(read), Tenants::Some([tenant("acme")].into()));
    assert_eq!(
        jane.tenants(Permission::UsersRead),
        Tenants::Some([].into())
    );
}

#[test]
fn a_role_at_a_site_holds_for_devices_there_and_for_nothing_that_is_the_tenants() {
    let jane = caller(vec![within(
        Role::Operator,
        Some("acme"),
        &["berlin"],
        &["core"],
    )]);
    let write = Permission::DevicesWrite;
    assert!(jane.on_device(write, &device("acme", Some("berlin"), &["core", "x"])));
    for other in [
        device("acme", Some("berlin"), &[]),
        device("acme", Some("bonn"), &["core"]),
        device("acme", None, &["core"]),
        device("other", Some("berlin"), &["core"]),
    ] {
        assert!(!jane.on_device(write, &other), "{other:?}");
    }
    assert!(!jane.on_tenant(Permission::RulesWrite, &tenant("acme")));
    assert!(jane.reaches_tenant(Permission::RulesRead, &tenant("acme")));
    assert_eq!(jane.whole_tenants(write), Tenants::Some([].into()));
    let bonn = "bonn".to_owned();
    assert!(!jane.on_place(
        write,
        &tenant("acme"),
        Some(&bonn),
        &["core".to_owned()].into()
    ));
}

#[test]
fn several_roles_add_up_but_not_across_their_places() {
    let jane = caller(vec![
        within(Role::Operator, Some("acme"), &[], &[]),
        within(Role::ReadOnly, None, &["berlin"], &[]),
    ]);
    let elsewhere = device("default", Some("berlin"), &[]);
    assert!(jane.on_device(Permission::DevicesRead, &elsewhere));
    assert!(!jane.on_device(Permission::DevicesWrite, &elsewhere));
    assert_eq!(jane.tenants(Permission::DevicesRead), Tenants::All);
    let acme = Tenants::Some([tenant("acme")].into());
    assert_eq!(jane.tenants(Permission::DevicesWrite), acme);
    assert_eq!(jane.whole_tenants(Permission::DevicesRead), acme);
}

#[test]
fn an_administrator_may_give_everything_and_an_operator_no_more_than_they_have() {
    let all = BTreeSet::new();
    let root = caller(vec![everywhere(Role::Admin)]);
    let jane = caller(vec![everywhere(Role::Operator)]);
    for role in Role::ALL {
        assert!(root.may_give(&[everywhere(role)], &all));
    }
    assert!(jane.may_give(
        &[everywhere(Role::ReadOnly), everywhere(Role::Operator)],
        &all
    ));
    assert!(!jane.may_give(&[everywhere(Role::Auditor)], &all));
    assert!(jane.may_give(
        &[everywhere(Role::Admin)],
        &[Permission::DevicesRead].into()
    ));
}

fn binding() -> impl Strategy<Value = Binding> {
    let some = |words: &'static [&'static str]| prop::sample::subsequence(words, 0..=words.len());
    (
        prop::sample::select(Role::ALL.to_vec()),
        prop::option::of(prop::sample::select(vec!["acme", "default"])),
        some(&["berlin", "bonn"]),
        some(&["core", "edge"]),
    )
        .prop_map(|(role, tenant, sites, tags)| within(role, tenant, &sites, &tags))
}

proptest! {
    /// Whoever gets what somebody may give, may nothing that they may not.
    #[test]
    fn what_may_be_given_is_never_more_than_what_one_has(
        mine in prop::collection::vec(binding(), 0..4),
        given in prop::collection::vec(binding(), 0..3),
        tenant_name in prop::sample::select(vec!["acme", "default", "third"]),
        site in prop::option::of(prop::sample::select(vec!["berlin", "bonn", "ulm"])),
        tags in prop::sample::subsequence(vec!["core", "edge", "lab"], 0..=3),
    ) {
        let (giver, taker) = (caller(mine), caller(given.clone()));
        prop_assume!(giver.may_give(&given, &BTreeSet::new()));
        let device = device(tenant_name, site, &tags);
        for permission in Permission::ALL.iter().copied() {
            prop_assert!(giver.on_device(permission, &device) || !taker.on_device(permission, &device));
            let whose = tenant(tenant_name);
            prop_assert!(giver.on_tenant(permission, &whose) || !taker.on_tenant(permission, &whose));
            prop_assert!(giver.holds_everywhere(permission) || !taker.holds_everywhere(permission));
        }
    }
}
