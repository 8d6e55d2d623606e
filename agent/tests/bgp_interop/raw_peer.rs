//! A peer that says whatever the test wants: a socket, an OPEN, and bytes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use isocast_bgp::types::{Asn as AsNumber, FamilySet};
use isocast_bgp::wire::{
    capability::Capability,
    encode,
    header::{self, Deframer, Message, MessageType},
    notification::Notification,
    open::Open,
    reader::Reader,
};
use nix::sched::{CloneFlags, setns};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::net::{EDGE_TO_FRR_V4, Lab, RAW_V4};

pub(crate) const ASN: u32 = 65_099;

/// ORIGIN, AS_PATH, NEXT_HOP.
pub(crate) const GOOD_ATTRIBUTES: [u8; 20] =
    [0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfe, 0x4b, 0x40, 3, 4, 10, 99, 1, 3];

/// The same with an ORIGIN of two octets.
pub(crate) const BAD_ORIGIN_ATTRIBUTES: [u8; 21] =
    [0x40, 1, 2, 0, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfe, 0x4b, 0x40, 3, 4, 10, 99, 1, 3];

/// See the module.
#[derive(Debug)]
pub(crate) struct RawPeer {
    stream: TcpStream,
}

impl RawPeer {
    /// Connects from FRR's namespace and completes the handshake.
    pub(crate) async fn connect(lab: &Lab) -> Self {
        let mut peer = Self { stream: dial(&lab.frr) };
        let mut hello = Vec::new();
        Open {
            asn: AsNumber(ASN),
            hold_time_s: 0,
            router_id: RAW_V4,
            capabilities: Capability::multiprotocol(FamilySet::BOTH)
                .chain([Capability::FourOctetAsn(AsNumber(ASN))])
                .collect(),
        }
        .encode(&mut hello);
        encode::keepalive(&mut hello);
        peer.stream.write_all(&hello).await.unwrap();
        peer
    }

    /// Sends an UPDATE as it is given.
    pub(crate) async fn update(&mut self, attributes: &[u8], nlri: &[u8]) {
        let mut bytes = Vec::new();
        header::encode(MessageType::Update, &mut bytes, |out| {
            out.extend([0, 0]);
            out.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
            out.extend(attributes);
            out.extend(nlri);
        });
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// Reads up to the NOTIFICATION.
    pub(crate) async fn notification(&mut self) -> Notification {
        let mut deframer = Deframer::default();
        let mut chunk = [0; 4096];
        loop {
            let read = tokio::time::timeout(Duration::from_secs(5), self.stream.read(&mut chunk));
            let count = read.await.expect("no NOTIFICATION").unwrap();
            assert_ne!(count, 0, "closed without NOTIFICATION");
            let mut reader = Reader::new(&chunk[..count]);
            while let Some(Message { kind, body }) = deframer.next(&mut reader).unwrap() {
                if kind == MessageType::Notification {
                    return Notification::decode(body).unwrap();
                }
            }
        }
    }
}

/// A connection from another namespace: a socket belongs to the one its thread was in.
fn dial(namespace: &str) -> TcpStream {
    let path = format!("/run/netns/{namespace}");
    let dialled = std::thread::spawn(move || {
        setns(std::fs::File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.bind(&SocketAddr::new(IpAddr::V4(RAW_V4), 0).into()).unwrap();
        socket.connect(&SocketAddr::new(IpAddr::V4(EDGE_TO_FRR_V4), 179).into()).unwrap();
        std::net::TcpStream::from(socket)
    });
    let stream = dialled.join().unwrap();
    stream.set_nonblocking(true).unwrap();
    TcpStream::from_std(stream).unwrap()
}
