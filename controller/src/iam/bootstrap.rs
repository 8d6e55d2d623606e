//! What the platform brings along: the default roles, and a ProtectedResource for each kind.
//!
//! Written at every start where they differ, so that a new version's roles know its kinds.

use isocast_api::{
    iam::{LaunchStage, PermissionPattern, ProtectedResourceSpec, RoleReference, RoleSpec},
    object::Spec,
    registry::kinds,
};
use serde_json::{Value, json};

use super::permission::Catalog;
use crate::{
    authz::{Identity, verb},
    error::{ApiError, Reason},
    managers::SYSTEM_NAMESPACE,
    registry::{FieldValidation, Patch, Registry, Subresource, WriteOptions},
    store::{Key, Persistence, Resource},
};

struct BuiltIn {
    name: &'static str,
    display: &'static str,
    permissions: &'static [&'static str],
    inherits: &'static [&'static str],
}

const ROLES: &[BuiltIn] = &[
    BuiltIn {
        name: "viewer",
        display: "Sees services and containers",
        permissions: &[
            "coordination.k8s.io/leases.get",
            "coordination.k8s.io/leases.list",
            "coordination.k8s.io/leases.watch",
            "core/configmaps.get",
            "core/configmaps.list",
            "core/configmaps.watch",
            "core/events.get",
            "core/events.list",
            "core/events.watch",
            "network.isocast.dev/*.get",
            "network.isocast.dev/*.list",
            "network.isocast.dev/*.watch",
            "network.isocast.dev/*/status.get",
            "quota.isocast.dev/*.get",
            "quota.isocast.dev/*.list",
            "quota.isocast.dev/*.watch",
            "quota.isocast.dev/*/status.get",
            "resourcemanager.isocast.dev/*.get",
            "resourcemanager.isocast.dev/*.list",
            "resourcemanager.isocast.dev/*.watch",
            "resourcemanager.isocast.dev/*/status.get",
        ],
        inherits: &[],
    },
    BuiltIn {
        name: "editor",
        display: "Changes services",
        permissions: &[
            "coordination.k8s.io/leases.*",
            "core/configmaps.*",
            "core/events.*",
            "core/secrets.*",
            "network.isocast.dev/addressclaims.*",
            "network.isocast.dev/anycastservices.*",
            "network.isocast.dev/backendpools.*",
            "network.isocast.dev/drains.*",
        ],
        inherits: &["viewer"],
    },
    BuiltIn {
        name: "admin",
        display: "Changes containers, and who may do what in them",
        permissions: &[
            "resourcemanager.isocast.dev/*.*",
            "iam.isocast.dev/*.*",
            "iam.isocast.dev/*/*.*",
            "authorization.k8s.io/localsubjectaccessreviews.create",
            "quota.isocast.dev/*.*",
        ],
        inherits: &["editor"],
    },
    BuiltIn {
        name: "network-operator",
        display: "Runs sites, hosts, sessions and address space",
        permissions: &[
            "network.isocast.dev/*.*",
            "network.isocast.dev/nodes/agent.get",
            "network.isocast.dev/nodes/token.create",
            "network.isocast.dev/bgppolicies/preview.create",
        ],
        inherits: &["viewer"],
    },
    BuiltIn {
        name: "security-auditor",
        display: "Sees everything, and who may do what",
        permissions: &[
            "*/*.get",
            "*/*.list",
            "*/*.watch",
            "*/*/status.get",
            "iam.isocast.dev/accessreviews.create",
            "authorization.k8s.io/localsubjectaccessreviews.create",
            "authorization.k8s.io/subjectaccessreviews.create",
        ],
        inherits: &[],
    },
];

/// Whether the object is one of the default roles.
pub(super) fn is_built_in(key: &Key) -> bool {
    key.container() == Some(SYSTEM_NAMESPACE) && ROLES.iter().any(|role| role.name == key.name())
}

/// Writes what is missing or differs.
///
/// # Errors
/// When a write is refused.
pub(crate) async fn establish(registry: &Registry) -> Result<(), ApiError> {
    // One after the other: a role comes after those it inherits from.
    for role in ROLES {
        apply(registry, &spec_of(role)?).await?;
    }
    let kinds = kinds().iter().map(|kind| {
        let spec = ProtectedResourceSpec {
            group: kind.permission_group().to_owned(),
            kind: kind.kind.to_owned(),
            plural: kind.plural.to_owned(),
            permissions: Catalog::get().of(kind.permission_group(), kind.plural),
        };
        let name = format!("{}.{}", kind.plural, kind.permission_group());
        object::<ProtectedResourceSpec>(&name, None, &spec)
    });
    let writes = kinds.map(|value| async move { apply(registry, &value).await });
    futures::future::try_join_all(writes).await.map(drop)
}

fn spec_of(role: &BuiltIn) -> Result<Value, ApiError> {
    let malformed = |what: &str| ApiError::internal(format!("built-in role: {what}"));
    let permissions: Result<Vec<PermissionPattern>, _> = role
        .permissions
        .iter()
        .map(|text| text.parse().map_err(|_invalid| malformed(text)))
        .collect();
    let inherits: Result<Vec<RoleReference>, _> = role
        .inherits
        .iter()
        .map(|name| {
            let name = name.parse().map_err(|_invalid| malformed(name))?;
            Ok(RoleReference { name, namespace: None })
        })
        .collect();
    let spec = RoleSpec {
        display_name: Some(role.display.to_owned()),
        description: None,
        launch_stage: LaunchStage::Stable,
        included_permissions: permissions?,
        inherited_roles: inherits?,
    };
    Ok(object::<RoleSpec>(role.name, Some(SYSTEM_NAMESPACE), &spec))
}

fn object<S: Spec>(name: &str, namespace: Option<&str>, spec: &S) -> Value {
    json!({
        "apiVersion": format!("{}/{}", S::KIND.group, S::KIND.version),
        "kind": S::KIND.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    })
}

/// Server-side apply: writes nothing when nothing differs.
async fn apply(registry: &Registry, value: &Value) -> Result<(), ApiError> {
    let text = |pointer| value.pointer(pointer).and_then(Value::as_str);
    let kind = registry
        .kinds()
        .iter()
        .find(|kind| Some(kind.descriptor().kind) == text("/kind"))
        .ok_or_else(|| ApiError::new(Reason::InternalError, "a kind that is not served"))?;
    let descriptor = kind.descriptor();
    let resource = Resource::new(descriptor.plural, descriptor.group);
    let key =
        Key::new(resource, text("/metadata/namespace"), text("/metadata/name").unwrap_or_default());
    let options = WriteOptions {
        manager: "isocast".to_owned(),
        persistence: Persistence::Durable,
        validation: FieldValidation::Strict,
        force: true,
    };
    let proof = registry.authorize::<verb::Patch, _>(&IDENTITY, key)?;
    let body = value.to_string();
    let patch = Patch::Apply(body.as_bytes());
    registry.patch(&proof, kind, Subresource::None, patch, &options).await.map(drop)
}

const IDENTITY: Identity = Identity::Component { name: "iam" };
