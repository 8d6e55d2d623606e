//! [`Call`]: the request that is being served, for whatever is written on its behalf.
//!
//! A request is served by one task from the connection to the store; the task carries the call, so
//! that no write can be made on a request's behalf that does not name it. What the controller does by
//! itself is no call.

use std::{future::Future, net::IpAddr, sync::Arc};

use tokio::task_local;

use crate::uid;

/// A request to the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// Its name in answers and records (`Audit-Id`).
    pub(crate) id: Arc<str>,
    /// Where it came from.
    pub(crate) source: IpAddr,
}

task_local! {
    static CALL: Arc<Call>;
}

impl Call {
    /// A call that comes from `source`.
    pub(crate) fn new(source: IpAddr) -> Self {
        Self { id: uid::random().to_string().into(), source: source.to_canonical() }
    }
}

/// The call that is being served.
pub(crate) fn current() -> Option<Arc<Call>> {
    CALL.try_with(Arc::clone).ok()
}

/// Serves `call` by `work`.
pub(crate) async fn of_call<T>(call: Arc<Call>, work: impl Future<Output = T>) -> T {
    CALL.scope(call, work).await
}

/// The same work, for the call that is being served now, wherever it is done.
pub(crate) fn carried<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let call = current();
    move || match call {
        Some(call) => CALL.sync_scope(call, work),
        None => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn work_knows_its_call_and_nobody_elses() {
        let call = Arc::new(Call::new(Ipv4Addr::LOCALHOST.into()));

        assert_eq!(of_call(Arc::clone(&call), async { current() }).await, Some(call));
        assert_eq!(current(), None);
    }
}
