//! What is done wrong on purpose: each of it must be found, or the checks are worth nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::world::World;

/// Something wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// What a receiver has refused is told to the engine as delivered.
    LosesAnExport,
    /// A request is told to have ended as soon as it has begun.
    LeavesTheOrder,
    /// A line of the input is passed over.
    SkipsALine,
    /// A worker comes too late to write what is done.
    WritesTooLate,
}

/// Seeds within which each must be found.
const SEEDS: u64 = 40;

#[test]
fn what_is_wrong_on_purpose_is_found() {
    let mutants =
        [Mutant::LosesAnExport, Mutant::LeavesTheOrder, Mutant::SkipsALine, Mutant::WritesTooLate];
    for mutant in mutants {
        let fails = |seed: &u64| {
            let run = || {
                let mut world = World::new(*seed);
                world.mutant = Some(mutant);
                world.run();
            };
            catch_unwind(AssertUnwindSafe(run)).is_err()
        };
        let found = (1..=SEEDS).find(fails);
        assert!(found.is_some(), "{mutant:?} is not found by {SEEDS} seeds");
    }
}
