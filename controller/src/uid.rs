//! Uids of objects and requests.

use uuid::{Builder, Uuid};

/// A UUID of version 4 (RFC 9562 section 5.4), from the thread's own generator: the system is not
/// asked for each.
pub(crate) fn random() -> Uuid {
    Builder::from_random_bytes(rand::random()).into_uuid()
}
