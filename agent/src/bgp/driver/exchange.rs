//! Connections, input and output of the [`Driver`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use isocast_bgp::fsm::{Action, ConnectionId, Input, LocalEndpoint};
use isocast_bgp::speaker::PeerId;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Token};

use super::Driver;
use super::link::{Found, Link, Stage};
use super::links::Rest;
use crate::bgp::{interface, socket};
use crate::model::Remote;

/// What a connection is registered for.
const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

impl Driver {
    /// Reads and writes: every link that was silent, then one that was not.
    pub(super) fn exchange(&mut self) {
        let mut any = false;
        while let Some(token) = self.links.next_fresh() {
            self.read(token);
            any = true;
        }
        if any {
            self.write();
        }
        if let Some(token) = self.links.next_busy() {
            self.read(token);
        }
        self.write();
    }

    /// Gives one link its turn.
    fn read(&mut self, token: Token) {
        let Some(link) = self.links.get_mut(token) else { return };
        let (peer, id) = (link.peer, link.id);
        let found = link.read(&mut self.buffer);
        let (count, rest) = match found {
            Found::Bytes(count) => (count, Rest::Some),
            Found::Last(count) => (count, Rest::None),
            Found::End => (0, Rest::None),
        };
        let now = Instant::now();
        if let Some(bytes) = self.buffer.get(..count).filter(|bytes| !bytes.is_empty()) {
            let input = Input::Received { id, bytes };
            self.speaker.handle(now, peer, input, &mut self.actions);
            self.to_tell.push(peer);
            self.act(now);
        }
        if found == Found::End {
            self.feed(now, peer, Input::Closed { id });
        }
        self.links.served(token, rest);
    }

    /// Writes what peers are to be told, one chunk each.
    fn write(&mut self) {
        let mut to_tell = std::mem::take(&mut self.to_tell);
        to_tell.extend(self.speaker.has_output());
        for peer in to_tell.drain(..) {
            let Some(it) = self.peers.get_mut(peer) else { continue };
            for (id, token) in &it.links {
                let Some(link) = self.links.get_mut(*token) else { continue };
                if link.takes_output() {
                    self.speaker.transmit(peer, *id, link.chunk());
                    if link.is_writing() {
                        link.write();
                        it.told_at = Some(Instant::now());
                    }
                }
            }
        }
        self.to_tell = to_tell;
    }

    /// Whether a peer is to be told something and would take it.
    pub(super) fn can_write(&self) -> bool {
        self.speaker.has_output().any(|peer| {
            let links = self.peers.get(peer).map(|peer| peer.links.as_slice());
            let takes =
                |(_, token): &(_, Token)| self.links.get(*token).is_some_and(Link::takes_output);
            links.unwrap_or_default().iter().any(takes)
        })
    }

    /// Takes note of what the kernel says about a link.
    pub(super) fn note_link(&mut self, now: Instant, token: Token, event: &Event) {
        let Some(link) = self.links.get_mut(token) else { return };
        link.note(event);
        if link.stage == Stage::Connecting {
            return self.connected(now, token);
        }
        if link.is_writing() {
            link.write();
        }
        if event.is_writable() {
            self.to_tell.push(link.peer);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.links.readable(token);
        }
    }

    /// An attempt to connect came to an end, or the kernel says something else.
    fn connected(&mut self, now: Instant, token: Token) {
        let Some(link) = self.links.get_mut(token) else { return };
        let (peer, id) = (link.peer, link.id);
        let input = match link.connected() {
            None => return,
            Some(Ok(address)) => Input::Connected { id, local: endpoint(address) },
            Some(Err(error)) => Input::ConnectFailed { id, error: error.to_string() },
        };
        self.feed(now, peer, input);
        self.links.readable(token);
    }

    /// Takes connections that peers opened.
    pub(super) fn accept(&mut self, now: Instant) {
        for (stream, remote) in self.listeners.accept(now) {
            if self.ending.is_none() {
                self.take(now, stream, remote.ip().to_canonical());
            }
        }
    }

    fn take(&mut self, now: Instant, mut stream: TcpStream, remote: IpAddr) {
        let Some(peer) = self.peers.at(remote).or_else(|| self.invite(now, remote)) else {
            tracing::debug!(%remote, "connection refused: no such peer");
            return;
        };
        let Some(config) = self.peers.get(peer).map(|peer| Arc::clone(&peer.config)) else {
            return;
        };
        let token = self.next_token();
        let prepared = socket::prepare(&stream, remote, &config.transport)
            .and_then(|()| self.poll.registry().register(&mut stream, token, BOTH))
            .and_then(|()| stream.local_addr());
        let local = match prepared {
            Ok(local) => endpoint(local),
            Err(error) => {
                tracing::warn!(peer = %config.name, %error, "connection refused");
                return;
            }
        };
        match self.speaker.incoming(now, peer, local) {
            Some(id) => {
                self.add_link(token, Link::new(peer, id, stream, Stage::Open));
                self.to_tell.push(peer);
            }
            None => tracing::debug!(peer = %config.name, "connection refused: not wanted"),
        }
    }

    fn connect(&mut self, peer: PeerId, id: ConnectionId) {
        let Some(config) = self.peers.get(peer).map(|peer| Arc::clone(&peer.config)) else {
            return;
        };
        let Remote::Address(address) = config.remote else { return };
        let token = self.next_token();
        let remote = SocketAddr::new(address, config.port);
        let begun = socket::connect(remote, &config.transport).and_then(|mut stream| {
            self.poll.registry().register(&mut stream, token, BOTH)?;
            Ok(stream)
        });
        match begun {
            Ok(stream) => self.add_link(token, Link::new(peer, id, stream, Stage::Connecting)),
            Err(error) => self.failed.push((peer, id, error)),
        }
    }

    fn add_link(&mut self, token: Token, link: Link) {
        if let Some(peer) = self.peers.get_mut(link.peer) {
            peer.links.push((link.id, token));
            self.links.insert(token, link);
        }
    }

    fn close(&mut self, now: Instant, peer: PeerId, id: ConnectionId, farewell: Option<Vec<u8>>) {
        let Some(links) = self.peers.get_mut(peer).map(|peer| &mut peer.links) else { return };
        let Some(at) = links.iter().position(|(known, _)| *known == id) else { return };
        let (_, token) = links.swap_remove(at);
        let Some(link) = self.links.remove(token) else { return };
        if let Some(farewell) = farewell
            && link.stage == Stage::Open
        {
            self.parting.begin(now, token, link, &farewell);
        }
    }

    /// Carries out what the core said.
    pub(super) fn act(&mut self, now: Instant) {
        let mut actions = std::mem::take(&mut self.actions);
        for (peer, action) in actions.drain(..) {
            match action {
                Action::Connect(id) => self.connect(peer, id),
                Action::Close { id, farewell } => self.close(now, peer, id, farewell),
                told => {
                    if let (Some(kernel), Action::EndOfRib(family)) = (&mut self.kernel, &told) {
                        kernel.note_end_of_rib(peer, *family);
                    }
                    self.reports.note(now, &mut self.peers, peer, &told);
                }
            }
        }
        self.actions = actions;
    }
}

fn endpoint(local: SocketAddr) -> LocalEndpoint {
    let address = local.ip().to_canonical();
    LocalEndpoint { address, interface_ipv6: interface::global_ipv6(address) }
}
