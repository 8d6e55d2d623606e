//! The wire: bytes to messages and back (RFC 4271 §4 and what amends it).
//!
//! Nothing here knows a session's state. Decoders take bytes of a peer that may be hostile: they
//! read through [`reader::Reader`] only, never panic, and allocate no more than a small multiple
//! of the one message they were given.

pub mod as_path;
pub mod attribute;
mod attribute_set;
pub mod block;
pub mod capability;
pub mod community;
pub mod encode;
pub mod fault;
pub mod header;
pub mod next_hop;
pub mod nlri;
pub mod notification;
pub mod open;
pub mod reader;
pub mod refresh;
pub mod update;
pub mod view;
