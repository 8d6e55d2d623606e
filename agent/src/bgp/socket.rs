//! TCP sockets for BGP: listening, connecting, and the options each peer's connection needs.
//!
//! Knows no messages. All sockets are non-blocking.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use ipnet::IpNet;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::config::Transport;
use super::md5::{self, Md5Key};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Unsent bytes beyond which a socket takes no more. What is still ours can be overtaken by a
/// withdrawal; what is the kernel's cannot.
const UNSENT_BYTES: u32 = 32 * 1024;

/// Largest TTL: what a peer with GTSM expects of a neighbour (RFC 5082 §3).
const TTL_MAX: u8 = 255;

/// Binds an address; nobody can connect before [`listen`].
pub(super) fn bind(address: SocketAddr) -> io::Result<mio::net::TcpListener> {
    let socket = stream(address.ip())?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    set_ttl(&socket, address.ip(), TTL_MAX)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(mio::net::TcpListener::from_std(socket.into()))
}

/// Lets peers connect.
pub(super) fn listen(listener: &mio::net::TcpListener) -> io::Result<()> {
    SockRef::from(listener).listen(BACKLOG)
}

/// Has connections from `peers` signed, or no longer.
pub(super) fn set_listener_key(
    listener: &mio::net::TcpListener,
    peers: IpNet,
    key: Option<&Md5Key>,
) -> io::Result<()> {
    md5::set(listener.as_fd(), peers, key)
}

/// Begins to connect; the socket becomes writable when that is done.
pub(super) fn connect(
    remote: SocketAddr,
    transport: &Transport,
) -> io::Result<mio::net::TcpStream> {
    let socket = stream(remote.ip())?;
    if let Some(local) = transport.local_address {
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(local, 0).into())?;
    }
    if let Some(key) = &transport.md5 {
        md5::set(socket.as_fd(), remote.ip().into(), Some(key))?;
    }
    prepare(&socket, remote.ip(), transport)?;
    match socket.connect(&remote.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(mio::net::TcpStream::from_std(socket.into())),
    }
}

/// Options of a peer's connection, whoever opened it.
pub(super) fn prepare(socket: &impl AsFd, remote: IpAddr, transport: &Transport) -> io::Result<()> {
    let socket = SockRef::from(socket);
    set_ttl(&socket, remote, transport.ttl_out())?;
    if let Some(least) = transport.ttl_in_min() {
        set_ttl_min(&socket, remote, least)?;
    }
    socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
    socket.set_tcp_nodelay(true)
}

fn stream(family: IpAddr) -> io::Result<Socket> {
    let domain = if family.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn set_ttl(socket: &Socket, family: IpAddr, ttl: u8) -> io::Result<()> {
    match family {
        IpAddr::V4(_) => socket.set_ttl_v4(ttl.into()),
        IpAddr::V6(_) => socket.set_unicast_hops_v6(ttl.into()),
    }
}

/// Has the kernel drop what travelled further (RFC 5082 §3).
fn set_ttl_min(socket: &Socket, family: IpAddr, least: u8) -> io::Result<()> {
    let (level, option) = match family {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MINTTL),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT),
    };
    super::sockopt::set_int(socket.as_fd(), level, option, least.into())
}
