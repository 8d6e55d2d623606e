//! `isocast init`: an organization, its first project, somebody who administers them, and a context to
//! work in.
//!
//! All of it are ordinary objects, made by ordinary requests of whoever runs it. What is there already
//! may be somebody else's: it is refused, unless it is to be gone on with. Nothing is made before it is
//! clear that the context can be kept.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use isocast_api::{resourcemanager::SYSTEM_NAMESPACE, text::Duration};
use serde_json::{Value, json};

use crate::{
    client::Client,
    contexts::ContextsFile,
    iam::{self, Issued},
    kubeconfig::{Kubeconfig, home_path},
    options::StatusOutput,
    output,
    resource::{self, Place},
    view,
};

#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct InitArguments {
    /// Name of the organization
    pub(crate) name: String,
    /// Name of its first project [default: NAME-main]
    #[arg(long, value_name = "NAME")]
    pub(crate) project: Option<String>,
    /// User who administers it, who may be there already [default: a new one, called as the organization]
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// How long the user's token is good for
    #[arg(long, default_value = "720h", value_name = "DURATION")]
    pub(crate) ttl: Duration,
    /// Kubeconfig to put the contexts into; - for standard output [default: ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// Go on with what is there already, and give its user another token
    #[arg(long)]
    pub(crate) again: bool,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: StatusOutput,
}

/// Of the roles that come with the platform, the one that may do all in a container.
const ROLE: &str = "admin";

pub(crate) fn run(
    client: &Client,
    kubeconfig: &Kubeconfig,
    arguments: &InitArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let organization = arguments.name.as_str();
    let project = arguments.project.clone().unwrap_or_else(|| format!("{organization}-main"));
    let user = arguments.user.as_deref().unwrap_or(organization);
    let view =
        |plural, name| (name, format!("{}{}", kubeconfig.origin(), view::prefix(plural, name)));
    let views = [view("organizations", organization), view("projects", &project)];
    let path = match &arguments.save {
        Some(path) if path == Path::new("-") => None,
        Some(path) => Some(path.clone()),
        None => Some(home_path().context("there is no $HOME: give --save FILE")?),
    };
    let mut file =
        path.map_or_else(|| Ok(ContextsFile::none()), |path| ContextsFile::open(&path))?;
    for (name, server) in &views {
        if let Some(there) = file.server(name).filter(|there| there != server) {
            bail!(
                "the kubeconfig has a cluster {name:?} at {there}: choose another file with --save"
            );
        }
    }

    let maker = Maker { client, again: arguments.again };
    maker.make("organizations", None, organization, &json!({}), false)?;
    let parent = json!({"parent": {"kind": "Organization", "name": organization}});
    maker.make("projects", None, &project, &parent, false)?;
    maker.make("users", None, user, &json!({}), arguments.user.is_some())?;
    let binding = json!({
        "role": {"name": ROLE, "namespace": SYSTEM_NAMESPACE},
        "subjects": [{"kind": "User", "name": user}],
    });
    maker.make("policybindings", Some(organization), user, &binding, false)?;
    let account = resource::path(resource::find("users")?, Place::All, Some(user));
    let spec = json!({"expirationSeconds": arguments.ttl.as_millis() / 1000});
    let Issued { token, expires_at, .. } = iam::issue(client, &account, &spec)?;

    for (name, server) in &views {
        file.add(&view::config(kubeconfig, server, Some(name), Some(&token)));
    }
    let Some(path) = file.path().map(|path| path.display().to_string()) else {
        return output::json(out, &file.into_value());
    };
    file.save()?;
    let expires = expires_at.unwrap_or_default();
    if arguments.output == StatusOutput::Json {
        let answer = json!({
            "organization": organization, "project": project, "user": user, "context": project,
            "kubeconfig": path, "expirationTimestamp": expires,
        });
        return output::json(out, &answer);
    }
    writeln!(
        out,
        "organization {organization}, project {project}; {user} administers them\n\
         {path}: contexts {organization} and {project}, which is the current one, good until {expires}"
    )
    .context("cannot write")
}

/// Who makes objects.
struct Maker<'a> {
    client: &'a Client,
    again: bool,
}

impl Maker<'_> {
    /// Makes an object; one that is there already is gone on with where that `is_meant`.
    fn make(
        &self,
        plural: &str,
        namespace: Option<&str>,
        name: &str,
        spec: &Value,
        is_meant: bool,
    ) -> anyhow::Result<()> {
        let kind = resource::find(plural)?;
        let place = namespace.map_or(Place::All, Place::Namespace);
        let object = json!({
            "apiVersion": kind.api_version(), "kind": kind.kind,
            "metadata": {"name": name}, "spec": spec,
        });
        let singular = kind.singular;
        if self.client.create(&resource::path(kind, place, None), &object)? {
            writeln!(io::stderr(), "made {singular} {name}").context("cannot write")?;
            return Ok(());
        }
        if !self.again && !is_meant {
            bail!(
                "{singular} {name:?} is there already: choose another name, or go on with it and its \
                 user by --again"
            );
        }
        let there = self.client.get(&resource::path(kind, place, Some(name)))?;
        for (field, wanted) in spec.as_object().into_iter().flatten() {
            let is_so = there.pointer(&format!("/spec/{field}")) == Some(wanted);
            ensure!(is_so, "{singular} {name:?} is there already, with another {field}");
        }
        Ok(())
    }
}
