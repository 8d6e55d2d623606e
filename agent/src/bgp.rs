//! The BGP driver: sockets, a clock and a thread around the sans-IO speaker of `isocast-bgp`.
//!
//! One thread owns the speaker and every socket ([`driver`]). Orders go down as levels, not as a
//! queue: the latest wish counts, however busy the thread is. Nothing here decides what to
//! announce: that is `steer`'s, or the operator's of a speaker on its own.
//!
//! Dropping the [`BgpSpeaker`] (or killing the process) closes TCP without a word, which graceful
//! restart turns into "keep my routes". To take routes away, withdraw them or
//! [`shut down`](BgpSpeaker::shutdown) with `Stop::Drain`.

mod changes;
mod config;
mod desk;
mod driver;
mod interface;
mod kernel;
mod mailbox;
mod md5;
mod query;
mod socket;
mod sockopt;
mod speaker;
mod status;
pub mod words;

pub use isocast_bgp::{
    fsm::{ConfigError, ConnectMode, PeerAs, Role, State, Stop},
    speaker::{Cursor, ExportConfig, ImportConfig, LearntRoutes, OverLimit, PrefixLimit, Withheld},
    types::{Asn, FamilySet},
    wire::community::Communities,
};

pub use self::changes::Cost;
pub use self::config::{
    Advertisement, BGP_PORT, DYNAMIC_PEERS_DEFAULT, IMPORT_PREFIXES_DEFAULT, PeerConfig,
    SpeakerConfig, Transport, Uid, accept_all, own_announcements,
};
pub use self::desk::Desk;
pub use self::kernel::{KernelConfig, KernelReport};
pub use self::mailbox::BfdChange;
pub use self::md5::{Md5Key, Md5KeyError};
pub use self::query::{
    ImportQuery, Passage, PeerReport, PrefixReport, RouteReport, RoutesPage, RoutesQuery,
};
pub use self::speaker::{BgpSpeaker, SpeakerError};
pub use self::status::{PeerStatus, PeerStatuses, SessionFacts};
