//! Sums of 64-bit floats that are exact, and rounded once.
//!
//! A sum is kept as an *expansion*: floats that do not overlap and whose exact sum is the exact sum
//! of everything added (Shewchuk, "Adaptive Precision Floating-Point Arithmetic", 1997; Python's
//! `fsum`). Usually that is one or two floats. The order of additions does not matter, and two sums
//! can be joined. Reading the value of a longer expansion goes through one long fixed-point number,
//! so that sum and average are each rounded once.

use serde::{Deserialize, Serialize};

/// Values from here on are kept apart, divided by [`SCALE`], so that no partial sum overflows: below
/// it, 2^63 additions stay in range.
const LARGE: f64 = f64::from_bits((960 + 1023) << 52);

/// 2^128
const SCALE: f64 = f64::from_bits((128 + 1023) << 52);

/// An exact sum.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sum {
    /// An expansion, smallest part first, without zeros.
    parts: Vec<f64>,
    /// What hardly ever occurs.
    rare: Option<Box<Rare>>,
}

/// Values near and past the end of the range.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Rare {
    /// An expansion of the values from [`LARGE`] on, divided by [`SCALE`].
    large: Vec<f64>,
    positive_infinities: u64,
    negative_infinities: u64,
}

impl Sum {
    /// Adds one value; it is no NaN.
    pub(super) fn add(&mut self, value: f64) {
        if value.abs() < LARGE {
            let mut kept = 0;
            let mut carry = value;
            for at in 0..self.parts.len() {
                let (high, low) = two_sum(carry, self.parts[at]);
                if low != 0.0 {
                    self.parts[kept] = low;
                    kept += 1;
                }
                carry = high;
            }
            self.parts.truncate(kept);
            if carry != 0.0 {
                self.parts.push(carry);
            }
            return;
        }
        let rare = self.rare.get_or_insert_default();
        if value.is_finite() {
            rare.add(value / SCALE);
        } else if value > 0.0 {
            rare.positive_infinities += 1;
        } else {
            rare.negative_infinities += 1;
        }
    }

    /// Adds all that `other` has added.
    pub(super) fn join(&mut self, other: &Self) {
        for part in &other.parts {
            self.add(*part);
        }
        if let Some(other) = &other.rare {
            let rare = self.rare.get_or_insert_default();
            for part in &other.large {
                rare.add(*part);
            }
            rare.positive_infinities += other.positive_infinities;
            rare.negative_infinities += other.negative_infinities;
        }
    }

    /// The sum, rounded once. NaN if infinities of both signs were added.
    pub(super) fn value(&self) -> f64 {
        self.quotient(1)
    }

    /// The sum divided by `count`, rounded once; `count` is at least 1 and below 2^53.
    pub(super) fn quotient(&self, count: u64) -> f64 {
        if let Some(rare) = &self.rare {
            match (rare.positive_infinities > 0, rare.negative_infinities > 0) {
                (true, true) => return f64::NAN,
                (true, false) => return f64::INFINITY,
                (false, true) => return f64::NEG_INFINITY,
                (false, false) => return self.divided(count),
            }
        }
        match self.parts.as_slice() {
            [] => 0.0,
            // One division of two exact values rounds once.
            [only] => only / count as f64,
            _ => self.divided(count),
        }
    }

    fn divided(&self, count: u64) -> f64 {
        let mut fixed = FixedPoint::default();
        for part in &self.parts {
            fixed.add(*part, 0);
        }
        for part in self.rare.iter().flat_map(|rare| &rare.large) {
            fixed.add(*part, 128);
        }
        fixed.divided(count)
    }
}

impl Rare {
    fn add(&mut self, value: f64) {
        let mut carry = value;
        let mut kept = Vec::with_capacity(self.large.len() + 1);
        for part in &self.large {
            let (high, low) = two_sum(carry, *part);
            if low != 0.0 {
                kept.push(low);
            }
            carry = high;
        }
        if carry != 0.0 {
            kept.push(carry);
        }
        self.large = kept;
    }
}

/// The rounded sum and what rounding lost, exactly.
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let high = a + b;
    let b_part = high - a;
    let a_part = high - b_part;
    (high, (a - a_part) + (b - b_part))
}

/// The lowest 64 bits.
fn low_word(wide: u128) -> u64 {
    u64::try_from(wide & u128::from(u64::MAX)).expect("64 bits were kept")
}

/// 64-bit limbs below the point of 2^0 at bit 1074: enough for the least subnormal.
const POINT: usize = 1074;

/// Bits for the largest finite value times 2^63, the sign, and 64 bits of fraction of a quotient.
const LIMBS: usize = (64 + POINT + 1024 + 64 + 64) / 64 + 1;

/// A two's complement number whose lowest limb stays free for the fraction of a quotient.
struct FixedPoint {
    limbs: [u64; LIMBS],
}

impl Default for FixedPoint {
    fn default() -> Self {
        Self { limbs: [0; LIMBS] }
    }
}

impl FixedPoint {
    /// Adds `value * 2^scale`, exactly.
    fn add(&mut self, value: f64, scale: usize) {
        let bits = value.to_bits();
        let exponent = usize::try_from((bits >> 52) & 0x7ff).unwrap_or(0);
        let fraction = bits & ((1 << 52) - 1);
        let mantissa = if exponent == 0 { fraction } else { fraction | (1 << 52) };
        // A subnormal's lowest bit is that of exponent 1: 2^-1074.
        let shift = 64 + exponent.max(1) - 1 + scale;
        let wide = u128::from(mantissa) << (shift % 64);
        let words = [low_word(wide), low_word(wide >> 64)];
        let negative = value.is_sign_negative();
        let mut carry = false;
        for (index, limb) in self.limbs.iter_mut().enumerate().skip(shift / 64) {
            let word = words.get(index - shift / 64).copied().unwrap_or(0);
            let (sum, over) =
                if negative { limb.overflowing_sub(word) } else { limb.overflowing_add(word) };
            let (sum, over_carry) = if negative {
                sum.overflowing_sub(u64::from(carry))
            } else {
                sum.overflowing_add(u64::from(carry))
            };
            *limb = sum;
            carry = over || over_carry;
        }
    }

    /// This divided by `count`, rounded to the nearest float, ties to even.
    fn divided(mut self, count: u64) -> f64 {
        let negative = self.limbs[LIMBS - 1] >> 63 == 1;
        if negative {
            self.negate();
        }
        let mut remainder = 0_u128;
        for limb in self.limbs.iter_mut().rev() {
            let dividend = (remainder << 64) | u128::from(*limb);
            *limb = low_word(dividend / u128::from(count));
            remainder = dividend % u128::from(count);
        }
        let magnitude = self.rounded(remainder != 0);
        if negative { -magnitude } else { magnitude }
    }

    fn negate(&mut self) {
        let mut carry = true;
        for limb in &mut self.limbs {
            let (negated, over) = (!*limb).overflowing_add(u64::from(carry));
            *limb = negated;
            carry = over;
        }
    }

    /// The nearest float; `inexact` says that something was lost below the lowest bit.
    fn rounded(&self, inexact: bool) -> f64 {
        let Some(top) = (0..LIMBS).rev().find(|&index| self.limbs[index] != 0) else {
            return 0.0;
        };
        let highest = top * 64 + 63 - self.limbs[top].leading_zeros() as usize;
        // The lowest bit that the float keeps: 53 bits, but none below 2^-1074, which is bit 64.
        let lowest = highest.saturating_sub(52).max(64);
        let mut mantissa = 0_u64;
        for bit in (lowest..=highest).rev() {
            mantissa = (mantissa << 1) | u64::from(self.bit(bit));
        }
        let half = self.bit(lowest - 1);
        let rest = inexact || (0..lowest - 1).any(|bit| self.bit(bit));
        if half && (rest || mantissa & 1 == 1) {
            mantissa += 1;
        }
        // Adding to the bits of a float carries into its exponent, up to infinity.
        let exponent = lowest - 64;
        let normal = mantissa >= 1 << 52;
        if exponent > 2_045 {
            return f64::INFINITY;
        }
        if normal {
            f64::from_bits(((exponent as u64) << 52) + mantissa)
        } else {
            f64::from_bits(mantissa)
        }
    }

    fn bit(&self, index: usize) -> bool {
        self.limbs[index / 64] >> (index % 64) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2^-1074
    const LEAST: f64 = f64::from_bits(1);

    fn sum_of(values: &[f64]) -> Sum {
        let mut sum = Sum::default();
        for value in values {
            sum.add(*value);
        }
        sum
    }

    #[test]
    fn sums_are_rounded_once() {
        let max = f64::MAX;
        // (what it shows, values, their sum; as Python's fsum has it where it does not overflow)
        let cases: [(&str, &[f64], f64); 12] = [
            ("of nothing it is zero", &[], 0.0),
            ("tenths make a whole", &[0.1; 10], 1.0),
            ("small ones survive large ones", &[1e100, 1.0, -1e100], 1.0),
            ("a half is rounded to even", &[1.0, 2f64.powi(-53)], 1.0),
            ("and up with anything more", &[1.0, 2f64.powi(-53), LEAST], 1.0 + 2f64.powi(-52)),
            ("subnormal ones are kept", &[LEAST; 3], 3.0 * LEAST),
            ("a way through overflow is none", &[max, max, -max], max),
            ("small beside the largest", &[max, 1.0, -max], 1.0),
            ("past the range is infinite", &[max, max], f64::INFINITY),
            ("below it too", &[-max, -max], f64::NEG_INFINITY),
            ("an infinite value stays", &[f64::INFINITY, -max, 1.0], f64::INFINITY),
            ("opposite ones cancel", &[3.25, -3.25], 0.0),
        ];
        for (name, values, expected) in cases {
            assert_eq!(sum_of(values).value().to_bits(), expected.to_bits(), "{name}");
            let mut reversed = values.to_vec();
            reversed.reverse();
            assert_eq!(sum_of(&reversed).value().to_bits(), expected.to_bits(), "{name}");
            let (first, second) = values.split_at(values.len() / 2);
            let mut joined = sum_of(first);
            joined.join(&sum_of(second));
            assert_eq!(joined.value().to_bits(), expected.to_bits(), "{name}, joined");
        }
        assert!(sum_of(&[f64::INFINITY, f64::NEG_INFINITY]).value().is_nan());
    }

    #[test]
    fn quotients_are_rounded_once() {
        // (values, count, expected)
        let cases: [(&[f64], u64, f64); 5] = [
            (&[1.0], 3, 1.0 / 3.0),
            (&[1e16, 1.0], 2, 5e15 + 0.5),
            // The sum rounds to 2^53 + 4; the third part of the exact one is nearer to below.
            (&[9_007_199_254_740_992.0, 3.0], 3, 3_002_399_751_580_331.5),
            (&[f64::MAX, f64::MAX], 2, f64::MAX),
            (&[LEAST, 1.0, -1.0], 2, 0.0),
        ];
        for (values, count, expected) in cases {
            assert_eq!(sum_of(values).quotient(count).to_bits(), expected.to_bits(), "{values:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whole_numbers_sum_as_integers(
            values in proptest::collection::vec(-(1_i64 << 52)..(1 << 52), 0..40),
        ) {
            let expected: i128 = values.iter().map(|value| i128::from(*value)).sum();
            let floats: Vec<f64> = values.iter().map(|value| *value as f64).collect();
            let found = sum_of(&floats).value();
            proptest::prop_assert_eq!(found.to_bits(), (expected as f64).to_bits());
        }
    }
}
