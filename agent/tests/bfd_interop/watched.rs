//! FRR and BIRD with BFD, as the documentation asks operators to configure them.

use std::ops::Deref;

use crate::net::{BIRD_V6, EDGE_TO_FRR_V4, Lab};
use crate::routers::{BIRD_ASN, FRR_ASN, Router};

pub(crate) const EDGE_TO_BIRD_V6: &str = "2001:db8:92::1";

/// What a router says of its BFD session with us.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Session {
    pub(crate) is_up: bool,
    /// Changes when the session goes down and up again.
    pub(crate) history: History,
}

/// How a router tells one session from the next.
#[derive(Clone, Debug)]
pub(crate) enum History {
    /// Since when it is what it is, in seconds of the day.
    Since(f64),
    /// How often it came and went.
    Counts(String),
}

impl PartialEq for History {
    /// BIRD works the time out each time it is asked, to a millisecond more or less; a session that was
    /// lost is back after its detection time at the earliest.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Since(one), Self::Since(other)) => (one - other).abs() < 0.02,
            (Self::Counts(one), Self::Counts(other)) => one == other,
            _ => false,
        }
    }
}

/// A router with one BGP session that BFD watches.
#[derive(Debug)]
pub(crate) struct Watched {
    router: Router,
    /// The prefix that it learns over its session.
    pub(crate) prefix: &'static str,
}

impl Watched {
    /// An IPv4 session; plain `bfd`.
    pub(crate) async fn frr(lab: &Lab, prefix: &'static str, interval_ms: u32) -> Self {
        let edge = EDGE_TO_FRR_V4;
        let bgp = format!(
            "router bgp {FRR_ASN}\n bgp router-id 10.99.1.2\n no bgp ebgp-requires-policy\n \
             bgp graceful-restart\n neighbor {edge} remote-as 65010\n neighbor {edge} timers 1 3\n \
             neighbor {edge} timers connect 1\n neighbor {edge} bfd\n \
             neighbor {edge} bfd profile fast\n"
        );
        let bfd = format!(
            "bfd\n profile fast\n  receive-interval {interval_ms}\n  \
             transmit-interval {interval_ms}\n  detect-multiplier 3\n"
        );
        let router = Router::frr_of(lab, &lab.frr, &[("bfdd", &bfd), ("bgpd", &bgp)]).await;
        Self { router, prefix }
    }

    /// An IPv6 session; `bfd on`.
    pub(crate) async fn bird(lab: &Lab, prefix: &'static str, interval_ms: u32) -> Self {
        let protocols = format!(
            "protocol bfd {{ interface \"toedge\" {{ interval {interval_ms} ms; multiplier 3; }}; }}\n\
             protocol bgp edge {{ local {BIRD_V6} as {BIRD_ASN};\n\
             neighbor {EDGE_TO_BIRD_V6} as 65010;\n\
             hold time 3; keepalive time 1; connect delay time 1; connect retry time 1;\n\
             error wait time 1,2; graceful restart aware; bfd on;\n\
             ipv6 {{ import all; export none; }}; }}\n"
        );
        Self { router: Router::bird_with(lab, &protocols).await, prefix }
    }

    /// Whether the kernel of the router has the prefix, by BGP.
    pub(crate) async fn has_route(&self) -> bool {
        self.router.has_route(self.prefix).await
    }

    /// What the router says of its BFD session.
    pub(crate) async fn session(&self) -> Session {
        if self.name == "BIRD" {
            let shown = self.birdc("show bfd sessions").await;
            let line = shown.lines().find(|line| line.contains(EDGE_TO_BIRD_V6));
            let words: Vec<_> = line.unwrap_or_default().split_whitespace().collect();
            let word = |at: usize| words.get(at).copied().unwrap_or_default().to_owned();
            let since = word(3)
                .split(':')
                .fold(0.0, |time, part| time * 60.0 + part.parse::<f64>().unwrap_or_default());
            return Session { is_up: word(2) == "Up", history: History::Since(since) };
        }
        let shown = self.vtysh("show bfd peers json").await;
        let is_up = shown.contains("\"status\":\"up\"");
        let counters = self.vtysh("show bfd peers counters json").await;
        let counters: serde_json::Value = serde_json::from_str(&counters).unwrap();
        let history =
            format!("{} up, {} down", counters[0]["session-up"], counters[0]["session-down"]);
        Session { is_up, history: History::Counts(history) }
    }
}

impl Deref for Watched {
    type Target = Router;

    fn deref(&self) -> &Router {
        &self.router
    }
}
