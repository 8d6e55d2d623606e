//! The same creates where etcd keeps the store, beside what etcd does alone.

use std::time::{Duration, Instant};

use etcd_client::{Client, Compare, CompareOp, Txn, TxnOp};
use tokio::task::JoinSet;

use crate::{
    load,
    report::{Goal::AtLeast, Report},
    server::{Server, object},
    support::etcd::Etcd,
};

const CLIENTS: usize = 64;
const TERM: Duration = Duration::from_secs(5);
/// A transaction of etcd holds many creates, so what HTTP, TLS and the rules cost is what is left.
const SHARE_OF_RAW: f64 = 0.6;

pub(crate) async fn compare(report: &mut Report) {
    let etcd = Etcd::start();
    let raw = transactions(&etcd).await;
    report.row("raw_etcd_txn_per_s", "etcd alone: transactions/s, 64 clients", raw, None);
    let store = ["--store".to_owned(), "etcd".into(), "--etcd-endpoints".into(), etcd.url()];
    let server = Server::start_with(&store);
    let tenant = server.tenant().await;
    let alone = load::creates(&tenant, 1).await;
    report.row("etcd_creates_per_s_1", "creates/s on etcd, 1 client", alone.rate, None);
    let creates = load::creates(&tenant, CLIENTS).await;
    let text = "creates/s on etcd, 64 clients";
    report.row("etcd_creates_per_s_64", text, creates.rate, AtLeast((SHARE_OF_RAW * raw).round()));
    report.row("etcd_create_p99_ms_64", "  p99, ms", creates.p99_ms, None);
}

/// Transactions a second that put an object where none is, each awaited by its client.
async fn transactions(etcd: &Etcd) -> f64 {
    let client = Client::connect([etcd.url()], None).await.expect("etcd is there");
    let (began, mut clients) = (Instant::now(), JoinSet::new());
    for number in 0..CLIENTS {
        let mut kv = client.kv_client();
        clients.spawn(async move {
            let mut done = 0_u32;
            while began.elapsed() < TERM {
                let key = format!("raw/{number}/{done}");
                let is_new = Compare::create_revision(key.clone(), CompareOp::Equal, 0);
                let put = TxnOp::put(key.clone(), object(&key).to_string(), None);
                let answer = kv.txn(Txn::new().when([is_new]).and_then([put])).await;
                assert!(answer.expect("an answer").succeeded());
                done += 1;
            }
            done
        });
    }
    let done: u32 = clients.join_all().await.into_iter().sum();
    f64::from(done) / began.elapsed().as_secs_f64()
}
