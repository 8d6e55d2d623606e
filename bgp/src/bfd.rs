//! Bidirectional Forwarding Detection, sans-IO: RFC 5880 over one hop (RFC 5881) or several
//! (RFC 5883), asynchronous mode, without authentication.
//!
//! - [`packet`] reads and writes control packets; what must be discarded never becomes one.
//! - [`session`] is the state machine with one peer: states, timers, negotiation.
//! - [`endpoint`] holds many sessions, tells whose a packet is, and counts what it discards.
//! - [`config`] is what a session is told, [`limits`] what bounds it.
//!
//! A session may be [paired](config::Pace) with a forwarding plane that answers the peer's packets
//! by itself. Then [`Session::steady`](session::Session::steady) says which packet of the peer
//! deserves which answer, and somebody outside sees to it.
//!
//! Invariant: as everywhere in this crate, no clock, socket or random source. The RFC's variables
//! keep their names in comments (`bfd.RemoteMinRxInterval`), so that each rule can be found.

pub mod config;
pub mod discard;
pub mod endpoint;
mod jitter;
pub mod limits;
pub mod packet;
pub mod session;

pub use self::{
    config::{Hops, Interval, Pace, SessionConfig},
    discard::{Discard, Discards},
    endpoint::{Arrival, Endpoint, Event, SessionKey},
    packet::{ControlPacket, Diagnostic, Discriminator, State},
    session::{Adopted, Change, Session, Steady},
};
