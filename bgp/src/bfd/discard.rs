//! Why a datagram is discarded, and how often that happened.

macro_rules! discards {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// Why a datagram was not received, in the order of the rules (RFC 5880 §6.8.6). Such a
        /// datagram changes nothing, and does not count as a sign of life.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Discard {
            $($(#[$doc])* $name,)*
        }

        impl Discard {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Name in metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

discards! {
    /// Hop limit below 255 on a single-hop session (RFC 5881 §5): it was routed here.
    HopLimit = "hop_limit";
    /// Longer than any control packet, or shorter than its fixed part.
    Truncated = "truncated";
    /// Version other than 1.
    Version = "version";
    /// Length field below 24, or below 26 with authentication.
    ShortLength = "short_length";
    /// Length field beyond the datagram.
    LongLength = "long_length";
    /// Detection multiplier 0.
    ZeroMultiplier = "zero_multiplier";
    /// The Multipoint bit is set.
    Multipoint = "multipoint";
    /// My Discriminator is 0.
    ZeroDiscriminator = "zero_discriminator";
    /// Your Discriminator is 0, though the peer says that it hears us.
    StateWithoutDiscriminator = "state_without_discriminator";
    /// No session has Your Discriminator, or comes from this address to that one.
    UnknownSession = "unknown_session";
    /// The discriminator is a session's, the addresses or the interface are not.
    WrongSource = "wrong_source";
    /// Authenticated; no session here is.
    Authenticated = "authenticated";
    /// Poll and Final at once (RFC 5880 §6.5).
    PollAndFinal = "poll_and_final";
    /// The session is administratively down.
    AdminDown = "admin_down";
}

/// How many of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discards([u64; Discard::ALL.len()]);

impl Discards {
    /// Counts one.
    #[expect(clippy::indexing_slicing, reason = "one place for each variant")]
    pub const fn count(&mut self, discard: Discard) {
        self.0[discard as usize] = self.0[discard as usize].saturating_add(1);
    }

    /// Each with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Discard, u64)> + '_ {
        Discard::ALL.iter().copied().zip(self.0)
    }

    /// How many of one kind.
    #[expect(clippy::indexing_slicing, reason = "one place for each variant")]
    #[must_use]
    pub const fn of(&self, discard: Discard) -> u64 {
        self.0[discard as usize]
    }
}

impl Default for Discards {
    fn default() -> Self {
        Self([0; Discard::ALL.len()])
    }
}
