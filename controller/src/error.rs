//! [`ApiError`]: every refusal the API gives, as the Kubernetes `Status` object it is sent as.
//!
//! One type from the store up to the wire, so that a refusal keeps its reason and its causes. Must
//! never carry what the caller may not see: messages are sent as they are.

use std::fmt;

use isocast_api::field::FieldError;
use serde_json::{Value, json};

use crate::store::{Key, Revision, Version};

/// A refusal, boxed because it is rare and its facts are many.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError(Box<Facts>);

/// Machine-readable reason of a `Status` (Kubernetes `metav1.StatusReason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The name is taken.
    AlreadyExists,
    /// The request makes no sense.
    BadRequest,
    /// The object changed meanwhile, or another owner holds what is asked for.
    Conflict,
    /// The revision is no longer in the log.
    Expired,
    /// The caller may not.
    Forbidden,
    /// There is no space to store anything more.
    InsufficientStorage,
    /// A fault of this server.
    InternalError,
    /// A value breaks a rule of its kind.
    Invalid,
    /// The resource does not know this verb.
    MethodNotAllowed,
    /// None of the accepted content types can be given.
    NotAcceptable,
    /// There is no such thing.
    NotFound,
    /// The body is larger than the limit.
    RequestEntityTooLarge,
    /// The head of the request is larger than the limit.
    RequestHeaderTooLarge,
    /// The server is shutting down or cannot write.
    ServiceUnavailable,
    /// The answer was not ready in time.
    Timeout,
    /// Too many requests at once.
    TooManyRequests,
    /// The caller has not said who it is.
    Unauthorized,
    /// The content type of the body is not understood.
    UnsupportedMediaType,
}

/// One cause among several (Kubernetes `metav1.StatusCause`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Machine-readable reason, such as `FieldValueInvalid`.
    pub reason: String,
    /// What is wrong.
    pub message: String,
    /// Path of the field, or empty.
    pub field: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Facts {
    reason: Reason,
    message: String,
    group: String,
    resource: String,
    name: String,
    causes: Vec<Cause>,
    retry_after_s: Option<u32>,
    allow: Option<&'static str>,
    continue_token: Option<String>,
    stale: bool,
    denied: bool,
}

impl ApiError {
    /// A refusal that concerns no object in particular.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Facts {
            reason,
            message: message.into(),
            group: String::new(),
            resource: String::new(),
            name: String::new(),
            causes: Vec::new(),
            retry_after_s: None,
            allow: None,
            continue_token: None,
            stale: false,
            denied: false,
        }))
    }

    /// A refusal about the object at `key`.
    pub fn about(reason: Reason, key: &Key, message: impl Into<String>) -> Self {
        Self::new(reason, message).of(key.resource().plural(), key.resource().group(), key.name())
    }

    /// There is no object at `key`.
    pub fn not_found(key: &Key) -> Self {
        let message = format!("{} {:?} not found", key.resource(), key.name());
        Self::about(Reason::NotFound, key, message)
    }

    /// `key` is taken, perhaps by an object on its way out.
    pub fn already_exists(key: &Key, is_leaving: bool) -> Self {
        let leaving = if is_leaving { "object is being deleted: " } else { "" };
        let message = format!("{leaving}{} {:?} already exists", key.resource(), key.name());
        Self::about(Reason::AlreadyExists, key, message)
    }

    /// The object at `key` is not at the revision the caller based its change on.
    pub fn conflict(key: &Key, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} {:?}: {why}", key.resource(), key.name());
        Self::about(Reason::Conflict, key, message)
    }

    /// The write to `key` was based on an older state; a newer base may succeed.
    pub fn stale(key: &Key) -> Self {
        let mut error = Self::conflict(
            key,
            "the object has been modified; please apply your changes to the latest version and \
             try again",
        );
        error.0.stale = true;
        error
    }

    /// Whether it is [`Self::stale`], as opposed to a conflict that a newer base does not solve.
    pub fn is_stale(&self) -> bool {
        self.0.stale
    }

    /// The same, because of a right that the caller does not have, whatever it says.
    #[must_use]
    pub fn for_want_of_rights(mut self) -> Self {
        self.0.denied = true;
        self
    }

    /// Whether it is for want of a right, or of a credential that is good.
    pub fn is_denied(&self) -> bool {
        self.0.denied || matches!(self.0.reason, Reason::Forbidden | Reason::Unauthorized)
    }

    /// Name of what it is about, empty for nothing in particular.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The caller may not do `verb` to `key`.
    pub fn forbidden(key: &Key, why: &str) -> Self {
        let message = format!("{} {:?} is forbidden: {why}", key.resource(), key.name());
        Self::about(Reason::Forbidden, key, message)
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    /// A fault of this server.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Reason::InternalError, message)
    }

    /// The log no longer reaches back to `version`.
    pub fn expired(version: impl Into<Version>, oldest: impl Into<Version>) -> Self {
        let (version, oldest) = (version.into(), oldest.into());
        Self::new(Reason::Expired, format!("too old resource version: {version} ({oldest})"))
    }

    /// The caller has seen `version`, which is not there yet.
    pub fn too_large(version: impl Into<Version>, head: Revision) -> Self {
        let (version, head) = (version.into(), Version::from(head));
        let message = format!("Too large resource version: {version}, current: {head}");
        let cause = Cause {
            reason: "ResourceVersionTooLarge".into(),
            message: "Too large resource version".into(),
            field: String::new(),
        };
        Self::new(Reason::Timeout, message).with_retry_after(1).with_causes(vec![cause])
    }

    /// An object breaks rules of its kind, each of which is a cause.
    pub fn invalid(kind: &str, group: &str, name: &str, errors: &[FieldError]) -> Self {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let list = match &*texts {
            [only] => only.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        // The field has a place of its own.
        let message = |error: &FieldError, text: &str| {
            text.strip_prefix(&format!("{}: ", error.field)).unwrap_or(text).to_owned()
        };
        let causes = errors.iter().zip(&texts).map(|(error, text)| Cause {
            reason: error.reason.as_str().to_owned(),
            message: message(error, text),
            field: error.field.clone(),
        });
        let qualified = match group {
            "" => kind.to_owned(),
            group => format!("{kind}.{group}"),
        };
        let causes = causes.collect();
        Self::new(Reason::Invalid, format!("{qualified} {name:?} is invalid: {list}"))
            .of(kind, group, name)
            .with_causes(causes)
    }

    /// An option of a request (`ListOptions`, `PatchOptions`) makes no sense; `heading` is the class
    /// of the error: `Forbidden`, `Required value`, `Unsupported value`.
    pub fn option(options: &str, field: &str, heading: &str, why: &str) -> Self {
        let message = format!("{options}.meta.k8s.io \"\" is invalid: {field}: {heading}: {why}");
        let class = match heading {
            "Forbidden" => "Forbidden",
            "Required value" => "Required",
            "Unsupported value" => "NotSupported",
            _ => "Invalid",
        };
        let cause = Cause {
            reason: format!("FieldValue{class}"),
            message: format!("{heading}: {why}"),
            field: field.to_owned(),
        };
        Self::new(Reason::Invalid, message).of(options, "meta.k8s.io", "").with_causes(vec![cause])
    }

    /// The same, with the object it is about.
    #[must_use]
    pub fn of(mut self, resource: &str, group: &str, name: &str) -> Self {
        resource.clone_into(&mut self.0.resource);
        group.clone_into(&mut self.0.group);
        name.clone_into(&mut self.0.name);
        self
    }

    /// The same, with its causes.
    #[must_use]
    pub fn with_causes(mut self, causes: Vec<Cause>) -> Self {
        self.0.causes = causes;
        self
    }

    /// The same, asking the client to come back after some seconds.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after_s = Some(seconds);
        self
    }

    /// The same, with the methods that the path knows, where it does not know the one asked for
    /// (RFC 9110 §15.5.6).
    #[must_use]
    pub fn allowing(mut self, methods: &'static str) -> Self {
        if self.0.reason == Reason::MethodNotAllowed {
            self.0.allow = Some(methods);
        }
        self
    }

    /// The same, with a token to go on listing at a newer revision.
    #[must_use]
    pub fn with_continue(mut self, token: String) -> Self {
        self.0.continue_token = Some(token);
        self
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// What, for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The causes, if the refusal has several.
    pub fn causes(&self) -> &[Cause] {
        &self.0.causes
    }

    /// Seconds after which the client may try again.
    pub fn retry_after(&self) -> Option<u32> {
        self.0.retry_after_s
    }

    /// The methods that the path knows, in a refusal of another one.
    pub fn allow(&self) -> Option<&'static str> {
        self.0.allow
    }

    /// The HTTP status code.
    pub fn code(&self) -> u16 {
        self.0.reason.code()
    }

    /// The `Status` object.
    pub fn to_status(&self) -> Value {
        let facts = &self.0;
        let mut details = serde_json::Map::new();
        for (field, value) in
            [("name", &facts.name), ("group", &facts.group), ("kind", &facts.resource)]
        {
            if !value.is_empty() {
                details.insert(field.into(), json!(value));
            }
        }
        if !facts.causes.is_empty() {
            let causes: Vec<Value> = facts.causes.iter().map(Cause::to_json).collect();
            details.insert("causes".into(), json!(causes));
        }
        if let Some(seconds) = facts.retry_after_s {
            details.insert("retryAfterSeconds".into(), json!(seconds));
        }
        let mut metadata = serde_json::Map::new();
        if let Some(token) = &facts.continue_token {
            metadata.insert("continue".into(), json!(token));
        }
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": facts.message,
            "reason": facts.reason.as_str(),
        });
        if let Some(object) = status.as_object_mut() {
            if !details.is_empty() {
                object.insert("details".into(), Value::Object(details));
            }
            object.insert("code".into(), json!(self.code()));
        }
        status
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for ApiError {}

impl Reason {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AlreadyExists => "AlreadyExists",
            Self::BadRequest => "BadRequest",
            Self::Conflict => "Conflict",
            Self::Expired => "Expired",
            Self::Forbidden => "Forbidden",
            Self::InsufficientStorage => "InsufficientStorage",
            Self::InternalError => "InternalError",
            Self::Invalid => "Invalid",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::NotFound => "NotFound",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::RequestHeaderTooLarge => "RequestHeaderFieldsTooLarge",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::Timeout => "Timeout",
            Self::TooManyRequests => "TooManyRequests",
            Self::Unauthorized => "Unauthorized",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
        }
    }

    /// The HTTP status code that belongs to it.
    pub fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::RequestHeaderTooLarge => 431,
            Self::InternalError => 500,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
            Self::InsufficientStorage => 507,
        }
    }
}

impl Cause {
    fn to_json(&self) -> Value {
        let mut cause = serde_json::Map::new();
        for (field, value) in
            [("reason", &self.reason), ("message", &self.message), ("field", &self.field)]
        {
            if !value.is_empty() {
                cause.insert(field.into(), json!(value));
            }
        }
        Value::Object(cause)
    }
}
