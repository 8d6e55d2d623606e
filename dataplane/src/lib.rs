//! Host side of the XDP data plane: loads the programs, keeps them attached, and puts tables in
//! force, one whole generation after the other.
//!
//! [`Dataplane`] is the way in. Packets keep flowing without this process: links and maps are
//! pinned, and the next one adopts them. Everything happens in the network namespace of the thread
//! that calls [`Dataplane::open`].

pub mod bfd;
mod bpf;
mod btf;
mod canary;
mod capture;
mod ceilings;
mod counters;
mod dataplane;
mod directory;
mod drops;
mod errors;
mod explain;
pub mod fixture;
mod flow_table;
mod grace;
mod guards;
mod header;
mod inspect;
mod keys;
mod links;
mod loopback;
mod mapped;
mod maps;
pub mod netlink;
mod next_hops;
pub mod pass;
mod pins;
mod plan;
mod policy;
mod preflight;
mod rates;
mod resolve;
mod rings;
mod tables;
mod tenants;
mod trace;
mod tunnel;
mod verified;

pub use isocast_dataplane_common::{
    Outcome, limits::PASS_ON_PER_SECOND, policy::Refused, tables::Counter,
};

pub use self::{
    canary::{CanaryError, WrongAnswer},
    capture::{CAPTURE_RECORDS, CaptureError, Captured, CapturedMember, CapturedVerdict, Losses},
    counters::Counters,
    dataplane::{Config, Dataplane, Generation, Opened, Roles, detach},
    errors::{ApplyError, NotInForce, OpenError},
    explain::{
        Choice, Claim, Explained, Found, Guard, Level, Member, NotAPacket, Note, OuterHeader,
        PAYLOAD_MAX, Question, Reach, SourceVerdict, Tracking, Transport,
    },
    header::{MacAddress, NextHop},
    inspect::{Difference, InspectError, Inspection},
    keys::{FlowKey, KeyTag, Keyring, ring_key},
    links::{LinkError, Mode, Uplink},
    maps::MapFailure,
    next_hops::{NextHops, Unresolved},
    plan::TablesError,
    policy::{Ceilings, ServicePolicy, SourceList, SourceRule},
    preflight::{Need, preflight},
    tables::{
        Accept, Backend, BackendKey, DecapTables, EdgeTables, Encap, Fragments, PacketRules, Probe,
        Protocol, Ring, ServiceKey, Tables, Track, Vip,
    },
    trace::{Action, Traced},
    tunnel::TunnelHeader,
};
