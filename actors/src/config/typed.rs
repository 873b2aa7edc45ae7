//! From checked text to typed fields.

use std::path::PathBuf;

use super::key::list;

/// A type that a configuration value can be read as.
pub(crate) trait FromText: Default {
    /// Reads a value; nothing when it does not fit.
    fn from_text(text: &str) -> Option<Self>;
}

macro_rules! parsed {
    ($($type:ty),*) => {
        $(impl FromText for $type {
            fn from_text(text: &str) -> Option<Self> {
                text.trim().parse().ok()
            }
        })*
    };
}
parsed!(i16, i32, i64, u16, u32, u64, usize, f64);

impl FromText for bool {
    fn from_text(text: &str) -> Option<Self> {
        text.trim().to_ascii_lowercase().parse().ok()
    }
}

impl FromText for String {
    fn from_text(text: &str) -> Option<Self> {
        Some(text.trim().to_owned())
    }
}

impl FromText for PathBuf {
    fn from_text(text: &str) -> Option<Self> {
        Some(text.trim().into())
    }
}

impl FromText for Vec<String> {
    fn from_text(text: &str) -> Option<Self> {
        Some(list(text).map(str::to_owned).collect())
    }
}

/// A key without default reads as nothing.
impl<T: FromText> FromText for Option<T> {
    fn from_text(text: &str) -> Option<Self> {
        T::from_text(text).map(Some)
    }
}

/// Declares a struct whose fields are keys of the table, and how to read it from a source of text, which answers
/// `read::<T>(&self, name) -> T`. Fields that are more than one key come through a second struct, after `and`.
macro_rules! typed {
    (
        $(#[$meta:meta])* pub struct $name:ident reads $source:ty {
            $($field:ident: $type:ty = $key:literal,)*
        } and $rest:ident {
            $($(#[$other_meta:meta])* $other:ident: $other_type:ty,)*
        }
    ) => {
        $(#[$meta])*
        pub struct $name {
            $(#[doc = concat!("The value of `", $key, "`.")] pub $field: $type,)*
            $($(#[$other_meta])* pub $other: $other_type,)*
        }

        struct $rest {
            $($other: $other_type,)*
        }

        impl $name {
            fn assemble(source: &$source, rest: $rest) -> Self {
                Self { $($field: source.read($key),)* $($other: rest.$other,)* }
            }

            /// Lists the keys that have a field, for the test that all defaults fit their types.
            #[cfg(test)]
            fn misfits(source: &$source) -> Vec<&'static str> {
                let mut misfits = Vec::new();
                $(if source.try_read::<$type>($key).is_none() {
                    misfits.push($key);
                })*
                misfits
            }
        }
    };
}
pub(super) use typed;
