//! What arrives on a connection: messages, in the order of the table in [`super::super`].

use std::time::Instant;

use super::{Session, next_hops};
use crate::fsm::connection::{
    Connection, ConnectionId, Established, Opener, Peering, Phase, Resending, Timers,
};
use crate::fsm::end::EndReason;
use crate::fsm::negotiated::{self, Negotiated};
use crate::fsm::routes::{Routes, SessionTerms};
use crate::fsm::{Action, State};
use crate::types::{Family, FamilySet, PerFamily};
use crate::wire::header::{self, Deframer, Message, MessageType};
use crate::wire::notification::Notification;
use crate::wire::open::Open;
use crate::wire::reader::Reader;
use crate::wire::refresh::{Refresh, RouteRefresh};
use crate::wire::update;

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
        // Messages borrow from the deframer, so it is away while they are handled. Each round takes
        // a message or ends; a message may end the connection.
        let Some(mut deframer) = self.deframer(id).map(std::mem::take) else { return };
        loop {
            let outcome = match deframer.next(&mut reader) {
                Ok(None) => break,
                Ok(Some(message)) => self.message(now, id, message, routes, actions),
                Err(fault) => Err(EndReason::Header(fault)),
            };
            if let Err(reason) = outcome {
                self.end(now, id, reason, routes, actions);
            }
            let Some(connection) = self.connections.iter().find(|c| c.id == id) else { return };
            deframer.allow(connection.message_bytes_max());
        }
        if let Some(place) = self.deframer(id) {
            *place = deframer;
        }
    }

    fn deframer(&mut self, id: ConnectionId) -> Option<&mut Deframer> {
        let connection = self.connections.iter_mut().find(|c| c.id == id);
        connection.map(|connection| &mut connection.deframer)
    }

    fn message(
        &mut self,
        now: Instant,
        id: ConnectionId,
        Message { kind, body }: Message<'_>,
        routes: &mut impl Routes,
        actions: &mut Vec<Action>,
    ) -> Result<(), EndReason> {
        let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) else {
            return Ok(());
        };
        let state = connection.state();
        match (kind, state) {
            (MessageType::Notification, _) => {
                let told = Notification::decode(body).unwrap_or(Notification::new(0, 0));
                Err(EndReason::PeerNotification(told))
            }
            (MessageType::Open, State::OpenSent) => {
                let open = Open::decode(body).map_err(EndReason::Open)?;
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
                    MessageType::Update => self.updated(id, body, routes, actions),
                    MessageType::RouteRefresh => self.refresh(now, id, body, routes),
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
        let negotiated = peering.terms.clone();
        let families = negotiated.codec.families;
        let configured = self.config.next_hops;
        let next_hops = next_hops::derive(configured, connection.local, &negotiated.codec);
        // A peer that lists no family may well send no End-of-RIB.
        let lists = |family: &Family| {
            negotiated.peer_restart.is_some_and(|restart| restart.families.get(*family).is_some())
        };
        let awaited = families.iter().filter(lists).collect();
        connection.phase = Phase::Established(Established {
            peering,
            since: now,
            end_of_rib_owed: families,
            end_of_rib_awaited: awaited,
            refresh_wanted: FamilySet::default(),
            resending: PerFamily::default(),
        });
        self.connections.push(connection);
        let terms = SessionTerms { negotiated, local_asn: self.config.local_asn, next_hops };
        routes.up(&terms);
        actions.push(Action::Established);
        let policy = self.config.helper;
        self.helper.returned(now, policy.as_ref(), &terms.negotiated, routes);
    }

    fn updated(
        &mut self,
        id: ConnectionId,
        body: &[u8],
        routes: &mut impl Routes,
        actions: &mut Vec<Action>,
    ) -> Result<(), EndReason> {
        let connection = self.connections.iter_mut().find(|c| c.id == id);
        let Some(established) = connection.and_then(Connection::established_mut) else {
            return Ok(());
        };
        let codec = &established.peering.terms.codec;
        let before = actions.len();
        let outcome = routes.update(body, codec, actions);
        let mut new = actions.get(before..).unwrap_or_default().iter();
        if matches!(outcome, Err(EndReason::Update { .. }))
            || new.any(|action| matches!(action, Action::Fault(_)))
        {
            let prefixes = update::prefixes(body, codec);
            actions.push(Action::Malformed { prefixes, body: body.to_vec() });
        }
        if let Some(family) = outcome? {
            *established.end_of_rib_awaited.get_mut(family) = false;
            actions.push(Action::EndOfRib(family));
            self.helper.completed(family, routes);
        }
        Ok(())
    }

    fn refresh(
        &mut self,
        now: Instant,
        id: ConnectionId,
        body: &[u8],
        routes: &mut impl Routes,
    ) -> Result<(), EndReason> {
        let Some(message) = RouteRefresh::decode(body) else {
            let mut message = Vec::new();
            header::encode(MessageType::RouteRefresh, &mut message, |out| {
                out.extend_from_slice(body);
            });
            return Err(EndReason::RouteRefresh { message });
        };
        let connection = self.connections.iter_mut().find(|c| c.id == id);
        let Some(established) = connection.and_then(Connection::established_mut) else {
            return Ok(());
        };
        let terms = &established.peering.terms;
        let known = message.meaning().filter(|(_, f)| terms.codec.families.contains(*f));
        match known {
            Some((Refresh::Request, family)) => {
                // RFC 7313 §4.1: no marks before End-of-RIB.
                if terms.enhanced_refresh && !established.end_of_rib_owed.contains(family) {
                    *established.resending.get_mut(family) = Some(Resending::Asked);
                }
                routes.resend(family);
            }
            // RFC 7313 §4.2: nor are they heeded before End-of-RIB.
            Some((Refresh::Begin, family))
                if terms.enhanced_refresh && !established.end_of_rib_awaited.contains(family) =>
            {
                self.helper.refreshing(now, family, routes);
            }
            Some((Refresh::End, family)) => self.helper.refreshed(family, routes),
            Some((Refresh::Begin, _)) | None => {}
        }
        Ok(())
    }
}
