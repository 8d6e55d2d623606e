//! What became of a packet that the programs took responsibility for.

macro_rules! outcomes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $drop:literal;)*) => {
        /// Each is counted per CPU. Packets that are none of the data plane's business are not.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Outcome {
            $($(#[$doc])* $name = $number,)*
        }

        impl Outcome {
            /// All of them, by number.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Name in metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Whether the packet was dropped.
            #[must_use]
            pub const fn is_drop(self) -> bool {
                match self { $(Self::$name => $drop,)* }
            }
        }
    };
}

outcomes! {
    /// Sent to a backend.
    Encapsulated = 0, "encapsulated", false;
    /// The backend is this node.
    DeliveredHere = 1, "delivered_here", false;
    /// Taken out of the tunnel and handed to the host.
    Decapsulated = 2, "decapsulated", false;
    /// Passed on to the further hop: the flow is not this host's.
    SecondChance = 3, "second_chance", false;
    /// Echo request to a VIP answered.
    EchoAnswered = 4, "echo_answered", false;
    /// A health check's packet sent into the tunnel.
    ProbeSent = 5, "probe_sent", false;
    /// Lengths that contradict each other, or a header that is cut off.
    Malformed = 6, "malformed", true;
    /// Fragment to or for a VIP.
    Fragment = 7, "fragment", true;
    /// IPv4 options to or for a VIP.
    IpOptions = 8, "ip_options", true;
    /// IPv6 extension header to or for a VIP.
    ExtensionHeader = 9, "extension_header", true;
    /// Neither TCP nor UDP nor an echo request.
    UnlistedProtocol = 10, "unlisted_protocol", true;
    /// The VIP has no such port.
    UnlistedPort = 11, "unlisted_port", true;
    /// The service has no backend.
    NoBackend = 12, "no_backend", true;
    /// The next hop towards the target is not known.
    NextHopUnresolved = 13, "next_hop_unresolved", true;
    /// No room for the outer header.
    NoHeadroom = 14, "no_headroom", true;
    /// Tunnel header of a version or shape that is not spoken here.
    UnknownEncap = 15, "unknown_encap", true;
    /// Tunnel packet from a node that is not on the list.
    UnlistedSource = 16, "unlisted_source", true;
    /// Tunnel packet without a valid key tag.
    WrongKey = 17, "wrong_key", true;
    /// Tunnel packet for a (tenant, address, protocol, port) that is not served here.
    UnlistedDestination = 18, "unlisted_destination", true;
    /// Further hop that is not on the list of nodes.
    UnlistedHop = 19, "unlisted_hop", true;
    /// Congestion experienced on the way by a flow that cannot be told (RFC 6040 §4.2).
    CongestionUnmarkable = 20, "congestion_unmarkable", true;
    /// The tables contradict themselves: a fault of this program.
    TablesInconsistent = 21, "tables_inconsistent", true;
    /// BFD packet of a peer answered.
    BfdAnswered = 22, "bfd_answered", false;
    /// More packets of unknown flows than are passed on to further hops.
    SecondChanceLimited = 23, "second_chance_limited", true;
    /// The service does not let this source in.
    SourceNotAllowed = 24, "source_not_allowed", true;
    /// More packets than the service may take.
    OverPacketRate = 25, "over_packet_rate", true;
    /// More new flows than the service may take.
    OverFlowRate = 26, "over_flow_rate", true;
    /// More than the services of the tenant may take together.
    OverTenantRate = 27, "over_tenant_rate", true;
    /// New flow answered by a cookie: its next packet proves its address.
    SynCookieSent = 28, "syn_cookie_sent", false;
    /// ICMP error sent to the backend whose flow it quotes.
    ErrorForwarded = 29, "error_forwarded", false;
    /// ICMP error about a packet that the VIP it was sent to never sent.
    ForeignQuote = 30, "foreign_quote", true;
    /// Does not fit the path with its outer header; the sender was told what does.
    TooBigAnswered = 31, "too_big_answered", false;
    /// Does not fit the path with its outer header, and the sender cannot be told.
    TooBig = 32, "too_big", true;
    /// The same, but for so many others that were told just now.
    AnswerLimited = 33, "answer_limited", true;
    /// The segment size that a handshake offers was lowered. Counted beside the packet itself.
    SegmentSizeClamped = 34, "segment_size_clamped", false;
    /// A UDP flow was noted as answered here, anew or again. Counted for what leaves.
    AnswerNoted = 35, "answer_noted", false;
    /// A connection that opened in a tracked slot was noted with its backend. These five are counted
    /// beside the packet itself; see [`crate::tracking`].
    FlowNoted = 36, "flow_noted", false;
    /// One that was not seen to go on gave its place to another.
    FlowForgotten = 37, "flow_forgotten", false;
    /// No place for one more: it begins at the former backend.
    FlowNotNoted = 38, "flow_not_noted", false;
    /// A packet of a connection that is noted, sent to its backend.
    FlowFound = 39, "flow_found", false;
    /// A packet of one that is not, sent to the former backend.
    FlowOfFormer = 40, "flow_of_former", false;
}

/// Number of outcomes.
pub const OUTCOMES: usize = Outcome::ALL.len();
