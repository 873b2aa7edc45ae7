//! Troupe: a Kafka broker played by actors.

fn main() {}
