//! The words of a node's local API about its data plane: what becomes of a packet, what was
//! counted, what was captured.

mod captured;
mod counted;
mod explained;
mod flow;

pub use self::{
    captured::{CaptureQuery, CaptureView, RecordView},
    counted::{BackendCount, CountersView, OutcomeCount, ServiceCount},
    explained::{
        CeilingsView, ExplainView, GuardView, MemberView, OuterView, ServiceRef, SlotView,
        SourceView, StageView, TraceView, TunnelView,
    },
    flow::{FlowProtocol, FlowQuery, LocalSocket},
};

/// `GET /v1/dataplane/explain?` with a [`FlowQuery`]: what the tables say.
pub const EXPLAIN_PATH: &str = "/v1/dataplane/explain";

/// `GET /v1/dataplane/trace?` with a [`FlowQuery`]: what the program does as well. The packet is
/// counted, and never sent.
pub const TRACE_PATH: &str = "/v1/dataplane/trace";

/// `GET /v1/dataplane/counters`
pub const COUNTERS_PATH: &str = "/v1/dataplane/counters";

/// `GET /v1/dataplane/capture?` with a [`CaptureQuery`]: takes the next records of a capture, and
/// keeps it going a little longer.
pub const CAPTURE_PATH: &str = "/v1/dataplane/capture";
