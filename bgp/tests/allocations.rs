//! What an UPDATE costs in memory: nothing, unless it says something new.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use isocast_bgp::types::PeerKind;
use isocast_bgp::wire::next_hop::NextHop;
use isocast_bgp::wire::update::Codec;
use isocast_bgp::wire::view::UpdateView;

#[expect(dead_code, reason = "shared with the benchmarks, which use the rest")]
#[path = "../benches/support/scripted.rs"]
mod scripted;
#[expect(clippy::cast_possible_truncation, dead_code, reason = "shared with the benchmarks")]
#[path = "../benches/support/stream.rs"]
mod stream;

/// Counts what each thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn allocations_of(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn reading_an_update_allocates_nothing() {
    let table = stream::stream(&stream::prefixes(10_000), 65_001, [198, 18, 1, 1], 1);
    let codec = Codec::new(PeerKind::External);
    let mut block = Vec::with_capacity(4096);
    let mut updates = 0;

    let allocations = allocations_of(|| {
        let mut rest = table.bytes.as_slice();
        while !rest.is_empty() {
            let length = usize::from(u16::from_be_bytes([rest[16], rest[17]]));
            let view = UpdateView::read(&rest[19..length], &codec).unwrap();
            block.clear();
            view.write_block(NextHop::V4(view.next_hop.unwrap()), &mut block);
            updates += 1;
            rest = &rest[length..];
        }
    });

    assert_eq!((updates, allocations), (table.updates, 0));
}

#[test]
fn a_table_that_is_sent_again_allocates_next_to_nothing() {
    let table = stream::stream(&stream::prefixes(10_000), 65_001, [198, 18, 1, 1], 1);
    let mut scripted = scripted::Scripted::new(1);
    scripted.feed(1, &table.bytes);
    scripted.drain();

    let allocations = allocations_of(|| scripted.receive(1, &table.bytes));

    assert!(allocations < table.updates / 10, "{allocations} in {} UPDATEs", table.updates);
}
