//! One TCP connection: moves bytes between a socket and the peer's task.
//!
//! Knows nothing of BGP. Reading stops while the peer's task is busy and writing is one chunk at a
//! time, so back-pressure reaches TCP in both directions and nothing piles up here.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use isocast_bgp::fsm::{ConnectionId, LocalEndpoint};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::timeout,
};

use super::interface;

/// Orders waiting for a connection: the chunk being written, and the order to close.
const ORDERS_MAX: usize = 2;

/// How long a farewell may take: to be written, then to be read by the peer.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes read at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// Largest TTL: what a peer with GTSM expects of a neighbour (RFC 5082 §3).
const TTL: u32 = 255;

/// How a connection comes to be.
#[derive(Debug)]
pub(super) enum Origin {
    /// By us.
    Dial { remote: SocketAddr, local: Option<IpAddr> },
    /// By the peer.
    Accepted(TcpStream),
}

/// Orders of the peer's task.
#[derive(Debug)]
pub(super) enum Order {
    /// Write; [`Progress::Written`] follows.
    Write(Vec<u8>),
    /// Close, after the farewell if there is one.
    Close { farewell: Option<Vec<u8>> },
}

/// What became of orders.
#[derive(Debug)]
pub(super) enum Progress {
    /// The connection is there.
    Connected { id: ConnectionId, local: LocalEndpoint },
    /// It cannot be had.
    Failed { id: ConnectionId, error: io::Error },
    /// The last chunk is written.
    Written { id: ConnectionId },
}

/// What arrived.
#[derive(Debug)]
pub(super) enum Arrival {
    /// Bytes, in order.
    Bytes { id: ConnectionId, bytes: Vec<u8> },
    /// Nothing will follow.
    Closed { id: ConnectionId },
}

/// The ends that a connection's task talks to.
#[derive(Clone, Debug)]
pub(super) struct Reports {
    pub(super) progress: mpsc::Sender<Progress>,
    pub(super) arrivals: mpsc::Sender<Arrival>,
}

/// A channel for orders.
pub(super) fn orders() -> (mpsc::Sender<Order>, mpsc::Receiver<Order>) {
    mpsc::channel(ORDERS_MAX)
}

/// The endpoint of an accepted stream.
pub(super) fn endpoint(stream: &TcpStream) -> io::Result<LocalEndpoint> {
    let address = stream.local_addr()?.ip().to_canonical();
    Ok(LocalEndpoint { address, interface_ipv6: interface::global_ipv6(address) })
}

/// Runs until told to close. Errors end up as reports: the session decides what they mean.
pub(super) async fn run(
    id: ConnectionId,
    origin: Origin,
    mut orders: mpsc::Receiver<Order>,
    reports: Reports,
) {
    let stream = match origin {
        Origin::Accepted(stream) => stream,
        Origin::Dial { remote, local } => {
            // Until it is there, the only order can be to give up.
            let dialled = tokio::select! {
                dialled = dial(remote, local) => dialled,
                _ = orders.recv() => return,
            };
            let connected = dialled.and_then(|stream| Ok((endpoint(&stream)?, stream)));
            let (report, stream) = match connected {
                Ok((local, stream)) => (Progress::Connected { id, local }, Some(stream)),
                Err(error) => (Progress::Failed { id, error }, None),
            };
            let (Ok(()), Some(stream)) = (reports.progress.send(report).await, stream) else {
                return;
            };
            stream
        }
    };
    serve(id, stream, &mut orders, &reports).await;
}

async fn dial(remote: SocketAddr, local: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(local) = local {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    set_ttl(SockRef::from(&socket), remote.ip())?;
    socket.connect(remote).await
}

fn set_ttl(socket: SockRef<'_>, family: IpAddr) -> io::Result<()> {
    match family {
        IpAddr::V4(_) => socket.set_ttl_v4(TTL),
        IpAddr::V6(_) => socket.set_unicast_hops_v6(TTL),
    }
}

async fn serve(
    id: ConnectionId,
    stream: TcpStream,
    orders: &mut mpsc::Receiver<Order>,
    reports: &Reports,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY refused");
    }
    let (mut from, mut to) = stream.into_split();
    let farewell = tokio::select! {
        farewell = write_orders(id, &mut to, orders, reports) => farewell,
        never = read_all(id, &mut from, reports) => match never {},
    };
    if let Some(farewell) = farewell {
        part(from, to, &farewell).await;
    }
}

/// Writes chunks until the order to close; returns its farewell.
async fn write_orders(
    id: ConnectionId,
    to: &mut OwnedWriteHalf,
    orders: &mut mpsc::Receiver<Order>,
    reports: &Reports,
) -> Option<Vec<u8>> {
    loop {
        let bytes = match orders.recv().await? {
            Order::Close { farewell } => return farewell,
            Order::Write(bytes) => bytes,
        };
        let mut write = pin!(to.write_all(&bytes));
        let written = tokio::select! {
            written = &mut write => written,
            close = orders.recv() => {
                let Some(Order::Close { farewell: Some(farewell) }) = close else { return None };
                // A message cut in half would make the farewell unreadable.
                return timeout(LINGER, write).await.ok()?.is_ok().then_some(farewell);
            }
        };
        match written {
            Ok(()) => reports.progress.send(Progress::Written { id }).await.ok()?,
            // The reader sees the same broken connection and reports it.
            Err(error) => tracing::debug!(%error, "write failed"),
        }
    }
}

/// Reads until the end, reports it, and then waits to be dropped.
async fn read_all(
    id: ConnectionId,
    from: &mut OwnedReadHalf,
    reports: &Reports,
) -> std::convert::Infallible {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = from.read(&mut chunk).await.unwrap_or(0);
        let bytes = chunk.get(..count).unwrap_or_default().to_vec();
        let arrival =
            if bytes.is_empty() { Arrival::Closed { id } } else { Arrival::Bytes { id, bytes } };
        let last = matches!(arrival, Arrival::Closed { .. });
        if reports.arrivals.send(arrival).await.is_err() || last {
            return std::future::pending().await;
        }
    }
}

/// Says goodbye in a way the peer can read: closing a socket with unread bytes in it sends a reset,
/// which may overtake the farewell and turn a shutdown into a restart.
async fn part(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, farewell: &[u8]) {
    let goodbye = async {
        to.write_all(farewell).await?;
        to.shutdown().await?;
        let mut chunk = vec![0; CHUNK_BYTES];
        while from.read(&mut chunk).await? > 0 {}
        io::Result::Ok(())
    };
    match timeout(LINGER, goodbye).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "farewell not delivered"),
        Err(_) => tracing::debug!("peer did not close in time"),
    }
}
