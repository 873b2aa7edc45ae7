//! The Kafka wire protocol and record formats.
