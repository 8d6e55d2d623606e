//! Routing policies as operators change them, with real kubectl.

#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test"
)]

mod support;

use serde_json::json;
use support::{
    Api,
    client::{Answer, Credentials},
};

const APPLY: [&str; 3] = ["apply", "-f", "-"];

/// A policy that lets everything inside `prefix` pass, on trial for ten seconds.
fn policy(term: &str, prefix: &str) -> String {
    format!(
        "
apiVersion: network.isocast.dev/v1alpha1
kind: BGPPolicy
metadata: {{ name: to-transit }}
spec:
  confirmWithin: 10s
  terms:
    - name: {term}
      match: {{ prefixes: [{{ prefix: {prefix}, le: 32 }}] }}
      set: {{ prepend: 2, communities: {{ add: [no-export] }} }}
      then: Accept
"
    )
}

const PEER: &str = "
apiVersion: network.isocast.dev/v1alpha1
kind: BGPPeer
metadata: { name: transit }
spec:
  connection: Transit
  nodes: [edge]
  address: 10.0.0.254
  peerASN: 65001
  exportPolicy: to-transit
";

/// A site that announces six addresses, 203.0.113.0 and up, to `PEER`.
fn announcing() -> Api {
    let api = Api::start();
    let mut platform = "
apiVersion: resourcemanager.isocast.dev/v1alpha1
kind: Organization
metadata: { name: acme }
spec: {}
---
apiVersion: resourcemanager.isocast.dev/v1alpha1
kind: Project
metadata: { name: web }
spec: { parent: { kind: Organization, name: acme } }
---
apiVersion: network.isocast.dev/v1alpha1
kind: Datacenter
metadata: { name: ams }
spec: {}
---
apiVersion: network.isocast.dev/v1alpha1
kind: Node
metadata: { name: edge }
spec:
  datacenter: ams
  roles: [Edge]
  tunnelAddresses: [10.0.0.1]
  uplinks: [{ interface: eth1 }]
  asn: 65010
---
apiVersion: network.isocast.dev/v1alpha1
kind: AddressPool
metadata: { name: vips }
spec: { prefixes: [203.0.113.0/28], grants: [{ organization: acme }] }
"
    .to_owned();
    for n in 0..6 {
        platform.push_str(&format!(
            "---
apiVersion: network.isocast.dev/v1alpha1
kind: AddressClaim
metadata: {{ name: s{n}, namespace: web }}
spec: {{ pool: vips, address: 203.0.113.{n} }}
---
apiVersion: network.isocast.dev/v1alpha1
kind: AnycastService
metadata: {{ name: s{n}, namespace: web }}
spec: {{ addresses: [{{ claim: s{n} }}], ports: [{{ port: 443 }}], backendPool: www }}
"
        ));
    }
    for manifest in [platform.as_str(), &policy("ours", "203.0.113.0/24"), PEER] {
        api.kubectl_in(manifest, &APPLY).expect_ok();
    }
    api
}

fn first_term(api: &Api) -> String {
    let policy = api.get(&["bpol", "to-transit"]);
    policy["spec"]["terms"][0]["name"].as_str().expect("a name").to_owned()
}

async fn preview(api: &Api, candidate: &serde_json::Value) -> Answer {
    let mut client = Credentials::load(api.kubeconfig()).connect().await.expect("it listens");
    let path = "/apis/network.isocast.dev/v1alpha1/bgppolicies/to-transit/preview";
    client.post(path, candidate).await
}

#[test]
fn a_policy_is_applied_shown_and_explained() {
    let api = Api::start();

    api.kubectl_in(&policy("ours", "203.0.113.0/24"), &APPLY).expect_words(&["created"]);
    api.kubectl_in(&policy("ours", "203.0.113.0/24"), &APPLY).expect_words(&["unchanged"]);

    api.kubectl(&["get", "bpol"]).expect_words(&["CONFIRMED", "ROLLBACK", "to-transit", "True"]);
    api.kubectl(&["explain", "bgppolicy.spec.terms.set.prepend"])
        .expect_words(&["FIELD: prepend", "beyond the one time it always"]);
    api.kubectl(&["explain", "bgppeer.spec.exportPolicy"]).expect_words(&["soft refresh"]);
}

#[test]
fn a_mistake_in_a_policy_is_refused_by_its_field() {
    let api = Api::start();
    let good = policy("ours", "203.0.113.0/24");
    let cases = [
        ("prepend: 2", "prepend: 99", "spec.terms[0].set.prepend"),
        ("no-export", "no-exports", "spec.terms[0].set.communities.add[0]"),
        ("le: 32", "le: 8", "spec.terms[0].match.prefixes[0].le"),
        ("prefix: 203.0.113.0/24", "prefix: 203.0.113.1/24", "did you mean 203.0.113.0/24?"),
        ("then: Accept", "then: Drop", "spec.terms[0].then"),
        ("then: Accept", "than: Accept", "unknown field \"spec.terms[0].than\""),
        ("confirmWithin: 10s", "confirmWithin: 9s", "spec.confirmWithin"),
    ];
    for (old, new, words) in cases {
        api.kubectl_in(&good.replace(old, new), &APPLY).expect_refusal(&[words]);
    }
}

#[test]
fn a_policy_that_a_router_names_is_there() {
    let api = Api::start();
    api.kubectl_in(PEER, &APPLY).expect_refusal(&["there is no bgppolicy \"to-transit\""]);
    api.kubectl_in(&policy("ours", "203.0.113.0/24"), &APPLY).expect_ok();
    api.kubectl_in(PEER, &APPLY).expect_ok();

    api.kubectl(&["delete", "bpol", "to-transit"])
        .expect_refusal(&["is in use", "bgppeers \"transit\""]);

    api.kubectl(&["delete", "bgppeer", "transit"]).expect_ok();
    api.kubectl(&["delete", "bpol", "to-transit"]).expect_ok();
}

#[test]
fn what_nobody_confirms_goes_back_and_what_somebody_does_stays() {
    let api = Api::start();
    api.kubectl_in(&policy("first", "203.0.113.0/24"), &APPLY).expect_ok();
    api.kubectl_in(&policy("second", "203.0.113.0/24"), &APPLY).expect_words(&["configured"]);
    let on_trial = api.get(&["bpol", "to-transit"]);
    assert_eq!(on_trial["status"]["pendingRollback"]["spec"]["terms"][0]["name"], "first");
    assert_eq!(on_trial["status"]["conditions"][0]["reason"], "OnTrial");

    api.kubectl(&["annotate", "bpol", "to-transit", "isocast.dev/confirm=1"])
        .expect_refusal(&["does not name generation 2"]);
    api.kubectl(&[
        "wait",
        "bpol/to-transit",
        "--for=jsonpath={.status.conditions[0].reason}=RolledBack",
        "--timeout=30s",
    ])
    .expect_ok();
    assert_eq!(first_term(&api), "first");

    api.kubectl_in(&policy("third", "203.0.113.0/24"), &APPLY).expect_words(&["configured"]);
    let generation = api.get(&["bpol", "to-transit"])["metadata"]["generation"].to_string();
    let confirm = format!("isocast.dev/confirm={generation}");
    api.kubectl(&["annotate", "bpol", "to-transit", &confirm]).expect_ok();
    let confirmed = api.get(&["bpol", "to-transit"]);
    assert_eq!(first_term(&api), "third");
    assert!(confirmed["status"].get("pendingRollback").is_none(), "{confirmed}");
    assert_eq!(confirmed["metadata"]["annotations"].get("isocast.dev/confirm"), None);
}

#[test]
fn a_policy_that_withdraws_everything_is_refused_unless_its_author_says_how_many() {
    let api = announcing();
    let nothing = policy("nothing", "198.51.100.0/24");

    api.kubectl_in(&nothing, &APPLY).expect_refusal(&[
        "(Conflict)",
        "this would withdraw 6 of 6 prefixes, 5 are allowed",
        "203.0.113.0/32 from transit,",
    ]);
    assert_eq!(first_term(&api), "ours");

    api.kubectl(&["annotate", "bpol", "to-transit", "isocast.dev/allow-withdrawals=6"]).expect_ok();
    api.kubectl_in(&nothing, &APPLY).expect_words(&["configured"]);
    assert_eq!(first_term(&api), "nothing");
}

#[tokio::test]
async fn a_preview_names_what_each_router_loses_and_sees_changed() {
    let api = announcing();
    let candidate = json!({
        "apiVersion": "network.isocast.dev/v1alpha1", "kind": "BGPPolicy",
        "metadata": {"name": "to-transit"},
        "spec": {"terms": [{
            "name": "half", "match": {"prefixes": [{"prefix": "203.0.113.0/31", "le": 32}]},
            "then": "Accept",
        }]},
    });

    let answer = preview(&api, &candidate).await;

    let expected = json!({
        "prefixes": 6, "withdrawn": 4, "withdrawalsAllowed": 5, "importedFrom": [],
        "peers": [{
            "name": "transit",
            "gained": [],
            "lost": ["203.0.113.2/32", "203.0.113.3/32", "203.0.113.4/32", "203.0.113.5/32"],
            "changed": ["203.0.113.0/32", "203.0.113.1/32"],
        }],
    });
    assert_eq!(answer.body, expected);
}

#[tokio::test]
async fn a_preview_changes_nothing_and_names_routers_without_prefixes_too() {
    let api = Api::start();
    let candidate = |term: &str| {
        json!({
            "apiVersion": "network.isocast.dev/v1alpha1", "kind": "BGPPolicy",
            "metadata": {"name": "to-transit"}, "spec": {"terms": [{"name": term}]},
        })
    };
    assert_eq!(preview(&api, &candidate("other")).await.code, 404);
    api.kubectl_in(&policy("ours", "203.0.113.0/24"), &APPLY).expect_ok();
    api.kubectl_in(PEER, &APPLY).expect_ok();

    let answer = preview(&api, &candidate("other")).await;

    assert_eq!(answer.code, 201);
    let expected = json!({
        "prefixes": 0, "withdrawn": 0, "withdrawalsAllowed": 5, "importedFrom": [],
        "peers": [{"name": "transit", "gained": [], "lost": [], "changed": []}],
    });
    assert_eq!(answer.body, expected);
    assert_eq!(first_term(&api), "ours");
    let refused = preview(&api, &candidate("end-of-policy")).await;
    assert_eq!(refused.code, 422);
}
