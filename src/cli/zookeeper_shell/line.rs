//! A line of the shell: its words, and the options of a command among them.

use std::collections::BTreeMap;

/// A command of the shell.
#[derive(Debug)]
pub(super) struct Syntax {
    pub(super) name: &'static str,
    /// What comes after the name.
    pub(super) usage: &'static str,
    /// Its options by their letters; one with a colon after it takes a value.
    pub(super) options: &'static str,
    /// More about the options, for who used them wrongly.
    pub(super) details: &'static str,
}

/// The words after the name of a command.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    options: BTreeMap<char, String>,
    words: Vec<String>,
}

impl Arguments {
    pub(super) fn parse(syntax: &Syntax, words: &[String]) -> Result<Self, String> {
        let mut arguments = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut letters = word.chars();
            let (Some('-'), Some(letter), rest) = (letters.next(), letters.next(), letters) else {
                arguments.words.push(word.clone());
                continue;
            };
            let value = rest.collect::<String>();
            match syntax.takes_value(letter) {
                // A number below zero is no option.
                None if letter.is_ascii_digit() => arguments.words.push(word.clone()),
                Some(false) if value.is_empty() => {
                    arguments.options.insert(letter, String::new());
                }
                Some(true) => {
                    let value = match value.is_empty() {
                        false => Some(value),
                        true => words.next().cloned(),
                    };
                    let missing = || format!("Missing argument for option: {letter}");
                    arguments.options.insert(letter, value.ok_or_else(missing)?);
                }
                _ => return Err(format!("Unrecognized option: {word}")),
            }
        }
        Ok(arguments)
    }

    pub(super) fn has(&self, option: char) -> bool {
        self.options.contains_key(&option)
    }

    pub(super) fn value(&self, option: char) -> Option<&str> {
        self.options.get(&option).map(String::as_str)
    }

    pub(super) fn word(&self, index: usize) -> Option<&str> {
        self.words.get(index).map(String::as_str)
    }

    pub(super) fn words(&self) -> &[String] {
        &self.words
    }
}

impl Syntax {
    /// Returns whether an option takes a value; nothing when there is no such option.
    fn takes_value(&self, letter: char) -> Option<bool> {
        let at = self.options.find(letter).filter(|_| letter != ':')?;
        let rest = self.options.get(at..)?;
        Some(rest.get(1..).is_some_and(|rest| rest.starts_with(':')))
    }
}

/// Splits a line at blanks; what is in quotes stays together.
pub(super) fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let quoted = matches!(first, '"' | '\'')
            .then(|| rest.get(1..)?.split_once(first))
            .flatten();
        let (word, after) = quoted.unwrap_or_else(|| {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            rest.split_at(end)
        });
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}

/// Checks a path, in the words of ZooKeeper's client. That of a sequential node may end with a slash.
pub(super) fn check_path(path: &str, sequential: bool) -> Result<(), String> {
    if sequential {
        return check_path(&format!("{path}1"), false);
    }
    if path.is_empty() {
        return Err("Path length must be > 0".to_owned());
    }
    if !path.starts_with('/') {
        return Err("Path must start with / character".to_owned());
    }
    if path == "/" {
        return Ok(());
    }
    if path.ends_with('/') {
        return Err("Path must not end with / character".to_owned());
    }
    let mut at = 0;
    for name in path.split('/').skip(1) {
        let reason = match name {
            "" => "empty node name specified",
            "." | ".." => "relative paths not allowed",
            name if name.contains(is_invalid) => "invalid character",
            _ => {
                at += 1 + name.chars().count();
                continue;
            }
        };
        let place = match name {
            "" | "." | ".." => at + 1 + name.len().saturating_sub(1),
            name => at + 1 + name.chars().position(is_invalid).unwrap_or_default(),
        };
        return Err(format!(
            "Invalid path string \"{path}\" caused by {reason} @{place}"
        ));
    }
    Ok(())
}

fn is_invalid(character: char) -> bool {
    matches!(character, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{f000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNTAX: Syntax = Syntax {
        name: "set",
        usage: "path data [-s] [-v version] [-b]",
        options: "sv:b",
        details: "",
    };

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(&SYNTAX, &split(line))
    }

    #[test]
    fn quotes_keep_words_together() {
        assert_eq!(
            split("  create  \"/a b\" 'c \"d' e"),
            ["create", "/a b", "c \"d", "e"]
        );
        assert_eq!(split("a \"open"), ["a", "\"open"]);
        assert!(split(" ").is_empty());
    }

    #[test]
    fn options_stand_anywhere() {
        let arguments = parse("/a -s data -v 7").unwrap();
        assert_eq!(arguments.words(), ["/a", "data"]);
        assert!(arguments.has('s') && !arguments.has('b'));
        assert_eq!(arguments.value('v'), Some("7"));
        assert_eq!(parse("/a -v-1").unwrap().value('v'), Some("-1"));
        assert_eq!(parse("/a -1").unwrap().words(), ["/a", "-1"]);
        assert_eq!(parse("-q"), Err("Unrecognized option: -q".to_owned()));
        assert_eq!(
            parse("/a -v"),
            Err("Missing argument for option: v".to_owned())
        );
    }

    #[test]
    fn bad_paths_are_refused() {
        assert_eq!(check_path("/", false), Ok(()));
        assert_eq!(check_path("/a/b c", false), Ok(()));
        assert_eq!(check_path("/a/", true), Ok(()));
        let refused = |path| check_path(path, false).unwrap_err();
        assert_eq!(refused("a"), "Path must start with / character");
        assert_eq!(refused("/a/"), "Path must not end with / character");
        assert_eq!(
            refused("/bad//x"),
            "Invalid path string \"/bad//x\" caused by empty node name specified @5"
        );
    }
}
