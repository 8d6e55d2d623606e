//! The agent protocol (`proto/agent.proto`) and the set semantics of a node's configuration.
//!
//! A configuration is a set of entries with unique keys. Controller and agent compute the same
//! digest over it, so a node proves what it holds by 32 bytes, and a delta that does not lead to
//! the promised digest is refused rather than half believed.

mod channel;
mod configuration;
mod frame;
mod join_token;
mod json;
pub mod local;
mod proto {
    #![expect(missing_docs, reason = "generated; the .proto file documents every field")]
    include!(concat!(env!("OUT_DIR"), "/isocast.agent.v1alpha1.rs"));
}

pub use self::{
    channel::{
        ALPN_ENROLL, ALPN_SESSION, CONFIGURATION_BYTES_MAX, CONTROLLER_NAME, CloseCode,
        ENROLL_BYTES_MAX, IDLE_MS, LOCAL_REQUEST_BYTES_MAX, LOCAL_REQUESTS_MAX,
        LOCAL_RESPONSE_BYTES_MAX, NODE_URI_PREFIX, STATUS_BYTES_MAX,
    },
    configuration::{Configuration, ConfigurationError, DIGEST_BYTES, Digest},
    frame::{FrameDecoder, FrameError, frame},
    join_token::{CaFingerprint, JoinToken, JoinTokenError},
    proto::*,
};
