//! The API as real kubectl 1.37 sees it.

#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test"
)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    process::Stdio,
};

use support::{Api, SERVICE};

const WEB: &[&str] = &["-n", "web-prod"];

fn with<'a>(first: &[&'a str], rest: &[&'a str]) -> Vec<&'a str> {
    [first, rest].concat()
}

#[test]
fn api_resources_lists_every_kind_with_its_short_names() {
    let api = Api::start();

    let said = api.kubectl(&["api-resources", "--cached=false"]);

    said.expect_words(&[
        "anycastservices",
        "network.isocast.dev/v1alpha1",
        "organizations",
        "resourcemanager.isocast.dev/v1alpha1",
        "namespaces",
        "events",
    ]);
}

#[test]
fn every_container_has_a_namespace_and_default_is_none() {
    let api = Api::with_platform();

    let said = api.kubectl(&["get", "namespaces"]);

    let said = said.expect_words(&["acme", "web-prod", "isocast-system", "Active"]);
    assert!(!said.out.contains("default"));
    api.kubectl_in(&SERVICE.replace("web-prod", "default"), &["apply", "-f", "-"])
        .expect_refusal(&["default"]);
}

#[test]
fn apply_creates_configures_and_leaves_unchanged() {
    let api = Api::with_platform();
    let apply = ["apply", "-f", "-"];

    api.kubectl_in(SERVICE, &apply).expect_words(&["www created"]);
    api.kubectl_in(SERVICE, &apply).expect_words(&["www unchanged"]);
    let changed = SERVICE.replace("/healthz", "/ready");
    let diff = api.kubectl_in(&changed, &["diff", "-f", "-"]);
    assert!(diff.out.contains("+      path: /ready"), "{diff:#?}");
    api.kubectl_in(&changed, &apply).expect_words(&["www configured"]);

    let object = api.get(&with(&["acs", "www"], WEB));
    assert_eq!(object["spec"]["healthCheck"]["http"]["path"], "/ready");
    assert_eq!(object["metadata"]["generation"], 2);
}

#[test]
fn get_shows_tables_yaml_and_selections() {
    let api = Api::with_platform();
    api.kubectl_in(SERVICE, &["apply", "-f", "-"]).expect_ok();

    let table = api.kubectl(&["get", "acs", "-A"]).expect_words(&["NAMESPACE", "AGE", "www"]);
    let age = table.out.lines().nth(1).and_then(|row| row.split_whitespace().last());
    assert!(age.is_some_and(|age| age.ends_with('s')), "{table:#?}");
    let wide = api.kubectl(&["get", "acs", "-A", "-o", "wide"]).expect_ok();
    assert!(wide.out.lines().next().map(str::len) > table.out.lines().next().map(str::len));
    api.kubectl(&with(&["get", "acs", "www", "-o", "yaml"], WEB))
        .expect_words(&["kind: AnycastService", "backendPool: www"]);

    let named = ["get", "dc", "-o", "name"];
    let select = |more: &[&str]| api.kubectl(&with(&named, more)).expect_ok().out;
    assert_eq!(select(&["-l", "continent=europe"]), "datacenter.network.isocast.dev/ams\n");
    assert_eq!(select(&["-l", "continent!=europe"]), "");
    assert_eq!(select(&["--field-selector", "metadata.name=fra"]), "");
    api.kubectl(&["get", "dc", "fra"]).expect_refusal(&["(NotFound)", "\"fra\" not found"]);
}

#[test]
fn a_watch_shows_changes_as_they_happen() {
    let api = Api::with_platform();
    let mut watching = api
        .command(&["get", "datacenters", "-w", "-o", "name"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl runs");
    let mut lines = BufReader::new(watching.stdout.take().expect("piped")).lines();
    let mut next = || lines.next().expect("it goes on").expect("text");
    assert_eq!(next(), "datacenter.network.isocast.dev/ams");

    api.kubectl(&["label", "dc", "ams", "tier=edge"]).expect_ok();
    assert_eq!(next(), "datacenter.network.isocast.dev/ams");

    watching.kill().expect("it runs");
    watching.wait().expect("it ends");
}

#[test]
fn explain_and_describe_know_the_fields() {
    let api = Api::with_platform();
    api.kubectl_in(SERVICE, &["apply", "-f", "-"]).expect_ok();

    api.kubectl(&["explain", "anycastservice.spec.ports"]).expect_words(&[
        "FIELD: ports",
        "protocol",
        "enum: TCP, UDP",
    ]);
    api.kubectl(&with(&["describe", "acs", "www"], WEB)).expect_words(&[
        "Backend Pool:",
        "www",
        "Events:",
        "<none>",
    ]);
}

#[test]
fn edit_label_annotate_and_patch_change_what_they_say() {
    let api = Api::with_platform();
    api.kubectl_in(SERVICE, &["apply", "-f", "-"]).expect_ok();
    let editor = api.folder.path().join("editor");
    fs::write(&editor, "#!/bin/sh\nsed -i 's/name: https/name: web/' \"$1\"\n").expect("written");
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).expect("made executable");

    let edited = api.command(&with(&["edit", "acs", "www"], WEB)).env("EDITOR", &editor).output();
    support::Said::of(&edited.expect("kubectl runs")).expect_words(&["www edited"]);
    api.kubectl(&with(&["label", "acs", "www", "tier=edge"], WEB)).expect_words(&["labeled"]);
    api.kubectl(&with(&["annotate", "acs", "www", "note=x"], WEB)).expect_words(&["annotated"]);
    let patch = r#"{"spec":{"failover":{"minHealthyBackends":2}}}"#;
    api.kubectl(&with(&["patch", "acs", "www", "--type=merge", "-p", patch], WEB)).expect_ok();
    let patch = r#"[{"op":"test","path":"/spec/ports/0/port","value":443},
                    {"op":"replace","path":"/spec/ports/0/port","value":8443}]"#;
    api.kubectl(&with(&["patch", "acs", "www", "--type=json", "-p", patch], WEB)).expect_ok();
    api.kubectl(&with(&["patch", "acs", "www", "-p", "{}"], WEB))
        .expect_refusal(&["strategic-merge-patch", "not supported"]);

    let object = api.get(&with(&["acs", "www"], WEB));
    assert_eq!(object["spec"]["ports"][0]["name"], "web");
    assert_eq!(object["spec"]["ports"][0]["port"], 8443);
    assert_eq!(object["spec"]["failover"]["minHealthyBackends"], 2);
    assert_eq!(object["metadata"]["labels"]["tier"], "edge");
    assert_eq!(object["metadata"]["annotations"]["note"], "x");
}

#[test]
fn server_side_apply_names_the_other_manager_unless_forced() {
    let api = Api::with_platform();
    let apply = ["apply", "--server-side", "-f", "-"];
    let as_other = with(&apply, &["--field-manager=other"]);
    api.kubectl_in(SERVICE, &apply).expect_words(&["serverside-applied"]);
    let theirs = SERVICE.replace("/healthz", "/theirs");

    api.kubectl_in(&theirs, &as_other).expect_refusal(&[
        "1 conflict",
        "kubectl",
        ".spec.healthCheck.http.path",
    ]);
    api.kubectl_in(&theirs, &with(&as_other, &["--force-conflicts"])).expect_ok();
    api.kubectl_in(SERVICE, &apply).expect_refusal(&["conflict with \"other\""]);

    let object = api.get(&with(&["acs", "www"], WEB));
    assert_eq!(object["spec"]["healthCheck"]["http"]["path"], "/theirs");
}

#[test]
fn server_side_apply_removes_what_its_manager_no_longer_states() {
    let api = Api::with_platform();
    let apply = ["apply", "--server-side", "-f", "-"];
    let two_ports =
        SERVICE.replace("port: 443}", "port: 443}, {name: dns, protocol: UDP, port: 53}");
    api.kubectl_in(&two_ports, &apply).expect_ok();
    api.kubectl(&with(&["label", "acs", "www", "kept=yes"], WEB)).expect_ok();

    api.kubectl_in(SERVICE, &apply).expect_ok();

    let object = api.get(&with(&["acs", "www"], WEB));
    assert_eq!(object["spec"]["ports"].as_array().map(Vec::len), Some(1));
    assert_eq!(object["metadata"]["labels"]["kept"], "yes");
}

#[test]
fn an_apply_that_changes_nothing_is_no_change() {
    let api = Api::start();
    let organization = "
apiVersion: resourcemanager.isocast.dev/v1alpha1
kind: Organization
metadata: {name: acme}
spec: {displayName: Acme}
";
    let apply = ["apply", "--server-side", "-f", "-"];
    api.kubectl_in(organization, &apply).expect_ok();
    let before = api.get(&["organization", "acme"]);

    api.kubectl_in(organization, &apply).expect_ok();

    assert_eq!(api.get(&["organization", "acme"]), before);
}

#[test]
fn server_side_apply_takes_over_from_client_side_apply() {
    let api = Api::with_platform();
    api.kubectl_in(SERVICE, &["apply", "-f", "-"]).expect_ok();

    let changed = SERVICE.replace("/healthz", "/ready");
    let said = api.kubectl_in(&changed, &["apply", "--server-side", "-f", "-"]).expect_ok();

    assert!(!said.err.contains("Warning"), "{said:#?}");
    let object = api.get(&with(&["acs", "www"], WEB));
    assert_eq!(object["spec"]["healthCheck"]["http"]["path"], "/ready");
    let entries = object["metadata"]["managedFields"].as_array().expect("a list");
    let path = "/fieldsV1/f:spec/f:healthCheck/f:http/f:path";
    let owners: Vec<_> = entries.iter().filter(|entry| entry.pointer(path).is_some()).collect();
    assert_eq!(owners.len(), 1, "{owners:#?}");
    assert_eq!(owners[0]["manager"], "kubectl");
    assert_eq!(owners[0]["operation"], "Apply");
}

#[test]
fn wait_sees_conditions_and_deletion() {
    let api = Api::with_platform();

    let wait = ["wait", "--for=condition=Allocated", "aclaim/www-v4", "--timeout=10s"];
    api.kubectl(&with(&wait, WEB)).expect_words(&["condition met"]);
    let mut waiting = api
        .command(&["wait", "--for=delete", "dc/ams", "--timeout=20s"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl runs");
    api.kubectl(&["delete", "dc", "ams"]).expect_words(&["deleted"]);
    assert!(waiting.wait().expect("it ends").success());
}

#[test]
fn deletion_waits_for_finalizers() {
    let api = Api::with_platform();
    let patch = |finalizers: &str| {
        let patch = format!(r#"{{"metadata":{{"finalizers":{finalizers}}}}}"#);
        api.kubectl(&["patch", "dc", "ams", "--type=merge", "-p", &patch]).expect_ok();
    };
    patch(r#"["example.com/hold"]"#);

    api.kubectl(&["delete", "dc", "ams", "--wait=false"]).expect_ok();
    let object = api.get(&["dc", "ams"]);
    assert!(object["metadata"]["deletionTimestamp"].is_string());
    patch("null");

    api.kubectl(&["get", "dc", "ams"]).expect_refusal(&["not found"]);
}

#[test]
fn the_status_and_the_rest_are_changed_apart() {
    let api = Api::with_platform();
    let patch = r#"{"spec":{"displayName":"x"},"status":{"conditions":[{"type":"Tested",
        "status":"True","reason":"Test","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#;
    let merge = ["patch", "organization", "acme", "--type=merge", "-p", patch];

    api.kubectl(&with(&merge, &["--subresource=status"])).expect_ok();

    let object = api.get(&["organization", "acme"]);
    assert_eq!(object["spec"]["displayName"], "Acme");
    assert_eq!(object["status"]["conditions"][0]["reason"], "Test");
    assert_eq!(object["metadata"]["generation"], 1);
    let wait = ["wait", "--for=condition=Tested", "organization/acme", "--timeout=10s"];
    api.kubectl(&wait).expect_ok();
    api.kubectl(&["patch", "organization", "acme", "--type=merge", "-p", patch]).expect_ok();
    let object = api.get(&["organization", "acme"]);
    assert_eq!(object["spec"]["displayName"], "x");
    assert_eq!(object["metadata"]["generation"], 2);
}

#[test]
fn mistakes_are_refused_by_name() {
    let api = Api::with_platform();
    let apply = ["apply", "-f", "-"];

    let unknown = SERVICE.replace("backendPool: www", "backendPool: www\n  backendPol: x");
    api.kubectl_in(&unknown, &apply)
        .expect_refusal(&["strict decoding error", "unknown field \"spec.backendPol\""]);
    let twice = r#"{"apiVersion":"network.isocast.dev/v1alpha1","kind":"Datacenter",
        "metadata":{"name":"fra"},"spec":{"region":"eu","region":"us"}}"#;
    let path = "/apis/network.isocast.dev/v1alpha1/datacenters?fieldValidation=Strict";
    api.kubectl_in(twice, &["create", "--raw", path, "-f", "-"])
        .expect_refusal(&["strict decoding error", "duplicate field \"spec.region\""]);
    let invalid = SERVICE.replace("port: 443", "port: 70000");
    api.kubectl_in(&invalid, &apply).expect_refusal(&["invalid", "spec.ports[0].port", "65535"]);
    let elsewhere = SERVICE.replace("web-prod", "nowhere");
    api.kubectl_in(&elsewhere, &apply).expect_refusal(&["nowhere"]);
}

#[test]
fn addresses_run_out_and_are_not_given_twice() {
    let api = Api::with_platform();
    let claim = |name: &str, wish: &str| {
        let manifest = format!(
            "apiVersion: network.isocast.dev/v1alpha1\nkind: AddressClaim\n\
             metadata: {{name: {name}, namespace: web-prod}}\n\
             spec: {{pool: public-v4, {wish}}}\n"
        );
        api.kubectl_in(&manifest, &["create", "-f", "-"])
    };

    claim("taken", "address: 192.0.2.0").expect_refusal(&["public-v4", "192.0.2.0"]);
    claim("prefix", "address: 192.0.2.0/24").expect_refusal(&["spec.address"]);
    claim("second", "family: IPv4").expect_ok();
    claim("third", "family: IPv4").expect_refusal(&["public-v4"]);
}

/// The example of the design document, to the letter.
const FULL_SERVICE: &str = "
apiVersion: network.isocast.dev/v1alpha1
kind: AnycastService
metadata: { name: www, namespace: web-prod }   # namespace = project
spec:
  addresses: [{ claim: www-v4 }, { claim: www-v6 }]
  ports: [{ name: https, protocol: TCP, port: 443 }]
  backendPool: www
  healthCheck: { http: { path: /healthz, port: 8080 }, interval: 500ms, fastInterval: 100ms, timeout: 300ms, rise: 2, fall: 3 }
  failover: { onNoLocalBackend: ForwardOverBackbone, minHealthyBackends: 1, datacenterPreference: [ams, fra] }   # or Withdraw, or ServeAnyway
  affinity: { midFlowMove: Rescue }            # Reset | Rescue: what a flow gets that anycast moved to another datacenter
  limits: { packetsPerSecond: 1000000, newFlowsPerSecond: 50000 }
  allowedSources: []                           # empty: everyone
";

#[test]
fn the_example_of_the_design_is_taken_without_a_warning_and_enforced() {
    let api = Api::with_platform();

    let applied = api.kubectl_in(FULL_SERVICE, &["apply", "-f", "-"]).expect_words(&["created"]);

    assert!(!applied.err.contains("Warning"), "{applied:#?}");
    let object = api.get(&with(&["acs", "www"], WEB));
    assert_eq!(object["spec"]["limits"]["newFlowsPerSecond"], 50_000);
    assert_eq!(object["spec"]["affinity"]["midFlowMove"], "Rescue");
    let wait = ["wait", "acs/www", "--for=condition=FullyEnforced", "--timeout=30s"];
    api.kubectl(&with(&wait, WEB)).expect_ok();
    api.kubectl(&["explain", "anycastservice.spec.limits"]).expect_words(&[
        "packetsPerSecond",
        "newFlowsPerSecond",
        "synCookies",
    ]);
}

#[test]
fn access_lists_are_taken_and_mistakes_in_them_named() {
    let api = Api::with_platform();
    let with_sources = |sources: &str| FULL_SERVICE.replace("allowedSources: []", sources);

    let lists =
        "allowedSources: [198.51.100.0/24, \"2001:db8::/32\"]\n  deniedSources: [198.51.100.64/26]";
    let applied = api.kubectl_in(&with_sources(lists), &["apply", "-f", "-"]).expect_ok();
    assert!(!applied.err.contains("Sources"), "{applied:#?}");
    let object = api.get(&with(&["acs", "www"], WEB));
    assert_eq!(object["spec"]["deniedSources"][0], "198.51.100.64/26");

    let wrong = with_sources("allowedSources: [198.51.100.7/24]");
    api.kubectl_in(&wrong, &["apply", "-f", "-"])
        .expect_refusal(&["spec.allowedSources[0]", "did you mean 198.51.100.0/24"]);
    let both = with_sources("allowedSources: [10.0.0.0/8]\n  deniedSources: [10.0.0.0/8]");
    api.kubectl_in(&both, &["apply", "-f", "-"])
        .expect_refusal(&["spec.deniedSources[0]", "allowedSources as well"]);
}
