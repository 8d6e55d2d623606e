//! The BGP driver: sockets, timers and tasks around the sans-IO sessions of `isocast-bgp`.
//!
//! One task owns each peer's session; each of its TCP connections is a task of its own that only
//! moves bytes. Orders go down as watched values, not as queues: the latest wish counts, however
//! slow a peer is. Nothing here decides what to announce: that is `steer`'s.
//!
//! Dropping the [`BgpSpeaker`] (or killing the process) closes TCP without a word, which graceful
//! restart turns into "keep my routes". To take routes away, withdraw them or
//! [`shut down`](BgpSpeaker::shutdown) with `Stop::Drain`.

mod config;
mod connection;
mod interface;
mod listener;
mod peer;
mod speaker;
mod status;

pub use isocast_bgp::{
    adj_in::{ImportPolicy, Route, RouteChange},
    adj_out::Withheld,
    fsm::{ConfigError, ConnectMode, State, Stop},
    types::{Asn, FamilySet},
    wire::community::Communities,
};

pub use self::config::{Advertisement, PeerConfig, SpeakerConfig, Uid};
pub use self::speaker::{BgpSpeaker, SpeakerError};
pub use self::status::{PeerStatus, PeerStatuses, RouteEvent};
