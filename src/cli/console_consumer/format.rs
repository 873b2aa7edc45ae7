//! How a record is printed: Kafka's `DefaultMessageFormatter`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use rdkafka::Timestamp;
use rdkafka::message::{Headers, Message};

/// What is printed of a record, and between what.
#[derive(Debug)]
pub(super) struct RecordFormat {
    timestamp: bool,
    partition: bool,
    offset: bool,
    headers: bool,
    key: bool,
    value: bool,
    key_separator: Vec<u8>,
    line_separator: Vec<u8>,
    headers_separator: Vec<u8>,
    null_literal: Vec<u8>,
}

impl RecordFormat {
    /// Reads the properties of the formatter; others are left to what a formatter of one's own would make of them.
    pub(super) fn from_properties(properties: &BTreeMap<String, String>) -> Self {
        let is_set = |name, default| {
            properties.get(name).map_or(default, |value: &String| {
                value.trim().eq_ignore_ascii_case("true")
            })
        };
        let text = |name, default: &str| {
            properties
                .get(name)
                .map_or(default, String::as_str)
                .as_bytes()
                .to_vec()
        };
        Self {
            timestamp: is_set("print.timestamp", false),
            partition: is_set("print.partition", false),
            offset: is_set("print.offset", false),
            headers: is_set("print.headers", false),
            key: is_set("print.key", false),
            value: is_set("print.value", true),
            key_separator: text("key.separator", "\t"),
            line_separator: text("line.separator", "\n"),
            headers_separator: text("headers.separator", ","),
            null_literal: text("null.literal", "null"),
        }
    }

    /// Writes a record: timestamp, partition, offset, headers, key and value.
    pub(super) fn write(&self, record: &impl Message, out: &mut impl Write) -> io::Result<()> {
        let mut fields = Fields {
            format: self,
            out,
            first: true,
        };
        if self.timestamp {
            let out = fields.next()?;
            match record.timestamp() {
                Timestamp::CreateTime(ms) => write!(out, "CreateTime:{ms}")?,
                Timestamp::LogAppendTime(ms) => write!(out, "LogAppendTime:{ms}")?,
                Timestamp::NotAvailable => out.write_all(b"NO_TIMESTAMP")?,
            }
        }
        if self.partition {
            write!(fields.next()?, "Partition:{}", record.partition())?;
        }
        if self.offset {
            write!(fields.next()?, "Offset:{}", record.offset())?;
        }
        if self.headers {
            let out = fields.next()?;
            self.write_headers(record, out)?;
        }
        if self.key {
            fields
                .next()?
                .write_all(record.key().unwrap_or(&self.null_literal))?;
        }
        if self.value {
            fields
                .next()?
                .write_all(record.payload().unwrap_or(&self.null_literal))?;
        }
        fields.end()
    }

    fn write_headers(&self, record: &impl Message, out: &mut impl Write) -> io::Result<()> {
        let Some(headers) = record.headers().filter(|headers| headers.count() > 0) else {
            return out.write_all(b"NO_HEADERS");
        };
        for (index, header) in headers.iter().enumerate() {
            if index > 0 {
                out.write_all(&self.headers_separator)?;
            }
            out.write_all(header.key.as_bytes())?;
            out.write_all(b":")?;
            out.write_all(header.value.unwrap_or(&self.null_literal))?;
        }
        Ok(())
    }
}

/// Writes separators between fields.
struct Fields<'a, W> {
    format: &'a RecordFormat,
    out: &'a mut W,
    first: bool,
}

impl<W: Write> Fields<'_, W> {
    fn next(&mut self) -> io::Result<&mut W> {
        if !self.first {
            self.out.write_all(&self.format.key_separator)?;
        }
        self.first = false;
        Ok(self.out)
    }

    /// Nothing at all is written where nothing is to be printed.
    fn end(self) -> io::Result<()> {
        if self.first {
            Ok(())
        } else {
            self.out.write_all(&self.format.line_separator)
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};

    use super::*;

    fn printed(properties: &[(&str, &str)], record: &OwnedMessage) -> String {
        let pairs = properties
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let mut out = Vec::new();
        RecordFormat::from_properties(&pairs.collect())
            .write(record, &mut out)
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    fn record(
        key: Option<&str>,
        value: Option<&str>,
        headers: Option<OwnedHeaders>,
    ) -> OwnedMessage {
        let bytes = |text: &str| text.as_bytes().to_vec();
        OwnedMessage::new(
            value.map(bytes),
            key.map(bytes),
            "t".into(),
            Timestamp::CreateTime(5),
            3,
            9,
            headers,
        )
    }

    const EVERYTHING: [(&str, &str); 5] = [
        ("print.timestamp", "true"),
        ("print.partition", "true"),
        ("print.offset", "true"),
        ("print.headers", "true"),
        ("print.key", "true"),
    ];

    #[test]
    fn a_value_is_a_line() {
        assert_eq!(printed(&[], &record(Some("k"), Some("v"), None)), "v\n");
        assert_eq!(printed(&[], &record(None, None, None)), "null\n");
    }

    #[test]
    fn everything_comes_in_the_order_of_kafka() {
        let headers = OwnedHeaders::new()
            .insert(Header {
                key: "a",
                value: Some("1"),
            })
            .insert(Header::<&str> {
                key: "b",
                value: None,
            });
        let record = record(Some("k"), Some("v"), Some(headers));
        assert_eq!(
            printed(&EVERYTHING, &record),
            "CreateTime:5\tPartition:3\tOffset:9\ta:1,b:null\tk\tv\n"
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        assert_eq!(
            printed(&EVERYTHING, &record(None, Some(""), None)),
            "CreateTime:5\tPartition:3\tOffset:9\tNO_HEADERS\tnull\t\n"
        );
    }

    #[test]
    fn separators_can_be_chosen() {
        let properties = [
            ("print.key", "true"),
            ("key.separator", "-"),
            ("line.separator", ";"),
            ("null.literal", "~"),
        ];
        assert_eq!(printed(&properties, &record(None, Some("v"), None)), "~-v;");
        assert_eq!(
            printed(&[("print.value", "false")], &record(None, Some("v"), None)),
            ""
        );
    }
}
