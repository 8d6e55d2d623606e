//! The Isocast agent: one binary per host, in the roles edge and backend.

pub mod bgp;
pub mod sync;
