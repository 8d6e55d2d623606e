//! Accepts connections and hands each to the task of the peer that has its address.
//!
//! Unknown addresses, and peers that are not waiting for a connection, are closed at once.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// Accepted connections that wait for a peer's task.
pub(super) const WAITING_MAX: usize = 2;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// Pause after a failed accept: the usual cause, no descriptors left, does not go away by retrying.
const PAUSE: Duration = Duration::from_millis(100);

/// Where accepted connections go, by the peer's address.
pub(super) type Doors = Arc<Mutex<HashMap<IpAddr, mpsc::Sender<TcpStream>>>>;

/// Binds an address.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_unicast_hops_v6(255)?;
    } else {
        socket.set_ttl_v4(255)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts for ever.
pub(super) async fn run(listener: TcpListener, doors: Doors) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                let address = remote.ip().to_canonical();
                let door = doors.lock().get(&address).cloned();
                let taken = door.is_some_and(|door| door.try_send(stream).is_ok());
                if !taken {
                    tracing::debug!(%address, "connection refused: no such peer, or it is busy");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
