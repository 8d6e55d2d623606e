//! [`State`]: the tables as of one of etcd's revisions.

use std::ops::ControlFlow;

use etcd_client::{GetOptions, KeyValue, Txn, TxnOp, TxnOpResponse};

use super::{Keys, link::Link};
use crate::store::{
    BackendError, Snapshot,
    backend::{Each, HEAD, Table},
};

/// Rows read at once: those of the log can be large.
const LOG_PAGE: i64 = 64;
const PAGE: i64 = 1000;

pub(super) struct State<'a> {
    link: &'a Link,
    keys: &'a Keys,
    head: Option<KeyValue>,
    revision: i64,
}

impl<'a> State<'a> {
    /// The newest one: not the nearest member's idea of it, the cluster's.
    pub(super) fn of(link: &'a Link, keys: &'a Keys) -> Result<Self, BackendError> {
        let head = keys.head();
        let mut answer = link
            .ask(move |mut kv| {
                let head = head.clone();
                async move { kv.get(head, None).await }
            })?
            .answer;
        let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
        Ok(Self { link, keys, head: answer.take_kvs().pop(), revision })
    }

    /// When the head was written.
    pub(super) fn head_revision(&self) -> i64 {
        self.head.as_ref().map_or(0, KeyValue::mod_revision)
    }

    fn options(&self) -> GetOptions {
        GetOptions::new().with_revision(self.revision)
    }
}

impl Snapshot for State<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, BackendError> {
        if (table, key) == (Table::Meta, HEAD) {
            return Ok(self.head.as_ref().map(|head| head.value().to_vec()));
        }
        let (key, options) = (self.keys.of(table, key), self.options());
        let mut answer = self
            .link
            .ask(move |mut kv| {
                let (key, options) = (key.clone(), options.clone());
                async move { kv.get(key, Some(options)).await }
            })?
            .answer;
        Ok(answer.take_kvs().pop().map(|row| row.value().to_vec()))
    }

    fn get_many(
        &self,
        table: Table,
        keys: &[[u8; 8]],
    ) -> Result<Vec<Option<Vec<u8>>>, BackendError> {
        let get = |key: &[u8; 8]| TxnOp::get(self.keys.of(table, key), Some(self.options()));
        let txn = Txn::new().and_then(keys.iter().map(get).collect::<Vec<_>>());
        let answer = self
            .link
            .ask(move |mut kv| {
                let txn = txn.clone();
                async move { kv.txn(txn).await }
            })?
            .answer;
        let found = answer.op_responses().into_iter().map(|response| match response {
            TxnOpResponse::Get(mut found) => found.take_kvs().pop().map(|row| row.value().to_vec()),
            _ => None,
        });
        Ok(found.collect())
    }

    fn scan(&self, table: Table, from: &[u8], each: &mut Each<'_>) -> Result<(), BackendError> {
        let start = self.keys.of(table, &[]);
        let mut end = start.clone();
        // The key after all that begin so.
        if let Some(last) = end.last_mut() {
            *last = last.saturating_add(1);
        }
        let page = if table == Table::Log { LOG_PAGE } else { PAGE };
        let mut from = self.keys.of(table, from);
        loop {
            let options = self.options().with_range(end.clone()).with_limit(page);
            let begin = from.clone();
            let answer = self
                .link
                .ask(move |mut kv| {
                    let (begin, options) = (begin.clone(), options.clone());
                    async move { kv.get(begin, Some(options)).await }
                })?
                .answer;
            for row in answer.kvs() {
                let key = row.key().get(start.len()..).unwrap_or_default();
                if each(key, row.value())? == ControlFlow::Break(()) {
                    return Ok(());
                }
            }
            let Some(last) = answer.kvs().last().filter(|_| answer.more()) else { return Ok(()) };
            from = [last.key(), &[0]].concat();
        }
    }
}
