//! Parameters of a session: what each end says, and what follows from both.

use std::{num::NonZeroU8, time::Duration};

use super::super::{
    config::{Pace, SessionConfig},
    limits::SLOW_INTERVAL,
    packet::{ControlPacket, State},
};

/// `bfd.DesiredMinTxInterval` and `bfd.RequiredMinRxInterval`, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timers {
    pub(super) tx: u32,
    pub(super) rx: u32,
}

/// Where a Poll Sequence stands (RFC 5880 §6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Poll {
    Idle,
    /// The next packet starts it.
    Wanted,
    /// Packets have the Poll bit until one with the Final bit comes.
    Asked,
}

/// What the peer last said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote {
    pub(super) last: Option<ControlPacket>,
    /// `bfd.RemoteMinRxInterval`: 1 before anything was heard (RFC 5880 §6.8.1).
    pub(super) min_rx: u32,
    pub(super) desired_min_tx: u32,
    pub(super) multiplier: NonZeroU8,
}

impl Timers {
    /// Before a session is up: no more than one packet a second.
    pub(super) fn slow(config: &SessionConfig) -> Self {
        let tx = config.desired_min_tx.micros().max(duration_micros(SLOW_INTERVAL));
        Self { tx, rx: config.required_min_rx.micros() }
    }

    /// While a session is up.
    pub(super) fn wanted(config: &SessionConfig, remote: &Remote) -> Self {
        let (tx, rx) = (config.desired_min_tx.micros(), config.required_min_rx.micros());
        match config.pace {
            Pace::Independent => Self { tx, rx },
            Pace::Common => {
                // The peer sends no more often than it can stand to be answered, and is promised
                // no more answers than it sends packets.
                let rx = rx.max(remote.min_rx);
                Self { tx: tx.max(rx).max(remote.desired_min_tx), rx }
            }
        }
    }
}

impl Remote {
    pub(super) const fn of(packet: &ControlPacket) -> Self {
        Self {
            last: Some(*packet),
            min_rx: packet.required_min_rx,
            desired_min_tx: packet.desired_min_tx,
            multiplier: packet.multiplier,
        }
    }

    /// The peer is up, knows that we are, and wants no periodic packets (RFC 5880 §6.6).
    pub(super) fn is_demanding(&self) -> bool {
        self.last.is_some_and(|packet| packet.demand && packet.state == State::Up)
    }
}

impl Default for Remote {
    fn default() -> Self {
        Self { last: None, min_rx: 1, desired_min_tx: 0, multiplier: NonZeroU8::MIN }
    }
}

fn duration_micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
