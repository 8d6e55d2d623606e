//! What goes out on a connection: greeting, keepalives, routes, and the marks between them.

use super::Session;
use crate::fsm::connection::{Connection, ConnectionId, Established, Resending, Timers};
use crate::fsm::routes::Routes;
use crate::limits::TRANSMIT_BYTES;
use crate::types::{Family, FamilySet};
use crate::wire::encode;
use crate::wire::refresh::{Refresh, RouteRefresh};

impl Session {
    /// Appends what connection `id` should carry next, about [`TRANSMIT_BYTES`] at most; nothing
    /// if there is nothing to say. To be called when all that came before has been written.
    pub(crate) fn transmit(
        &mut self,
        id: ConnectionId,
        routes: &mut impl Routes,
        out: &mut Vec<u8>,
    ) {
        let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) else { return };
        out.append(&mut connection.greeting);
        if connection.timers_mut().is_some_and(Timers::take_keepalive) {
            encode::keepalive(out);
        }
        let Some(established) = connection.established_mut() else { return };
        established.begin(out);
        while out.len() < TRANSMIT_BYTES && routes.transmit(out) {}
        if self.initial_set_until.is_none() {
            established.complete(routes, out);
            if established.end_of_rib_owed.is_empty() {
                // RFC 4724 §4.1: the restart is over.
                self.restart.restarting = false;
            }
        }
    }

    /// Families whose End-of-RIB is still owed to the peer.
    #[must_use]
    pub fn end_of_rib_owed(&self) -> FamilySet {
        self.established().map(|established| established.end_of_rib_owed).unwrap_or_default()
    }

    pub(super) fn want_refresh(&mut self, family: Family) {
        let mut all = self.connections.iter_mut();
        if let Some(established) = all.find_map(Connection::established_mut) {
            let terms = &established.peering.terms;
            *established.refresh_wanted.get_mut(family) =
                terms.route_refresh && terms.codec.families.contains(family);
        }
    }
}

impl Established {
    /// What goes before routes.
    fn begin(&mut self, out: &mut Vec<u8>) {
        for family in Family::ALL {
            if std::mem::take(self.refresh_wanted.get_mut(family)) {
                RouteRefresh::new(Refresh::Request, family).encode(out);
            }
            let resending = self.resending.get_mut(family);
            if *resending == Some(Resending::Asked) {
                RouteRefresh::new(Refresh::Begin, family).encode(out);
                *resending = Some(Resending::Begun);
            }
        }
    }

    /// What goes after the last route of a family.
    fn complete(&mut self, routes: &impl Routes, out: &mut Vec<u8>) {
        for family in Family::ALL {
            let owed = self.end_of_rib_owed.get_mut(family);
            let resending = self.resending.get_mut(family);
            if (!*owed && resending.is_none()) || !routes.is_settled(family) {
                continue;
            }
            if std::mem::take(owed) {
                encode::end_of_rib(family, out);
            }
            if resending.take_if(|resending| *resending == Resending::Begun).is_some() {
                RouteRefresh::new(Refresh::End, family).encode(out);
            }
        }
    }
}
