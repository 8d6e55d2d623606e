//! [`Desk`]: where questions about peers and routes are asked.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use isocast_bgp::speaker::{ImportChange, Page};
use tokio::sync::oneshot;

use super::mailbox::Mailbox;
use super::query::{ImportQuery, PeerReport, PrefixReport, Question, RoutesPage, RoutesQuery};
use super::speaker::SpeakerError;

/// How long an answer may take: thousands of times what it should.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks the speaker's thread. May outlive the speaker, and is refused then.
#[derive(Clone, Debug)]
pub struct Desk {
    mailbox: Arc<Mailbox>,
}

// === impl Desk ===

impl Desk {
    pub(super) const fn new(mailbox: Arc<Mailbox>) -> Self {
        Self { mailbox }
    }

    /// Every peer with its counters, as of now.
    ///
    /// # Errors
    /// The speaker has ended, or too many ask.
    pub async fn peers(&self) -> Result<Vec<PeerReport>, SpeakerError> {
        self.ask(Question::Peers).await
    }

    /// A page of routes, as of now.
    ///
    /// # Errors
    /// The speaker has ended, or too many ask.
    pub async fn routes(&self, query: RoutesQuery) -> Result<RoutesPage, SpeakerError> {
        self.ask(|answer| Question::Routes(query, answer)).await
    }

    /// Everything about one prefix, as of now.
    ///
    /// # Errors
    /// The speaker has ended, or too many ask.
    pub async fn prefix(&self, prefix: IpNet) -> Result<PrefixReport, SpeakerError> {
        self.ask(|answer| Question::Prefix(prefix, answer)).await
    }

    /// A page of what another import policy would change, as of now; nothing if that is not known.
    ///
    /// # Errors
    /// The speaker has ended, or too many ask.
    pub async fn preview_import(
        &self,
        query: ImportQuery,
    ) -> Result<Option<Page<(IpNet, ImportChange)>>, SpeakerError> {
        self.ask(|answer| Question::PreviewImport(query, answer)).await
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Question,
    ) -> Result<T, SpeakerError> {
        let (answer, answered) = oneshot::channel();
        if !self.mailbox.post(|inbox| inbox.ask(question(answer))) {
            return Err(SpeakerError::Busy);
        }
        // A speaker that ends may leave a question behind.
        let answer = tokio::time::timeout(PATIENCE, answered).await;
        answer.map_err(|_late| SpeakerError::Busy)?.map_err(|_gone| SpeakerError::Busy)
    }
}
