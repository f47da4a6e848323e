//! Which role permits what, and where a grant holds.

use uuid::Uuid;

use crate::api::{Grant, Permission, Role};
use crate::object::RingRole;

/// What a role permits. A project-wide permission (to make a ring, to export) needs a grant for the whole project; of
/// the list of rings, a grant for a ring shows that one.
pub fn permissions(role: Role) -> &'static [Permission] {
    use Permission::{
        AuditRead, KeyCreate, KeyDelete, KeyGet, KeyImport, KeyList, KeyRotate, KeyUpdate, KeyringCreate,
        KeyringDelete, KeyringGet, KeyringList, KeyringUpdate, ProjectExport, VersionDecrypt, VersionEncrypt,
        VersionManage, VersionSign, VersionVerify,
    };
    match role {
        Role::Owner => &Permission::ALL,
        Role::Admin => &[
            KeyringList,
            KeyringCreate,
            KeyringGet,
            KeyringUpdate,
            KeyringDelete,
            KeyList,
            KeyGet,
            KeyCreate,
            KeyUpdate,
            KeyDelete,
            KeyRotate,
            KeyImport,
            VersionManage,
            VersionEncrypt,
            VersionDecrypt,
            VersionSign,
            VersionVerify,
            ProjectExport,
        ],
        Role::Editor => &[
            KeyringList,
            KeyringGet,
            KeyList,
            KeyGet,
            KeyRotate,
            VersionEncrypt,
            VersionDecrypt,
            VersionSign,
            VersionVerify,
        ],
        Role::User => &[
            KeyringList,
            KeyringGet,
            KeyList,
            KeyGet,
            VersionEncrypt,
            VersionDecrypt,
            VersionSign,
            VersionVerify,
        ],
        Role::Reader => &[KeyringList, KeyringGet, KeyList, KeyGet],
        Role::AuditReader => &[AuditRead],
    }
}

/// Whether grants permit this in the project, or in one of its rings.
///
/// A grant for a ring permits nothing in the project as a whole, another ring's keys least of all.
pub fn allowed(grants: &[Grant], permission: Permission, project: Uuid, ring: Option<Uuid>) -> bool {
    let mut holding = grants.iter().filter(|grant| holds(grant, project, ring));
    holding.any(|grant| permissions(grant.role).contains(&permission))
}

/// Whether grants permit this in the project, or in any of its rings: a list shows of a project what each grant shows.
pub fn allowed_somewhere(grants: &[Grant], permission: Permission, project: Uuid) -> bool {
    let mut here = grants.iter().filter(|grant| grant.project.is_none_or(|granted| granted == project));
    here.any(|grant| permissions(grant.role).contains(&permission))
}

/// What grants make of their account in a ring over PKCS #11, the strongest first; nothing where none of them counts
/// there.
pub fn ring_role(grants: &[Grant], project: Uuid, ring: Uuid) -> Option<RingRole> {
    let holding = grants.iter().filter(|grant| holds(grant, project, Some(ring)));
    let mut roles: Vec<Role> = holding.map(|grant| grant.role).collect();
    roles.sort_unstable();
    roles.into_iter().find_map(ring_role_of)
}

/// What a role is over PKCS #11.
fn ring_role_of(role: Role) -> Option<RingRole> {
    match role {
        Role::Owner | Role::Admin => Some(RingRole::Admin),
        Role::Editor => Some(RingRole::Editor),
        Role::User => Some(RingRole::User),
        Role::Reader => Some(RingRole::Reader),
        Role::AuditReader => None,
    }
}

fn holds(grant: &Grant, project: Uuid, ring: Option<Uuid>) -> bool {
    let here = grant.project.is_none_or(|granted| granted == project);
    let inside = grant.ring.is_none_or(|granted| ring == Some(granted));
    here && inside
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use expect_test::expect_file;
    use proptest::prelude::*;

    use super::*;

    const fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn grant(role: Role, project: Option<u128>, ring: Option<u128>) -> Grant {
        Grant { role, project: project.map(id), ring: ring.map(id) }
    }

    fn mark(allowed: bool) -> &'static str {
        if allowed { "✔" } else { "✘" }
    }

    /// What each role permits, and where. `UPDATE_EXPECT=1 cargo test -p kms-core roles` writes it anew.
    #[test]
    fn the_matrix_is_as_committed() {
        let mut page = String::from(
            "# Which role permits what\n\nWritten by a test from `backend/core/src/policy/roles.rs`.\n\n\
             ## A role in a whole project, or in every project\n\n| permission |",
        );
        let header = |page: &mut String| {
            for role in Role::ALL {
                write!(page, " {} |", role.name()).unwrap();
            }
            page.push_str("\n|---|");
            page.push_str(&"---|".repeat(Role::ALL.len()));
            page.push('\n');
        };
        header(&mut page);
        for permission in Permission::ALL {
            write!(page, "| {permission} |").unwrap();
            for role in Role::ALL {
                let given = [grant(role, Some(1), None)];
                write!(page, " {} |", mark(allowed(&given, permission, id(1), Some(id(2))))).unwrap();
            }
            page.push('\n');
        }
        page.push_str("| *over PKCS #11* |");
        for role in Role::ALL {
            let word = ring_role(&[grant(role, Some(1), None)], id(1), id(2));
            let word = word.map_or("✘".to_owned(), |ring_role| format!("{ring_role:?}").to_lowercase());
            write!(page, " {word} |").unwrap();
        }
        page.push_str(
            "\n\n## Where a role counts\n\nOne account, one grant of kms.admin, asked for five things:\n\n\
             | granted for | ring A: encrypt | ring B: encrypt | project: make rings | project: list rings | other project: encrypt |\n\
             |---|---|---|---|---|---|\n",
        );
        for (words, project, ring) in [
            ("everything", None, None),
            ("the project", Some(1), None),
            ("ring A of the project", Some(1), Some(10)),
            ("another project", Some(2), None),
        ] {
            let given = [grant(Role::Admin, project, ring)];
            let ask = |permission, project, ring: Option<u128>| {
                mark(allowed(&given, permission, id(project), ring.map(id)))
            };
            let rings = ask(Permission::KeyringCreate, 1, None);
            let list = match (project, ring) {
                (Some(1), Some(_)) => "that one",
                (None | Some(1), None) => "all",
                _ => mark(false),
            };
            assert_eq!(allowed_somewhere(&given, Permission::KeyringList, id(1)), list != mark(false));
            let (a, b) =
                (ask(Permission::VersionEncrypt, 1, Some(10)), ask(Permission::VersionEncrypt, 1, Some(11)));
            let other = ask(Permission::VersionEncrypt, 2, Some(20));
            writeln!(page, "| {words} | {a} | {b} | {rings} | {list} | {other} |").unwrap();
        }
        page.push_str(
            "\nRoles add up: an account may what any of its grants permits. `kms.keyring.create`, `audit-log.entry.get`\n\
             and `kms.project.export` are about a project as a whole, so a grant for one ring never permits them. The list\n\
             of rings (`kms.keyring.list`) shows the rings that the caller may see.\n",
        );
        expect_file!["ROLES.md"].assert_eq(&page);
    }

    #[test]
    fn each_role_of_the_ladder_permits_all_that_the_one_below_permits() {
        let ladder = [Role::Owner, Role::Admin, Role::Editor, Role::User, Role::Reader];
        for pair in ladder.windows(2) {
            let (above, below) = (permissions(pair[0]), permissions(pair[1]));
            assert!(below.iter().all(|permission| above.contains(permission)), "{pair:?}");
            assert!(above.len() > below.len(), "{pair:?}");
        }
        // Who runs the keys does not read the log of what was done with them, and the other way round.
        assert!(!permissions(Role::Admin).contains(&Permission::AuditRead));
        assert_eq!(permissions(Role::AuditReader), [Permission::AuditRead]);
        for uses in [Permission::VersionDecrypt, Permission::VersionSign, Permission::VersionEncrypt] {
            assert!(!permissions(Role::Reader).contains(&uses));
        }
    }

    #[test]
    fn the_strongest_role_counts_over_pkcs_11() {
        let of = |roles: &[Role]| {
            let grants: Vec<_> = roles.iter().map(|role| grant(*role, Some(1), None)).collect();
            ring_role(&grants, id(1), id(2))
        };
        assert_eq!(of(&[Role::Reader, Role::Editor, Role::User]), Some(RingRole::Editor));
        assert_eq!(of(&[Role::AuditReader, Role::User]), Some(RingRole::User));
        assert_eq!(of(&[Role::AuditReader]), None);
        assert_eq!(of(&[]), None);
    }

    fn any_role() -> impl Strategy<Value = Role> {
        prop::sample::select(Role::ALL.to_vec())
    }

    fn any_permission() -> impl Strategy<Value = Permission> {
        prop::sample::select(Permission::ALL.to_vec())
    }

    proptest! {
        /// Ids are few, so that grants and questions meet.
        #[test]
        fn a_grant_counts_in_its_place_alone(
            role in any_role(),
            permission in any_permission(),
            (project, ring) in (0_u128..3, 10_u128..13),
            (asked, inside) in (0_u128..3, prop::option::of(10_u128..13)),
        ) {
            let ask = |given| allowed(&[given], permission, id(asked), inside.map(id));
            let permitted = permissions(role).contains(&permission);
            prop_assert_eq!(ask(grant(role, None, None)), permitted);
            prop_assert_eq!(ask(grant(role, Some(project), None)), permitted && asked == project);
            let there = asked == project && inside == Some(ring);
            prop_assert_eq!(ask(grant(role, Some(project), Some(ring))), permitted && there);
            if let Some(inside) = inside {
                let counts = ring_role(&[grant(role, Some(project), Some(ring))], id(asked), id(inside));
                prop_assert_eq!(counts, ring_role_of(role).filter(|_| there));
            }
        }

        #[test]
        fn a_further_grant_takes_nothing_away(
            roles in prop::collection::vec((any_role(), prop::option::of(0_u128..2), prop::option::of(10_u128..12)), 1..5),
            permission in any_permission(),
            (project, ring) in (0_u128..2, prop::option::of(10_u128..12)),
        ) {
            let all: Vec<_> = roles.iter().map(|(role, project, ring)| grant(*role, *project, *ring)).collect();
            let any = all.iter().any(|one| allowed(&[*one], permission, id(project), ring.map(id)));
            prop_assert_eq!(allowed(&all, permission, id(project), ring.map(id)), any);
        }
    }
}
