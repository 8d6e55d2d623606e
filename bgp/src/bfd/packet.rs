//! The control packet (RFC 5880 §4.1).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |Vers |  Diag   |Sta|P|F|C|A|D|M|  Detect Mult  |    Length     |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                       My Discriminator                        |
//! |                      Your Discriminator                       |
//! |                 Desired Min TX Interval, µs                   |
//! |                 Required Min RX Interval, µs                  |
//! |               Required Min Echo RX Interval, µs               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use std::num::{NonZeroU8, NonZeroU32};

use super::{
    discard::Discard,
    limits::{AUTHENTICATED_BYTES_MIN, DATAGRAM_BYTES_MAX, PACKET_BYTES},
};
use crate::wire::reader::Reader;

/// What tells the sessions of one system apart; never 0 (RFC 5880 §6.3).
pub type Discriminator = NonZeroU32;

/// State of a session, as it travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Kept down on purpose.
    AdminDown = 0,
    /// The peer is not heard, or was just lost.
    #[default]
    Down = 1,
    /// The peer is heard; that it hears us is not known.
    Init = 2,
    /// Both hear each other.
    Up = 3,
}

/// Why a session last left [`State::Up`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Diagnostic {
    /// It never did.
    #[default]
    None,
    /// Nothing was heard for the detection time.
    DetectionTimeExpired,
    /// The peer said that it is down.
    NeighborSignaledDown,
    /// Taken down by configuration.
    AdministrativelyDown,
    /// Codes that only a peer uses.
    Other(u8),
}

/// A control packet that passed the rules which need no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlPacket {
    /// Why the sender last went down.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// The sender asks for confirmation of its parameters.
    pub poll: bool,
    /// The sender confirms ours.
    pub r#final: bool,
    /// The sender's BFD does not share fate with its control plane.
    pub control_plane_independent: bool,
    /// The sender does not want periodic packets.
    pub demand: bool,
    /// The sender's detection multiplier.
    pub multiplier: NonZeroU8,
    /// The sender's name for the session.
    pub my_discriminator: Discriminator,
    /// Our name for it, if the sender knows it.
    pub your_discriminator: Option<Discriminator>,
    /// How often the sender would like to send, in microseconds.
    pub desired_min_tx: u32,
    /// How often it can stand to receive; 0: it wants no periodic packets.
    pub required_min_rx: u32,
    /// How often it can stand echo packets; we send none.
    pub required_min_echo_rx: u32,
}

impl ControlPacket {
    /// Reads a datagram's payload and applies the rules of RFC 5880 §6.8.6 that need no session.
    ///
    /// # Errors
    /// The rule that discards it.
    pub fn decode(datagram: &[u8]) -> Result<Self, Discard> {
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return Err(Discard::Truncated);
        }
        let mut reader = Reader::new(datagram);
        let mut word = || reader.u32().map_err(|_short| Discard::Truncated);
        let [first, flags, multiplier, length] = word()?.to_be_bytes();
        let (my, your) = (word()?, word()?);
        let (desired_min_tx, required_min_rx, required_min_echo_rx) = (word()?, word()?, word()?);

        if first >> 5 != VERSION {
            return Err(Discard::Version);
        }
        let length = usize::from(length);
        let shortest =
            if flags & AUTHENTICATION != 0 { AUTHENTICATED_BYTES_MIN } else { PACKET_BYTES };
        if length < shortest {
            return Err(Discard::ShortLength);
        }
        if length > datagram.len() {
            return Err(Discard::LongLength);
        }
        let multiplier = NonZeroU8::new(multiplier).ok_or(Discard::ZeroMultiplier)?;
        if flags & MULTIPOINT != 0 {
            return Err(Discard::Multipoint);
        }
        let my_discriminator = Discriminator::new(my).ok_or(Discard::ZeroDiscriminator)?;
        let your_discriminator = Discriminator::new(your);
        let state = State::from_bits(flags >> 6);
        if your_discriminator.is_none() && matches!(state, State::Init | State::Up) {
            return Err(Discard::StateWithoutDiscriminator);
        }
        // RFC 5880 §6.8.6: A is set and no authentication is in use (bfd.AuthType is zero).
        if flags & AUTHENTICATION != 0 {
            return Err(Discard::Authenticated);
        }
        if flags & (POLL | FINAL) == POLL | FINAL {
            return Err(Discard::PollAndFinal);
        }
        Ok(Self {
            diagnostic: Diagnostic::from_code(first & 0x1f),
            state,
            poll: flags & POLL != 0,
            r#final: flags & FINAL != 0,
            control_plane_independent: flags & CONTROL_PLANE_INDEPENDENT != 0,
            demand: flags & DEMAND != 0,
            multiplier,
            my_discriminator,
            your_discriminator,
            desired_min_tx,
            required_min_rx,
            required_min_echo_rx,
        })
    }

    /// The packet's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; PACKET_BYTES] {
        let bit = |set, bit| if set { bit } else { 0 };
        let flags = (self.state as u8) << 6
            | bit(self.poll, POLL)
            | bit(self.r#final, FINAL)
            | bit(self.control_plane_independent, CONTROL_PLANE_INDEPENDENT)
            | bit(self.demand, DEMAND);
        let first = VERSION << 5 | self.diagnostic.code();
        let words = [
            u32::from_be_bytes([first, flags, self.multiplier.get(), LENGTH]),
            self.my_discriminator.get(),
            self.your_discriminator.map_or(0, Discriminator::get),
            self.desired_min_tx,
            self.required_min_rx,
            self.required_min_echo_rx,
        ];
        let mut bytes = [0; PACKET_BYTES];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }
}

impl State {
    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }
}

impl Diagnostic {
    const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::None,
            1 => Self::DetectionTimeExpired,
            3 => Self::NeighborSignaledDown,
            7 => Self::AdministrativelyDown,
            other => Self::Other(other),
        }
    }

    /// The code on the wire (RFC 5880 §4.1).
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::DetectionTimeExpired => 1,
            Self::NeighborSignaledDown => 3,
            Self::AdministrativelyDown => 7,
            Self::Other(code) => code & 0x1f,
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "no diagnostic",
            Self::DetectionTimeExpired => "detection time expired",
            Self::NeighborSignaledDown => "neighbour signalled session down",
            Self::AdministrativelyDown => "administratively down",
            Self::Other(code) => return write!(f, "diagnostic {code}"),
        })
    }
}

const VERSION: u8 = 1;
const LENGTH: u8 = 24;
const POLL: u8 = 1 << 5;
const FINAL: u8 = 1 << 4;
const CONTROL_PLANE_INDEPENDENT: u8 = 1 << 3;
const AUTHENTICATION: u8 = 1 << 2;
const DEMAND: u8 = 1 << 1;
const MULTIPOINT: u8 = 1;

const _: () = assert!(LENGTH as usize == PACKET_BYTES);

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A well-formed packet of a peer that is up.
    pub(crate) fn good() -> ControlPacket {
        ControlPacket {
            diagnostic: Diagnostic::None,
            state: State::Up,
            poll: false,
            r#final: false,
            control_plane_independent: false,
            demand: false,
            multiplier: NonZeroU8::new(3).unwrap(),
            my_discriminator: Discriminator::new(0x0a0b_0c0d).unwrap(),
            your_discriminator: Discriminator::new(7),
            desired_min_tx: 50_000,
            required_min_rx: 50_000,
            required_min_echo_rx: 0,
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_figure_in_the_rfc() {
        let packet = ControlPacket { poll: true, control_plane_independent: true, ..good() };

        let bytes = packet.encode();

        let head = [0x20, 0b1110_1000, 3, 24, 0x0a, 0x0b, 0x0c, 0x0d, 0, 0, 0, 7];
        assert_eq!(bytes[..12], head);
        assert_eq!(bytes[12..], [0, 0, 0xc3, 0x50, 0, 0, 0xc3, 0x50, 0, 0, 0, 0]);
    }

    #[test]
    fn each_rule_that_needs_no_session_discards_under_its_own_name() {
        type Spoil = fn(&mut Vec<u8>);
        let cases: [(Discard, Spoil); 12] = [
            (Discard::Truncated, |b| b.truncate(23)),
            (Discard::Truncated, |b| b.resize(DATAGRAM_BYTES_MAX + 1, 0)),
            (Discard::Version, |b| b[0] = 0x40),
            (Discard::ShortLength, |b| b[3] = 23),
            (Discard::ShortLength, |b| {
                b[1] |= AUTHENTICATION;
                b[3] = 25;
            }),
            (Discard::LongLength, |b| b[3] = 25),
            (Discard::ZeroMultiplier, |b| b[2] = 0),
            (Discard::Multipoint, |b| b[1] |= MULTIPOINT),
            (Discard::ZeroDiscriminator, |b| b[4..8].fill(0)),
            (Discard::StateWithoutDiscriminator, |b| b[8..12].fill(0)),
            (Discard::Authenticated, |b| {
                b[1] |= AUTHENTICATION;
                b.extend([0; 4]);
                b[3] = 28;
            }),
            (Discard::PollAndFinal, |b| b[1] |= POLL | FINAL),
        ];
        for (discard, spoil) in cases {
            let mut bytes = good().encode().to_vec();
            spoil(&mut bytes);

            assert_eq!(ControlPacket::decode(&bytes), Err(discard));
        }
    }

    #[test]
    fn limits_themselves_are_accepted() {
        let mut padded = good().encode().to_vec();
        padded.resize(DATAGRAM_BYTES_MAX, 0);
        assert_eq!(ControlPacket::decode(&padded), Ok(good()));

        let down = ControlPacket { state: State::Down, your_discriminator: None, ..good() };
        assert_eq!(ControlPacket::decode(&down.encode()), Ok(down));
    }

    proptest! {
        #[test]
        fn what_is_decoded_encodes_to_the_same_bytes(bytes in prop::array::uniform24(any::<u8>())) {
            let mut bytes = bytes;
            bytes[0] = 0x20 | bytes[0] & 0x1f;
            bytes[3] = 24;
            if let Ok(packet) = ControlPacket::decode(&bytes) {
                prop_assert_eq!(packet.encode(), bytes);
            }
        }
    }
}
