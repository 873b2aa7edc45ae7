//! Random numbers that a failed test can draw again.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// The seed of a failed run from the environment, or a new one.
pub fn seed() -> u64 {
    std::env::var("TROUPE_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random)
}

/// Random numbers of a seed that is told.
pub fn random() -> StdRng {
    let seed = seed();
    eprintln!("TROUPE_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}
