//! What a seed decides, drawn one by one.

use crate::deliver::jitter::Jitter;

/// Numbers that follow from a seed.
pub(super) struct Random(Jitter);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(Jitter::new(seed))
    }

    /// Other numbers that follow from these, so that what is drawn there changes nothing here.
    pub(super) fn split(&mut self) -> Self {
        Self(self.0.split())
    }

    /// A number below `limit`, which is not 0.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0.next_bits() % limit
    }

    /// A number from `first` through `last`.
    pub(super) fn within(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// Once in `times`.
    pub(super) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// An index below `length`, which is not 0.
    pub(super) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("below a length")
    }

    /// One of these.
    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    /// One of these, each as often as its weight says.
    pub(super) fn weighed<T: Copy>(&mut self, from: &[(u64, T)]) -> T {
        let mut left = self.below(from.iter().map(|(weight, _)| weight).sum());
        for (weight, one) in from {
            if left < *weight {
                return *one;
            }
            left -= weight;
        }
        unreachable!("the weights add up to more")
    }
}
