//! The pool's words and its whole state as text and back, so that what happened to a pool can be kept and played again.
//!
//! Every type is written field by field and variant by variant through [`fields!`](crate::text) and `variants!`, which
//! take types apart completely: a field or variant that is added and not listed does not compile. Reading is total: any
//! text gives a value or an [`Unreadable`] that says where and what was expected. A value that is read back is equal to
//! the one that was written.
//!
//! The form: `{name:value …}` for structures, `Name`, `Name(…)`, `Name{…}` for variants, `[…]` for lists and sets,
//! `(…)` for pairs, `-` for nothing, quoted text, bare numbers and addresses; spaces between. What is derived from
//! something else (indexes, counts) is written too: state that comes back must be the same byte for byte, not only
//! in meaning. This module must not decide anything, and nothing in the pool may depend on it.

mod leaves;
mod reader;

pub use reader::{Reader, Unreadable};

/// Something that can be written as text and read back.
pub trait Text: Sized {
    /// Appends it.
    fn write(&self, out: &mut String);

    /// Takes it from the front of what is left.
    ///
    /// # Errors
    /// The text is not one of these.
    fn read(from: &mut Reader<'_>) -> Result<Self, Unreadable>;
}

/// One value as text.
#[must_use]
pub fn write<T: Text>(value: &T) -> String {
    let mut out = String::new();
    value.write(&mut out);
    out
}

/// A whole text as one value.
///
/// # Errors
/// It is not one, or more follows.
pub fn read<T: Text>(text: &str) -> Result<T, Unreadable> {
    let mut from = Reader::new(text);
    let value = T::read(&mut from)?;
    from.end()?;
    Ok(value)
}

/// Separates from what came before, unless it opened something.
pub(crate) fn space(out: &mut String) {
    if !out.ends_with(['{', '[', '(']) {
        out.push(' ');
    }
}

/// Writes `name:value`.
pub(crate) fn write_field<T: Text>(out: &mut String, name: &str, value: &T) {
    space(out);
    out.push_str(name);
    out.push(':');
    value.write(out);
}

/// Writes one item of a list or pair.
pub(crate) fn write_item<T: Text>(out: &mut String, value: &T) {
    space(out);
    value.write(out);
}

/// A structure, by its complete list of fields.
macro_rules! fields {
    ($name:ident { $($(#[$when:meta])* $field:ident),+ $(,)? }) => {
        impl $crate::text::Text for $name {
            fn write(&self, out: &mut String) {
                let Self { $($(#[$when])* $field),+ } = self;
                out.push('{');
                $($(#[$when])* $crate::text::write_field(out, stringify!($field), $field);)+
                out.push('}');
            }

            fn read(from: &mut $crate::text::Reader<'_>) -> Result<Self, $crate::text::Unreadable> {
                from.expect("{")?;
                $($(#[$when])* let $field = from.field(stringify!($field))?;)+
                from.expect("}")?;
                Ok(Self { $($(#[$when])* $field),+ })
            }
        }
    };
}
pub(crate) use fields;

/// A structure of one unnamed field: written as that field alone.
macro_rules! wraps {
    ($($name:ident),+ $(,)?) => {$(
        impl $crate::text::Text for $name {
            fn write(&self, out: &mut String) {
                let Self(inner) = self;
                $crate::text::Text::write(inner, out);
            }

            fn read(from: &mut $crate::text::Reader<'_>) -> Result<Self, $crate::text::Unreadable> {
                Ok(Self($crate::text::Text::read(from)?))
            }
        }
    )+};
}
pub(crate) use wraps;

/// An enumeration of bare names, by its complete list of variants; gives it `ALL` of them.
macro_rules! names {
    ($name:ident { $($variant:ident),+ $(,)? }) => {
        impl $name {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),+];
        }

        $crate::text::variants!($name { $($variant),+ });
    };
}
pub(crate) use names;

/// An enumeration, by its complete list of variants.
macro_rules! variants {
    ($name:ident { $($variant:ident $(( $($item:ident),+ ))? $({ $($field:ident),+ $(,)? })? ),+ $(,)? }) => {
        impl $crate::text::Text for $name {
            fn write(&self, out: &mut String) {
                match self {
                    $(Self::$variant $(( $($item),+ ))? $({ $($field),+ })? => {
                        out.push_str(stringify!($variant));
                        $(
                            out.push('(');
                            $($crate::text::write_item(out, $item);)+
                            out.push(')');
                        )?
                        $(
                            out.push('{');
                            $($crate::text::write_field(out, stringify!($field), $field);)+
                            out.push('}');
                        )?
                    })+
                }
            }

            fn read(from: &mut $crate::text::Reader<'_>) -> Result<Self, $crate::text::Unreadable> {
                let start = from.clone();
                let name = from.name();
                $(if name == stringify!($variant) {
                    $(
                        from.expect("(")?;
                        $(let $item = $crate::text::Text::read(from)?;)+
                        from.expect(")")?;
                    )?
                    $(
                        from.expect("{")?;
                        $(let $field = from.field(stringify!($field))?;)+
                        from.expect("}")?;
                    )?
                    return Ok(Self::$variant $(( $($item),+ ))? $({ $($field),+ })?);
                })+
                Err(start.wanted(concat!("a variant of ", stringify!($name))))
            }
        }
    };
}
pub(crate) use variants;

#[cfg(test)]
mod tests;
