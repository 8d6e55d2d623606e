//! [`Controller`]: the parts of the control plane, put together.

use std::{
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use isocast_api::{ResourceKind, agent::CaFingerprint};
use thiserror::Error;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    admission::Admission,
    apiserver::{self, ApiServer, Extension, ServerError},
    audit::Scopes,
    authz::{Authorizer, Identity, verb},
    channel::{Bound, Channel, ChannelError},
    credentials,
    duties::Duties,
    error::ApiError,
    exporter::Exporter,
    files, fleet,
    gc::{self, Owners},
    iam::{self, Access},
    kubeconfig,
    managers::{self, Quota, QuotaMetrics, ResealMetrics, SYSTEM_NAMESPACE},
    options::RunOptions,
    pki::{Pki, PkiError},
    registry::Registry,
    storage::{Storage, StorageError},
    store::{Lease, OpenError, Range, Retention, Store},
};

/// A control plane that listens but does not serve yet.
#[derive(Debug)]
pub struct Controller {
    server: ApiServer,
    duties: Duties,
    /// Of a lone controller, which is the one that serves agents.
    bound: Option<Bound>,
    /// Where there are others.
    lease: Option<Lease>,
    exporter: Option<Exporter>,
    registry: Arc<Registry>,
    agent_listen: SocketAddr,
    kubeconfig: PathBuf,
    url: String,
}

/// Why the control plane cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// Agents cannot be served.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// A file or folder cannot be used.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The metrics endpoint cannot be served.
    #[error("cannot serve metrics on {address}")]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The default roles cannot be written.
    #[error("cannot write the default roles: {0}")]
    Roles(#[from] ApiError),
    /// The certificate authority failed.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The API cannot be served.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// What keeps the store cannot be opened.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
}

impl Controller {
    /// Opens the data folder, makes what a first start needs, and starts to listen.
    ///
    /// # Errors
    /// When the data folder cannot be used, or an address cannot be listened on.
    pub async fn start(options: &RunOptions) -> Result<Self, StartError> {
        let now = SystemTime::now();
        make_private(&options.data)?;
        let pki = Arc::new(Pki::open(&options.data.join("pki"), now)?);
        let mut figures = prometheus_client::registry::Registry::default();

        let (ca, name) = (CaFingerprint::of(pki.certificate()), name(options));
        let store_metrics = Arc::default();
        let Storage { backend, cabinet, lease } =
            Storage::open(&options.store, &options.data, &ca, &name, &store_metrics)?;
        let access: Arc<Access> = Arc::default();
        let mut admissions: Vec<Arc<dyn Admission>> = vec![access.clone()];
        let owners = Arc::new(Owners::new(Arc::clone(&access)));
        admissions.push(Arc::new(Scopes::new(Arc::clone(&access))));
        admissions.push(owners.clone());
        admissions.extend(managers::admissions(&access));
        admissions.push(Arc::new(fleet::FirstStatus::default()));
        // Last: it counts what the others added.
        let quota_metrics: Arc<QuotaMetrics> = Arc::default();
        quota_metrics.register(&mut figures);
        let quota = Arc::new(Quota::new(Arc::clone(&access), quota_metrics));
        admissions.push(quota.clone());
        let retention = Retention::new(options.history_revisions, *options.history_age);
        let retention = match options.audit_retention {
            Some(age) => retention.with_records_for(Duration::from_millis(age.as_millis())),
            None => retention,
        };
        let metrics_of_store = Arc::clone(&store_metrics);
        let store = Store::open_retaining(retention, backend, admissions, metrics_of_store)?;
        store_metrics.register(&mut figures);
        let store = Arc::new(store);
        let registry = Arc::new(Registry::new(Arc::clone(&store), access));
        let gc_metrics: Arc<gc::Metrics> = Arc::default();
        gc_metrics.register(&mut figures);

        iam::establish(&registry).await?;

        let fleet_metrics: Arc<fleet::Metrics> = Arc::default();
        fleet_metrics.register(&mut figures);
        let (listen, data) = (options.agent_listen, &options.data);
        let reseal_metrics: Arc<ResealMetrics> = Arc::default();
        reseal_metrics.register(&mut figures);
        let (files, authority) = (Arc::clone(&cabinet), Arc::clone(&pki));
        let channel = Channel::open(listen, data, files, authority, store, fleet_metrics)?;
        channel.register(&mut figures);
        let bound = if lease.is_none() { Some(channel.bind()?) } else { None };

        let metrics: Arc<apiserver::Metrics> = Arc::default();
        metrics.register(&mut figures);
        let credential = pki.issue_server(&names(options), now)?;
        let mut extensions = vec![channel.token_subresource(), preview_subresource(&registry)];
        extensions.extend(credentials::subresources(&registry, &pki));
        let server = ApiServer::bind(
            options.listen,
            &pki,
            &credential,
            Arc::clone(&registry),
            extensions,
            vec![channel.agent_subresource()],
            metrics,
        )
        .await?
        .backing_up(cabinet)
        .within(Arc::clone(&quota))
        .with_patience(options.client_patience.into());
        let exporter = match options.metrics {
            Some(address) => Some(
                Exporter::bind(address, figures)
                    .await
                    .map_err(|source| StartError::Metrics { address, source })?,
            ),
            None => None,
        };

        let url = url(options, &server)?;
        let kubeconfig = absolute(&options.data)?.join("admin.kubeconfig");
        write_kubeconfig(&kubeconfig, &url, &pki, now)?;
        let channel = Arc::new(channel);
        let duties = Duties {
            registry: Arc::clone(&registry),
            owners,
            gc_metrics,
            reseal_metrics,
            quota,
            channel,
        };
        let agent_listen = options.agent_listen;
        Ok(Self { server, duties, bound, lease, exporter, registry, agent_listen, kubeconfig, url })
    }

    /// The registry behind the API.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The administrator's credential.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Where the API is reached.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where agents connect to.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn agent_addr(&self) -> io::Result<SocketAddr> {
        self.bound.as_ref().map_or(Ok(self.agent_listen), Bound::local_addr)
    }

    /// Serves until `shutdown`, then finishes what is under way.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut parts = JoinSet::new();
        parts.spawn(self.server.run(shutdown.clone()));
        let (duties, end) = (self.duties, shutdown.clone());
        match (self.bound, self.lease) {
            (Some(bound), _) => {
                parts.spawn(async move { duties.see_to(bound, end).await });
            }
            (None, Some(lease)) => {
                parts.spawn(duties.share(lease, end));
            }
            (None, None) => {}
        }
        if let Some(exporter) = self.exporter {
            parts.spawn(exporter.run(shutdown.clone()));
        }
        while let Some(ended) = parts.join_next().await {
            if let Err(error) = ended {
                tracing::error!(error = &error as &dyn std::error::Error, "a part failed");
                shutdown.cancel();
            }
        }
    }
}

/// `POST bgppolicies/{name}/preview`
fn preview_subresource(registry: &Arc<Registry>) -> Extension {
    let registry = Arc::clone(registry);
    Extension {
        kind: ResourceKind::BgpPolicy,
        name: "preview",
        serve: Arc::new(move |_who, policy, body| {
            let proof = Authorizer.authorize::<verb::List, _>(&PREVIEWER, Range::Everything)?;
            managers::preview_policy(&registry.store().view(&proof), &policy.key, body)
        }),
    }
}

/// Who looks at everything that a policy concerns, for somebody who may change that policy.
const PREVIEWER: Identity = Identity::Component { name: "policy-preview" };

/// What the others call this controller.
fn name(options: &RunOptions) -> String {
    let host = options.advertise.clone().unwrap_or_else(|| options.listen.to_string());
    format!("{host} {}", uuid::Uuid::new_v4())
}

/// Everything the server's certificate is good for.
fn names(options: &RunOptions) -> Vec<String> {
    let mut names = vec![
        "localhost".to_owned(),
        Ipv4Addr::LOCALHOST.to_string(),
        Ipv6Addr::LOCALHOST.to_string(),
    ];
    for address in [options.listen.ip(), options.agent_listen.ip()] {
        if !address.is_unspecified() {
            names.push(address.to_string());
        }
    }
    names.extend(options.advertise.clone());
    names.extend(options.san.iter().cloned());
    names.sort();
    names.dedup();
    names
}

fn url(options: &RunOptions, server: &ApiServer) -> Result<String, ServerError> {
    let address = options.listen;
    let bound = server.local_addr().map_err(|source| ServerError::Listen { address, source })?;
    let port = bound.port();
    Ok(match &options.advertise {
        Some(host) if host.contains(':') => format!("https://[{host}]:{port}"),
        Some(host) => format!("https://{host}:{port}"),
        None if address.ip().is_unspecified() => format!("https://localhost:{port}"),
        None => format!("https://{bound}"),
    })
}

/// Written anew at every start, so that it never expires on a controller that is kept up to date.
fn write_kubeconfig(path: &Path, url: &str, pki: &Pki, now: SystemTime) -> Result<(), StartError> {
    let credential = pki.issue_administrator("admin", now)?;
    let config = kubeconfig::of(url, pki.certificate_pem(), &credential, SYSTEM_NAMESPACE);
    files::replace_secret(path, format!("{config:#}\n").as_bytes())
        .map_err(|source| StartError::File { path: path.to_owned(), source })
}

fn absolute(path: &Path) -> Result<PathBuf, StartError> {
    std::path::absolute(path).map_err(|source| StartError::File { path: path.to_owned(), source })
}

/// Makes the data folder, for its owner alone.
fn make_private(folder: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt;

    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| StartError::File { path: folder.to_owned(), source })
}
