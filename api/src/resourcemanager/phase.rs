//! [`ContainerPhase`]: whether a container is on its way out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ContainerPhase {
    /// It holds what its owners put into it.
    Active,
    /// It is being deleted: nothing of it is served, nothing new comes to be in it or below.
    Terminating,
}
