//! Kafka's include lists: which topics a pattern names.

use regex::Regex;

/// Makes an include list a pattern: commas separate alternatives, quotes around the whole do not count. Fails with the text
/// of Kafka's tools.
pub(crate) fn pattern(text: &str) -> Result<Regex, String> {
    let alternatives = text.trim().replace(',', "|").replace(' ', "");
    let alternatives = alternatives.trim_matches(['"', '\'']);
    Regex::new(&format!("^(?:{alternatives})$"))
        .map_err(|_| format!("{alternatives} is an invalid regex."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_a_pattern_for_the_whole_name() {
        let matches = |list: &str, name: &str| pattern(list).unwrap().is_match(name);
        assert!(matches("plain", "plain"));
        assert!(!matches("plain", "plainer"));
        assert!(matches("pl.*", "plainer"));
        assert!(matches("'a, b'", "b"));
        assert!(!matches("a|b", "ab"));
        assert_eq!(pattern("a(").unwrap_err(), "a( is an invalid regex.");
    }
}
