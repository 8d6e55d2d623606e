//! Host side of the XDP data plane.

mod bpf;
mod netlink;
pub mod pass;
mod tables;

pub use self::tables::{
    Accept, Backend, BackendKey, DecapTables, EdgeTables, Probe, Protocol, Ring, ServiceKey, Tables,
    Vip,
};
