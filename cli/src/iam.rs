//! `isocast iam`: who may do what, and why; tokens of accounts.

use std::io::{self, Write};

use anyhow::Context;
use clap::{Args, Subcommand};
use isocast_api::{registry::Scope, text::Duration};
use serde_json::{Value, json};

use crate::{
    client::Client,
    kubeconfig::Kubeconfig,
    options::{StatusOutput, TokenOutput},
    output,
    resource::{self, Place},
};

const REVIEWS: &str = "/apis/iam.isocast.dev/v1alpha1/accessreviews";

#[derive(Debug, Subcommand)]
pub(crate) enum IamCommand {
    /// List everything that somebody may do in a container
    ///
    /// isocast iam effective alice -n web-prod
    Effective(EffectiveArguments),
    /// Say whether somebody may do something, and which binding decides that
    ///
    /// isocast iam explain alice delete services www -n web-prod
    Explain(ExplainArguments),
    /// Make a token of a service account, or of a user; it is shown this once
    Token(AccountArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// Who: a user, or system:serviceaccount:NAMESPACE:NAME
    pub(crate) user: String,
    /// What they want to do: create, delete, get, list, patch, update, watch
    pub(crate) verb: String,
    /// To what: a kind in any of the forms that kubectl takes, with /SUBRESOURCE if need be
    pub(crate) resource: String,
    /// Name of one object
    pub(crate) name: Option<String>,
    /// Namespace [default: the context's]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: StatusOutput,
}

#[derive(Debug, Args)]
pub(crate) struct EffectiveArguments {
    /// Who: a user, or system:serviceaccount:NAMESPACE:NAME
    pub(crate) user: String,
    /// Namespace [default: the context's, or else the platform's]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: StatusOutput,
}

#[derive(Debug, Args)]
pub(crate) struct AccountArguments {
    /// Name of the account
    pub(crate) name: String,
    /// Namespace of the service account [default: the context's]
    #[arg(short, long, value_name = "NAME", conflicts_with = "user")]
    pub(crate) namespace: Option<String>,
    /// The account is a user
    #[arg(long)]
    pub(crate) user: bool,
    /// How long the token is good for
    #[arg(long, default_value = "1h", value_name = "DURATION")]
    pub(crate) ttl: Duration,
    /// Good in this container and below alone
    #[arg(long, value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// Good for this alone: network.isocast.dev/anycastservices.get; can be repeated
    #[arg(long = "permission", value_name = "PERMISSION")]
    pub(crate) permissions: Vec<String>,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: TokenOutput,
}

pub(crate) fn run(
    client: &Client,
    kubeconfig: &Kubeconfig,
    command: &IamCommand,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    match command {
        IamCommand::Effective(arguments) => effective(client, kubeconfig, arguments, out),
        IamCommand::Explain(arguments) => explain(client, kubeconfig, arguments, out),
        IamCommand::Token(arguments) => token(client, kubeconfig, arguments, out),
    }
}

fn explain(
    client: &Client,
    kubeconfig: &Kubeconfig,
    arguments: &ExplainArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let (word, subresource) =
        arguments.resource.split_once('/').unwrap_or((&arguments.resource, ""));
    let kind = resource::find(word)?;
    let given = arguments.namespace.as_deref();
    let namespace = match kind.scope {
        Scope::Cluster => given.unwrap_or_default(),
        Scope::Namespaced => given.or(kubeconfig.namespace.as_deref()).unwrap_or_default(),
    };
    let name = arguments.name.as_deref().unwrap_or_default();
    let question = json!({
        "apiVersion": "iam.isocast.dev/v1alpha1",
        "kind": "AccessReview",
        "spec": {
            "user": arguments.user,
            "resourceAttributes": {
                "namespace": namespace, "verb": arguments.verb, "group": kind.group,
                "resource": kind.plural, "subresource": subresource, "name": name,
            },
        },
    });
    let answer = client.post(REVIEWS, &question)?;
    if arguments.output == StatusOutput::Json {
        return output::json(out, &answer);
    }
    let status = answer.get("status").context("the server's answer has no status")?;
    let may = status.get("allowed") == Some(&Value::Bool(true));
    let mut what = kind.plural.to_owned();
    for more in [subresource, name] {
        if !more.is_empty() {
            what = format!("{what}/{more}");
        }
    }
    let place = match namespace {
        "" => String::new(),
        namespace => format!(" in {namespace}"),
    };
    let verdict = if may { "may" } else { "may not" };
    let (user, verb) = (output::cell(&json!(arguments.user)), &arguments.verb);
    writeln!(out, "{user} {verdict} {verb} {what}{place}").context("cannot write")?;
    for (heading, text) in details(status, &user) {
        writeln!(out, "  {heading:<10} {text}").context("cannot write")?;
    }
    Ok(())
}

/// What decided, line by line.
fn details(status: &Value, user: &str) -> Vec<(&'static str, String)> {
    let text = |pointer: &str| status.pointer(pointer).map(output::cell);
    let placed = |of: &str| {
        Some(format!("{}/{}", text(&format!("/{of}/namespace"))?, text(&format!("/{of}/name"))?))
    };
    let list = |pointer: &str, item: fn(&Value) -> Value| {
        let items = status.pointer(pointer).and_then(Value::as_array);
        items.into_iter().flatten().map(|it| output::cell(&item(it))).collect::<Vec<_>>()
    };
    let mut lines = vec![("reason", text("/reason").unwrap_or_default())];
    lines.extend(placed("binding").map(|binding| ("binding", binding)));
    lines.extend(placed("role").map(|role| ("role", role)));
    let via = list("/via", |group| group.get("name").cloned().unwrap_or_default());
    if !via.is_empty() {
        lines.push(("through", format!("{user} -> {}", via.join(" -> "))));
    }
    let inherited = list("/inherited", Clone::clone);
    if inherited.len() > 1 {
        lines.push(("inherited", inherited.join(" <- ")));
    }
    if status.get("conditional") == Some(&Value::Bool(true)) {
        lines.push(("condition", "it has one".to_owned()));
    }
    lines.extend(text("/expiresAt").map(|at| ("expires", at)));
    lines.retain(|(_, text)| !text.is_empty());
    lines
}

fn effective(
    client: &Client,
    kubeconfig: &Kubeconfig,
    arguments: &EffectiveArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let namespace = arguments.namespace.as_deref().or(kubeconfig.namespace.as_deref());
    let question = json!({
        "apiVersion": "iam.isocast.dev/v1alpha1",
        "kind": "AccessReview",
        "spec": {"user": arguments.user, "namespace": namespace.unwrap_or_default()},
    });
    let answer = client.post(REVIEWS, &question)?;
    if arguments.output == StatusOutput::Json {
        return output::json(out, &answer);
    }
    let status = answer.get("status").context("the server's answer has no status")?;
    let rules = status.get("resourceRules").and_then(Value::as_array);
    let rows: Vec<_> = rules.into_iter().flatten().map(rule).collect();
    let headings = ["RESOURCE", "GROUP", "VERBS"].map(str::to_owned);
    output::table(out, &headings, &rows)?;
    if status.get("incomplete") == Some(&Value::Bool(true)) {
        let note = "There is more, under conditions: isocast iam explain tells of one request.";
        writeln!(out, "{note}").context("cannot write")?;
    }
    Ok(())
}

/// What may be done to a resource, as a row.
fn rule(rule: &Value) -> Vec<String> {
    let list = |field: &str| {
        let items = rule.get(field).and_then(Value::as_array);
        items.into_iter().flatten().map(output::cell).collect::<Vec<_>>().join(", ")
    };
    ["resources", "apiGroups", "verbs"].map(list).to_vec()
}

fn token(
    client: &Client,
    kubeconfig: &Kubeconfig,
    arguments: &AccountArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let kind = resource::find(if arguments.user { "users" } else { "serviceaccounts" })?;
    let place = if arguments.user {
        Place::All
    } else {
        let namespace = arguments.namespace.as_deref().or(kubeconfig.namespace.as_deref());
        Place::Namespace(namespace.context("which namespace? give it with -n")?)
    };
    let mut spec = json!({"expirationSeconds": arguments.ttl.as_millis() / 1000});
    if arguments.container.is_some() || !arguments.permissions.is_empty() {
        let mut scope = json!({"permissions": arguments.permissions});
        if let Some(container) = &arguments.container {
            scope = json!({"container": container, "permissions": arguments.permissions});
        }
        if let Some(fields) = spec.as_object_mut() {
            fields.insert("scope".to_owned(), scope);
        }
    }
    let Issued { answer, token, expires_at } =
        issue(client, &resource::path(kind, place, Some(&arguments.name)), &spec)?;
    if arguments.output == TokenOutput::Json {
        return output::json(out, &answer);
    }
    writeln!(out, "{token}").context("cannot write")?;
    if let Some(expires_at) = expires_at {
        let note = format!("good until {expires_at}; it cannot be shown again");
        writeln!(io::stderr(), "{note}").context("cannot write")?;
    }
    Ok(())
}

/// A token that was given out.
pub(crate) struct Issued {
    /// All that was answered.
    answer: Value,
    pub(crate) token: String,
    pub(crate) expires_at: Option<String>,
}

/// A token of the account at `path`.
pub(crate) fn issue(client: &Client, path: &str, spec: &Value) -> anyhow::Result<Issued> {
    let answer = client.post(&format!("{path}/token"), &json!({"spec": spec}))?;
    let field = |name: &str| Some(answer.pointer("/status")?.get(name)?.as_str()?.to_owned());
    let token = field("token").context("the server's answer holds no token")?;
    Ok(Issued { token, expires_at: field("expirationTimestamp"), answer })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decided_is_told_line_by_line() {
        let status = json!({
            "allowed": true, "reason": "a binding allows it",
            "binding": {"namespace": "eng", "name": "team"},
            "role": {"namespace": "isocast-system", "name": "viewer"},
            "via": [{"kind": "Group", "name": "acme/team"}],
            "inherited": ["shop", "eng"], "conditional": false,
        });

        let lines = details(&status, "alice");

        let expected = [
            ("reason", "a binding allows it"),
            ("binding", "eng/team"),
            ("role", "isocast-system/viewer"),
            ("through", "alice -> acme/team"),
            ("inherited", "shop <- eng"),
        ];
        assert_eq!(lines, expected.map(|(heading, text)| (heading, text.to_owned())));
        assert_eq!(details(&json!({"allowed": false}), "bob"), []);
    }
}
