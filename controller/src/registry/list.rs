//! Listings and the beginning of watches.
//!
//! A listing is one state of the platform, also page by page: the state of a first page is kept for
//! the pages after it, as long as it is among the last few.

use std::{collections::VecDeque, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{Registry, Selector};
use crate::{
    authz::{Authorized, Identity, verb},
    error::{ApiError, Reason},
    limits,
    managers::SYSTEM_NAMESPACE,
    store::{Cursor, Document, Key, Range, Resource, Revision, Version, View},
};

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// At most so many objects.
    pub limit: Option<usize>,
    /// Where the page before ended.
    pub token: Option<String>,
    /// The version the client knows of.
    pub version: Option<Version>,
    /// How the listing relates to it.
    pub version_match: VersionMatch,
}

/// How a listing relates to a version (`resourceVersionMatch`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VersionMatch {
    /// It is the state that its change-set made.
    Exact,
    /// It is that state or a later one.
    #[default]
    NotOlderThan,
}

/// One page of a listing.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The state it shows.
    pub revision: Revision,
    /// The objects.
    pub items: Vec<Arc<Document>>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
    /// How many objects follow, when that is known.
    pub remaining: Option<usize>,
}

/// What to watch.
#[derive(Clone, Copy, Debug)]
pub struct WatchOptions {
    /// From where on.
    pub start: WatchStart,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchStart {
    /// With what exists, as if it were created now, not older than a version.
    Existing(Version),
    /// With what happens from now on.
    Now,
    /// With what happens after a version.
    After(Version),
}

/// The beginning of a watch.
#[derive(Debug)]
pub(crate) struct Watched {
    /// What exists, if asked for.
    pub(crate) existing: Option<View>,
    /// What happens then.
    pub(crate) cursor: Cursor,
}

/// States of listings that are read page by page.
#[derive(Debug, Default)]
pub(super) struct Pages(Mutex<VecDeque<Page>>);

/// A past state, as far as it is known.
#[derive(Debug)]
struct Page {
    range: Range,
    view: View,
}

/// A position in a listing; opaque to clients.
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    #[serde(rename = "rv")]
    revision: Revision,
    resource: String,
    namespace: Option<String>,
    name: String,
}

impl Registry {
    /// Makes sure that a listing finds the past state it shows: that of its first page, or the one at
    /// an exact revision. What the log no longer has, [`Self::list`] refuses.
    ///
    /// # Errors
    /// When the log cannot be read, or too much has changed since.
    pub(crate) async fn recall(
        &self,
        proof: &Authorized<verb::List, Range>,
        options: &ListOptions,
    ) -> Result<(), ApiError> {
        let token = options.token.as_deref().map(Token::parse).transpose()?;
        let wanted = match &token {
            Some(token) => Some(token.revision).filter(|revision| *revision != Revision(0)),
            None => options
                .known()
                .filter(|_| options.version_match == VersionMatch::Exact)
                .map(Version::revision),
        };
        let Some(revision) = wanted else { return Ok(()) };
        let range = proof.resource();
        self.store().reach(revision).await;
        let newest = self.store().view(proof).revision();
        if revision >= newest || self.pages.find(range, revision).is_some() {
            return Ok(());
        }
        match self.store().view_at(proof, revision).await {
            Ok(view) => {
                self.pages.keep_part(range, &view);
                Ok(())
            }
            Err(error) if error.reason() == Reason::Expired => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Lists the objects of the proof's range.
    ///
    /// # Errors
    /// `Expired` when the state of an earlier page is gone; its token goes on with the newest state.
    /// `Timeout` when the client has seen a newer revision than there is.
    pub(crate) fn list(
        &self,
        proof: &Authorized<verb::List, Range>,
        selector: &Selector,
        options: &ListOptions,
    ) -> Result<Listing, ApiError> {
        let (view, after) = self.begin_page(proof, options)?;
        // A kept state shows everything: to this caller, what the proof says.
        let view = self.seen_then(proof, view)?;
        let range = proof.resource();
        let limit = options.page_size();
        let mut matching: Box<dyn Iterator<Item = _>> = match &after {
            Some(key) => Box::new(view.range_after(range, key)),
            None => Box::new(view.range(range)),
        };
        let mut items = Vec::new();
        let mut last = None;
        let mut next = None;
        let mut remaining = None;
        for object in matching.by_ref().filter(|it| selector.selects(&it.key, &it.document)) {
            if items.len() == limit {
                next = last.map(|key| self.end_page(&view, key));
                // As Kubernetes does: a selected listing does not say how much follows.
                if selector.is_everything() {
                    remaining = rest(matching, limits::REMAINING_COUNTED);
                }
                break;
            }
            last = Some(&object.key);
            items.push(Arc::clone(&object.document));
        }
        Ok(Listing { revision: view.revision(), items, next, remaining })
    }

    /// A state as the proof's bearer sees it: of one that is past, not what was others' then.
    fn seen_then(
        &self,
        proof: &Authorized<verb::List, Range>,
        view: View,
    ) -> Result<View, ApiError> {
        let (revision, head) = (view.revision(), self.store().view(proof).revision());
        if revision >= head || !matches!(proof.actor(), Identity::Subject(_)) {
            return Ok(view.seen_by(proof.sight().cloned()));
        }
        let newcomers = Arc::clone(view.newcomers());
        if let Range::Container(_, place) = proof.resource()
            && **place != *SYSTEM_NAMESPACE
            && !self.access().was_here(place, revision, &newcomers)
        {
            return Err(ApiError::expired(revision, head));
        }
        let sight = proof.sight().map(|sight| Arc::new(sight.at(revision, newcomers)));
        Ok(view.seen_by(sight))
    }

    /// The state that a page shows, and the object that the page before ended with.
    ///
    /// # Errors
    /// Those of [`Self::list`].
    pub(crate) fn begin_page(
        &self,
        proof: &Authorized<verb::List, Range>,
        options: &ListOptions,
    ) -> Result<(View, Option<Key>), ApiError> {
        let newest = self.store().view(proof);
        let token = options.token.as_deref().map(Token::parse).transpose()?;
        let view = match &token {
            Some(token) if token.revision != Revision(0) => {
                self.page(token, proof.resource(), &newest)?
            }
            Some(_) => newest,
            None => self.at(options, proof.resource(), newest)?,
        };
        Ok((view, token.as_ref().map(Token::key)))
    }

    /// Keeps the state for the pages after the one that ends with `last`; says where they begin.
    pub(crate) fn end_page(&self, view: &View, last: &Key) -> String {
        self.pages.keep(view);
        Token::at(view.revision(), last).encode()
    }

    /// Begins to watch the proof's range.
    ///
    /// # Errors
    /// `Expired` when the log no longer reaches back to the start, `Timeout` when the start lies in
    /// the future.
    pub(crate) fn watch(
        &self,
        list: &Authorized<verb::List, Range>,
        watch: &Authorized<verb::Watch, Range>,
        options: WatchOptions,
    ) -> Result<Watched, ApiError> {
        match options.start {
            WatchStart::After(version) => {
                Ok(Watched { existing: None, cursor: self.store().watch(watch, version)? })
            }
            WatchStart::Now => {
                let head = self.store().view(list).revision();
                Ok(Watched { existing: None, cursor: self.store().watch(watch, head)? })
            }
            WatchStart::Existing(least) => {
                let view = self.store().view(list);
                expect_reached(least, view.revision())?;
                let cursor = self.store().watch(watch, view.revision())?;
                Ok(Watched { existing: Some(view), cursor })
            }
        }
    }

    fn at(&self, options: &ListOptions, range: &Range, newest: View) -> Result<View, ApiError> {
        let head = newest.revision();
        let Some(version) = options.known() else { return Ok(newest) };
        expect_reached(version, head)?;
        let revision = version.revision();
        match options.version_match {
            VersionMatch::NotOlderThan => Ok(newest),
            VersionMatch::Exact if revision == head => Ok(newest),
            VersionMatch::Exact => {
                self.pages.find(range, revision).ok_or_else(|| ApiError::expired(revision, head))
            }
        }
    }

    fn page(&self, token: &Token, range: &Range, newest: &View) -> Result<View, ApiError> {
        if token.revision == newest.revision() {
            return Ok(newest.clone());
        }
        self.pages.find(range, token.revision).ok_or_else(|| {
            let newer = Token::at(Revision(0), &token.key());
            let message = "The provided continue parameter is too old to display a consistent list \
                           result. You can start a new list without the continue parameter, or use \
                           the continue token in this response to retrieve the remainder of the \
                           results. Continuing with the provided token results in an inconsistent \
                           list.";
            ApiError::new(Reason::Expired, message).with_continue(newer.encode())
        })
    }
}

/// Refuses to answer somebody who has seen more than there is.
pub(crate) fn expect_reached(version: Version, head: Revision) -> Result<(), ApiError> {
    if version.revision() <= head { Ok(()) } else { Err(ApiError::too_large(version, head)) }
}

impl ListOptions {
    /// The version the client knows of, if it cares.
    fn known(&self) -> Option<Version> {
        self.version.filter(|version| *version != Version::ANY)
    }

    /// Objects of a page.
    pub(crate) fn page_size(&self) -> usize {
        self.limit.filter(|limit| *limit > 0).unwrap_or(limits::LIST_ITEMS)
    }
}

/// How many there are after the one that was one too many; none when they are more than `most`, which
/// each page would pay for.
fn rest<T>(after: impl Iterator<Item = T>, most: usize) -> Option<usize> {
    Some(after.take(most).count() + 1).filter(|count| *count <= most)
}

// === impl Pages ===

impl Pages {
    fn keep(&self, view: &View) {
        self.keep_part(&Range::Everything, &view.everything());
    }

    /// Keeps a state of which `range` is right, and nothing else.
    fn keep_part(&self, range: &Range, view: &View) {
        let mut pages = self.0.lock();
        let revision = view.revision();
        if pages.iter().any(|page| page.view.revision() == revision && page.range.covers(range)) {
            return;
        }
        if pages.len() >= limits::LIST_PAGES {
            pages.pop_front();
        }
        pages.push_back(Page { range: range.clone(), view: view.everything() });
    }

    fn find(&self, range: &Range, revision: Revision) -> Option<View> {
        let pages = self.0.lock();
        let fits = |page: &&Page| page.view.revision() == revision && page.range.covers(range);
        pages.iter().find(fits).map(|page| page.view.clone())
    }
}

// === impl Token ===

impl Token {
    fn at(revision: Revision, key: &Key) -> Self {
        Self {
            revision,
            resource: key.resource().to_string(),
            namespace: key.container().map(str::to_owned),
            name: key.name().to_owned(),
        }
    }

    fn key(&self) -> Key {
        let (plural, group) = self.resource.split_once('.').unwrap_or((&self.resource, ""));
        Key::new(Resource::new(plural, group), self.namespace.as_deref(), &self.name)
    }

    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn parse(token: &str) -> Result<Self, ApiError> {
        URL_SAFE_NO_PAD
            .decode(token)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .ok_or_else(|| ApiError::bad_request("continue key is not valid"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_page_is_counted_up_to_a_limit() {
        assert_eq!(rest(0..0, 4), Some(1));
        assert_eq!(rest(0..3, 4), Some(4));
        assert_eq!(rest(0..4, 4), None);
        assert_eq!(rest(0.., 4), None);
    }
}
