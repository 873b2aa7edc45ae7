//! Randomness of a run, drawn from its seed.
//!
//! Hash maps, ids, `tokio::select!` and the order in which tasks are woken all take their randomness from the system's
//! `getrandom`. Here that function is ours, and on the thread of a run it draws from the seed; on all others it asks the
//! system.

use std::cell::Cell;

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Has everything random on this thread follow from `seed`. To be called before anything random happened on it.
pub fn follow(seed: u64) {
    STATE.set(Some(seed));
}

/// Draws the next number (SplitMix64).
fn next(state: u64) -> (u64, u64) {
    let state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (state, mixed ^ (mixed >> 31))
}

/// What the C library calls by this name.
///
/// # Safety
/// `buffer` has room for `len` bytes.
#[unsafe(no_mangle)]
#[expect(
    unsafe_code,
    reason = "only what has this name and this signature takes the place of the system's"
)]
unsafe extern "C" fn getrandom(buffer: *mut u8, len: usize, _flags: u32) -> isize {
    // SAFETY: whoever calls vouches for the buffer, as for the function of the C library; a null one has no bytes.
    let buffer = match buffer.is_null() {
        true => &mut [][..],
        false => unsafe { std::slice::from_raw_parts_mut(buffer, len) },
    };
    let Some(mut state) = STATE.get() else {
        let read = rustix::rand::getrandom(buffer, rustix::rand::GetRandomFlags::empty());
        return read.map_or(-1, |read| read.cast_signed());
    };
    for bytes in buffer.chunks_mut(8) {
        let (following, drawn) = next(state);
        state = following;
        bytes.copy_from_slice(&drawn.to_le_bytes()[..bytes.len()]);
    }
    STATE.set(Some(state));
    len.cast_signed()
}

#[cfg(test)]
mod tests {
    use std::collections::hash_map::RandomState;
    use std::hash::BuildHasher;
    use std::thread;

    use uuid::Uuid;

    fn drawn(seed: u64) -> (u64, Uuid, u64) {
        let draw = move || {
            super::follow(seed);
            (
                RandomState::new().hash_one(1),
                Uuid::new_v4(),
                rand::random(),
            )
        };
        thread::spawn(draw).join().unwrap()
    }

    #[test]
    fn everything_random_follows_from_the_seed() {
        assert_eq!(drawn(1), drawn(1));
        let (one, two) = (drawn(1), drawn(2));
        assert!(one.0 != two.0 && one.1 != two.1 && one.2 != two.2);
    }
}
