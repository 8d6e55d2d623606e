//! The pool of rings in the kernel: pieces of it are there as soon as something is written to them.

use std::{collections::BTreeMap, io, os::fd::AsFd as _};

use aya::maps::MapData;
use isocast_dataplane_common::{
    RingPlace, Slot,
    limits::{BLOCKS_PER_CHUNK, RING_CHUNKS},
    slot::RING_SLOTS_MIN,
    tables::{LINES_PER_CHUNK, RingLine},
};

use crate::{bpf, mapped::Mapped};

/// The pool.
pub(crate) struct Rings {
    map: MapData,
    /// The pieces that are there, by number.
    chunks: BTreeMap<u32, Mapped<Slot>>,
}

const SLOTS_PER_CHUNK: usize = BLOCKS_PER_CHUNK * RING_SLOTS_MIN;

impl Rings {
    /// Finds the pieces that a predecessor left.
    pub(crate) fn open(map: MapData) -> io::Result<Self> {
        let mut chunks = BTreeMap::new();
        for number in 0..u32::try_from(RING_CHUNKS).unwrap_or(u32::MAX) {
            if let Some(chunk) = bpf::inner_map(map.fd().as_fd(), number)? {
                chunks.insert(number, Mapped::of(chunk, SLOTS_PER_CHUNK)?);
            }
        }
        Ok(Self { map, chunks })
    }

    /// The slots of a ring; `None` if the place was never written to.
    pub(crate) fn read(&self, place: RingPlace) -> Option<&[Slot]> {
        let (chunk, first) = position(place);
        let slots = self.chunks.get(&chunk)?.values();
        slots.get(first..)?.get(..place.slots() as usize)
    }

    /// Has memory at all the places. All new pieces come at once: the kernel waits for its readers
    /// whenever an array of arrays changes.
    pub(crate) fn reserve(&mut self, places: impl Iterator<Item = RingPlace>) -> io::Result<()> {
        let mut fresh = BTreeMap::new();
        for place in places {
            let (number, _) = position(place);
            if !self.chunks.contains_key(&number) && !fresh.contains_key(&number) {
                let array = bpf::create_mapped_array("RINGS_CHUNK", CHUNK_LINE_BYTES, CHUNK_LINES)?;
                fresh.insert(number, array);
            }
        }
        bpf::set_inner_maps(self.map.fd().as_fd(), &fresh)?;
        for (number, array) in fresh {
            self.chunks.insert(number, Mapped::of(array, SLOTS_PER_CHUNK)?);
        }
        Ok(())
    }

    /// A ring's slots, to be written; empty if they were not reserved.
    pub(crate) fn slots_mut(&mut self, place: RingPlace) -> &mut [Slot] {
        let (chunk, first) = position(place);
        let slots = self.chunks.get_mut(&chunk).map(Mapped::values_mut).unwrap_or_default();
        let slots = slots.get_mut(first..).unwrap_or_default();
        slots.get_mut(..place.slots() as usize).unwrap_or_default()
    }
}

/// The piece that a ring lies in, and its first slot there.
const fn position(place: RingPlace) -> (u32, usize) {
    let first = place.first_block();
    let per_chunk = CHUNK_BLOCKS;
    (first / per_chunk, (first % per_chunk) as usize * RING_SLOTS_MIN)
}

#[expect(clippy::cast_possible_truncation, reason = "small constants")]
const CHUNK_BLOCKS: u32 = BLOCKS_PER_CHUNK as u32;
#[expect(clippy::cast_possible_truncation, reason = "small constants")]
const CHUNK_LINES: u32 = LINES_PER_CHUNK as u32;
#[expect(clippy::cast_possible_truncation, reason = "small constants")]
const CHUNK_LINE_BYTES: u32 = size_of::<RingLine>() as u32;
