//! The allocator, and how long it keeps what was freed.
//!
//! What a start frees (a log read anew, documents of the API described) is never needed again, but
//! pieces of it are taken into use before they are old enough to go back to the kernel, and keep the
//! rest with them for as long as the process lives. While it starts, memory goes back at once; later it
//! is kept for as long as a request may need it again.

use std::ffi::{c_int, c_long};

/// Objects are trees of small strings: half of what glibc's allocator costs with them is saved.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Has what is freed go back within a millisecond, until it is dropped.
#[derive(Debug)]
pub(crate) struct Thrift {
    /// How long it is kept afterwards, in milliseconds.
    later: c_long,
}

impl Thrift {
    /// Of a process that begins. What `MIMALLOC_PURGE_DELAY` says holds afterwards.
    pub(crate) fn begin() -> Self {
        // SAFETY: reads and writes a word of the allocator's own, which takes any value of it.
        #[expect(unsafe_code, reason = "the allocator is C")]
        unsafe {
            libmimalloc_sys::mi_option_set_default(PURGE_DELAY, KEPT);
            let later = libmimalloc_sys::mi_option_get(PURGE_DELAY);
            libmimalloc_sys::mi_option_set(PURGE_DELAY, 1);
            Self { later }
        }
    }
}

impl Drop for Thrift {
    fn drop(&mut self) {
        // SAFETY: as above.
        #[expect(unsafe_code, reason = "the allocator is C")]
        unsafe {
            libmimalloc_sys::mi_option_set(PURGE_DELAY, self.later);
        }
    }
}

/// `mi_option_purge_delay`, which the bindings leave out.
const PURGE_DELAY: c_int = 15;
/// In milliseconds. A second, which is what the allocator does by itself, costs 3 MiB; a millisecond
/// costs a tenth of all writes, for memory that is given back is to be had again page by page.
const KEPT: c_long = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn purge_delay() -> c_long {
        // SAFETY: as above.
        #[expect(unsafe_code, reason = "the allocator is C")]
        unsafe {
            libmimalloc_sys::mi_option_get(PURGE_DELAY)
        }
    }

    #[test]
    fn thrift_ends() {
        let before = purge_delay();

        let thrift = Thrift::begin();
        let meanwhile = purge_delay();
        drop(thrift);

        // No other option is 1000 by itself: this is the one that is meant.
        assert_eq!((before, meanwhile, purge_delay()), (1000, 1, KEPT));
    }
}
