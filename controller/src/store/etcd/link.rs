//! [`Link`]: the connection to etcd, for threads that may wait.
//!
//! It has a runtime of its own, so that the sequencer and whoever reads can wait for etcd wherever
//! they run. Every call ends within [`limits::ETCD_TIMEOUT`].

use std::{fmt, io, sync::mpsc};

use etcd_client::{Client, ConnectOptions, Error, KvClient, TlsOptions};
use tokio::{
    runtime::Runtime,
    time::{sleep, timeout},
};

use super::BackendError;
use crate::limits;

const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Where etcd is, and as whom it is spoken to.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// `https://etcd-1.example:2379`, and others.
    pub endpoints: Vec<String>,
    /// What the platform's keys begin with.
    pub prefix: String,
    /// TLS, if it is used.
    pub tls: Option<TlsOptions>,
}

pub(super) struct Link {
    /// Taken when it is dropped.
    runtime: Option<Runtime>,
    client: Client,
    kv: KvClient,
    /// Members there are to ask.
    members: usize,
}

/// What etcd said.
pub(super) struct Answer<T> {
    pub(super) answer: T,
    /// It may have been asked more than once, and have done what it was asked before.
    pub(super) is_repeated: bool,
}

impl Link {
    pub(super) fn connect(options: EtcdOptions) -> Result<Self, BackendError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("etcd")
            .enable_all()
            .build()
            .map_err(BackendError::of_io)?;
        let mut connect = ConnectOptions::new()
            .with_connect_timeout(limits::ETCD_TIMEOUT)
            .with_keep_alive(limits::ETCD_PING, limits::ETCD_TIMEOUT)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        if let Some(tls) = options.tls {
            connect = connect.with_tls(tls);
        }
        let (endpoints, members) = (options.endpoints.clone(), options.endpoints.len());
        let connected = async move { Client::connect(endpoints, Some(connect)).await };
        let client = wait(&runtime, connected)?;
        let kv = client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Self { runtime: Some(runtime), client, kv, members })
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Does something for as long as the link is there.
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(future);
        }
    }

    /// Asks, and asks the other members where one cannot be reached.
    pub(super) fn ask<T, F>(
        &self,
        question: impl Fn(KvClient) -> F + Send + 'static,
    ) -> Result<Answer<T>, BackendError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let runtime = self.runtime.as_ref().ok_or_else(closed)?;
        let (kv, most) = (self.kv.clone(), self.members.saturating_mul(limits::ETCD_ATTEMPTS));
        wait(runtime, async move {
            let (mut asked, mut is_repeated) = (1, false);
            loop {
                match question(kv.clone()).await {
                    Err(error) if asked < most && is_unreachable(&error) => {
                        is_repeated |= !is_refused(&error);
                    }
                    answer => return answer.map(|answer| Answer { answer, is_repeated }),
                }
                asked += 1;
                sleep(limits::ETCD_AGAIN).await;
            }
        })
    }
}

impl Drop for Link {
    /// Not waited for: it may be dropped where nobody may wait.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

/// Waits for `future` on any thread, also on those of another runtime.
fn wait<T: Send + 'static>(
    runtime: &Runtime,
    future: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, BackendError> {
    let (tell, told) = mpsc::sync_channel(1);
    runtime.spawn(async move {
        // Nobody waits any more when the link is dropped.
        drop(tell.send(timeout(limits::ETCD_TIMEOUT, future).await));
    });
    match told.recv() {
        Ok(Ok(result)) => result.map_err(convert),
        Ok(Err(_elapsed)) => Err(BackendError::Storage { source: "etcd does not answer".into() }),
        Err(_gone) => Err(closed()),
    }
}

fn is_unreachable(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.code() as i32 == UNAVAILABLE)
}

/// Whether nobody was there to be asked. Only who connects is told so.
fn is_refused(error: &Error) -> bool {
    let mut cause = Some(error as &dyn std::error::Error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind() == io::ErrorKind::ConnectionRefused;
        }
        cause = error.source();
    }
    false
}

/// gRPC's status code.
const UNAVAILABLE: i32 = 14;

fn closed() -> BackendError {
    BackendError::Storage { source: "the connection to etcd is closed".into() }
}

fn convert(error: Error) -> BackendError {
    match &error {
        Error::GRpcStatus(status) if status.message().contains("database space exceeded") => {
            BackendError::NoSpace
        }
        _ => BackendError::Storage { source: Box::new(error) },
    }
}
