//! ResourceRegistration: something that is counted.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AMOUNT_MAX, AmountField, ResourceType};
use crate::{
    field::{Errors, FieldPath},
    meta::Condition,
    object::{Kind, Object, Spec},
    registry::{AGE, Column, ResourceKind, Scope, VERSION},
    schema,
};

/// Something that is counted, and what containers may have of it by default.
pub type ResourceRegistration = Object<ResourceRegistrationSpec>;

/// What is counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceRegistrationSpec {
    /// The kind of container that `defaultLimit` is about. Cannot change.
    pub consumer_type: ConsumerType,
    /// How it is counted: Entity counts objects, Allocation adds up amounts that objects state,
    /// Feature is on or off, Rate counts requests per second. Cannot change.
    pub r#type: RegistrationType,
    /// Its name in grants and claims: `network.isocast.dev/anycastservices`. No two registrations
    /// have the same. Cannot change.
    pub resource_type: ResourceType,
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// What one of it is called: `service`, `byte`.
    #[schemars(length(min = 1, max = 63))]
    pub base_unit: String,
    /// What it is shown in: `services`, `GiB`.
    #[schemars(length(min = 1, max = 63))]
    pub display_unit: String,
    /// How many base units make one display unit.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = AMOUNT_MAX))]
    pub unit_conversion_factor: u64,
    /// What a container of kind `consumerType` may have, in base units, as long as no ResourceGrant
    /// in its namespace says otherwise. Default: no limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = AMOUNT_MAX))]
    pub default_limit: Option<u64>,
    /// How much of what a container may have its parts may be granted together, in percent: 100 divides
    /// it, more grants some of it more than once. Default: as much as anybody likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 100_000))]
    pub overcommit_percent: Option<u32>,
    /// The kinds that take of it.
    #[schemars(
        length(min = 1, max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["apiGroup", "kind"])
    )]
    pub claiming_resources: Vec<ClaimingResource>,
}

/// A kind of container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConsumerType {
    /// API group of the kind.
    #[serde(default = "super::resource_manager")]
    #[schemars(length(max = 253))]
    pub api_group: String,
    /// The kind.
    pub kind: ConsumerKind,
}

/// Kinds of containers.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum ConsumerKind {
    /// A part of an organization.
    Folder,
    /// A tenant, or a part of one.
    Organization,
    /// Where services live.
    Project,
}

/// How something is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RegistrationType {
    /// The amounts that objects state are added up.
    Allocation,
    /// Each object counts as one.
    Entity,
    /// It is there or not: objects of the kinds, or with the fields, are refused unless each container
    /// of kind `consumerType` above them was granted it, or has it by default.
    Feature,
    /// Requests per second: about objects of the kinds, by users and service accounts.
    Rate,
}

/// What a request does, as permissions name it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum RequestVerb {
    /// Makes an object.
    Create,
    /// Deletes an object.
    Delete,
    /// Deletes those of a namespace; one request, however many they are.
    DeleteCollection,
    /// Reads an object.
    Get,
    /// Reads all objects.
    List,
    /// Changes what it names of an object.
    Patch,
    /// Replaces an object.
    Update,
    /// Begins to follow objects; what comes then is not counted.
    Watch,
}

impl RequestVerb {
    /// What a registration counts that does not say: those that write.
    pub const WRITES: &[Self] =
        &[Self::Create, Self::Delete, Self::DeleteCollection, Self::Patch, Self::Update];

    /// The verb as permissions name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Get => "get",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Update => "update",
            Self::Watch => "watch",
        }
    }
}

/// A kind that takes of something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimingResource {
    /// API group of the kind; for type Rate also `*`, all groups.
    #[schemars(length(max = 253))]
    pub api_group: String,
    /// The kind; for type Rate also `*`, all kinds.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// For type Allocation: the field that says how much an object takes. A number counts as it is,
    /// a list by its length, and a field that is absent as nothing. For type Feature: the field that
    /// is only for those who have it, unless it is absent, false, 0 or empty. Default: the whole kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_field: Option<AmountField>,
    /// For type Rate: the requests that count. Default: those that write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "set"))]
    pub verbs: Vec<RequestVerb>,
}

/// What is so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceRegistrationStatus {
    /// Latest observations: `Active`, whether it is counted, and `Accurate`, whether what is counted
    /// is what there is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl ConsumerKind {
    /// The kind's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Folder => "Folder",
            Self::Organization => "Organization",
            Self::Project => "Project",
        }
    }
}

impl Spec for ResourceRegistrationSpec {
    type Status = ResourceRegistrationStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::ResourceRegistration,
        group: super::GROUP,
        version: VERSION,
        kind: "ResourceRegistration",
        plural: "resourceregistrations",
        singular: "resourceregistration",
        short_names: &["rreg"],
        scope: Scope::Cluster,
        name_format: "dns-subdomain",
        columns: &[
            Column::new("Resource Type", "string", ".spec.resourceType", "What is counted"),
            Column::new("Type", "string", ".spec.type", "How it is counted"),
            Column::new("Consumer", "string", ".spec.consumerType.kind", "Who has the default"),
            Column::new("Default", "integer", ".spec.defaultLimit", "Limit without grants"),
            Column::new("Unit", "string", ".spec.baseUnit", "What one is called").wide(),
            Column::new(
                "Accurate",
                "string",
                ".status.conditions[?(@.type==\"Accurate\")].status",
                "Whether what is counted is what there is",
            )
            .wide(),
            AGE,
        ],
        selectable_fields: &["spec.resourceType"],
        description: "ResourceRegistration names something that is counted, the kinds that take of \
                      it, and what each container may have of it by default. From the moment it \
                      exists every such object counts, in its container and in each one above.",
    };

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> =
            LazyLock::new(schema::object_schema::<ResourceRegistrationSpec>);
        &SCHEMA
    }

    fn validate(&self, old: Option<&Self>, spec: &FieldPath, errors: &mut Errors) {
        let consumer = spec.field("consumerType");
        errors.immutable(&consumer, &self.consumer_type, old.map(|old| &old.consumer_type));
        errors.immutable(&spec.field("type"), &self.r#type, old.map(|old| &old.r#type));
        let path = spec.field("resourceType");
        errors.immutable(&path, &self.resource_type, old.map(|old| &old.resource_type));
        if self.consumer_type.api_group != crate::resourcemanager::GROUP {
            let message = format!("must be {:?}", crate::resourcemanager::GROUP);
            errors.invalid(&consumer.field("apiGroup"), &self.consumer_type.api_group, message);
        }
        if self.r#type == RegistrationType::Feature && self.overcommit_percent.is_some() {
            let message = "what is on or off is not divided";
            errors.forbidden(&spec.field("overcommitPercent"), message);
        }
        for (index, claiming) in self.claiming_resources.iter().enumerate() {
            claiming.validate(self.r#type, &spec.field("claimingResources").index(index), errors);
        }
    }
}

impl ClaimingResource {
    fn validate(&self, of: RegistrationType, path: &FieldPath, errors: &mut Errors) {
        let amount = path.field("amountField");
        match (of, &self.amount_field) {
            (RegistrationType::Entity, Some(_)) => {
                errors.forbidden(&amount, "objects of type Entity count as one each");
            }
            (RegistrationType::Rate, Some(_)) => {
                errors.forbidden(&amount, "requests count as one each");
            }
            (RegistrationType::Allocation, None) => {
                errors.required(&amount, "says how much an object takes");
            }
            _ => {}
        }
        let is_any = |word: &str| word == ANY;
        if of != RegistrationType::Rate {
            if !self.verbs.is_empty() {
                errors.forbidden(&path.field("verbs"), "only type Rate counts requests");
            }
            if is_any(&self.kind) || is_any(&self.api_group) {
                errors.forbidden(&path.field("kind"), "only type Rate counts every kind");
            }
        } else if is_any(&self.api_group) && !is_any(&self.kind) {
            errors.invalid(&path.field("kind"), &self.kind, "must be * where apiGroup is *");
        }
    }
}

/// Every group, or every kind.
pub const ANY: &str = "*";

fn one() -> u64 {
    1
}
