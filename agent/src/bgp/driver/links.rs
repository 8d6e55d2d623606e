//! All connections, and whose turn it is to be read from.
//!
//! Fair queueing after the manner of deficit round robin with a list of new flows (RFC 8290 §4.1):
//! a link that was silent is served before those that had their turn, so that one route of a quiet
//! peer never waits for another peer's table. A link that used up its quantum goes to the end of
//! the busy ones.

use std::collections::{HashMap, VecDeque};

use mio::Token;

use super::link::Link;

/// See the module.
#[derive(Debug)]
pub(super) struct Links {
    by_token: HashMap<Token, Link>,
    fresh: VecDeque<Token>,
    busy: VecDeque<Token>,
}

/// After a turn of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// There may be more to read.
    Some,
    /// There is nothing for now.
    None,
}

// === impl Links ===

impl Links {
    pub(super) fn new() -> Self {
        Self { by_token: HashMap::new(), fresh: VecDeque::new(), busy: VecDeque::new() }
    }

    pub(super) fn insert(&mut self, token: Token, link: Link) {
        self.by_token.insert(token, link);
    }

    /// Forgets a link; its place in a queue goes when its turn comes.
    pub(super) fn remove(&mut self, token: Token) -> Option<Link> {
        self.by_token.remove(&token)
    }

    pub(super) fn get(&self, token: Token) -> Option<&Link> {
        self.by_token.get(&token)
    }

    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut Link> {
        self.by_token.get_mut(&token)
    }

    /// There is something to read.
    pub(super) fn readable(&mut self, token: Token) {
        if let Some(link) = self.by_token.get_mut(&token)
            && !link.is_queued
        {
            link.is_queued = true;
            self.fresh.push_back(token);
        }
    }

    /// The next link that was silent before.
    pub(super) fn next_fresh(&mut self) -> Option<Token> {
        self.fresh.pop_front()
    }

    /// The next of the others.
    pub(super) fn next_busy(&mut self) -> Option<Token> {
        self.busy.pop_front()
    }

    /// Whether a link waits for its turn.
    pub(super) fn has_input(&self) -> bool {
        !self.fresh.is_empty() || !self.busy.is_empty()
    }

    /// A link had its turn.
    pub(super) fn served(&mut self, token: Token, rest: Rest) {
        let Some(link) = self.by_token.get_mut(&token) else { return };
        match rest {
            Rest::Some => self.busy.push_back(token),
            Rest::None => link.is_queued = false,
        }
    }
}
