//! One configuration key: its name, type, default, allowed values and documentation.

use super::InvalidConfig;

/// Kafka's configuration types; the numbers are those of DescribeConfigs (KIP-569).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Kind {
    /// `true` or `false`, in any case.
    Boolean = 1,
    /// Any text.
    String = 2,
    /// A 32-bit integer.
    Int = 3,
    /// A 16-bit integer.
    Short = 4,
    /// A 64-bit integer.
    Long = 5,
    /// A floating-point number.
    Double = 6,
    /// Texts separated by commas.
    List = 7,
    /// The name of a Java class; accepted and never loaded.
    Class = 8,
    /// A secret, never shown.
    Password = 9,
}

/// When a broker-level key can change (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Needs a restart.
    ReadOnly,
    /// Changes while running, for one broker.
    PerBroker,
    /// Changes while running, for one broker or for all.
    ClusterWide,
}

/// Whether a key does something in this version of Troupe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Obeyed.
    Used,
    /// Accepted for compatibility, and reported at start when it is set.
    Ignored,
}

/// What values a key allows beyond its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Check {
    /// Everything of the type.
    Any,
    /// A number of at least this.
    Min(i64),
    /// A number between these, both included.
    Between(i64, i64),
    /// A fraction between these, both included.
    Fraction(f64, f64),
    /// A number between these, or -1.
    LevelOrMinusOne(i64, i64),
    /// One of these words; for a list, each element is one of them.
    OneOf(&'static [&'static str]),
    /// One of these words, in any case.
    OneOfIgnoreCase(&'static [&'static str]),
    /// Not the empty string or list.
    NonEmpty,
    /// A Kafka release, such as `2.8` or `3.0-IV1`.
    Release,
    /// `*`, or a list of `partition:broker`.
    Throttled,
}

/// A key of the configuration table.
#[derive(Clone, Copy, Debug)]
pub struct ConfigKey {
    /// Kafka's name.
    pub name: &'static str,
    /// The type.
    pub kind: Kind,
    /// The default as text, or nothing.
    pub default: Option<&'static str>,
    /// The allowed values.
    pub check: Check,
    /// When it can change. Topic keys always can.
    pub update: Update,
    /// Whether it does something.
    pub effect: Effect,
    /// For a topic key: the broker keys that give its value when the topic does not, first the strongest.
    pub synonyms: &'static [Synonym],
    doc: &'static str,
}

/// A broker key behind a topic key, and the factor from its unit to that of the topic key.
pub type Synonym = (&'static str, i64);

impl ConfigKey {
    /// Makes a key; meant for the `keys!` table.
    #[expect(clippy::too_many_arguments, reason = "called by the table macro only")]
    pub(super) const fn new(
        name: &'static str,
        kind: Kind,
        default: Option<&'static str>,
        check: Check,
        update: Update,
        effect: Effect,
        synonyms: &'static [Synonym],
        doc: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            default,
            check,
            update,
            effect,
            synonyms,
            doc,
        }
    }

    /// Returns what the key does, in a sentence or two.
    pub fn documentation(&self) -> &'static str {
        self.doc.trim()
    }

    /// Returns whether the value is a secret.
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    /// Checks a value against the type and the allowed values.
    ///
    /// The error reads as Kafka's own: tools show it to their user.
    pub fn validate(&self, value: &str) -> Result<(), InvalidConfig> {
        let value = if self.kind == Kind::Password {
            value
        } else {
            value.trim()
        };
        let (value, violation) = match self.kind {
            // Kafka names the element at fault.
            Kind::List => list(value)
                .find_map(|element| Some((element, self.word_violation(element)?)))
                .map_or(
                    (value, self.empty_violation(value)),
                    |(element, violation)| (element, Some(violation)),
                ),
            _ => (value, self.violation(value)),
        };
        let shown = if self.is_sensitive() {
            "[hidden]"
        } else {
            value
        };
        violation.map_or(Ok(()), |expected| {
            Err(InvalidConfig::value(self.name, shown, expected))
        })
    }

    fn violation(&self, value: &str) -> Option<String> {
        let number = match self.kind {
            Kind::Boolean => {
                let known =
                    value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false");
                return (!known).then(|| "Expected value to be either true or false".to_owned());
            }
            Kind::Int => value.parse::<i32>().map(i64::from).ok(),
            Kind::Short => value.parse::<i16>().map(i64::from).ok(),
            Kind::Long => value.parse::<i64>().ok(),
            Kind::Double => return self.fraction_violation(value),
            Kind::List | Kind::String | Kind::Class | Kind::Password => {
                return self
                    .word_violation(value)
                    .or_else(|| self.empty_violation(value));
            }
        };
        match number {
            None => Some(format!("Not a number of type {}", self.kind.name())),
            Some(number) => self.range_violation(number),
        }
    }

    fn fraction_violation(&self, value: &str) -> Option<String> {
        let Some(number) = value
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite())
        else {
            return Some("Not a number of type DOUBLE".to_owned());
        };
        match self.check {
            Check::Fraction(min, _) if number < min => {
                Some(format!("Value must be at least {min}"))
            }
            Check::Fraction(_, max) if number > max => {
                Some(format!("Value must be no more than {max}"))
            }
            _ => None,
        }
    }

    fn range_violation(&self, number: i64) -> Option<String> {
        match self.check {
            Check::Min(min) | Check::Between(min, _) if number < min => {
                Some(format!("Value must be at least {min}"))
            }
            Check::Between(_, max) if number > max => {
                Some(format!("Value must be no more than {max}"))
            }
            Check::LevelOrMinusOne(min, max) if number != -1 && !(min..=max).contains(&number) => {
                Some(format!(
                    "Value must be between {min} and {max} or equal to -1"
                ))
            }
            _ => None,
        }
    }

    fn word_violation(&self, word: &str) -> Option<String> {
        match self.check {
            Check::OneOf(words) if !words.contains(&word) => Some(format!("String must be one of: {}", words.join(", "))),
            Check::OneOfIgnoreCase(words) if !words.iter().any(|known| known.eq_ignore_ascii_case(word)) => {
                Some(format!("String must be one of (case insensitive): {}", words.join(", ")))
            }
            Check::Release if !is_release(word) => Some(format!("Version `{word}` is not a valid version")),
            Check::Throttled if word != "*" && !is_throttled_replica(word) => Some(
                "must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...".to_owned(),
            ),
            _ => None,
        }
    }

    fn empty_violation(&self, value: &str) -> Option<String> {
        (self.check == Check::NonEmpty && value.is_empty())
            .then(|| "String must be non-empty".to_owned())
    }
}

impl Kind {
    /// Returns Kafka's name of the type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Int => "INT",
            Self::Short => "SHORT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        }
    }

    /// Returns the number of the type in DescribeConfigs.
    pub fn code(self) -> i8 {
        self as i8
    }
}

/// Finds a key in a table that is sorted by name.
pub(super) fn find(keys: &'static [ConfigKey], name: &str) -> Option<&'static ConfigKey> {
    let index = keys.binary_search_by(|key| key.name.cmp(name)).ok()?;
    keys.get(index)
}

/// Splits a list value at commas; blanks around elements do not count, and an empty text is an empty list.
pub fn list(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(',')
        .map(str::trim)
        .filter(|element| !element.is_empty())
}

/// Returns whether a text names a Kafka release: `0.8.2`, `2.8`, `3.0-IV1`, `4.1`.
fn is_release(text: &str) -> bool {
    let (release, internal) = text
        .split_once('-')
        .map_or((text, None), |(release, internal)| {
            (release, Some(internal))
        });
    let number = |part: &str| {
        !part.is_empty() && part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    let parts = release.split('.').count();
    (2..=4).contains(&parts)
        && release.split('.').all(number)
        && internal.is_none_or(|internal| internal.strip_prefix("IV").is_some_and(number))
}

fn is_throttled_replica(text: &str) -> bool {
    text.split_once(':').is_some_and(|(partition, broker)| {
        partition.parse::<i32>().is_ok() && broker.parse::<i32>().is_ok()
    })
}

/// Writes a table of keys: a documentation comment, then
/// `"name" Kind = default, check, update, effect;`, and for topic keys `<- [(broker key, factor), ...]` before the semicolon.
macro_rules! keys {
    ($($(#[doc = $doc:literal])+ $name:literal $kind:ident = $default:tt, $check:expr, $update:ident, $effect:ident $(<- $synonyms:expr)?;)*) => {
        &[$($crate::config::key::ConfigKey::new(
            $name,
            $crate::config::key::Kind::$kind,
            $crate::config::key::keys!(@default $default),
            $check,
            $crate::config::key::Update::$update,
            $crate::config::key::Effect::$effect,
            $crate::config::key::keys!(@synonyms $($synonyms)?),
            concat!($($doc),+),
        )),*]
    };
    (@default null) => { None };
    (@default $default:literal) => { Some($default) };
    (@synonyms) => { &[] };
    (@synonyms $synonyms:expr) => { &$synonyms };
}
pub(super) use keys;
