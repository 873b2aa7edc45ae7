//! What tests of spoilt bytes share.

pub(crate) mod requests;
pub(crate) mod spoil;
