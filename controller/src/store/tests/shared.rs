//! Two sequencers on one log: none loses what the other wrote, and none refuses by an old state.

use std::{ops::ControlFlow, time::Duration};

use parking_lot::Mutex;

use super::*;

const ADDS: u64 = 30;
const ADDERS: usize = 6;

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
        self.0.listeners.lock().push(wake);
    }
}

fn stores() -> [Arc<Store>; 2] {
    let common = Arc::<Common>::default();
    [(); 2].map(|()| {
        let backend = Arc::new(Mine(Arc::clone(&common)));
        let store = Store::open_retaining(Retention::default(), backend, vec![], Arc::default());
        Arc::new(store.expect("a fresh store opens"))
    })
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it happens soon")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn additions_through_either_are_all_there_once_and_in_order() {
    let stores = stores();
    let first = create(&stores[0], "counter", 0).await.expect("new");
    let mut cursor = stores[1].watch(&everything(), Revision(0)).expect("from the start");
    let adders = (0..ADDERS).map(|adder| {
        let store = Arc::clone(&stores[adder % 2]);
        tokio::spawn(async move {
            let mut done = 0;
            while done < ADDS {
                let Some(current) = store.get(&proof("counter")) else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let size = current.value["spec"]["size"].as_u64().expect("a number");
                let write = write(Expect::At(current.revision), Some(object("counter", size + 1)));
                match store.write(&proof::<verb::Update>("counter"), write).await {
                    Ok(_) => done += 1,
                    Err(error) if error.code() == 409 => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    for adder in soon(futures::future::join_all(adders)).await {
        adder.expect("no panic");
    }

    let mut last = first.revision;
    let mut seen = 0;
    soon(async {
        while seen < ADDERS as u64 * ADDS {
            for event in cursor.next().await.expect("not expired") {
                if event.revision == first.revision {
                    continue;
                }
                assert_eq!(event.revision, last.next());
                let before = event.old.expect("it was there")["spec"]["size"].as_u64();
                assert_eq!(event.value["spec"]["size"].as_u64(), before.map(|size| size + 1));
                last = event.revision;
                seen += 1;
            }
        }
    })
    .await;
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
