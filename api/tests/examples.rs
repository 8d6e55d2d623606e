//! What the documentation and the lab show users is accepted as it stands.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking"
)]

use std::{fs, path::Path};

use isocast_api::{registry::kinds, schema::prune_unknown};
use serde_json::Value;

/// Every document below `folder` of the repository, with the file it is in.
fn documents(folder: &str) -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let mut all = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let texts = text.split("\n---\n").filter(|text| text.contains("kind:"));
        all.extend(texts.map(|text| (name.clone(), serde_saphyr::from_str(text).unwrap())));
    }
    all
}

fn expect_accepted(file: &str, mut value: Value) {
    let kind = kinds().iter().find(|kind| value["kind"] == kind.kind).unwrap();
    assert_eq!(value["apiVersion"], kind.api_version(), "{file}");
    assert_eq!(prune_unknown(&mut value, (kind.schema)()), [""; 0], "{file}");
    (kind.default)(&mut value);
    let refusals: Vec<_> = (kind.validate)(&value, None).iter().map(ToString::to_string).collect();
    assert_eq!(refusals, [""; 0], "{file}");
}

#[test]
fn every_kind_has_an_example_and_each_is_accepted() {
    let examples = documents("docs/src/reference/examples");

    for kind in kinds() {
        assert!(examples.iter().any(|(_, value)| value["kind"] == kind.kind), "{}", kind.kind);
    }
    for (file, value) in examples {
        expect_accepted(&file, value);
    }
}

#[test]
fn the_labs_manifests_are_accepted() {
    let manifests = documents("lab/manifests/two-dc");

    assert!(!manifests.is_empty());
    for (file, value) in manifests {
        expect_accepted(&file, value);
    }
}
