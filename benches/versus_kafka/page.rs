//! The page of all results, of which each benchmark writes its own part.
#![allow(dead_code, reason = "each benchmark uses its own part of this")]

use std::path::Path;

/// Whose results.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Kafka,
    Zookeeper,
}

/// The heading of the second part, of ZooKeeper.
pub(crate) const ZOOKEEPER: &str = "# Beside Apache ZooKeeper\n";

/// Puts a part in the place of the last one.
pub(crate) fn write(part: Part, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md");
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    let at = page.find(ZOOKEEPER).unwrap_or(page.len());
    let (kafka, zookeeper) = page.split_at(at);
    let page = match part {
        Part::Kafka => format!("{text}\n{zookeeper}"),
        Part::Zookeeper => format!("{}\n\n{text}", kafka.trim_end()),
    };
    std::fs::write(&path, page.trim_end().to_owned() + "\n").expect("the page can be written");
    println!("written to {}", path.display());
}
