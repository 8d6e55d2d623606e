//! How somebody begins: with one command, in a home folder that is empty.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

#[path = "support/platform.rs"]
mod platform;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Output,
};

use platform::{Platform, text};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Somebody's home, where nothing is.
struct Home<'a> {
    platform: &'a Platform,
    folder: TempDir,
}

impl<'a> Home<'a> {
    fn new(platform: &'a Platform) -> Self {
        Self { platform, folder: TempDir::new().unwrap() }
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join(".kube/config")
    }

    /// As the platform's administrator.
    fn init(&self, arguments: &[&str]) -> Output {
        let all = ["init"].iter().chain(arguments).copied().collect::<Vec<_>>();
        self.platform.command(&all).env("HOME", self.folder.path()).output().unwrap()
    }

    /// As whoever the kubeconfig is of.
    fn isocast(&self, config: &Path, arguments: &[&str]) -> Output {
        let mut command = self.platform.command(arguments);
        command.env("KUBECONFIG", config).output().unwrap()
    }
}

#[test]
fn one_command_gives_an_organization_a_project_and_a_context_to_work_in() {
    let platform = Platform::start();
    let home = Home::new(&platform);

    let made = home.init(&["anna"]);

    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(
        text(&made.stdout).starts_with("organization anna, project anna-main; anna administers")
    );
    let config = home.config();
    assert_eq!(fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o600);
    let content: Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    assert_eq!(content["current-context"], "anna-main");

    // The context works, and is for what is hers.
    let services = home.isocast(&config, &["get", "services"]);
    assert!(services.status.success(), "{}", text(&services.stderr));
    let above = home.isocast(&config, &["get", "projects", "--context", "anna", "-o", "json"]);
    let above: Value = serde_json::from_slice(&above.stdout).unwrap();
    assert_eq!(above["items"].as_array().unwrap().len(), 1);
    assert_eq!(above["items"][0]["metadata"]["name"], "anna-main");
    assert!(!home.isocast(&config, &["keys", "status"]).status.success());
    platform.create("resourcemanager", "Organization", None, "acme", &json!({}));
    for (namespace, expected) in [("anna-main", "anna may "), ("acme", "anna may not ")] {
        let question = ["iam", "explain", "anna", "create", "services", "-n", namespace];
        let answer = text(&platform.isocast(&question).stdout);
        assert!(answer.starts_with(&format!("{expected}create")), "{answer}");
    }
}

#[test]
fn what_is_there_already_is_gone_on_with_where_that_is_meant() {
    let platform = Platform::start();
    let home = Home::new(&platform);
    fs::create_dir(home.folder.path().join(".kube")).unwrap();
    let other = "users: [{name: other, user: {token: o}}]\ncurrent-context: other\n";
    fs::write(home.config(), other).unwrap();
    assert!(home.init(&["anna"]).status.success());

    let refused = home.init(&["anna"]);
    assert!(text(&refused.stderr).contains("organization \"anna\" is there already"));
    let taken = home.init(&["bob", "--project", "anna-main"]);
    assert!(text(&taken.stderr).contains("project \"anna-main\" is there already"));
    let moved = home.init(&["bob", "--project", "anna-main", "--again"]);
    assert!(text(&moved.stderr).contains("is there already, with another parent"));

    let again = home.init(&["anna", "--again", "-o", "json"]);
    assert!(again.status.success(), "{}", text(&again.stderr));
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((&again["user"], &again["context"]), (&json!("anna"), &json!("anna-main")));
    let second = home.init(&["anna-two", "--user", "anna", "--save", "-"]);
    let second: Value = serde_json::from_slice(&second.stdout).unwrap();
    assert_eq!(second["current-context"], "anna-two-main");

    let content: Value = serde_json::from_slice(&fs::read(home.config()).unwrap()).unwrap();
    let names = |list: &str| {
        let entries = content[list].as_array().unwrap().iter();
        entries.map(|entry| entry["name"].as_str().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(names("users"), ["other", "anna", "anna-main"]);
    assert_eq!(names("contexts"), ["anna", "anna-main"]);
}

#[test]
fn nothing_is_made_where_the_context_cannot_be_kept() {
    let platform = Platform::start();
    let home = Home::new(&platform);
    fs::create_dir(home.folder.path().join(".kube")).unwrap();
    for (text_of_config, why) in [
        ("[", "cannot use the kubeconfig"),
        ("clusters: [{name: anna, cluster: {server: 'https://elsewhere'}}]", "https://elsewhere"),
    ] {
        fs::write(home.config(), text_of_config).unwrap();
        let refused = home.init(&["anna"]);
        assert!(text(&refused.stderr).contains(why), "{}", text(&refused.stderr));
    }

    let none = platform.isocast(&["get", "organizations", "-o", "json"]);
    let none: Value = serde_json::from_slice(&none.stdout).unwrap();
    assert_eq!(none["items"], json!([]));
}
