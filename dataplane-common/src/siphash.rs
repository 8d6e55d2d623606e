//! SipHash-1-3 over 64-bit words.
//!
//! The keyed hash behind every choice of a backend: without the key nobody can aim packets at one
//! slot (Aumasson and Bernstein, "SipHash: a fast short-input PRF"; one round per word and three
//! at the end, as the Rust and Linux hash tables use it). The definition ends bytes of any length with
//! a word that holds the length; here the input is a fixed number of whole words per use, which
//! [`siphash13_words`] takes as they are.

/// Hashes `words` under `key`.
#[inline(always)]
#[must_use]
pub fn siphash13<const N: usize>(key: &[u64; 2], words: &[u64; N]) -> u64 {
    let mut state = State::new(key);
    for &word in words {
        state.absorb(word);
    }
    // The byte-wise definition ends with a word that holds the length modulo 256 on top.
    state.absorb((N as u64) << 59);
    state.finish()
}

/// Hashes `words` under `key`, without the word for the length: one round less.
///
/// As good as [`siphash13`] where a key is used for few and fixed numbers of words: the last word
/// need not say what is known.
#[inline(always)]
#[must_use]
pub fn siphash13_words<const N: usize>(key: &[u64; 2], words: &[u64; N]) -> u64 {
    let mut state = State::new(key);
    for &word in words {
        state.absorb(word);
    }
    state.finish()
}

struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl State {
    #[inline(always)]
    const fn new(key: &[u64; 2]) -> Self {
        Self {
            v0: key[0] ^ 0x736f_6d65_7073_6575,
            v1: key[1] ^ 0x646f_7261_6e64_6f6d,
            v2: key[0] ^ 0x6c79_6765_6e65_7261,
            v3: key[1] ^ 0x7465_6462_7974_6573,
        }
    }

    #[inline(always)]
    fn finish(mut self) -> u64 {
        self.v2 ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }

    #[inline(always)]
    fn absorb(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.v0 ^= word;
    }

    #[inline(always)]
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v2 = self.v2.rotate_left(32);
    }
}

#[cfg(test)]
#[expect(deprecated, reason = "the standard library's SipHasher13 is reachable only so")]
mod tests {
    extern crate std;

    use core::hash::Hasher;
    use std::hash::SipHasher;

    use super::*;

    /// `SipHasher` is SipHash-2-4; the round function and the padding are what can go wrong, so
    /// the reference below is the byte-wise SipHash-2-4 with our state machine.
    fn siphash24(key: &[u64; 2], words: &[u64]) -> u64 {
        let mut state = State::new(key);
        for word in words.iter().copied().chain([(words.len() as u64) << 59]) {
            state.v3 ^= word;
            state.round();
            state.round();
            state.v0 ^= word;
        }
        state.v2 ^= 0xff;
        for _ in 0..4 {
            state.round();
        }
        state.v0 ^ state.v1 ^ state.v2 ^ state.v3
    }

    #[test]
    fn round_and_padding_are_those_of_the_standard() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let words = [0x0123_4567_89ab_cdef, 42, u64::MAX];
        let mut reference = SipHasher::new_with_keys(key[0], key[1]);
        for word in words {
            reference.write(&word.to_le_bytes());
        }

        assert_eq!(siphash24(&key, &words), reference.finish());
    }

    #[test]
    fn one_three_variant_matches_known_answers() {
        // SipHash-1-3 of the empty string and of bytes 0..8 and 0..24 under key bytes 0..16.
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        assert_eq!(siphash13(&key, &[]), 0xabac_0158_050f_c4dc);
        assert_eq!(siphash13(&key, &[0x0706_0504_0302_0100]), 0x3690_9511_8d29_9a8e);
        let words = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908, 0x1716_1514_1312_1110];
        assert_eq!(siphash13(&key, &words), 0xf464_aeb2_6734_9c8c);
    }

    #[test]
    fn words_that_say_their_own_number_make_the_definition() {
        let (key, words) = ([3, 4], [5, 6]);
        assert_eq!(siphash13_words(&key, &[words[0], words[1], 2 << 59]), siphash13(&key, &words));
        assert_ne!(siphash13_words(&key, &words), siphash13(&key, &words));
    }
}
