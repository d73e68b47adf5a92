//! One number for a value, the same in every run.

use std::hash::{Hash, Hasher};

/// A value's digest. Equal values have equal digests on builds of the same release for 64-bit little-endian machines;
/// it is no protection against people who want two values to collide.
pub fn digest<T: Hash + ?Sized>(value: &T) -> u64 {
    let mut hasher = Mixer(0xcbf2_9ce4_8422_2325);
    value.hash(&mut hasher);
    hasher.finish()
}

/// *Source*: FNV-1a's step, eight bytes at a time, with splitmix64's finish to spread what the last steps left in the
/// high bits. *Why not* std's: its keys are random in each process.
struct Mixer(u64);

impl Mixer {
    const fn mix(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0u8; 8];
        last[..rest.len()].copy_from_slice(rest);
        // The length keeps "a" and "a\0" apart.
        self.mix(u64::from_le_bytes(last) ^ (u64::try_from(rest.len()).unwrap_or(0) << 56));
    }

    fn write_u8(&mut self, number: u8) {
        self.mix(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.mix(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.mix(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(u64::try_from(number).unwrap_or(u64::MAX));
    }

    fn finish(&self) -> u64 {
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::digest;

    #[test]
    fn digests_differ_where_values_do() {
        assert_eq!(digest("abc"), digest(&String::from("abc")));
        assert_ne!(digest("abc"), digest("abd"));
        assert_ne!(digest("a"), digest("a\0"));
        assert_ne!(digest(&vec![1u32, 2]), digest(&vec![2u32, 1]));
        assert_ne!(digest(&Some(0u64)), digest(&None::<u64>));
    }
}
