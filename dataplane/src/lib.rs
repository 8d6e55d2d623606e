//! Host side of the XDP data plane: loads the programs, keeps them attached, and puts tables in
//! force, one whole generation after the other.
//!
//! [`Dataplane`] is the way in. Packets keep flowing without this process: links and maps are
//! pinned, and the next one adopts them. Everything happens in the network namespace of the thread
//! that calls [`Dataplane::open`].

pub mod bfd;
mod bpf;
mod capture;
mod counters;
mod dataplane;
mod directory;
mod drops;
mod errors;
mod explain;
mod header;
mod inspect;
mod keys;
mod links;
mod loopback;
mod maps;
pub mod netlink;
mod next_hops;
pub mod pass;
mod pins;
mod plan;
mod preflight;
mod resolve;
mod tables;
mod tenants;
mod trace;

pub use isocast_dataplane_common::{Outcome, tables::Counter};

pub use self::{
    capture::{CAPTURE_RECORDS, CaptureError, Captured, CapturedMember, CapturedVerdict, Losses},
    counters::Counters,
    dataplane::{Config, Dataplane, Generation, Opened, Roles, detach},
    errors::{ApplyError, NotInForce, OpenError},
    explain::{
        Choice, Explained, Found, Member, NotAPacket, OuterHeader, PAYLOAD_MAX, Question, Reach,
        Transport,
    },
    header::{MacAddress, NextHop},
    inspect::{Difference, InspectError, Inspection},
    keys::ClusterSecret,
    links::{LinkError, Mode, Uplink},
    maps::MapFailure,
    next_hops::{NextHops, Unresolved},
    plan::TablesError,
    preflight::{Need, preflight},
    tables::{
        Accept, Backend, BackendKey, DecapTables, EdgeTables, Probe, Protocol, Ring, ServiceKey,
        Tables, Vip,
    },
    trace::{Action, Traced},
};
