//! `docs/configuration.md` is what the configuration table says.
//!
//! `TROUPE_WRITE_DOCS=1 cargo test -p troupe-actors --test configuration_page` writes it anew.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::fmt::Write as _;
use std::path::Path;

use troupe_actors::config::{ConfigKey, Effect, table, zookeeper};

const INTRODUCTION: &str = "\
# Configuration

Made from the configuration table (`actors/src/config/table/`) by the test `configuration_page`; do not edit by hand.

Names, types and defaults are Kafka's. A value is taken from `--override key=value`, else from the environment, else from
`server.properties`, else it is the default. In the environment `KAFKA_LOG_DIRS` stands for `log.dirs`: `_` for `.`, `__`
for `_`, `___` for `-`; `TROUPE_DATA_DIR` stands for `troupe.data.dir`.

A key that Kafka knows and that has no effect here is accepted, and named once at the start of the broker. A key that
nobody knows is warned about with its place. A bad value stops the start with place, value and what was expected.

Topic keys can be set for each topic; where one is not, the broker keys named with it count. So it is with group keys.
";

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    let used = |key: &&ConfigKey| key.effect == Effect::Used;
    let mut broker: Vec<_> = table::broker_keys().collect();
    broker.sort_by_key(|key| key.name);
    let topic: Vec<_> = table::topic_keys().collect();
    section(
        &mut page,
        "Broker keys",
        broker.iter().copied().filter(used),
    );
    section(&mut page, "Topic keys", topic.iter().copied().filter(used));
    section(&mut page, "Group keys", table::group_keys());
    let zookeeper: Vec<_> = zookeeper::keys().collect();
    section(
        &mut page,
        "Keys of zookeeper.properties, for `troupe zookeeper`",
        zookeeper.iter().copied().filter(used),
    );
    names(&mut page, "Broker keys without effect", &broker);
    names(&mut page, "Topic keys without effect", &topic);
    let title = "Keys of zookeeper.properties without effect";
    names(&mut page, title, &zookeeper);
    page
}

fn section<'a>(page: &mut String, title: &str, keys: impl Iterator<Item = &'a ConfigKey>) {
    write!(page, "\n## {title}\n").unwrap();
    for key in keys {
        let default = match key.default {
            None => "no default".to_owned(),
            Some("") => "default empty".to_owned(),
            Some(value) => format!("default `{value}`"),
        };
        let kind = key.kind.name().to_lowercase();
        write!(page, "\n- **`{}`** ({kind}, {default})", key.name).unwrap();
        let synonyms: Vec<_> = key
            .synonyms
            .iter()
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        if !synonyms.is_empty() {
            write!(page, " <- {}", synonyms.join(", ")).unwrap();
        }
        let words: Vec<_> = key.documentation().split_whitespace().collect();
        write!(page, "  \n  {}", words.join(" ")).unwrap();
    }
    page.push('\n');
}

fn names(page: &mut String, title: &str, keys: &[&ConfigKey]) {
    write!(page, "\n## {title}\n\n").unwrap();
    for key in keys.iter().filter(|key| key.effect == Effect::Ignored) {
        writeln!(page, "- `{}`", key.name).unwrap();
    }
}

#[test]
fn the_page_is_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let expected = page();
    if std::env::var_os("TROUPE_WRITE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    let stale = expected
        .lines()
        .zip(found.lines())
        .find(|(table, page)| table != page);
    assert!(
        found == expected,
        "docs/configuration.md is stale, at {stale:?}; write it anew with TROUPE_WRITE_DOCS=1"
    );
}
