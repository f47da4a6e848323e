//! Which role permits what, and where a grant holds.

use uuid::Uuid;

use crate::kms::{Grant, Permission, Role};

/// What a role permits. A project-wide permission (to see the list of rings, to make one, to export) needs a grant for
/// the whole project.
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
pub fn allowed(grants: &[Grant], permission: Permission, project: Uuid, ring: Option<Uuid>) -> bool {
    grants.iter().any(|grant| {
        let here = grant.project.is_none_or(|granted| granted == project);
        let inside = grant.ring.is_none_or(|granted| ring == Some(granted));
        here && inside && permissions(grant.role).contains(&permission)
    })
}
