//! What arrives on a connection: messages, in the order of the table in [`super::super`].

use std::time::Instant;

use super::{Session, next_hops};
use crate::fsm::connection::{
    Connection, ConnectionId, Established, Opener, Peering, Phase, Timers,
};
use crate::fsm::end::EndReason;
use crate::fsm::negotiated::{self, Negotiated};
use crate::fsm::routes::{Routes, SessionTerms};
use crate::fsm::{Action, State};
use crate::wire::header::{Message, MessageType};
use crate::wire::notification::Notification;
use crate::wire::open::Open;
use crate::wire::reader::Reader;
use crate::wire::refresh::RouteRefresh;

impl Session {
    pub(super) fn received(
        &mut self,
        now: Instant,
        id: ConnectionId,
        bytes: &[u8],
        routes: &mut impl Routes,
        actions: &mut Vec<Action>,
    ) {
        let mut reader = Reader::new(bytes);
        // Each round takes a message or ends; a message may end the connection.
        while let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) {
            let outcome = match connection.deframer.next(&mut reader) {
                Ok(None) => return,
                Ok(Some(message)) => self.message(now, id, message, routes, actions),
                Err(fault) => Err(EndReason::Header(fault)),
            };
            if let Err(reason) = outcome {
                self.end(now, id, reason, routes, actions);
            }
        }
    }

    fn message(
        &mut self,
        now: Instant,
        id: ConnectionId,
        Message { kind, body }: Message,
        routes: &mut impl Routes,
        actions: &mut Vec<Action>,
    ) -> Result<(), EndReason> {
        let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) else {
            return Ok(());
        };
        let state = connection.state();
        match (kind, state) {
            (MessageType::Notification, _) => {
                let told = Notification::decode(&body).unwrap_or(Notification::new(0, 0));
                Err(EndReason::PeerNotification(told))
            }
            (MessageType::Open, State::OpenSent) => {
                let open = Open::decode(&body).map_err(EndReason::Open)?;
                self.opened(now, id, &open, routes, actions)
            }
            (MessageType::Keepalive, State::OpenConfirm) => {
                self.establish(now, id, routes, actions);
                Ok(())
            }
            (_, State::Established) if kind != MessageType::Open => {
                if let Some(timers) = connection.timers_mut() {
                    timers.heard(now);
                }
                match kind {
                    MessageType::Update => self.updated(now, id, &body, routes, actions),
                    MessageType::RouteRefresh => {
                        refresh_requested(&body, routes);
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
            // RFC 6608: anything else has no place here.
            (message, state) => Err(EndReason::Unexpected { message, state }),
        }
    }

    fn opened(
        &mut self,
        now: Instant,
        id: ConnectionId,
        open: &Open,
        routes: &mut impl Routes,
        actions: &mut Vec<Action>,
    ) -> Result<(), EndReason> {
        let terms = negotiated::accept(&self.config, open).map_err(EndReason::OpenRefused)?;
        self.resolve_collision(now, id, &terms, routes, actions)?;
        let timers = Timers::start(now, terms.hold_time);
        if let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) {
            connection.phase = Phase::OpenConfirm(Peering { terms, timers });
        }
        self.tick(now, routes, actions);
        Ok(())
    }

    /// RFC 4271 §6.8. Ends every connection that must give way; an error ends `id` itself.
    fn resolve_collision(
        &mut self,
        now: Instant,
        id: ConnectionId,
        terms: &Negotiated,
        routes: &mut impl Routes,
        actions: &mut Vec<Action>,
    ) -> Result<(), EndReason> {
        let peer_wins = match self.config.router_id.cmp(&terms.peer_router_id) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Greater => false,
            // RFC 6286 §2.3.
            std::cmp::Ordering::Equal => self.config.local_asn < terms.peer_asn,
        };
        let winner = if peer_wins { Opener::Peer } else { Opener::Us };
        let opener = self.connections.iter().find(|c| c.id == id).map(|c| c.opener);
        let mut losers = Vec::new();
        for other in self.connections.iter().filter(|other| other.id != id) {
            match &other.phase {
                Phase::Connecting { .. } | Phase::OpenSent { .. } => {}
                Phase::OpenConfirm(_) if opener == Some(other.opener) || opener == Some(winner) => {
                    losers.push((other.id, EndReason::Collision));
                }
                Phase::OpenConfirm(_) => return Err(EndReason::Collision),
                Phase::Established(established) => {
                    // RFC 4724 §5: the R bit tells a restart from a late duplicate.
                    let restarted = terms.peer_restart.is_some_and(|restart| restart.restarted);
                    if !restarted || established.peering.terms.peer_restart.is_none() {
                        return Err(EndReason::Collision);
                    }
                    losers.push((other.id, EndReason::PeerRestarted));
                }
            }
        }
        for (loser, reason) in losers {
            self.end(now, loser, reason, routes, actions);
        }
        Ok(())
    }

    fn establish(
        &mut self,
        now: Instant,
        id: ConnectionId,
        routes: &mut impl Routes,
        actions: &mut Vec<Action>,
    ) {
        let Some(at) = self.connections.iter().position(|c| c.id == id) else { return };
        let mut connection = self.connections.swap_remove(at);
        let Phase::OpenConfirm(mut peering) = connection.phase else { return };
        peering.timers.heard(now);
        let local_address = connection.local.map(|local| local.address.to_canonical());
        peering.terms.codec.local_address = local_address;
        let terms = SessionTerms {
            negotiated: peering.terms.clone(),
            local_asn: self.config.local_asn,
            next_hops: next_hops::derive(self.config.next_hops, connection.local),
        };
        let end_of_rib_owed = terms.negotiated.codec.families;
        connection.phase = Phase::Established(Established { peering, since: now, end_of_rib_owed });
        self.connections.push(connection);
        routes.up(now, &terms);
        actions.push(Action::Established);
    }

    fn updated(
        &mut self,
        now: Instant,
        id: ConnectionId,
        body: &[u8],
        routes: &mut impl Routes,
        actions: &mut Vec<Action>,
    ) -> Result<(), EndReason> {
        let connection = self.connections.iter_mut().find(|c| c.id == id);
        let Some(established) = connection.and_then(Connection::established_mut) else {
            return Ok(());
        };
        let codec = &mut established.peering.terms.codec;
        let heard = routes.update(now, body, codec, actions)?;
        for family in heard.disabled.iter() {
            *codec.families.get_mut(family) = false;
        }
        actions.extend(heard.end_of_rib.map(Action::EndOfRib));
        Ok(())
    }
}

fn refresh_requested(body: &[u8], routes: &mut impl Routes) {
    let requested = RouteRefresh::decode(body).ok().and_then(RouteRefresh::requested);
    if let Some(family) = requested {
        routes.resend(family);
    }
}
