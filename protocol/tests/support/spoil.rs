//! Ways to spoil bytes that were good.

use proptest::prelude::*;

/// One way to spoil bytes.
#[derive(Clone, Debug)]
pub(crate) enum Spoil {
    Byte(usize, u8),
    /// What a length or a count may lie.
    Int(usize, i32),
    Cut(usize),
    Insert(usize, Vec<u8>),
    Repeat(usize, usize),
}

pub(crate) fn spoils() -> impl Strategy<Value = Vec<Spoil>> {
    let at = 0..200usize;
    let lies = prop::sample::select(vec![
        0,
        1,
        -1,
        -2,
        255,
        0xf_ffff,
        0x10_0000,
        i32::MIN,
        i32::MAX,
        i32::MAX / 4,
    ]);
    let spoil = prop_oneof![
        (at.clone(), any::<u8>()).prop_map(|(at, byte)| Spoil::Byte(at, byte)),
        (at.clone(), lies).prop_map(|(at, int)| Spoil::Int(at, int)),
        at.clone().prop_map(Spoil::Cut),
        (at.clone(), prop::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(at, bytes)| Spoil::Insert(at, bytes)),
        (at, 1..40usize).prop_map(|(at, length)| Spoil::Repeat(at, length)),
    ];
    prop::collection::vec(spoil, 0..6)
}

pub(crate) fn spoil(mut bytes: Vec<u8>, spoils: &[Spoil]) -> Vec<u8> {
    for spoil in spoils {
        let length = bytes.len();
        let within = |at: usize| at % (length + 1);
        match spoil {
            Spoil::Byte(at, byte) => bytes
                .iter_mut()
                .skip(within(*at))
                .take(1)
                .for_each(|old| *old = *byte),
            Spoil::Int(at, int) => {
                let new = int.to_be_bytes();
                let old = bytes.iter_mut().skip(within(*at));
                old.zip(new).for_each(|(old, new)| *old = new);
            }
            Spoil::Cut(at) => bytes.truncate(within(*at)),
            Spoil::Insert(at, inserted) => {
                bytes.splice(within(*at)..within(*at), inserted.iter().copied());
            }
            Spoil::Repeat(at, length) => {
                let from = within(*at);
                let again: Vec<u8> = bytes.iter().skip(from).take(*length).copied().collect();
                bytes.splice(from..from, again);
            }
        }
    }
    bytes
}
