//! A session with kubectl, word for word: each command, what it prints and how it ends.
//!
//! What differs between runs (ages, uids, revisions, addresses) is masked. After a change on purpose:
//! `INSTA_UPDATE=always cargo test -p isocast-controller --test matrix`, then read the difference.

#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test"
)]

mod support;

use std::fmt::Write;

use support::{Api, SERVICE, Said};

const MAP: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: web-prod, labels: {app: web}}
data: {greeting: hello}
";

const EVENT: &str = "
apiVersion: v1
kind: Event
metadata: {name: www.1, namespace: web-prod}
involvedObject: {apiVersion: network.isocast.dev/v1alpha1, kind: AnycastService, namespace: web-prod, name: www}
reason: Tested
message: somebody looked
type: Normal
count: 3
firstTimestamp: \"2026-01-01T00:00:00Z\"
lastTimestamp: \"2099-01-01T00:00:00Z\"
source: {component: tester}
";

/// Standard input of a command.
type Input = Option<&'static str>;

/// The session: what is typed, and into what.
const SESSION: &[(&str, Input)] = &[
    ("api-versions", None),
    ("api-resources --api-group= --no-headers", None),
    ("api-resources --api-group=coordination.k8s.io --no-headers", None),
    ("create -f -", Some(MAP)),
    ("create -f -", Some(MAP)),
    ("get configmap settings -n web-prod", None),
    ("get cm -A -l app=web --no-headers", None),
    ("get cm -n web-prod -l app!=web", None),
    ("get cm -n web-prod -l app==web,!x -o name", None),
    ("get cm -n web-prod --field-selector metadata.name=settings -o name", None),
    ("get cm settings -n web-prod -o jsonpath={.data}", None),
    ("apply -n web-prod -f - --server-side", Some(MAP)),
    ("patch cm settings -n web-prod -p {\"data\":{\"more\":\"yes\"}}", None),
    (
        "patch cm settings -n web-prod --type=json -p [{\"op\":\"remove\",\"path\":\"/data/more\"}]",
        None,
    ),
    ("patch cm settings -n web-prod --type=merge -p {\"dada\":1}", None),
    ("annotate cm settings -n web-prod note=hi", None),
    ("label cm settings -n web-prod tier=edge", None),
    ("describe cm settings -n web-prod", None),
    ("create secret generic login -n web-prod --from-literal=password=correct-horse", None),
    ("get secrets -n web-prod", None),
    ("describe secret login -n web-prod", None),
    ("get secret login -n web-prod -o jsonpath={.data.password}", None),
    ("create configmap made -n web-prod --from-literal=a=b --dry-run=server -o name", None),
    ("create configmap made -n web-prod --from-literal=a=b -o name", None),
    ("delete configmap made settings -n web-prod --wait=true", None),
    ("delete secret login -n web-prod --ignore-not-found", None),
    ("delete secret login -n web-prod", None),
    ("apply -f -", Some(SERVICE)),
    ("apply -f -", Some(SERVICE)),
    ("diff -f -", Some(SERVICE)),
    ("get anycastservice www -n web-prod -o name", None),
    ("get acs,bpool -n web-prod -o name", None),
    ("patch acs www -n web-prod -p {\"metadata\":{\"labels\":{\"a\":\"b\"}}}", None),
    ("patch acs www -n web-prod --type=merge -p {\"metadata\":{\"labels\":{\"a\":\"b\"}}}", None),
    ("replace -f -", Some(SERVICE)),
    ("create -f -", Some(EVENT)),
    ("get events -n web-prod --no-headers", None),
    ("get events.events.k8s.io -n web-prod -o name", None),
    ("get events -n web-prod --field-selector involvedObject.name=other", None),
    ("get events -n web-prod --field-selector message=x", None),
    ("explain secret.stringData", None),
    ("explain anycastservice.spec.backendPool", None),
    ("create namespace nope", None),
    ("get pods", None),
    ("get cm nope -n web-prod", None),
    ("get cm -n nowhere", None),
    ("apply --server-side --field-manager=other -f -", Some(SERVICE)),
    ("wait --for=delete cm/settings -n web-prod --timeout=5s", None),
    ("delete acs --all -n web-prod", None),
    ("auth can-i get secrets -n web-prod", None),
    ("get --raw /readyz", None),
];

/// What differs between runs.
fn mask(text: &str, api: &Api) -> String {
    let folder = api.folder.path().to_string_lossy().into_owned();
    let mut masked = String::new();
    for line in text.replace(&folder, "DIR").lines() {
        let words = line.split(' ').map(|word| {
            let bare = word.trim_end_matches(['s', 'm']);
            let is_age = bare.len() < word.len()
                && !bare.is_empty()
                && bare.bytes().all(|byte| byte.is_ascii_digit());
            if is_age { "AGE" } else { word }
        });
        let line = words.collect::<Vec<_>>().join(" ");
        let _infallible = writeln!(masked, "{}", line.trim_end());
    }
    masked
}

fn perform(api: &Api, line: &str, input: Input) -> Said {
    let words: Vec<&str> = line.split(' ').collect();
    match input {
        Some(input) => api.kubectl_in(input, &words),
        None => api.kubectl(&words),
    }
}

#[test]
fn a_session_reads_word_for_word() {
    let api = Api::with_platform();
    let mut transcript = String::new();
    for (line, input) in SESSION {
        let said = perform(&api, line, *input);
        let _infallible = writeln!(transcript, "$ kubectl {line}");
        transcript.push_str(&mask(&said.out, &api));
        for line in mask(&said.err, &api).lines() {
            let _infallible = writeln!(transcript, "! {line}");
        }
        if !said.ok {
            transcript.push_str("(refused)\n");
        }
    }
    insta::assert_snapshot!(transcript);
}
