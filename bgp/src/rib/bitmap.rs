//! A set of small numbers.

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Bitmap {
    words: Vec<u64>,
}

impl Bitmap {
    pub(super) const fn new() -> Self {
        Self { words: Vec::new() }
    }

    pub(super) fn insert(&mut self, number: u32) {
        let (word, bit) = split(number);
        if word >= self.words.len() {
            self.words.resize(word.saturating_add(1), 0);
        }
        if let Some(word) = self.words.get_mut(word) {
            *word |= 1 << bit;
        }
    }

    pub(super) fn remove(&mut self, number: u32) {
        let (word, bit) = split(number);
        if let Some(word) = self.words.get_mut(word) {
            *word &= !(1 << bit);
        }
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        let (word, bit) = split(number);
        self.words.get(word).is_some_and(|word| word >> bit & 1 != 0)
    }

    /// The first member that is not below `from`.
    pub(super) fn next_from(&self, from: u32) -> Option<u32> {
        let (first, bit) = split(from);
        let masked = self.words.get(first)? & (u64::MAX << bit);
        let later = self.words.iter().enumerate().skip(first.saturating_add(1));
        let (at, word) = std::iter::once((first, masked))
            .chain(later.map(|(at, word)| (at, *word)))
            .find(|(_, word)| *word != 0)?;
        u32::try_from(at).ok()?.checked_mul(64)?.checked_add(word.trailing_zeros())
    }
}

const fn split(number: u32) -> (usize, u32) {
    ((number / 64) as usize, number % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_out_in_order() {
        let mut bitmap = Bitmap::default();
        for number in [3, 64, 1000] {
            bitmap.insert(number);
        }

        assert_eq!(bitmap.next_from(0), Some(3));
        assert_eq!(bitmap.next_from(3), Some(3));
        assert_eq!(bitmap.next_from(4), Some(64));
        assert_eq!(bitmap.next_from(65), Some(1000));
        assert_eq!(bitmap.next_from(1001), None);

        bitmap.remove(64);
        bitmap.remove(5000);
        assert_eq!(
            [3, 64, 1000, 5000].map(|number| bitmap.contains(number)),
            [true, false, true, false]
        );
    }
}
