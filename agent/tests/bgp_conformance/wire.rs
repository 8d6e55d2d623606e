//! A connection to the speaker, and messages made by hand.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::OWN;

pub(crate) const OPEN: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
pub(crate) const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;
pub(crate) const ROUTE_REFRESH: u8 = 5;

/// How long an answer may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(15);

/// See the module.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
}

/// A NOTIFICATION: code, subcode, data.
pub(crate) type Told = (u8, u8, Vec<u8>);

impl Wire {
    /// Connects as the peer at this address.
    pub(crate) async fn connect(from: Ipv4Addr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(SocketAddr::new(IpAddr::V4(from), 0)).unwrap();
        let own = SocketAddr::new(IpAddr::V4(OWN), 179);
        Self { stream: socket.connect(own).await.unwrap() }
    }

    pub(crate) const fn accepted(stream: TcpStream) -> Self {
        Self { stream }
    }

    /// Connects, and exchanges OPENs: the speaker is in OpenConfirm.
    pub(crate) async fn confirmed(from: Ipv4Addr, open: &[u8]) -> Self {
        let mut wire = Self::connect(from).await;
        wire.send(open).await;
        assert_eq!(wire.next().await.unwrap().0, OPEN);
        assert_eq!(wire.next().await.unwrap().0, KEEPALIVE);
        wire
    }

    /// Connects and completes the session.
    pub(crate) async fn established(from: Ipv4Addr, open: &[u8]) -> Self {
        let mut wire = Self::confirmed(from, open).await;
        wire.send(&keepalive()).await;
        wire
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next message, type and body; nothing once the speaker has closed.
    pub(crate) async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        timeout(PATIENCE, self.read()).await.expect("the speaker neither speaks nor closes")
    }

    async fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 19];
        self.stream.read_exact(&mut header).await.ok()?;
        assert_eq!(header[..16], [0xff; 16]);
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        assert!((19..=4096).contains(&length));
        let mut body = vec![0; length - 19];
        self.stream.read_exact(&mut body).await.ok()?;
        Some((header[18], body))
    }

    /// What the speaker ends the connection with; nothing: it just closes.
    pub(crate) async fn told(&mut self) -> Option<Told> {
        while let Some((kind, body)) = self.next().await {
            if kind == NOTIFICATION {
                assert_eq!(self.next().await, None, "a NOTIFICATION is the last word");
                return Some((body[0], body[1], body[2..].to_vec()));
            }
        }
        None
    }

    /// Sends this; what the speaker ends the connection with.
    pub(crate) async fn told_after(mut self, bytes: &[u8]) -> Option<Told> {
        self.send(bytes).await;
        self.told().await
    }

    /// Closes by a reset.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }
}

/// A message with a right header.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).unwrap();
    [header(0xff, length, kind), body.to_vec()].concat()
}

/// Sixteen such octets, a length and a type.
pub(crate) fn header(marker: u8, length: u16, kind: u8) -> Vec<u8> {
    [&[marker; 16][..], &length.to_be_bytes(), &[kind]].concat()
}

pub(crate) fn keepalive() -> Vec<u8> {
    message(KEEPALIVE, &[])
}

/// An OPEN of BGP-4 that proposes to be silent for as long as anybody likes.
pub(crate) fn open(asn: u16, id: [u8; 4], parameters: &[u8]) -> Vec<u8> {
    let [high, low] = asn.to_be_bytes();
    message(OPEN, &[&[4, high, low, 0, 0], &id[..], parameters].concat())
}

/// Optional parameters: one with these capabilities.
pub(crate) fn parameters(capabilities: &[u8]) -> Vec<u8> {
    let length = u8::try_from(capabilities.len()).unwrap();
    [&[length + 2, 2, length], capabilities].concat()
}

/// Both families and four-octet numbers.
pub(crate) fn capabilities(asn: u32) -> Vec<u8> {
    let families = [1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 2, 0, 65, 4];
    [&families[..], &asn.to_be_bytes()].concat()
}

/// The OPEN of an ordinary peer.
pub(crate) fn ordinary(asn: u16, id: [u8; 4]) -> Vec<u8> {
    open(asn, id, &parameters(&capabilities(asn.into())))
}

/// The OPEN of the peer outside.
pub(crate) fn outside() -> Vec<u8> {
    ordinary(65_001, [10, 0, 0, 9])
}
