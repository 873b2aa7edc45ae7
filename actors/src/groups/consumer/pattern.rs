//! Subscriptions by regular expression.
//!
//! Kafka takes RE2's syntax; the `regex` crate's is a close relative, and takes linear time too. It lacks `\C` and
//! `\Q…\E`; the latter is translated.

use std::collections::BTreeSet;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::topics::Topics;

/// What a compiled expression may take, in bytes.
const SIZE_LIMIT: usize = 1 << 20;

/// The topics that a regular expression means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matches {
    /// Their names.
    pub topics: BTreeSet<Arc<str>>,
    /// The list of topics that was looked at.
    pub version: i64,
    /// When, milliseconds since the epoch.
    pub looked_ms: i64,
}

/// Compiles an expression, which has to match the whole name of a topic.
///
/// # Errors
/// What is wrong with it.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    let translated = unquote(pattern);
    // By itself first: "a)(b" is nothing, although it would be something in parentheses.
    let check = |pattern: &str| {
        RegexBuilder::new(pattern)
            .size_limit(SIZE_LIMIT)
            .dfa_size_limit(SIZE_LIMIT)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
                error => description(&error),
            })
    };
    check(&translated)?;
    check(&format!("^(?:{translated})$"))
}

/// Returns the topics that an expression matches; none when it can't be compiled.
pub fn matching(pattern: &str, topics: &Topics) -> BTreeSet<Arc<str>> {
    match compile(pattern) {
        Ok(regex) => {
            let names = topics.names().filter(|name| regex.is_match(name));
            names.cloned().collect()
        }
        Err(_) => BTreeSet::new(),
    }
}

/// Returns what is wrong in one line: the crate draws a picture above it.
fn description(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

/// Replaces `\Q…\E`, which quotes what is between.
fn unquote(pattern: &str) -> String {
    let mut translated = String::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            translated.push(c);
            continue;
        }
        match rest.next() {
            Some('Q') => {
                let (quoted, behind) = match rest.as_str().split_once("\\E") {
                    Some((quoted, behind)) => (quoted, behind),
                    None => (rest.as_str(), ""),
                };
                translated.push_str(&regex::escape(quoted));
                rest = behind.chars();
            }
            escaped => {
                translated.push('\\');
                translated.extend(escaped);
            }
        }
    }
    translated
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        compile(pattern).unwrap().is_match(name)
    }

    #[test]
    fn the_whole_name_has_to_match() {
        assert!(matches("orders-.*", "orders-eu"));
        assert!(!matches("orders", "orders-eu"));
        assert!(!matches("eu", "orders-eu"));
        assert!(matches("a|orders-(eu|us)", "orders-us"));
        assert!(!matches("a|b", "ab"));
    }

    #[test]
    fn quotes_are_literal() {
        assert!(matches(r"\Qa.b\E.*", "a.b-1"));
        assert!(!matches(r"\Qa.b\E", "a-b"));
        assert!(matches(r"x\Qa.b", "xa.b"));
        assert!(matches(r"\\Q", r"\Q"));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for wrong in ["[", "(", "a)(b", "*", r"\", "(?=a)", "x{1000}{1000}{1000}"] {
            assert!(compile(wrong).is_err(), "{wrong}");
        }
        let reason = compile("[").expect_err("no expression");
        assert_eq!(reason, "unclosed character class");
    }
}
