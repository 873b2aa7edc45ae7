//! From a line to a record: `[headers<delimiter>][key<separator>]value`.

use std::collections::BTreeMap;

/// How lines are read: the properties of Kafka's `LineMessageReader`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LineFormat {
    parse_key: bool,
    key_separator: Vec<u8>,
    parse_headers: bool,
    headers_delimiter: Vec<u8>,
    headers_separator: Vec<u8>,
    headers_key_separator: Vec<u8>,
    ignore_error: bool,
    null_marker: Option<Vec<u8>>,
}

impl Default for LineFormat {
    fn default() -> Self {
        Self {
            parse_key: false,
            key_separator: b"\t".to_vec(),
            parse_headers: false,
            headers_delimiter: b"\t".to_vec(),
            headers_separator: b",".to_vec(),
            headers_key_separator: b":".to_vec(),
            ignore_error: false,
            null_marker: None,
        }
    }
}

/// Keys and values of headers.
pub(super) type LineHeaders<'a> = Vec<(String, Option<&'a [u8]>)>;

/// A record; its parts lie in the line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LineRecord<'a> {
    pub(super) headers: LineHeaders<'a>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
}

impl LineFormat {
    /// Reads the properties; the error is Kafka's.
    pub(super) fn from_properties(properties: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut format = Self::default();
        let is_true = |value: &str| value.trim().eq_ignore_ascii_case("true");
        for (name, value) in properties {
            let bytes = || value.as_bytes().to_vec();
            match name.as_str() {
                "parse.key" => format.parse_key = is_true(value),
                "key.separator" => format.key_separator = bytes(),
                "parse.headers" => format.parse_headers = is_true(value),
                "headers.delimiter" => format.headers_delimiter = bytes(),
                "headers.separator" => format.headers_separator = bytes(),
                "headers.key.separator" => format.headers_key_separator = bytes(),
                "ignore.error" => format.ignore_error = is_true(value),
                "null.marker" => format.null_marker = Some(bytes()),
                // Kafka hands the others to the reader's class, which may know them.
                _ => {}
            }
        }
        let parts = [
            (
                &format.headers_delimiter,
                &format.headers_separator,
                "headers.delimiter and headers.separator",
            ),
            (
                &format.headers_delimiter,
                &format.headers_key_separator,
                "headers.delimiter and headers.key.separator",
            ),
            (
                &format.headers_separator,
                &format.headers_key_separator,
                "headers.separator and headers.key.separator",
            ),
        ];
        let equal = parts
            .into_iter()
            .find(|(one, other, _)| format.parse_headers && one == other)
            .map(|(_, _, names)| names);
        match equal {
            Some(names) => Err(format!("{names} may not be equal")),
            None => Ok(format),
        }
    }

    /// Reads a line, without its end, as a record. `number` counts lines from 1, for the error.
    pub(super) fn parse<'a>(&self, line: &'a [u8], number: u64) -> Result<LineRecord<'a>, String> {
        let mut record = LineRecord::default();
        let mut rest = line;
        if self.parse_headers {
            let (headers, after) = self.cut(
                rest,
                &self.headers_delimiter,
                "headers delimiter",
                line,
                number,
            )?;
            if let Some(headers) = headers {
                record.headers = self.headers(headers, line, number)?;
            }
            rest = after;
        }
        if self.parse_key {
            let (key, after) =
                self.cut(rest, &self.key_separator, "key separator", line, number)?;
            record.key = key.and_then(|key| self.unless_null(key));
            rest = after;
        }
        record.value = self.unless_null(rest);
        Ok(record)
    }

    /// Cuts at the first separator. Without one it is an error, or nothing is cut where errors are ignored.
    fn cut<'a>(
        &self,
        text: &'a [u8],
        separator: &[u8],
        what: &str,
        line: &[u8],
        number: u64,
    ) -> Result<(Option<&'a [u8]>, &'a [u8]), String> {
        match split_once(text, separator) {
            Some((before, after)) if self.unless_null(before).is_none() => Ok((None, after)),
            Some((before, after)) => Ok((Some(before), after)),
            None if self.ignore_error => Ok((None, text)),
            None => Err(format!(
                "No {what} found on line number {number}: '{}'",
                String::from_utf8_lossy(line)
            )),
        }
    }

    fn headers<'a>(
        &self,
        text: &'a [u8],
        line: &[u8],
        number: u64,
    ) -> Result<LineHeaders<'a>, String> {
        let mut headers = Vec::new();
        let mut rest = Some(text);
        while let Some(text) = rest {
            let (header, after) = split_once(text, &self.headers_separator)
                .map_or((text, None), |(header, after)| (header, Some(after)));
            rest = after;
            let (key, value) = self.cut(
                header,
                &self.headers_key_separator,
                "header key separator",
                line,
                number,
            )?;
            match key {
                Some(key) => headers.push((
                    String::from_utf8_lossy(key).into_owned(),
                    self.unless_null(value),
                )),
                None if self.ignore_error => {
                    headers.push((String::from_utf8_lossy(value).into_owned(), None))
                }
                None => {
                    let marker =
                        String::from_utf8_lossy(self.null_marker.as_deref().unwrap_or_default());
                    let message =
                        format!("Header keys should not be equal to the null marker '{marker}'");
                    return Err(format!("{message} as they can't be null"));
                }
            }
        }
        Ok(headers)
    }

    fn unless_null<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        Some(text).filter(|text| self.null_marker.as_deref() != Some(*text))
    }
}

/// Splits at the first occurrence of a separator. An empty separator stands before everything.
fn split_once<'a>(text: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = match separator {
        [] => 0,
        [byte] => text.iter().position(|other| other == byte)?,
        _ => text
            .windows(separator.len())
            .position(|window| window == separator)?,
    };
    let (before, after) = text.split_at_checked(at)?;
    Some((before, after.strip_prefix(separator)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(properties: &[(&str, &str)]) -> LineFormat {
        let pairs = properties
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()));
        LineFormat::from_properties(&pairs.collect()).unwrap()
    }

    #[test]
    fn a_line_is_a_value() {
        let record = format(&[]);
        assert_eq!(
            record.parse(b"k\tv", 1).unwrap(),
            LineRecord {
                value: Some(b"k\tv"),
                ..LineRecord::default()
            }
        );
        assert_eq!(record.parse(b"", 1).unwrap().value, Some(&b""[..]));
    }

    #[test]
    fn a_key_goes_before_the_separator() {
        let record = format(&[("parse.key", "true"), ("key.separator", "::")]);
        let record = record.parse(b"a:b::c::d", 1).unwrap();
        assert_eq!(
            (record.key, record.value),
            (Some(&b"a:b"[..]), Some(&b"c::d"[..]))
        );
    }

    #[test]
    fn a_line_without_separator_is_an_error_or_a_value() {
        let strict = format(&[("parse.key", "true")]);
        assert_eq!(
            strict.parse(b"lonely", 7).unwrap_err(),
            "No key separator found on line number 7: 'lonely'"
        );
        let lenient = format(&[("parse.key", "true"), ("ignore.error", "true")]);
        let record = lenient.parse(b"lonely", 7).unwrap();
        assert_eq!((record.key, record.value), (None, Some(&b"lonely"[..])));
    }

    #[test]
    fn headers_go_first() {
        let format = format(&[
            ("parse.headers", "true"),
            ("parse.key", "true"),
            ("null.marker", "NULL"),
        ]);
        let record = format.parse(b"a:1,b:NULL,c:\tNULL\tvalue", 1).unwrap();
        let headers = [("a", Some(&b"1"[..])), ("b", None), ("c", Some(&b""[..]))];
        let expected: Vec<_> = headers
            .iter()
            .map(|&(key, value)| (key.to_owned(), value))
            .collect();
        assert_eq!(
            (record.headers, record.key, record.value),
            (expected, None, Some(&b"value"[..]))
        );
        assert_eq!(
            format.parse(b"x", 2).unwrap_err(),
            "No headers delimiter found on line number 2: 'x'"
        );
        assert_eq!(
            format.parse(b"a\tk\tv", 3).unwrap_err(),
            "No header key separator found on line number 3: 'a\tk\tv'"
        );
    }

    #[test]
    fn the_null_marker_makes_a_tombstone() {
        let format = format(&[("parse.key", "true"), ("null.marker", "NULL")]);
        let record = format.parse(b"k\tNULL", 1).unwrap();
        assert_eq!((record.key, record.value), (Some(&b"k"[..]), None));
    }

    #[test]
    fn separators_differ() {
        let pairs = BTreeMap::from([
            ("parse.headers".to_owned(), "true".to_owned()),
            ("headers.separator".to_owned(), ":".to_owned()),
        ]);
        let error = LineFormat::from_properties(&pairs).unwrap_err();
        assert_eq!(
            error,
            "headers.separator and headers.key.separator may not be equal"
        );
    }
}
