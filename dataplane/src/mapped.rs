//! Kernel arrays in this process's own memory: a store instead of a system call for each value.
//!
//! The kernel keeps an array's values one after the other, each rounded up to eight bytes, and
//! shares them if the array was made with `BPF_F_MMAPABLE`. What a program may be reading is never
//! written through here: that is [`crate::plan`]'s invariant, not this module's.

#![expect(unsafe_code, reason = "shared memory")]

use std::{
    io,
    num::NonZeroUsize,
    os::fd::AsFd,
    ptr::NonNull,
    slice::{from_raw_parts, from_raw_parts_mut},
    sync::atomic::AtomicU64,
};

use isocast_dataplane_common::{Slot, directory::Entry};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Values that may lie in shared memory.
///
/// # Safety
/// Any bytes are a value, there is no padding, and the size is a multiple of eight or divides the
/// size of the array's values.
pub(crate) unsafe trait Shared: Copy {}

// SAFETY: integers and structures of integers without padding; slots fill a line of 64 bytes.
unsafe impl Shared for u64 {}
// SAFETY: as above.
unsafe impl Shared for Entry {}
// SAFETY: as above.
unsafe impl Shared for Slot {}

/// Values that are one word.
pub(crate) trait Word: Shared {}

impl Word for u64 {}

/// The values of one array.
pub(crate) struct Mapped<T> {
    start: NonNull<T>,
    len: usize,
}

// SAFETY: the memory belongs to no thread.
unsafe impl<T: Shared> Send for Mapped<T> {}
// SAFETY: writing takes `&mut`.
unsafe impl<T: Shared> Sync for Mapped<T> {}

impl<T: Shared> Mapped<T> {
    /// Maps `len` values of an array that has as many.
    pub(crate) fn of(array: impl AsFd, len: usize) -> io::Result<Self> {
        let bytes = len.checked_mul(size_of::<T>()).and_then(NonZeroUsize::new);
        let bytes = bytes.ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, which overlaps no other; the kernel refuses one that is longer
        // than the array. It keeps the array alive.
        let start = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, array, 0)? };
        Ok(Self { start: start.cast(), len })
    }

    /// The values. Nobody else writes: one agent owns a folder of pins.
    pub(crate) const fn values(&self) -> &[T] {
        // SAFETY: the mapping is as long as that and lives as long as `self`; any bytes are a value.
        unsafe { from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The values of an array that programs write to as well, word by word.
    pub(crate) const fn atomics(&self) -> &[AtomicU64]
    where
        T: Word,
    {
        // SAFETY: as above; programs replace whole words, and `values` is asked of no such array.
        unsafe { from_raw_parts(self.start.as_ptr().cast(), self.len) }
    }

    /// The values, to be written. Programs read at any time, but not what is written.
    pub(crate) const fn values_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `self` is borrowed as a whole.
        unsafe { from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this start and length, and nobody can refer to it.
        if let Err(error) = unsafe { munmap(self.start.cast(), self.len * size_of::<T>()) } {
            tracing::error!(%error, "cannot unmap an array");
        }
    }
}
