//! Byte strings in chunks that never move: attribute sets come and go by the hundred thousand, and
//! an allocator that has to tidy up after them does so for milliseconds at a time.
//!
//! A place is taken in units of sixteen bytes and given back to a list of its size. Chunks are given
//! back when the last string is gone.

const UNIT: usize = 16;
/// Units of a chunk: more than the attributes of the longest message fill.
const CHUNK_UNITS: u32 = 8192;
const CHUNK_BYTES: usize = CHUNK_UNITS as usize * UNIT;

/// Where a string is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// In units, counted through all chunks.
    start: u32,
    bytes: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Arena {
    chunks: Vec<Vec<u8>>,
    /// Starts of vacant places, by their units.
    vacant: Vec<Vec<u32>>,
    /// Units taken of the last chunk.
    taken: u32,
    /// Strings held.
    count: usize,
}

impl Arena {
    /// Keeps a copy; nothing if it is longer than a chunk, or if there are 2³² units.
    pub(super) fn insert(&mut self, bytes: &[u8]) -> Option<Place> {
        let units = units_of(bytes.len())?;
        let reused = self.vacant.get_mut(units as usize).and_then(Vec::pop);
        let start = match reused {
            Some(start) => start,
            None => self.grow(units)?,
        };
        let place = Place { start, bytes: u32::try_from(bytes.len()).ok()? };
        self.room_mut(place)?.copy_from_slice(bytes);
        self.count = self.count.saturating_add(1);
        Some(place)
    }

    pub(super) fn get(&self, place: Place) -> &[u8] {
        let (chunk, at) = split(place.start);
        let chunk = self.chunks.get(chunk).and_then(|chunk| chunk.get(at..));
        chunk.and_then(|rest| rest.get(..place.bytes as usize)).unwrap_or_default()
    }

    pub(super) fn remove(&mut self, place: Place) {
        self.count = self.count.saturating_sub(1);
        if self.count == 0 {
            *self = Self::default();
        } else if let Some(units) = units_of(place.bytes as usize) {
            let class = units as usize;
            if class >= self.vacant.len() {
                self.vacant.resize_with(class.saturating_add(1), Vec::new);
            }
            if let Some(vacant) = self.vacant.get_mut(class) {
                vacant.push(place.start);
            }
        }
    }

    fn grow(&mut self, units: u32) -> Option<u32> {
        let end = self.taken.saturating_add(units);
        if self.chunks.is_empty() || end > CHUNK_UNITS {
            self.chunks.push(vec![0; CHUNK_BYTES]);
            self.taken = 0;
        }
        let chunk = u32::try_from(self.chunks.len()).ok()?.checked_sub(1)?;
        let start = chunk.checked_mul(CHUNK_UNITS)?.checked_add(self.taken)?;
        self.taken = self.taken.saturating_add(units);
        Some(start)
    }

    fn room_mut(&mut self, place: Place) -> Option<&mut [u8]> {
        let (chunk, at) = split(place.start);
        self.chunks.get_mut(chunk)?.get_mut(at..)?.get_mut(..place.bytes as usize)
    }
}

/// Units that a string takes, if it fits a chunk.
fn units_of(bytes: usize) -> Option<u32> {
    u32::try_from(bytes.div_ceil(UNIT)).ok().filter(|units| *units <= CHUNK_UNITS)
}

/// Chunk of a start, and the byte in there.
const fn split(start: u32) -> (usize, usize) {
    let at = (start % CHUNK_UNITS) as usize;
    ((start / CHUNK_UNITS) as usize, at.wrapping_mul(UNIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_keep_their_bytes_and_leave_their_places_to_others() {
        let mut arena = Arena::default();
        let strings: Vec<Vec<u8>> =
            (0..5000_usize).map(|n| vec![u8::try_from(n % 251).unwrap(); n % 300]).collect();
        let places: Vec<_> = strings.iter().map(|s| arena.insert(s).unwrap()).collect();
        for (place, string) in places.iter().zip(&strings) {
            assert_eq!(arena.get(*place), string);
        }
        let chunks = arena.chunks.len();

        for place in &places[1..] {
            arena.remove(*place);
        }
        let again: Vec<_> = strings[1..].iter().map(|s| arena.insert(s).unwrap()).collect();

        assert_eq!(arena.chunks.len(), chunks);
        for (place, string) in again.iter().zip(&strings[1..]) {
            assert_eq!(arena.get(*place), string);
        }
    }

    #[test]
    fn the_longest_string_fits_and_one_byte_more_does_not() {
        let longest = CHUNK_BYTES;
        let mut arena = Arena::default();

        assert!(arena.insert(&vec![1; longest]).is_some());
        assert_eq!(arena.insert(&vec![1; longest + 1]), None);
    }

    #[test]
    fn the_last_string_takes_the_chunks_with_it() {
        let mut arena = Arena::default();
        let place = arena.insert(b"attributes").unwrap();

        arena.remove(place);

        assert!(arena.chunks.is_empty());
    }
}
