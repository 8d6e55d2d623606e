//! Bounds of a policy: an evaluation walks it for every route.

/// Terms of a policy.
pub const TERMS_MAX: usize = 256;

/// Prefixes of one term.
pub const PREFIXES_PER_TERM_MAX: usize = 4096;

/// Community patterns of one list.
pub const COMMUNITY_PATTERNS_MAX: usize = 64;

/// AS numbers of one list.
pub const ASNS_MAX: usize = 1024;

/// How often one term may prepend. Longer paths only make enemies.
pub const PREPEND_MAX: u8 = 16;

/// Bytes of a term's name.
pub const TERM_NAME_BYTES_MAX: usize = 63;

/// AS path patterns of one term.
pub const PATH_PATTERNS_MAX: usize = 64;

/// Items of an AS path pattern.
pub const PATH_PATTERN_ITEMS_MAX: usize = 32;

/// Bytes of an AS path pattern.
pub const PATH_PATTERN_BYTES_MAX: usize = 255;
