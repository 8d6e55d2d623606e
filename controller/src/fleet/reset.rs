//! [`ResetKey`]: lets a restarted controller tell agents that their old connections are no more.
//!
//! RFC 9000 §10.3: whoever lost its state answers with a token that only it could have made. The
//! key is kept in the data folder, so that agents come back within a second after a crash instead
//! of waiting for their idle timeout.

use std::{path::Path, sync::Arc, time::Duration};

use quinn::{
    ConnectionId, ConnectionIdGenerator, EndpointConfig,
    crypto::{CryptoError, HmacKey},
};

use super::keys::{KEY_BYTES, KeyError, load_or_make};

/// The key, and what derives from it.
pub(super) struct ResetKey([u8; KEY_BYTES]);

impl ResetKey {
    /// The key of the data folder.
    pub(super) fn open(data: &Path) -> Result<Self, KeyError> {
        Ok(Self(load_or_make(&data.join("channel-reset.key"))?))
    }

    /// An endpoint whose reset tokens are the same after a restart.
    pub(super) fn endpoint_config(self) -> EndpointConfig {
        let mut config = EndpointConfig::new(Arc::new(self));
        config.cid_generator(|| Box::new(RandomIds));
        config
    }

    fn hash(&self, data: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.0, data)
    }
}

/// Connection ids that any process may have made: the default ones are dropped, not reset, by all
/// but the process that made them.
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&rand::random::<[u8; ID_BYTES]>())
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let hash = self.hash(data);
        for (out, byte) in signature_out.iter_mut().zip(hash.as_bytes()) {
            *out = *byte;
        }
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let signature = blake3::Hash::from_slice(signature).map_err(|_length| CryptoError)?;
        // Compares in constant time.
        if self.hash(data) == signature { Ok(()) } else { Err(CryptoError) }
    }
}

const ID_BYTES: usize = 8;
