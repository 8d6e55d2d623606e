//! [`Lease`]: which of several controllers does what only one may do.
//!
//! A key in etcd that its holder writes anew several times in [`limits::LEASE_LASTS`]. Who sees it
//! unchanged for that long, by its own clock, takes it, on the condition that it still is; so no clock
//! is compared with another's, and etcd's own leases, which last longer after an election, are not
//! needed. A holder that could not renew it in [`limits::LEASE_TRUST`] no longer believes in it: before
//! anybody else can have it. What is written is fenced by the log itself; the lease only keeps two from
//! doing the same work.

use std::{fmt, sync::Arc};

use etcd_client::{Client, Compare, CompareOp, Error, KeyValue, Txn, TxnOp};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::EtcdBackend;
use crate::limits;

/// The one place that controllers compete for.
#[derive(Clone)]
pub struct Lease {
    client: Client,
    key: Vec<u8>,
    name: Arc<str>,
    /// Of which backend: its connection ends with it.
    _backend: Arc<EtcdBackend>,
}

/// A lease that was taken.
#[derive(Debug)]
pub struct Term {
    lost: CancellationToken,
    keeper: JoinHandle<()>,
    lease: Lease,
}

/// What a controller that has no lease knows of it. Sans-IO.
#[derive(Debug, Default)]
struct Watched {
    /// The version that is there, and since when it was not another one.
    seen: Option<(i64, Instant)>,
}

impl Lease {
    /// The lease of the managers beside `backend`'s log, as it is sought by `name`.
    pub fn of_managers(backend: Arc<EtcdBackend>, name: &str) -> Self {
        let (client, prefix) = backend.client();
        let key = format!("{prefix}/lease/managers").into_bytes();
        Self { client, key, name: name.into(), _backend: backend }
    }

    /// Waits until this controller holds it.
    pub async fn held(&self) -> Term {
        let mut watched = Watched::default();
        let mut is_seen = true;
        loop {
            match timeout(limits::LEASE_TRUST, self.seek(&mut watched)).await {
                Ok(Ok(Some((version, since)))) => {
                    tracing::info!(name = %self.name, "holds the lease of the managers");
                    let lost = CancellationToken::new();
                    let guard = lost.clone().drop_guard();
                    let lease = self.clone();
                    let keeper = tokio::spawn(async move {
                        let _guard = guard;
                        lease.keep(version, since).await;
                        tracing::warn!("the lease of the managers is lost");
                    });
                    return Term { lost, keeper, lease: self.clone() };
                }
                Ok(Ok(None)) => is_seen = true,
                Ok(Err(error)) => {
                    // Its holder could not renew it either.
                    watched = Watched::default();
                    if std::mem::take(&mut is_seen) {
                        let error: &dyn std::error::Error = &error;
                        tracing::warn!(error, "cannot see the lease of the managers");
                    }
                }
                Err(_elapsed) => watched = Watched::default(),
            }
            sleep(limits::LEASE_LOOK).await;
        }
    }

    /// Looks at it, and takes it if nobody renews it.
    async fn seek(&self, watched: &mut Watched) -> Result<Option<(i64, Instant)>, Error> {
        let mut kv = self.client.kv_client();
        let found = kv.get(self.key.clone(), None).await?;
        let version = found.kvs().first().map_or(0, KeyValue::mod_revision);
        if !watched.is_free(version, Instant::now()) {
            return Ok(None);
        }
        let since = Instant::now();
        Ok(self.put(version).await?.map(|version| (version, since)))
    }

    /// Puts the holder's name there unless `over` is no longer what is there.
    async fn put(&self, over: i64) -> Result<Option<i64>, Error> {
        let is_same = Compare::mod_revision(self.key.clone(), CompareOp::Equal, over);
        let name = TxnOp::put(self.key.clone(), self.name.as_bytes(), None);
        let txn = Txn::new().when([is_same]).and_then([name]);
        let answer = self.client.kv_client().txn(txn).await?;
        let version = answer.header().map(etcd_client::ResponseHeader::revision);
        Ok(version.filter(|_| answer.succeeded()))
    }

    /// Renews it, until that fails for as long as it is believed in.
    async fn keep(&self, mut version: i64, mut since: Instant) {
        loop {
            sleep(limits::LEASE_RENEW).await;
            let left = limits::LEASE_TRUST.saturating_sub(since.elapsed());
            let asked = Instant::now();
            match timeout(left, self.put(version)).await {
                Ok(Ok(Some(renewed))) => (version, since) = (renewed, asked),
                // Somebody else has it; or an answer was lost, and the next holder will say.
                Ok(Ok(None)) | Err(_) => return,
                Ok(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the lease of the managers is not renewed");
                }
            }
        }
    }
}

impl Term {
    /// Waits until it is no longer held.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Gives it back, so that nobody has to wait for it to run out.
    pub async fn release(self) {
        let Self { lost, keeper, lease } = self;
        if lost.is_cancelled() {
            return;
        }
        keeper.abort();
        let mine = Compare::value(lease.key.clone(), CompareOp::Equal, lease.name.as_bytes());
        let txn = Txn::new().when([mine]).and_then([TxnOp::delete(lease.key.clone(), None)]);
        let given = timeout(limits::LEASE_TRUST, lease.client.kv_client().txn(txn)).await;
        if !matches!(given, Ok(Ok(_))) {
            tracing::warn!("the lease of the managers has to run out");
        }
    }
}

impl Watched {
    /// Whether nobody renews the lease, of which `version` is seen now; 0 is none.
    fn is_free(&mut self, version: i64, now: Instant) -> bool {
        if version == 0 {
            return true;
        }
        match self.seen {
            Some((seen, since)) if seen == version => {
                now.saturating_duration_since(since) >= limits::LEASE_LASTS
            }
            _ => {
                self.seen = Some((version, now));
                false
            }
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A renewal may be late twice before its holder gives up, and it gives up before others take over.
const _: () = {
    let (renew, trust) = (limits::LEASE_RENEW, limits::LEASE_TRUST);
    assert!(renew.as_millis() * 2 < trust.as_millis());
    assert!(trust.as_millis() < limits::LEASE_LASTS.as_millis());
    assert!(limits::LEASE_LASTS.as_millis() + limits::LEASE_LOOK.as_millis() < 3000);
};

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_lease_is_free_when_nobody_renews_it_for_as_long_as_it_lasts() {
        let mut watched = Watched::default();
        let start = Instant::now();
        let almost = limits::LEASE_LASTS - Duration::from_millis(1);

        assert!(watched.is_free(0, start), "nobody has ever had it");
        assert!(!watched.is_free(7, start));
        assert!(!watched.is_free(7, start + almost));
        assert!(!watched.is_free(8, start + limits::LEASE_LASTS), "it was renewed");
        assert!(!watched.is_free(8, start + limits::LEASE_LASTS + almost));
        assert!(watched.is_free(8, start + limits::LEASE_LASTS * 2));
    }
}
