//! The allocator, and how long it keeps what was freed.
//!
//! What a start frees (a log read anew, documents of the API described) is never needed again, but
//! pieces of it are taken into use before they are old enough to go back to the kernel: 6 MiB for as
//! long as the process lives. While it starts, memory goes back at once; later it is kept as the
//! allocator likes, because giving it back and asking for it again costs a tenth of all writes.

use std::ffi::{c_int, c_long};

/// Objects are trees of small strings: half of what glibc's allocator costs with them is saved.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Has what is freed go back within a millisecond, until it is dropped.
#[derive(Debug)]
pub(crate) struct Thrift {
    /// What there was before, in milliseconds.
    purge_delay: c_long,
}

impl Thrift {
    pub(crate) fn begin() -> Self {
        // SAFETY: reads a word of the allocator's own.
        #[expect(unsafe_code, reason = "the allocator is C")]
        let purge_delay = unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        set_purge_delay(1);
        Self { purge_delay }
    }
}

impl Drop for Thrift {
    fn drop(&mut self) {
        // Only whoever frees looks for what is due, and in a quiet process that is nobody.
        // SAFETY: gives back what nobody has.
        #[expect(unsafe_code, reason = "the allocator is C")]
        unsafe {
            libmimalloc_sys::mi_collect(true);
        }
        set_purge_delay(self.purge_delay);
    }
}

fn set_purge_delay(milliseconds: c_long) {
    // SAFETY: writes a word of the allocator's own, which takes any value of it.
    #[expect(unsafe_code, reason = "the allocator is C")]
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, milliseconds);
    }
}

/// `mi_option_purge_delay`, which the bindings leave out.
const PURGE_DELAY: c_int = 15;

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
    fn thrift_ends_with_what_there_was() {
        let before = purge_delay();

        let thrift = Thrift::begin();
        let meanwhile = purge_delay();
        drop(thrift);

        // No other option is 1000 by itself: this is the one that is meant.
        assert_eq!((before, meanwhile, purge_delay()), (1000, 1, 1000));
    }
}
