//! [`Tokens`]: permissions to join, each for one node, once, for a while.
//!
//! Kept in one file, which holds hashes of the secrets only. A use is on disk
//! before a certificate is issued for it, so a crash cannot make a token good for two.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use isocast_api::agent::{CaFingerprint, JoinToken};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::limits::{TOKEN_MEMORY, TOKEN_TTL, TOKEN_TTL_MAX, TOKENS_MAX};
use crate::cabinet::Sheet;

/// The tokens of this controller.
#[derive(Debug)]
pub struct Tokens {
    sheet: Mutex<Sheet>,
    ca: CaFingerprint,
}

/// A token as its owner gets to see it, once.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Issued {
    /// The token's text.
    pub token: String,
    /// Until when it can be used.
    pub expires_at: Timestamp,
}

/// The node that a token or a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRef {
    /// Its name.
    pub name: String,
    /// The uid of its object: a node of the same name that comes later is another one.
    pub uid: String,
}

/// Why tokens cannot be made, loaded or stored.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokensError {
    /// The file cannot be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// As many tokens are remembered as can be.
    #[error("there are {TOKENS_MAX} join tokens already; used ones are forgotten after a day")]
    Full,
    /// The file is malformed.
    #[error("{} is malformed", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The time to live is out of range.
    #[error("a join token lives for 1s to {}", humantime::format_duration(TOKEN_TTL_MAX))]
    Ttl,
}

/// Why a token is not honoured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RedeemError {
    /// Its time is over.
    #[error("the join token expired at {at}")]
    Expired {
        /// When it did.
        at: Timestamp,
    },
    /// It is for another node.
    #[error("the join token is for another node")]
    OtherNode,
    /// Its use cannot be recorded.
    #[error(transparent)]
    Store(#[from] TokensError),
    /// There is no such token.
    #[error("the join token is unknown")]
    Unknown,
    /// It has been used, with another key.
    #[error("the join token has been used already")]
    Used,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Record {
    secret_hash: String,
    node: NodeRef,
    expires_at: Timestamp,
    /// Hash of the public key that the token was spent on.
    #[serde(skip_serializing_if = "Option::is_none")]
    used_for: Option<String>,
}

impl Tokens {
    /// The tokens of the file `sheet`; it need not exist. New tokens vouch for `ca`.
    ///
    /// # Errors
    /// The file is unreadable or malformed.
    pub fn open(mut sheet: Sheet, ca: CaFingerprint) -> Result<Self, TokensError> {
        records(&mut sheet)?;
        Ok(Self { sheet: Mutex::new(sheet), ca })
    }

    /// Makes a token for `node`, good for `ttl` (default: an hour). Blocks until it is on disk.
    ///
    /// # Errors
    /// `ttl` is out of range, there are too many tokens, or the file cannot be written.
    pub fn create(
        &self,
        node: NodeRef,
        ttl: Option<Duration>,
        now: SystemTime,
    ) -> Result<Issued, TokensError> {
        let ttl = ttl.unwrap_or(TOKEN_TTL);
        if !(Duration::from_secs(1)..=TOKEN_TTL_MAX).contains(&ttl) {
            return Err(TokensError::Ttl);
        }
        let expires_at = timestamp(now + ttl);
        let token = JoinToken { id: rand::random(), secret: rand::random(), ca: self.ca };
        let record = Record {
            secret_hash: token.secret_hash().to_string(),
            node,
            expires_at,
            used_for: None,
        };
        self.change(|records| {
            let forget_before = timestamp(now - TOKEN_MEMORY);
            records.retain(|_, record| record.expires_at > forget_before);
            if records.len() >= TOKENS_MAX {
                return Err(TokensError::Full);
            }
            records.insert(id(&token), record.clone());
            Ok(())
        })?;
        Ok(Issued { token: token.to_string(), expires_at })
    }

    /// Spends `token` on a certificate for `node` with `public_key`. Blocks until that is on disk.
    ///
    /// Spending it again on the same key is the same use: the first answer got lost.
    ///
    /// # Errors
    /// The token is not good for that.
    pub fn redeem(
        &self,
        token: &JoinToken,
        node: &NodeRef,
        public_key: &[u8],
        now: SystemTime,
    ) -> Result<(), RedeemError> {
        let key = blake3::hash(public_key).to_string();
        self.change(|records| {
            let record = records.get_mut(&id(token)).ok_or(RedeemError::Unknown)?;
            let secret_hash = blake3::Hash::from_hex(&record.secret_hash).ok();
            if secret_hash != Some(token.secret_hash()) {
                return Err(RedeemError::Unknown); // compares in constant time
            }
            if record.node != *node {
                return Err(RedeemError::OtherNode);
            }
            if record.expires_at < timestamp(now) {
                return Err(RedeemError::Expired { at: record.expires_at });
            }
            match &record.used_for {
                Some(used_for) if *used_for != key => Err(RedeemError::Used),
                Some(_) => Ok(()),
                None => {
                    record.used_for = Some(key.clone());
                    Ok(())
                }
            }
        })
    }

    /// Changes the records as they are now, which another controller may have changed; a refusal
    /// changes nothing.
    fn change<E: From<TokensError>>(
        &self,
        change: impl Fn(&mut BTreeMap<String, Record>) -> Result<(), E>,
    ) -> Result<(), E> {
        let sheet = &mut *self.sheet.lock();
        loop {
            let mut next = records(sheet)?;
            change(&mut next)?;
            let path = PathBuf::from(sheet.name());
            let fault = |source| TokensError::File { path, source };
            let content = match serde_json::to_vec(&next) {
                Ok(content) => content,
                Err(error) => return Err(fault(error.into()).into()),
            };
            match sheet.write(&content) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                written => return Ok(written.map_err(fault)?),
            }
        }
    }
}

impl RedeemError {
    /// The refusal as a word for programs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "TokenExpired",
            Self::OtherNode => "TokenOfAnotherNode",
            Self::Store(_) => "InternalError",
            Self::Unknown => "TokenUnknown",
            Self::Used => "TokenUsed",
        }
    }
}

/// What the file says now.
fn records(sheet: &mut Sheet) -> Result<BTreeMap<String, Record>, TokensError> {
    let content = sheet.read();
    let path = || PathBuf::from(sheet.name());
    match content {
        Ok(Some(content)) => serde_json::from_slice(&content)
            .map_err(|source| TokensError::Malformed { path: path(), source }),
        Ok(None) => Ok(BTreeMap::new()),
        Err(source) => Err(TokensError::File { path: path(), source }),
    }
}

fn id(token: &JoinToken) -> String {
    u64::from_be_bytes(token.id).to_string()
}

/// A clock outside of what timestamps can say makes every token expired.
fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    struct Bench {
        folder: tempfile::TempDir,
        now: SystemTime,
    }

    impl Bench {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap(), now: SystemTime::now() }
        }

        fn open(&self) -> Tokens {
            let path = self.folder.path().join("join-tokens.json");
            Tokens::open(Sheet::at(&path), CaFingerprint::of(b"ca")).unwrap()
        }

        fn create(&self, tokens: &Tokens) -> JoinToken {
            tokens.create(node("a"), Some(TTL), self.now).unwrap().token.parse().unwrap()
        }
    }

    fn node(name: &str) -> NodeRef {
        NodeRef { name: name.into(), uid: format!("uid of {name}") }
    }

    fn reason(outcome: Result<(), RedeemError>) -> &'static str {
        outcome.unwrap_err().reason()
    }

    #[test]
    fn a_token_is_good_once_also_across_restarts() {
        let bench = Bench::new();
        let token = bench.create(&bench.open());

        let tokens = bench.open();
        tokens.redeem(&token, &node("a"), b"key", bench.now).unwrap();

        let again = bench.open().redeem(&token, &node("a"), b"another key", bench.now);
        assert_eq!(reason(again), "TokenUsed");
    }

    #[test]
    fn the_same_key_may_ask_again_when_the_answer_got_lost() {
        let bench = Bench::new();
        let tokens = bench.open();
        let token = bench.create(&tokens);
        tokens.redeem(&token, &node("a"), b"key", bench.now).unwrap();

        assert!(tokens.redeem(&token, &node("a"), b"key", bench.now).is_ok());
    }

    #[test]
    fn a_token_expires() {
        let bench = Bench::new();
        let tokens = bench.open();
        let token = bench.create(&tokens);
        let late = bench.now + TTL + Duration::from_secs(1);

        assert_eq!(reason(tokens.redeem(&token, &node("a"), b"key", late)), "TokenExpired");
    }

    #[test]
    fn a_token_is_for_its_node_and_not_for_a_later_one_of_that_name() {
        let bench = Bench::new();
        let tokens = bench.open();
        let token = bench.create(&tokens);
        let later = NodeRef { uid: "another".into(), ..node("a") };

        for other in [node("b"), later] {
            let refusal = tokens.redeem(&token, &other, b"key", bench.now);
            assert_eq!(reason(refusal), "TokenOfAnotherNode");
        }
    }

    #[test]
    fn a_wrong_secret_is_as_good_as_none() {
        let bench = Bench::new();
        let tokens = bench.open();
        let token = bench.create(&tokens);

        let guess = JoinToken { secret: [0; 32], ..token };
        let stranger = JoinToken { id: [0; 8], ..token };

        for bad in [guess, stranger] {
            assert_eq!(reason(tokens.redeem(&bad, &node("a"), b"key", bench.now)), "TokenUnknown");
        }
    }

    #[test]
    fn the_file_does_not_hold_the_secret() {
        let bench = Bench::new();
        let token = bench.create(&bench.open()).to_string();

        let file = std::fs::read_to_string(bench.folder.path().join("join-tokens.json")).unwrap();

        let secret = token.split('.').nth(2).unwrap();
        assert!(!file.contains(secret));
    }

    #[test]
    fn the_number_of_tokens_is_bounded_and_old_ones_make_room() {
        let bench = Bench::new();
        let record = Record {
            secret_hash: String::new(),
            node: node("a"),
            expires_at: timestamp(bench.now),
            used_for: None,
        };
        let full = (0..TOKENS_MAX).map(|id| (id.to_string(), record.clone()));
        let full: BTreeMap<String, Record> = full.collect();
        let path = bench.folder.path().join("join-tokens.json");
        std::fs::write(path, serde_json::to_vec(&full).unwrap()).unwrap();
        let tokens = bench.open();

        let refused = tokens.create(node("a"), None, bench.now);
        assert!(matches!(refused, Err(TokensError::Full)));

        let tomorrow = bench.now + TOKEN_MEMORY;
        assert!(tokens.create(node("a"), None, tomorrow).is_ok());
    }

    #[test]
    fn a_time_to_live_out_of_range_is_refused() {
        let bench = Bench::new();
        let tokens = bench.open();

        for ttl in [Duration::ZERO, TOKEN_TTL_MAX + Duration::from_secs(1)] {
            let refused = tokens.create(node("a"), Some(ttl), bench.now);
            assert!(matches!(refused, Err(TokensError::Ttl)));
        }
    }
}
