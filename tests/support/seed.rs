//! Random numbers that can be had again.

use std::ops::Range;

/// A generator (`SplitMix64`) that says its seed when the test that holds it panics.
#[derive(Debug)]
pub struct Seed {
    seed: u64,
    state: u64,
}

impl Seed {
    /// Starts from `seed`; the same seed gives the same numbers, always.
    pub fn new(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number of `range`, which must not be empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next_u64() % (range.end - range.start)
    }

    /// One of `all`.
    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let at = self.within(0..all.len() as u64);
        &all[usize::try_from(at).expect("a place in a slice is a usize")]
    }

    /// True in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.within(0..100) < percent
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let line = format!("the seed was {}\n", self.seed);
            // The panic is already on its way to the reader; this line only helps to repeat it.
            std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).ok();
        }
    }
}
