//! [`FlowQuery`]: a packet that is asked about, as people and addresses of requests say it.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// A packet that is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlowQuery {
    /// What follows the IP header.
    pub protocol: FlowProtocol,
    /// The client.
    pub source: IpAddr,
    /// Its port; none for an echo request.
    #[serde(default)]
    pub source_port: u16,
    /// The service's address.
    pub destination: IpAddr,
    /// The service's port; none for an echo request.
    #[serde(default)]
    pub port: u16,
    /// A TCP packet opens the connection; otherwise it belongs to one.
    #[serde(default)]
    pub syn: bool,
    /// Bytes after the transport header.
    #[serde(default)]
    pub payload: u16,
    /// DSCP and ECN.
    #[serde(default)]
    pub class: u8,
    /// What the node itself has of the flow.
    #[serde(default)]
    pub socket: LocalSocket,
}

/// What a node itself has of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LocalSocket {
    /// Nothing.
    #[default]
    None,
    /// What is left of a closed connection.
    Closed,
    /// A socket.
    Open,
}

/// Protocols that a flow can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FlowProtocol {
    /// Echo requests, of ICMP or ICMPv6.
    Icmp,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl FlowQuery {
    /// Reads a flow as people write it: `tcp 192.0.2.1:4711 203.0.113.10:80`; an echo request has
    /// no ports.
    ///
    /// # Errors
    /// Says which word is not understood.
    pub fn parse(protocol: &str, source: &str, destination: &str) -> Result<Self, String> {
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => FlowProtocol::Tcp,
            "udp" => FlowProtocol::Udp,
            "icmp" => FlowProtocol::Icmp,
            _ => return Err(format!("protocol {protocol:?}: must be tcp, udp or icmp")),
        };
        let end = |text: &str| match protocol {
            FlowProtocol::Icmp => {
                let address = text.parse::<IpAddr>();
                address
                    .map(|address| (address, 0))
                    .map_err(|_invalid| format!("{text:?}: must be an address"))
            }
            FlowProtocol::Tcp | FlowProtocol::Udp => {
                let end = text.parse::<SocketAddr>();
                end.map(|end| (end.ip(), end.port())).map_err(|_invalid| {
                    format!("{text:?}: must be ADDRESS:PORT, such as 203.0.113.10:80 or [2001:db8::1]:80")
                })
            }
        };
        let ((source, source_port), (destination, port)) = (end(source)?, end(destination)?);
        if source.is_ipv4() != destination.is_ipv4() {
            return Err("source and destination must be of one family".to_owned());
        }
        Ok(Self {
            protocol,
            source,
            source_port,
            destination,
            port,
            syn: false,
            payload: 0,
            class: 0,
            socket: LocalSocket::None,
        })
    }

    /// Names and values of the question's parameters.
    #[must_use]
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let protocol = match self.protocol {
            FlowProtocol::Icmp => "icmp",
            FlowProtocol::Tcp => "tcp",
            FlowProtocol::Udp => "udp",
        };
        vec![
            ("protocol", protocol.to_owned()),
            ("source", self.source.to_string()),
            ("sourcePort", self.source_port.to_string()),
            ("destination", self.destination.to_string()),
            ("port", self.port.to_string()),
            ("syn", self.syn.to_string()),
            ("payload", self.payload.to_string()),
            ("class", self.class.to_string()),
            ("socket", self.socket.as_str().to_owned()),
        ]
    }
}

impl LocalSocket {
    const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Closed => "closed",
            Self::Open => "open",
        }
    }
}

impl FromStr for LocalSocket {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::None, Self::Closed, Self::Open];
        all.into_iter().find(|it| it.as_str() == text).ok_or("must be none, closed or open")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_read_as_people_write_them() {
        let flow = FlowQuery::parse("tcp", "192.0.2.1:4711", "203.0.113.10:80").unwrap();
        assert_eq!((flow.source_port, flow.port), (4711, 80));
        let flow = FlowQuery::parse("UDP", "[2001:db8::1]:4711", "[2001:db8::2]:53").unwrap();
        assert_eq!((flow.protocol, flow.port), (FlowProtocol::Udp, 53));
        assert!(FlowQuery::parse("icmp", "192.0.2.1", "203.0.113.10").is_ok());

        for (protocol, source, destination) in [
            ("sctp", "192.0.2.1:1", "203.0.113.10:80"),
            ("tcp", "192.0.2.1", "203.0.113.10:80"),
            ("tcp", "192.0.2.1:1", "[2001:db8::2]:53"),
            ("icmp", "192.0.2.1:1", "203.0.113.10"),
        ] {
            assert!(FlowQuery::parse(protocol, source, destination).is_err(), "{destination}");
        }
    }
}
