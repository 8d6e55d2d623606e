//! The Isocast control plane: a Kubernetes-style API over one revision log, and the channel that
//! configures the nodes.
//!
//! Owns the platform's desired state. Must never be needed by a packet: nodes go on without it.

#![forbid(unsafe_code)]

pub mod admission;
pub mod apiserver;
pub mod audit;
pub mod authz;
pub mod cabinet;
mod channel;
pub mod controller;
mod credentials;
mod duties;
pub mod error;
mod exporter;
mod files;
pub mod fleet;
pub mod gc;
pub mod iam;
mod kubeconfig;
mod limits;
pub mod managers;
pub mod options;
pub mod pki;
pub mod registry;
pub mod restore;
pub mod storage;
pub mod store;
mod uid;
