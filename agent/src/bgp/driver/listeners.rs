//! Listening sockets, and the MD5 keys they must have before a peer knocks.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use crate::bgp::md5::Md5Key;
use crate::bgp::socket;

/// Connections accepted in one turn: the rest waits in the kernel.
const ACCEPTS_MAX: usize = 16;

/// Pause after a failed accept: the usual cause, no descriptors left, does not go away by retrying.
const PAUSE: Duration = Duration::from_millis(100);

/// See the module. Tokens are `first`, and those that follow it.
#[derive(Debug)]
pub(super) struct Listeners {
    listeners: Vec<Listener>,
    first: usize,
    keys: BTreeMap<IpNet, Md5Key>,
    /// Whether peers can connect.
    open: bool,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    /// When to accept next, as far as is known.
    ready: Option<Instant>,
}

// === impl Listeners ===

impl Listeners {
    /// Binds all addresses.
    ///
    /// # Errors
    /// The first address that cannot be bound.
    pub(super) fn bind(
        addresses: &[SocketAddr],
        first: usize,
    ) -> Result<Self, (SocketAddr, io::Error)> {
        let bind = |address: &SocketAddr| {
            let socket = socket::bind(*address).map_err(|error| (*address, error))?;
            Ok(Listener { socket, address: *address, ready: None })
        };
        let listeners = addresses.iter().map(bind).collect::<Result<_, _>>()?;
        Ok(Self { listeners, first, keys: BTreeMap::new(), open: false })
    }

    /// Lets peers connect, once it is known who they are and which of them sign what they send:
    /// until then they are refused, as by a host where nobody speaks BGP.
    pub(super) fn open(&mut self, registry: &Registry) {
        if std::mem::replace(&mut self.open, true) {
            return;
        }
        for (token, listener) in (self.first..).zip(&mut self.listeners) {
            let socket = &mut listener.socket;
            let begun = socket::listen(socket)
                .and_then(|()| registry.register(socket, Token(token), Interest::READABLE));
            if let Err(error) = begun {
                tracing::error!(address = %listener.address, %error, "peers cannot connect");
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.listeners.len()
    }

    /// Somebody may be knocking; whether the token is a listener's.
    pub(super) fn note(&mut self, now: Instant, token: Token) -> bool {
        let index = token.0.checked_sub(self.first);
        let listener = index.and_then(|index| self.listeners.get_mut(index));
        listener.map(|listener| listener.ready = Some(now)).is_some()
    }

    /// When to accept again.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.listeners.iter().filter_map(|listener| listener.ready).min()
    }

    /// Accepts what is there, within limits.
    pub(super) fn accept(&mut self, now: Instant) -> Vec<(TcpStream, SocketAddr)> {
        let mut accepted = Vec::new();
        for listener in self.listeners.iter_mut().filter(|it| it.ready.is_some_and(|at| at <= now))
        {
            while accepted.len() < ACCEPTS_MAX {
                match listener.socket.accept() {
                    Ok(connection) => accepted.push(connection),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        listener.ready = None;
                        break;
                    }
                    // The peer changed its mind; the next one may not have.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        tracing::warn!(address = %listener.address, %error, "accept failed");
                        listener.ready = now.checked_add(PAUSE);
                        break;
                    }
                }
            }
        }
        accepted
    }

    /// Has exactly these peers sign their connections.
    pub(super) fn set_keys(&mut self, wanted: BTreeMap<IpNet, Md5Key>) {
        for peers in self.keys.keys().filter(|peers| !wanted.contains_key(peers)) {
            self.set_key(*peers, None);
        }
        for (peers, key) in wanted.iter().filter(|(peers, key)| self.keys.get(peers) != Some(key)) {
            self.set_key(*peers, Some(key));
        }
        self.keys = wanted;
    }

    fn set_key(&self, peers: IpNet, key: Option<&Md5Key>) {
        let is_ipv4 = matches!(peers, IpNet::V4(_));
        for listener in self.listeners.iter().filter(|it| it.address.is_ipv4() == is_ipv4) {
            if let Err(error) = socket::set_listener_key(&listener.socket, peers, key) {
                tracing::error!(%peers, %error, "no MD5 signatures: the peers cannot connect");
            }
        }
    }
}
