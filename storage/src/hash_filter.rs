//! A set of hashes that takes little room: it may say yes of one that was never put in, and never says
//! no of one that was.
//!
//! It is a Bloom filter. Its size is fixed when it is made, by how many hashes will come; at
//! [`BITS_PER_HASH`] bits each about one question in a hundred is answered yes wrongly. Hashes must be
//! spread evenly over all 64 bits: the places of one are computed from it and not hashed again.

use crate::codec::{Decode, Encode};

/// Bits for each hash that is put in.
const BITS_PER_HASH: usize = 10;

/// Bits that are set for each hash: what answers best at that size.
const PROBES: u64 = 7;

/// Hashes, put in once and asked about ever after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct HashFilter {
    bits: Vec<u8>,
}

impl HashFilter {
    /// Empty, with room for `hashes`; more than that may come, and make it say yes more often.
    pub fn with_room_for(hashes: usize) -> Self {
        Self { bits: vec![0; (hashes * BITS_PER_HASH).div_ceil(8)] }
    }

    /// Puts a hash in. There must be room for one at least.
    pub fn insert(&mut self, hash: u64) {
        for place in places(hash, self.bits.len()) {
            self.bits[place / 8] |= 1 << (place % 8);
        }
    }

    /// Whether the hash may have been put in. If not, it was not.
    pub fn may_hold(&self, hash: u64) -> bool {
        !self.bits.is_empty()
            && places(hash, self.bits.len())
                .all(|place| self.bits[place / 8] & (1 << (place % 8)) != 0)
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.bits.len()
    }
}

/// The bits of a hash in so many bytes: two halves of it, the second added to the first again and again.
fn places(hash: u64, bytes: usize) -> impl Iterator<Item = usize> {
    let bits = bytes as u128 * 8;
    let step = hash.rotate_left(32) | 1;
    (0..PROBES).map(move |probe| {
        let mixed = hash.wrapping_add(probe.wrapping_mul(step));
        usize::try_from((u128::from(mixed) * bits) >> 64).expect("below the number of bits")
    })
}

#[cfg(test)]
mod tests {
    use super::HashFilter;

    /// Evenly spread, and each once: this is a bijection.
    fn spread(number: u64) -> u64 {
        let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        state ^ (state >> 31)
    }

    #[test]
    fn what_was_put_in_is_found_and_little_else() {
        const ASKED: u64 = 100_000;
        // (hashes put in, of so many others that are asked about the most that may be found)
        for (count, found_max) in [(1, 1_500), (10, 1_500), (1_000, 1_200), (30_000, 1_200)] {
            let mut filter = HashFilter::with_room_for(count);
            let count = count as u64;
            (0..count).for_each(|number| filter.insert(spread(number)));
            assert!((0..count).all(|number| filter.may_hold(spread(number))), "{count}");
            let found = (count..count + ASKED).filter(|number| filter.may_hold(spread(*number)));
            let found = found.count();
            assert!(found <= found_max, "{count}: {found} of {ASKED}");
            assert!(filter.bytes() <= 2 + usize::try_from(count).unwrap() * 10 / 8, "{count}");
        }
    }

    #[test]
    fn one_with_no_room_holds_nothing() {
        let filter = HashFilter::with_room_for(0);
        assert!([0, 1, u64::MAX].iter().all(|hash| !filter.may_hold(*hash)));
    }
}
