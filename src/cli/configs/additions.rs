//! What `--add-config` and `--add-config-file` name.

use std::collections::BTreeMap;
use std::path::Path;

use troupe_actors::config::properties;

use super::super::tool::ToolError;

/// Reads a file of properties.
pub(super) fn of_file(file: &Path) -> Result<BTreeMap<String, String>, ToolError> {
    let pairs = properties::read_map(file).map_err(|error| ToolError::told(error.to_string()))?;
    check(pairs)
}

/// Reads `k1=v1,k2=[v1,v2],k3=v3`.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, String>, ToolError> {
    let mut parts = split(text, ',');
    // As Java's `split` has it: what is empty at the end does not count.
    while parts.len() > 1 && parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
    }
    let pair = |part: &str| match split(part, '=')[..] {
        [key, value] => Ok((
            key.trim().to_owned(),
            value.replace(['[', ']'], "").trim().to_owned(),
        )),
        _ => Err(ToolError::told(
            "requirement failed: Invalid entity config: all configs to be added must be in the format \"key=val\".",
        )),
    };
    check(parts.into_iter().map(pair).collect::<Result<_, _>>()?)
}

/// Splits a text where it is not in square brackets.
fn split(text: &str, at: char) -> Vec<&str> {
    let mut inside = false;
    text.split(|found| {
        inside = match found {
            '[' => true,
            ']' => false,
            _ => inside,
        };
        found == at && !inside
    })
    .collect()
}

fn check(pairs: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, ToolError> {
    let is_good = |key: &str| {
        let mut bytes = key.bytes();
        bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    match pairs.keys().find(|key| !is_good(key)) {
        Some(key) => Err(ToolError::told(format!(
            "Invalid character found for config key: {key}"
        ))),
        None => Ok(pairs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_keep_commas_together() {
        let pairs = parse("a=1, b = [x,y=z] ,c=,").unwrap();
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        assert_eq!(pairs, ["a=1", "b=x,y=z", "c="]);
        for text in ["a", "a=1=2", "a=1,,b=2"] {
            assert!(
                parse(text)
                    .unwrap_err()
                    .to_string()
                    .starts_with("requirement failed: ")
            );
        }
        let error = parse("a b=1").unwrap_err().to_string();
        assert_eq!(error, "Invalid character found for config key: a b");
    }
}
