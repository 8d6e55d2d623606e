//! What a decision costs on a large platform, and how soon a binding holds.
//!
//! 20,000 projects in folders in folders in organizations, 50,000 users in 20,000 groups, 500,000
//! bindings. Asked as the API asks, from an identity and a key, in pairs drawn at random so that caches do
//! not help. `./dev bench authz`; the gates are in the specification.

#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark, which tells its figures"
)]

use std::{
    hint::black_box,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use isocast_controller::{
    admission::Admission,
    authz::{Identity, verb},
    iam::Access,
    registry::{FieldValidation, Registry, WriteOptions},
    store::{Key, MemoryBackend, Object, Persistence, Resource, Retention, Revision, Store},
};
use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

const ORGANIZATIONS: usize = 100;
const FOLDERS: usize = 2000;
const PROJECTS: usize = 20_000;
const USERS: usize = 50_000;
const GROUPS: usize = 20_000;
const GROUPS_OF_USER: usize = 4;
const BINDINGS: usize = 500_000;
/// Bindings with a condition, to one user.
const CONDITIONAL: &str = "conditional";
const CHECKS: usize = 1_000_000;
const CONDITIONAL_CHECKS: usize = 100_000;
const WRITES: usize = 10_000;

/// Gates: a check, and a check that evaluates a condition.
const CHECK_MAX: Duration = Duration::from_micros(2);
const CONDITIONAL_CHECK_MAX: Duration = Duration::from_micros(10);

fn main() -> ExitCode {
    let mut random = StdRng::seed_from_u64(1);
    let started = Instant::now();
    let objects = platform(&mut random);
    println!(
        "objects      {:>9}   made in {:.1} s",
        objects.len(),
        started.elapsed().as_secs_f64()
    );
    let access: Arc<Access> = Arc::default();
    let backend = MemoryBackend::holding(objects).expect("objects are JSON");
    let started = Instant::now();
    let admissions: Vec<Arc<dyn Admission>> = vec![access.clone()];
    let store = Store::open_retaining(Retention::default(), backend, admissions, Arc::default())
        .expect("it opens");
    println!("index        {:>9}   built in {:.1} s", BINDINGS, started.elapsed().as_secs_f64());
    let registry = Registry::new(Arc::new(store), access);

    let plain = checks(&registry, &mut random);
    let conditional = conditional_checks(&registry);
    tokio::runtime::Runtime::new().expect("a runtime").block_on(effective(&registry));
    for (what, took, gate) in
        [("a check", plain, CHECK_MAX), ("with a condition", conditional, CONDITIONAL_CHECK_MAX)]
    {
        if took > gate {
            println!("{what}: {took:?} is over the gate of {gate:?}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// The mean of decisions that are drawn at random, and of those that a binding allows.
fn checks(registry: &Registry, random: &mut impl Rng) -> Duration {
    let access = registry.access();
    let services = Resource::new("anycastservices", "network.isocast.dev");
    let users: Vec<Identity> =
        (0..USERS).map(|user| identity(registry, &format!("u{user}"))).collect();
    let mut drawn: Vec<(&Identity, Key)> = (0..CHECKS)
        .filter_map(|_| {
            let project = format!("p{}", random.random_range(0..PROJECTS));
            let user = users.get(random.random_range(0..USERS))?;
            Some((user, Key::new(services.clone(), Some(&project), "www")))
        })
        .collect();
    let decide = |asked: &[(&Identity, Key)]| {
        let started = cpu_time();
        let may =
            |(user, key): &&(&Identity, Key)| access.allows(user, "get", key, Timestamp::now());
        let allowed = black_box(asked.iter().filter(may).count());
        (each(cpu_time() - started, asked.len()), allowed)
    };
    let (mean, allowed) = decide(&drawn);
    println!(
        "check        {:>6} ns   of {CHECKS} by {USERS} users in {PROJECTS} projects, {allowed} allowed",
        mean.as_nanos()
    );
    drawn.retain(|(user, key)| access.allows(user, "get", key, Timestamp::now()));
    let (of_allowed, count) = decide(&drawn);
    println!("  allowed    {:>6} ns   the {count} that are", of_allowed.as_nanos());
    mean.max(of_allowed)
}

fn conditional_checks(registry: &Registry) -> Duration {
    let services = Resource::new("anycastservices", "network.isocast.dev");
    let user = identity(registry, CONDITIONAL);
    let key = Key::new(services, Some("p0"), "www");
    let started = cpu_time();
    for _ in 0..CONDITIONAL_CHECKS {
        let proof = registry.authorize::<verb::Get, _>(&user, key.clone());
        black_box(&proof.expect("the condition holds"));
    }
    let mean = each(cpu_time() - started, CONDITIONAL_CHECKS);
    println!("conditional  {:>6} ns   one condition in CEL", mean.as_nanos());
    mean
}

/// Time that this thread had a CPU for: others may be at work too.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("there is such a clock").into()
}

fn each(took: Duration, count: usize) -> Duration {
    took / u32::try_from(count.max(1)).unwrap_or(u32::MAX)
}

/// A binding holds in the very next request, and its removal too.
async fn effective(registry: &Registry) {
    let admin = Identity::Administrator { name: "bench".into() };
    let kind =
        registry.kind("iam.isocast.dev", "v1alpha1", "policybindings").expect("it is served");
    let services = Resource::new("anycastservices", "network.isocast.dev");
    let options = WriteOptions {
        manager: "bench".to_owned(),
        persistence: Persistence::Durable,
        validation: FieldValidation::Strict,
        force: false,
    };
    let newcomer = identity(registry, "newcomer");
    let started = Instant::now();
    for write in 0..WRITES {
        let project = format!("p{}", write % PROJECTS);
        let key = Key::new(services.clone(), Some(&project), "www");
        assert!(registry.authorize::<verb::Get, _>(&newcomer, key.clone()).is_err());
        let binding = binding(&project, "now", "viewer", &subject("User", "newcomer"), None);
        let body = binding.to_string();
        let written =
            registry.create(&admin, kind, Some(&project), body.as_bytes(), &options).await;
        written.expect("it is written");
        assert!(registry.authorize::<verb::Get, _>(&newcomer, key).is_ok(), "at once");
    }
    let mean = started.elapsed() / u32::try_from(WRITES).unwrap_or(u32::MAX);
    println!(
        "effective    {:>6} us   a binding, written and in force, {WRITES} times",
        mean.as_micros()
    );
}

fn identity(registry: &Registry, name: &str) -> Identity {
    registry.access().identity(name).expect("the account exists")
}

// === the platform ===

fn platform(random: &mut impl Rng) -> Vec<Object> {
    let mut all = Vec::new();
    let mut add = |value: Value| all.push(object(value));
    let parent = |kind: &str, name: String| json!({"parent": {"kind": kind, "name": name}});
    for organization in 0..ORGANIZATIONS {
        add(container("Organization", &format!("o{organization}"), &json!({})));
    }
    for folder in 0..FOLDERS {
        // Half of them are in others.
        let spec = if folder < FOLDERS / 2 {
            parent("Organization", format!("o{}", folder % ORGANIZATIONS))
        } else {
            parent("Folder", format!("f{}", folder - FOLDERS / 2))
        };
        add(container("Folder", &format!("f{folder}"), &spec));
    }
    for project in 0..PROJECTS {
        let folder = FOLDERS / 2 + project % (FOLDERS / 2);
        add(container("Project", &format!("p{project}"), &parent("Folder", format!("f{folder}"))));
    }
    let users = (0..USERS).map(|user| format!("u{user}"));
    for user in users.chain([CONDITIONAL.to_owned(), "newcomer".to_owned()]) {
        add(iam("User", None, &user, &json!({})));
    }
    for group in 0..GROUPS {
        let namespace = format!("o{}", group % ORGANIZATIONS);
        add(iam("Group", Some(&namespace), &format!("g{group}"), &json!({})));
    }
    for membership in 0..USERS * GROUPS_OF_USER {
        let group = random.random_range(0..GROUPS);
        let namespace = format!("o{}", group % ORGANIZATIONS);
        let member = subject("User", &format!("u{}", membership % USERS));
        let spec = json!({"group": format!("g{group}"), "member": member});
        add(iam("GroupMembership", Some(&namespace), &format!("m{membership}"), &spec));
    }
    for (name, verbs) in [("viewer", "get"), ("editor", "*"), ("other", "delete")] {
        let spec = json!({"includedPermissions": [format!("network.isocast.dev/*.{verbs}")]});
        add(iam("Role", Some("isocast-system"), name, &spec));
    }
    for number in 0..BINDINGS {
        let namespace = match number % 20 {
            0 => format!("o{}", random.random_range(0..ORGANIZATIONS)),
            1..4 => format!("f{}", random.random_range(0..FOLDERS)),
            _ => format!("p{}", random.random_range(0..PROJECTS)),
        };
        let role = ["viewer", "editor", "other"].get(number % 3).copied().unwrap_or_default();
        let subject = if number % 2 == 0 {
            subject("User", &format!("u{}", random.random_range(0..USERS)))
        } else {
            let group = random.random_range(0..GROUPS);
            let namespace = format!("o{}", group % ORGANIZATIONS);
            json!({"kind": "Group", "name": format!("g{group}"), "namespace": namespace})
        };
        add(binding(&namespace, &format!("b{number}"), role, &subject, None));
    }
    let condition =
        "request.time < timestamp('2100-01-01T00:00:00Z') && request.name.startsWith('w')";
    let who = subject("User", CONDITIONAL);
    add(binding("p0", CONDITIONAL, "viewer", &who, Some(condition)));
    all
}

fn subject(kind: &str, name: &str) -> Value {
    json!({"kind": kind, "name": name})
}

fn binding(
    namespace: &str,
    name: &str,
    role: &str,
    subject: &Value,
    condition: Option<&str>,
) -> Value {
    let mut spec = json!({
        "role": {"name": role, "namespace": "isocast-system"}, "subjects": [subject],
    });
    if let (Some(condition), Some(fields)) = (condition, spec.as_object_mut()) {
        fields.insert("condition".to_owned(), json!({"expression": condition}));
    }
    iam("PolicyBinding", Some(namespace), name, &spec)
}

fn container(kind: &str, name: &str, spec: &Value) -> Value {
    value("resourcemanager", kind, None, name, spec)
}

fn iam(kind: &str, namespace: Option<&str>, name: &str, spec: &Value) -> Value {
    value("iam", kind, namespace, name, spec)
}

fn value(group: &str, kind: &str, namespace: Option<&str>, name: &str, spec: &Value) -> Value {
    let mut value = json!({
        "apiVersion": format!("{group}.isocast.dev/v1alpha1"),
        "kind": kind,
        "metadata": {"name": name, "uid": name},
        "spec": spec,
    });
    let metadata = value.pointer_mut("/metadata").and_then(Value::as_object_mut);
    if let (Some(namespace), Some(metadata)) = (namespace, metadata) {
        metadata.insert("namespace".to_owned(), json!(namespace));
    }
    value
}

fn object(value: Value) -> Object {
    let text = |pointer| value.pointer(pointer).and_then(Value::as_str);
    let kind = text("/kind").unwrap_or_default();
    let plural = format!("{}s", kind.to_lowercase());
    let group = text("/apiVersion").and_then(|it| it.split('/').next()).unwrap_or_default();
    let name = text("/metadata/name").unwrap_or_default();
    let key = Key::new(Resource::new(&plural, group), text("/metadata/namespace"), name);
    Object { key, revision: Revision(1), value: Arc::new(value) }
}
