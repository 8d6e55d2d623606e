//! The same log on a real etcd: against the model, through two controllers, through etcd's death, and
//! at its limits.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use etcd_client::{AlarmAction, AlarmOptions, AlarmType, Client};
use proptest::{
    prelude::prop,
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};

use self::server::Etcd;
use super::{
    model::{agrees, step},
    shared::soon,
    *,
};

#[path = "../../../tests/support/etcd.rs"]
#[expect(dead_code, unreachable_pub, reason = "it is for the tests of the binary as well")]
mod server;

fn backend(etcd: &Etcd, prefix: &str) -> Arc<EtcdBackend> {
    backend_of(&[etcd.url()], prefix)
}

fn backend_of(endpoints: &[String], prefix: &str) -> Arc<EtcdBackend> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let endpoints = endpoints.to_vec();
        let options = EtcdOptions { endpoints, prefix: prefix.to_owned(), tls: None };
        match EtcdBackend::connect(options) {
            Ok(backend) => return Arc::new(backend),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

fn store_with(etcd: &Etcd, admissions: Vec<Arc<dyn Admission>>) -> Arc<Store> {
    store_on(backend(etcd, "/platform"), admissions)
}

fn store_on(backend: Arc<EtcdBackend>, admissions: Vec<Arc<dyn Admission>>) -> Arc<Store> {
    let store = Store::open_retaining(
        Retention::default(),
        backend,
        admissions,
        Arc::<StoreMetrics>::default(),
    );
    Arc::new(store.expect("a fresh store opens"))
}

fn store(etcd: &Etcd) -> Arc<Store> {
    store_with(etcd, vec![])
}

/// Creates until that is possible; every refusal is one that says when to try again.
async fn created(store: &Store, name: &str) -> Object {
    soon(async {
        loop {
            match create(store, name, 1).await {
                Ok(made) => return made,
                // It was written, and the answer was lost.
                Err(error) if error.code() == 409 => {
                    return store.get(&proof(name)).expect("it is there");
                }
                Err(error) => assert!([503, 507].contains(&error.code()), "{error}"),
            }
            // Between attempts: nothing else says that etcd is back.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

#[test]
fn a_log_in_etcd_agrees_with_the_model() {
    let etcd = Etcd::start();
    let mut runner = TestRunner::deterministic();
    let steps = prop::collection::vec(step(), 40..60);
    for case in 0..6 {
        let steps = steps.new_tree(&mut runner).expect("steps").current();
        let prefix = format!("/case-{case}");
        agrees(steps, || backend(&etcd, &prefix));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_controllers_write_to_one_log_and_lose_no_update() {
    const ADDS: u64 = 20;
    let etcd = Etcd::start();
    let stores = [store(&etcd), store(&etcd)];
    let first = create(&stores[0], "counter", 0).await.expect("new");
    let mut cursor = stores[1].watch(&everything(), Revision(0)).expect("from the start");
    let adders = (0..6).map(|adder| {
        let store = Arc::clone(&stores[adder % 2]);
        tokio::spawn(async move {
            let mut done = 0;
            while done < ADDS {
                let Some(current) = store.get(&proof("counter")) else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let size = current.value()["spec"]["size"].as_u64().expect("a number");
                let write = write(Expect::At(current.revision), Some(object("counter", size + 1)));
                match store.write(&proof::<verb::Update>("counter"), write).await {
                    Ok(_) => done += 1,
                    Err(error) if error.code() == 409 => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    for adder in soon(futures::future::join_all(adders)).await {
        adder.expect("no panic");
    }

    // Whichever is asked, and each revision once and in order.
    let mut last = first.revision;
    let end = Revision(last.0 + 6 * ADDS);
    soon(async {
        while last < end {
            for event in cursor.next().await.expect("not expired") {
                if event.revision() == first.revision {
                    continue;
                }
                assert_eq!(event.revision(), last.next());
                let old = event.old_value().expect("it was there")["spec"]["size"].as_u64();
                assert_eq!(event.value()["spec"]["size"].as_u64(), old.map(|old| old + 1));
                last = event.revision();
            }
        }
    })
    .await;
    // What one refuses is judged by the other's writes too.
    let made = create(&stores[0], "late", 1).await.expect("new");
    let taken = create(&stores[1], "late", 1).await.expect_err("taken");
    assert_eq!(taken.reason(), Reason::AlreadyExists);
    delete(&stores[1], &made).await.expect("it is there");
    create(&stores[0], "late", 2).await.expect("it is gone");
}

/// Who has just won is always nearest to the head; without turns, the other would get nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_controllers_that_write_without_pause_neither_starves() {
    const WRITERS: usize = 16;
    const LASTS: Duration = Duration::from_secs(4);
    let etcd = Etcd::start();
    let stores = [store(&etcd), store(&etcd)];
    let is_over = Arc::new(AtomicBool::new(false));
    let done = [(); 2].map(|()| Arc::<AtomicU64>::default());
    let writers: Vec<_> = (0..2 * WRITERS)
        .map(|writer| {
            let (store, done) = (Arc::clone(&stores[writer % 2]), Arc::clone(&done[writer % 2]));
            let is_over = Arc::clone(&is_over);
            tokio::spawn(async move {
                let mut count = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let name = format!("w{writer}-{count}");
                    create(&store, &name, 1).await.expect("nobody is refused");
                    done.fetch_add(1, Ordering::Relaxed);
                    count += 1;
                }
            })
        })
        .collect();
    tokio::time::sleep(LASTS).await;
    is_over.store(true, Ordering::Relaxed);
    for writer in soon(futures::future::join_all(writers)).await {
        writer.expect("no panic");
    }
    let [one, other] = done.map(|done| done.load(Ordering::Relaxed));
    println!("{one} and {other} creates in {LASTS:?}");
    let (least, most) = (one.min(other), one.max(other));
    assert!(least * 3 >= most, "{one} and {other}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_etcd_is_down_reads_go_on_and_writes_are_told_when_to_come_back() {
    let mut etcd = Etcd::start();
    let [one, other] = [store(&etcd), store(&etcd)];
    let before = created(&one, "before").await;
    let mut cursor = other.watch(&everything(), Revision(0)).expect("from the start");

    etcd.kill();
    let refused = soon(create(&one, "during", 1)).await.expect_err("etcd is down");
    assert_eq!((refused.code(), refused.retry_after()), (503, Some(1)), "{refused}");
    assert!(one.get(&proof("before")).is_some(), "reads go on");
    assert!(one.is_alive() && other.is_alive());
    etcd.revive();

    let after = created(&one, "after").await;
    assert_eq!(after.revision, before.revision.next(), "what was refused never happened");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let events = soon(cursor.next()).await.expect("watches go on");
        seen.extend(events.into_iter().map(|event| event.key.name().to_owned()));
    }
    assert_eq!(seen, ["before", "after"]);
    created(&other, "through the other").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_whenever_etcd_is_killed() {
    let mut etcd = Etcd::start();
    let stores = [store(&etcd), store(&etcd)];
    let is_over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..8_usize)
        .map(|writer| {
            let (store, is_over) = (Arc::clone(&stores[writer % 2]), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let name = format!("w{writer}-{}", acknowledged.len());
                    acknowledged.push(created(&store, &name).await);
                }
                acknowledged
            })
        })
        .collect();
    for kill in 1..=3_u64 {
        let mut revisions = stores[0].revisions();
        let enough = revisions.wait_for(|revision| revision.0 >= kill * 100);
        soon(enough).await.expect("writers get on");
        etcd.kill();
        etcd.revive();
    }
    is_over.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for writer in soon(futures::future::join_all(writers)).await {
        acknowledged.extend(writer.expect("no panic"));
    }
    let late = store(&etcd);
    let view = late.view(&everything());
    for object in &acknowledged {
        let found = view.get(&object.key).expect("what was acknowledged is there");
        assert_eq!((found.revision, found.value()), (object.revision, object.value()));
    }
    assert_eq!(view.iter().count(), acknowledged.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_of_three_members_is_dead_writes_go_on() {
    let mut members = Etcd::several::<3>();
    let urls = members.each_ref().map(Etcd::url);
    let [one, other] = [(); 2].map(|()| store_on(backend_of(&urls, "/platform"), vec![]));
    let mut cursor = other.watch(&everything(), Revision(0)).expect("from the start");
    created(&one, "before").await;
    for (dead, member) in members.iter_mut().enumerate() {
        member.kill();
        created(&one, &format!("{dead}")).await;
        created(&other, &format!("{dead}-too")).await;
        for number in 0..20 {
            created(&one, &format!("{dead}-{number}")).await;
        }
        member.revive();
    }
    let mut seen = 0;
    while seen < 1 + 3 * 22 {
        seen += soon(cursor.next()).await.expect("watches go on").len();
    }
}

/// As its operator does it: some of the past is dropped, and the alarm is put out.
async fn make_room(etcd: &Etcd) {
    let mut client = Client::connect([etcd.url()], None).await.expect("etcd is there");
    let newest = client.get("x", None).await.expect("reads go on");
    let newest = newest.header().expect("a revision").revision();
    client.compact(newest, None).await.expect("compacts");
    client.defragment().await.expect("defragments");
    let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await.expect("answers");
    for alarm in alarms.alarms() {
        let mut whose = AlarmOptions::new();
        whose.with_member(alarm.member_id());
        client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(whose)).await.expect("out");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_etcd_refuses_writes_until_there_is_room_again() {
    let etcd = Etcd::with(&["--quota-backend-bytes", "8000000"]);
    let store = store(&etcd);
    created(&store, "a").await;
    // The same object again and again: all but the last one is the past.
    let refused = soon(async {
        for _ in 0.. {
            let current = store.get(&proof("a")).expect("it is there");
            let mut value = Value::clone(&current.value());
            value["spec"]["text"] = json!("x".repeat(500_000));
            let write = write(Expect::At(current.revision), Some(value));
            if let Err(error) = store.write(&proof::<verb::Update>("a"), write).await {
                return Some(error);
            }
        }
        None
    });
    let refused = refused.await.expect("it gets full");
    assert_eq!((refused.code(), refused.retry_after()), (507, Some(5)), "{refused}");
    assert!(store.get(&proof("a")).is_some(), "reads go on");

    // The log has its past as well; of that, etcd's operator cannot drop anything. More is allowed.
    drop(store);
    let mut etcd = etcd;
    etcd.kill();
    etcd.allow(&["--quota-backend-bytes", "64000000"]);
    etcd.revive();
    let store = self::store(&etcd);
    let refused = create(&store, "b", 1).await.expect_err("the alarm is still there");
    assert_eq!(refused.code(), 507);
    make_room(&etcd).await;

    created(&store, "b").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_etcd_is_compacted_the_log_goes_on() {
    let etcd = Etcd::start();
    let [one, other] = [store(&etcd), store(&etcd)];
    for round in 0..10 {
        created(&one, &format!("one-{round}")).await;
        make_room(&etcd).await;
        created(&other, &format!("other-{round}")).await;
    }
    let late = store(&etcd);
    assert_eq!(late.view(&everything()).iter().count(), 20);
    let old = late.view_at(&everything(), Revision(7)).await.expect("the log has it");
    assert_eq!(old.iter().count(), 7, "the past is the log's, not etcd's");
}

/// Writes `0` more objects along with each.
#[derive(Debug)]
struct Along(usize);

impl Admission for Along {
    fn admit(&self, _view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
        for other in 0..self.0 {
            let name = format!("{}-{other}", change.key.name());
            change.also(key(&name), Some(object(&name, 1)));
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_as_many_objects_as_etcd_takes_is_written_and_one_of_more_is_refused() {
    let etcd = Etcd::start();
    // 123 objects, the row of the log, and perhaps a summary of its block.
    let most = store_with(&etcd, vec![Arc::new(Along(122))]);
    let names: Vec<String> = (0..20).map(|name| format!("a{name}")).collect();
    let made = soon(futures::future::join_all(names.iter().map(|name| create(&most, name, 1))));
    for made in made.await {
        made.expect("it fits");
    }
    let over = store_with(&etcd, vec![Arc::new(Along(123))]);
    assert_eq!(over.view(&everything()).iter().count(), 20 * 123);
    let refused = create(&over, "b", 1).await.expect_err("one too many");
    assert_eq!(refused.code(), 413, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_breaks_off_within_a_change_set_goes_on_at_any_controller() {
    let etcd = Etcd::start();
    let open = || store_with(&etcd, vec![Arc::new(cuts::Together)]);
    let (one, other) = (open(), open());
    soon(cuts::change(&one)).await;
    cuts::misses_nothing(&one).await;
    let head = one.view(&everything()).revision();
    soon(other.reach(head)).await;
    cuts::misses_nothing(&other).await;
    drop((one, other));
    cuts::misses_nothing(&open()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_the_largest_size_are_written_many_at_a_time() {
    let etcd = Etcd::start();
    let store = store(&etcd);
    let writes = (0..8).map(|number| {
        let (store, name) = (Arc::clone(&store), format!("large-{number}"));
        tokio::spawn(async move {
            // As it is stored, at the revision it gets.
            let mut value = object(&name, 1);
            value["metadata"]["resourceVersion"] = json!("1999");
            let rest = limits::OBJECT_BYTES - size_of(&value) - r#","text":"""#.len();
            value["spec"]["text"] = json!("x".repeat(rest));
            let write = write(Expect::Absent, Some(value));
            store.write(&proof::<verb::Create>(&name), write).await
        })
    });
    for made in soon(futures::future::join_all(writes)).await {
        made.expect("no panic").expect("it fits");
    }
    assert_eq!(self::store(&etcd).view(&everything()).iter().count(), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lease_is_held_by_one_and_goes_to_another_when_it_is_not_renewed() {
    let mut etcd = Etcd::start();
    let of = |name: &str| Lease::of_managers(backend(&etcd, "/platform"), name);
    let (one, other) = (of("one"), of("other"));
    let first = soon(one.held()).await;
    let second = tokio::spawn(async move { other.held().await });

    tokio::time::sleep(limits::LEASE_LASTS + limits::LEASE_TRUST).await;
    assert!(!second.is_finished(), "it is renewed");

    let released = Instant::now();
    first.release().await;
    let second = soon(second).await.expect("no panic");
    assert!(released.elapsed() < limits::LEASE_LASTS, "nobody waited for it to run out");

    etcd.kill();
    soon(second.lost()).await;
    etcd.revive();
    let again = soon(one.held()).await;
    again.release().await;
}
