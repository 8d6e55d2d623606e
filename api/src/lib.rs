//! Resource kinds and the agent protocol: the words that every part of Isocast shares.
//!
//! Owns the types, their defaults, validation, schemas and columns, and the messages between
//! controller and agents. No I/O, no clock, no async.

#![forbid(unsafe_code)]

pub mod agent;
pub mod field;
pub mod registry;

pub use registry::ResourceKind;
