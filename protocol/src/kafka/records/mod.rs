//! Record batches (magic 2): view, validation, building, compression.

pub mod batch;
pub mod builder;
pub mod compress;
pub mod control;
pub mod record;
pub mod retain;
mod stream;
pub mod validate;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod validate_tests;
