//! Structural schemas (OpenAPI v3 without `$ref`, `anyOf` or `oneOf`), and the walks over them.
//!
//! A kind's schema comes from its Rust types; here are the walks that make the schema do work:
//! defaults are filled in, unknown fields found by name, and values checked, each with its path.
//! The walks read no type, so a schema that a user brings gets the same treatment.

mod check;
mod defaults;
mod prune;
mod structural;

pub(crate) use self::structural::{built_in_schema, object_schema};
pub use self::{check::check, defaults::apply_defaults, prune::prune_unknown};
