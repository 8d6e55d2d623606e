//! Resource kinds and the agent protocol: the words that every part of Isocast shares.
//!
//! Owns the types, their defaults, validation, schemas and columns, and the messages between
//! controller and agents. No I/O, no clock, no async.

#![forbid(unsafe_code)]

pub mod agent;
pub mod core;
pub mod field;
pub mod iam;
pub mod meta;
pub mod network;
pub mod object;
pub mod quota;
pub mod reference;
pub mod registry;
pub mod resourcemanager;
pub mod schema;
pub mod text;

pub use registry::ResourceKind;
