//! Carrying out what others wish: which sessions there are, and what they may be left to.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    ops::ControlFlow,
    time::{Instant, SystemTime},
};

use isocast_bgp::bfd::{Adopted, ControlPacket, SessionKey};
use isocast_dataplane::bfd::Reflection;

use super::{Driver, RETRY, sessions::Session};
use crate::bfd::{
    config::SessionSpec,
    hand_over::HandOver,
    sockets::{self, Mouth},
};

impl Driver {
    pub(super) fn take_orders(&mut self) -> ControlFlow<()> {
        self.doorbell.silence();
        let orders = self.mailbox.take();
        if orders.end {
            return ControlFlow::Break(());
        }
        let now = Instant::now();
        if let Some(plane) = orders.plane {
            self.plane = plane;
            for key in self.sessions.keys().copied().collect::<Vec<_>>() {
                self.reconfigure(now, &key);
                self.settle(now, &key);
            }
        }
        if let Some(listener) = orders.listener {
            self.listener = listener;
            self.tell_all();
        }
        if let Some(sessions) = orders.sessions {
            self.set_sessions(now, sessions);
        }
        ControlFlow::Continue(())
    }

    /// Tries once more to open what could not be opened.
    pub(super) fn retry(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|at| at <= now) {
            let waiting = std::mem::take(&mut self.waiting);
            self.add(now, waiting.into_iter().map(|(spec, _)| spec).collect());
        }
    }

    fn set_sessions(&mut self, now: Instant, wanted: Vec<SessionSpec>) {
        let kept: BTreeSet<_> = wanted.iter().map(|spec| (spec.peer, spec.hops)).collect();
        for key in self.sessions.keys().copied().collect::<Vec<_>>() {
            if !kept.contains(&(key.peer, key.hops)) {
                self.leave(now, &key);
            }
        }
        self.waiting.clear();
        self.add(now, wanted);
        self.forget_strangers(&kept.into_iter().map(|(peer, _)| peer).collect());
        self.is_news = true;
    }

    fn add(&mut self, now: Instant, specs: Vec<SessionSpec>) {
        for spec in specs {
            if let Err(why) = self.try_add(now, &spec) {
                if !self.waiting.iter().any(|(known, _)| known.uid == spec.uid) {
                    tracing::warn!(peer = %spec.name, address = %spec.peer, why, "no BFD session yet");
                }
                self.waiting.push((spec, why));
            }
        }
        self.retry_at = (!self.waiting.is_empty()).then(|| now.checked_add(RETRY)).flatten();
        self.is_news = true;
    }

    fn try_add(&mut self, now: Instant, spec: &SessionSpec) -> Result<(), String> {
        let local = match spec.local {
            Some(local) => local,
            None => sockets::local_address(spec.peer).map_err(|error| error.to_string())?,
        };
        let key = SessionKey { peer: spec.peer, local, hops: spec.hops };
        let others = self.sessions.keys().filter(|other| other.peer == key.peer);
        let others: Vec<_> =
            others.filter(|other| other.hops == key.hops && **other != key).copied().collect();
        for other in others {
            self.leave(now, &other);
        }
        self.ears
            .ensure(spec.peer, spec.hops)
            .map_err(|error| format!("UDP port {}: {error}", spec.hops.port()))?;
        if let Some(session) = self.sessions.get_mut(&key) {
            session.spec = spec.clone();
            session.is_leaving = false;
            self.reconfigure(now, &key);
            return Ok(());
        }
        let left = self.inheritance(&key);
        let wanted = left.as_ref().map(|entry| entry.source_port);
        let random = self.next_random();
        let mouth = Mouth::open(local, spec.peer, spec.hops, wanted, random)
            .map_err(|error| format!("{local}: {error}"))?;
        let session = Session {
            spec: spec.clone(),
            mouth,
            interface: left.as_ref().map(|entry| entry.interface),
            hand_over: HandOver::default(),
            is_leaving: false,
            since: SystemTime::now(),
            failures: 0,
        };
        self.sessions.insert(key, session);
        if left.is_some_and(|entry| self.adopt(now, key, entry)) {
            return Ok(());
        }
        self.reconfigure(now, &key);
        if self.endpoint.session(&key).is_none() {
            self.sessions.remove(&key);
            return Err("there are too many sessions".into());
        }
        Ok(())
    }

    /// What a predecessor left to the program for this session.
    fn inheritance(&self, key: &SessionKey) -> Option<Reflection> {
        let entries = self.plane.as_ref()?.reflector.all().ok()?;
        entries.into_iter().find(|entry| (entry.peer, entry.local) == (key.peer, key.local))
    }

    /// Goes on where a predecessor ended. Says whether that could be.
    fn adopt(&mut self, now: Instant, key: SessionKey, entry: Reflection) -> bool {
        let (Ok(expected), Ok(answer)) =
            (ControlPacket::decode(&entry.expected), ControlPacket::decode(&entry.answer))
        else {
            return false;
        };
        let discriminator = answer.my_discriminator.get();
        let heard = self.plane.as_ref().and_then(|plane| {
            let heard = plane.reflector.heard(discriminator).ok()??;
            self.clock.instant(heard.at)
        });
        let Some(heard) = heard else { return false };
        if let Some(session) = self.sessions.get_mut(&key) {
            session.hand_over = HandOver::adopted(entry);
        }
        let adopted = Adopted { expected, answer, heard };
        let config = self.sessions.get(&key).and_then(|session| self.config_of(session));
        let is_up = config.is_some_and(|config| self.endpoint.adopt(now, key, config, &adopted));
        if is_up {
            tracing::info!(peer = %key.peer, discriminator, "BFD session adopted");
            self.endpoint.set_reflected(&key, true);
            self.tell(key.peer, super::Verdict::Up);
            self.settle(now, &key);
        } else if let Some(session) = self.sessions.get_mut(&key) {
            session.hand_over = HandOver::default();
            self.drop_entry(discriminator);
        }
        is_up
    }

    /// Takes a session down on purpose. The program must not go on answering for it.
    fn leave(&mut self, now: Instant, key: &SessionKey) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.is_leaving = true;
        }
        self.endpoint.remove(now, *key, &mut self.events);
        self.settle(now, key);
        self.carry_out();
    }

    /// Entries of a predecessor for peers that are not wanted any more.
    fn forget_strangers(&mut self, peers: &BTreeSet<IpAddr>) {
        let Some(plane) = &self.plane else { return };
        let entries = match plane.reflector.all() {
            Ok(entries) => entries,
            Err(error) => {
                return tracing::warn!(%error, "BFD sessions in the kernel cannot be read");
            }
        };
        for entry in entries.iter().filter(|entry| !peers.contains(&entry.peer)) {
            if let Ok(answer) = ControlPacket::decode(&entry.answer) {
                self.drop_entry(answer.my_discriminator.get());
            }
        }
    }

    fn drop_entry(&mut self, discriminator: u32) {
        if let Some(plane) = &mut self.plane
            && let Err(error) = plane.reflector.remove(discriminator)
        {
            tracing::warn!(discriminator, %error, "a BFD session cannot be taken from the kernel");
        }
    }
}
