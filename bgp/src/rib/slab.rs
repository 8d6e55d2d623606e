//! Values with dense 32-bit names, in chunks that never move.
//!
//! Growth takes one chunk, so no insertion costs more than another, however large the table is.

const CHUNK_BITS: u32 = 10;
/// Values of one chunk.
const CHUNK: usize = 1 << CHUNK_BITS;
/// The same, where names are counted.
pub(super) const CHUNK_NAMES: u32 = 1 << CHUNK_BITS;

/// See the module.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Vec<T>>,
    free: Vec<u32>,
    /// Names ever given out.
    bound: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), bound: 0 }
    }
}

impl<T> Slab<T> {
    /// Names below this may be in use.
    pub(super) const fn bound(&self) -> u32 {
        self.bound
    }

    /// Values held.
    pub(super) const fn len(&self) -> usize {
        (self.bound as usize).saturating_sub(self.free.len())
    }

    /// Takes a value; nothing if there are 2³² of them.
    pub(super) fn insert(&mut self, value: T) -> Option<u32> {
        if let Some(id) = self.free.pop() {
            *self.get_mut(id)? = value;
            return Some(id);
        }
        let id = self.bound;
        self.bound = id.checked_add(1)?;
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(value),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(value);
                self.chunks.push(chunk);
            }
        }
        Some(id)
    }

    /// Gives a name back; `vacant` takes the value's place.
    pub(super) fn remove(&mut self, id: u32, vacant: T) {
        if let Some(value) = self.get_mut(id) {
            *value = vacant;
            self.free.push(id);
        }
    }

    pub(super) fn get(&self, id: u32) -> Option<&T> {
        let (chunk, at) = split(id);
        self.chunks.get(chunk)?.get(at)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let (chunk, at) = split(id);
        self.chunks.get_mut(chunk)?.get_mut(at)
    }
}

/// Chunk of a name, and its place in there.
const fn split(id: u32) -> (usize, usize) {
    ((id >> CHUNK_BITS) as usize, id as usize & (CHUNK - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dense_and_used_again() {
        let mut slab = Slab::default();
        let names: Vec<_> = (0..3000).map(|n| slab.insert(n).unwrap()).collect();
        assert_eq!(names, (0..3000).collect::<Vec<u32>>());

        slab.remove(1500, 0);

        assert_eq!(slab.len(), 2999);
        assert_eq!(slab.insert(7), Some(1500));
        assert_eq!((slab.get(1500), slab.get(2999), slab.get(3000)), (Some(&7), Some(&2999), None));
        assert_eq!(slab.bound(), 3000);
    }
}
