//! Checks on the batches of a Produce request.
