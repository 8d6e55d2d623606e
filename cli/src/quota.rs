//! `isocast quota`: what containers may have, have, and can still get.

use std::io::{self, Write};

use anyhow::{Context, bail};
use clap::Args;
use isocast_api::{
    object::{Object, Spec},
    quota::{AllowanceBucket, AllowanceBucketSpec},
};
use serde_json::Value;

use crate::{
    client::Client,
    kubeconfig::Kubeconfig,
    options::StatusOutput,
    output,
    resource::{self, Place},
};

#[derive(Debug, Args)]
pub(crate) struct QuotaArguments {
    /// The container: organization, folder or project [default: the context's]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Of all containers that may be seen
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: StatusOutput,
}

pub(crate) fn run(
    client: &Client,
    kubeconfig: &Kubeconfig,
    arguments: &QuotaArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let kind = resource::find(AllowanceBucketSpec::KIND.plural)?;
    let namespace = arguments.namespace.as_deref().or(kubeconfig.namespace.as_deref());
    let place = match namespace {
        _ if arguments.all_namespaces => Place::All,
        Some(namespace) => Place::Namespace(namespace),
        None => bail!("whose quota? name a container with -n, or all with -A"),
    };
    let answer = client.get(&resource::path(kind, place, None))?;
    if arguments.output == StatusOutput::Json {
        return output::json(out, &answer);
    }
    let items = answer.get("items").and_then(Value::as_array).context("the answer is no list")?;
    let buckets: Result<Vec<AllowanceBucket>, _> = items.iter().map(Object::decode).collect();
    let rows: Vec<Vec<String>> = buckets?.iter().map(row).collect();
    if rows.is_empty() {
        let note = match place {
            Place::Namespace(namespace) => {
                format!("{namespace} has no limits of its own; containers above it may.")
            }
            Place::All => "There are no limits.".to_owned(),
        };
        return writeln!(io::stderr(), "{note}").context("cannot write");
    }
    let headings = ["CONTAINER", "RESOURCE TYPE", "LIMIT", "ALLOCATED", "AVAILABLE", "FROM"];
    output::table(out, &headings.map(str::to_owned), &rows)
}

fn row(bucket: &AllowanceBucket) -> Vec<String> {
    let (spec, status) = (&bucket.spec, &bucket.status);
    let available = match status.overage {
        0 => status.available.to_string(),
        overage => format!("0 ({overage} over)"),
    };
    let from = match status.grant_count {
        0 => "default".to_owned(),
        1 => "1 grant".to_owned(),
        several => format!("{several} grants"),
    };
    vec![
        spec.consumer_ref.name.to_string(),
        spec.resource_type.to_string(),
        status.limit.to_string(),
        status.allocated.to_string(),
        available,
        from,
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_beyond_the_limit_is_said() {
        let bucket = |status: Value| -> AllowanceBucket {
            let value = json!({
                "apiVersion": "quota.isocast.dev/v1alpha1", "kind": "AllowanceBucket",
                "metadata": {"name": "services", "namespace": "acme"},
                "spec": {
                    "consumerRef": {"kind": "Organization", "name": "acme"},
                    "resourceType": "network.isocast.dev/anycastservices",
                },
                "status": status,
            });
            Object::decode(&value).unwrap()
        };

        let within = row(&bucket(json!({"limit": 10, "allocated": 4, "available": 6})));
        let expected = ["acme", "network.isocast.dev/anycastservices", "10", "4", "6", "default"];
        assert_eq!(within, expected);
        let over =
            json!({"limit": 1, "allocated": 4, "available": 0, "overage": 3, "grantCount": 2});
        assert_eq!(row(&bucket(over))[4..], ["0 (3 over)", "2 grants"]);
    }
}
