//! Two sequencers on one log: each follows the other, and none refuses by an old state.

use std::{ops::ControlFlow, time::Duration};

use parking_lot::Mutex;

use super::*;

/// A log in memory that says when it has grown.
#[derive(Default)]
struct Common {
    log: MemoryBackend,
    listeners: Mutex<Vec<Wake>>,
}

struct Mine(Arc<Common>);

impl Backend for Mine {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, BackendError> {
        self.0.log.snapshot()
    }

    fn commit(&self, commit: &Commit) -> Result<(), BackendError> {
        self.0.log.commit(commit)?;
        self.0.listeners.lock().retain(|wake| wake() == ControlFlow::Continue(()));
        Ok(())
    }

    fn fill(&self, rows: &[Row]) -> Result<(), BackendError> {
        self.0.log.fill(rows)
    }

    /// Few rows at a time, so that batches are cut.
    fn capacity(&self) -> Capacity {
        Capacity { rows: 6, bytes: 1 << 20 }
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn follow(&self, wake: Wake) {
        if wake() == ControlFlow::Continue(()) {
            self.0.listeners.lock().push(wake);
        }
    }
}

fn stores() -> [Arc<Store>; 2] {
    stores_with(vec![])
}

fn stores_with(admissions: Vec<Arc<dyn Admission>>) -> [Arc<Store>; 2] {
    let common = Arc::<Common>::default();
    [(); 2].map(|()| {
        let backend = Arc::new(Mine(Arc::clone(&common)));
        let retention = Retention::default();
        let store = Store::open_retaining(retention, backend, admissions.clone(), Arc::default());
        Arc::new(store.expect("a fresh store opens"))
    })
}

#[tokio::test]
async fn who_breaks_off_within_a_change_set_goes_on_at_any_of_them() {
    let [one, other] = stores_with(vec![Arc::new(cuts::Together)]);
    cuts::change(&one).await;
    cuts::misses_nothing(&one).await;
    let head = one.view(&everything()).revision();
    soon(other.reach(head)).await;
    cuts::misses_nothing(&other).await;
}

pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it happens soon")
}

#[tokio::test]
async fn what_one_refuses_is_judged_by_what_the_other_wrote() {
    let [one, other] = stores();
    for round in 0..20 {
        let made = create(&one, "a", round).await.expect("nothing is there");
        let taken = create(&other, "a", round).await.expect_err("it is there");
        assert_eq!(taken.reason(), Reason::AlreadyExists);
        delete(&other, &made).await.expect("it is there");
        let gone = delete(&one, &made).await.expect_err("it is gone");
        assert_eq!(gone.code(), 404);
    }
}

#[tokio::test]
async fn many_writes_at_once_are_cut_into_commits_that_fit() {
    let [one, other] = stores();
    let names: Vec<String> = (0..100).map(|name| format!("a{name}")).collect();
    let made = futures::future::join_all(names.iter().map(|name| create(&one, name, 1))).await;
    assert!(made.iter().all(Result::is_ok));
    let mut revisions = other.revisions();
    soon(revisions.wait_for(|revision| *revision == Revision(100))).await.expect("it follows");
    assert_eq!(other.view(&everything()).iter().count(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_opens_while_another_writes_sees_each_revision_once() {
    let common = Arc::<Common>::default();
    let open = || {
        let backend = Arc::new(Mine(Arc::clone(&common)));
        let store = Store::open_retaining(Retention::default(), backend, vec![], Arc::default());
        Arc::new(store.expect("it opens"))
    };
    let writes = open();
    let writer = {
        let writes = Arc::clone(&writes);
        tokio::spawn(async move {
            for name in 0..600 {
                create(&writes, &format!("a{name}"), 1).await.expect("new");
            }
        })
    };
    let mut late = Vec::new();
    while !writer.is_finished() && late.len() < 40 {
        late.push(tokio::task::block_in_place(open));
    }
    writer.await.expect("no panic");
    for store in late {
        let mut revisions = store.revisions();
        soon(revisions.wait_for(|it| *it == Revision(600))).await.expect("it follows");
        let mut cursor = store.watch(&everything(), Revision(0)).expect("from the start");
        let mut seen = 0;
        while seen < 600 {
            for event in soon(cursor.next()).await.expect("not expired") {
                seen += 1;
                assert_eq!(event.revision(), Revision(seen));
            }
        }
    }
}
