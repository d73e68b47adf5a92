//! Text of what is not the pool's own: numbers, strings, addresses, collections.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::cause;
use crate::ids::Mac;
use crate::text::{Reader, Text, Unreadable, write_item};

macro_rules! bare {
    ($($type:ty, $wanted:literal);+ $(;)?) => {$(
        impl Text for $type {
            fn write(&self, out: &mut String) {
                // Writing to a String cannot fail.
                let _: Result<(), std::fmt::Error> = write!(out, "{self}");
            }

            fn read(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
                let start = from.clone();
                from.bare().parse().map_err(|_| start.wanted($wanted))
            }
        }
    )+};
}

bare! {
    bool, "true or false";
    IpAddr, "an IP address";
    IpNetwork, "a network";
    Mac, "a MAC address";
}

/// Decimal digits, without the detour over a formatter: numbers are most of what is written for each input.
fn write_number(mut number: u64, out: &mut String) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.push_str(std::str::from_utf8(&digits[at..]).unwrap_or("0"));
}

macro_rules! numbers {
    ($($type:ty),+) => {$(
        impl Text for $type {
            fn write(&self, out: &mut String) {
                write_number(u64::from(*self), out);
            }

            fn read(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
                let start = from.clone();
                let digits = from.bare();
                // A sign or leading zeros would give the same number another text.
                let plain = digits == "0" || digits.starts_with(|c: char| matches!(c, '1'..='9'));
                digits.parse().ok().filter(|_| plain).ok_or_else(|| start.wanted("a number"))
            }
        }
    )+};
}

numbers!(u32, u64);

impl Text for Duration {
    /// `seconds.nanoseconds`, as a pair.
    fn write(&self, out: &mut String) {
        (self.as_secs(), self.subsec_nanos()).write(out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        let start = from.clone();
        let (seconds, nanos) = <(u64, u32)>::read(from)?;
        if nanos >= 1_000_000_000 {
            return Err(start.wanted("less than a second of nanoseconds"));
        }
        Ok(Self::new(seconds, nanos))
    }
}

impl Text for Box<str> {
    fn write(&self, out: &mut String) {
        out.push('"');
        let mut plain = 0;
        for (at, c) in self.char_indices().filter(|(_, c)| matches!(c, '"' | '\\') || c.is_control()) {
            out.push_str(&self[plain..at]);
            plain = at + c.len_utf8();
            match c {
                '"' | '\\' => {
                    out.push('\\');
                    out.push(c);
                }
                other => {
                    let _: Result<(), std::fmt::Error> = write!(out, "\\u{:06x}", u32::from(other));
                }
            }
        }
        out.push_str(&self[plain..]);
        out.push('"');
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        from.expect("\"")?;
        let mut text = String::new();
        loop {
            let here = from.clone();
            match from.next_char() {
                Some('"') => return Ok(text.into()),
                Some('\\') => text.push(escaped(from)?),
                Some(c) if !c.is_control() => text.push(c),
                Some(_) | None => return Err(here.wanted("more text or a closing quote")),
            }
        }
    }
}

fn escaped(from: &mut Reader<'_>) -> Result<char, Unreadable> {
    let start = from.clone();
    let wanted = || start.wanted("one of \\\" \\\\ \\u000000");
    match from.next_char() {
        Some(c @ ('"' | '\\')) => Ok(c),
        Some('u') => {
            let mut code = 0u32;
            for _ in 0..6 {
                let digit = from.next_char().and_then(|c| c.to_digit(16)).ok_or_else(wanted)?;
                code = code * 16 + digit;
            }
            char::from_u32(code).filter(|c| c.is_control()).ok_or_else(wanted)
        }
        Some(_) | None => Err(wanted()),
    }
}

/// Words that causes name things by.
impl Text for &'static str {
    fn write(&self, out: &mut String) {
        Box::<str>::from(*self).write(out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        let start = from.clone();
        let text = Box::<str>::read(from)?;
        cause::word(&text).ok_or_else(|| start.wanted("a word that a cause uses"))
    }
}

impl<T: Text> Text for Option<T> {
    fn write(&self, out: &mut String) {
        match self {
            Some(value) => value.write(out),
            None => out.push('-'),
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        if from.takes("-") { Ok(None) } else { T::read(from).map(Some) }
    }
}

impl<T: Text> Text for Box<T> {
    fn write(&self, out: &mut String) {
        T::write(self, out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        T::read(from).map(Self::new)
    }
}

impl<T: Text> Text for Reverse<T> {
    fn write(&self, out: &mut String) {
        self.0.write(out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        T::read(from).map(Reverse)
    }
}

impl<T: Text, E: Text> Text for Result<T, E> {
    fn write(&self, out: &mut String) {
        match self {
            Ok(value) => {
                out.push_str("Ok(");
                value.write(out);
            }
            Err(error) => {
                out.push_str("Err(");
                error.write(out);
            }
        }
        out.push(')');
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        let start = from.clone();
        let outcome = if from.takes("Ok(") {
            Ok(T::read(from)?)
        } else if from.takes("Err(") {
            Err(E::read(from)?)
        } else {
            return Err(start.wanted("Ok or Err"));
        };
        from.expect(")")?;
        Ok(outcome)
    }
}

impl Text for () {
    fn write(&self, _: &mut String) {}

    fn read(_: &mut Reader<'_>) -> Result<Self, Unreadable> {
        Ok(())
    }
}

fn write_all<'a, T: Text + 'a>(items: impl IntoIterator<Item = &'a T>, out: &mut String) {
    out.push('[');
    for item in items {
        write_item(out, item);
    }
    out.push(']');
}

impl<T: Text> Text for Vec<T> {
    fn write(&self, out: &mut String) {
        write_all(self, out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        from.items("[", "]")
    }
}

impl<T: Text> Text for VecDeque<T> {
    fn write(&self, out: &mut String) {
        write_all(self, out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        Ok(from.items("[", "]")?.into())
    }
}

impl<T: Text + Ord> Text for BTreeSet<T> {
    fn write(&self, out: &mut String) {
        write_all(self, out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        let start = from.clone();
        let items: Vec<T> = from.items("[", "]")?;
        let ascending = items.is_sorted_by(|a, b| a < b);
        if ascending {
            Ok(items.into_iter().collect())
        } else {
            Err(start.wanted("a set in ascending order"))
        }
    }
}

impl<K: Text + Ord, V: Text> Text for BTreeMap<K, V> {
    fn write(&self, out: &mut String) {
        out.push('[');
        for (key, value) in self {
            write_item(out, key);
            out.push('=');
            value.write(out);
        }
        out.push(']');
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        from.expect("[")?;
        let mut map = Self::new();
        while !from.takes("]") {
            let start = from.clone();
            let key = K::read(from)?;
            from.expect("=")?;
            let value = V::read(from)?;
            if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(start.wanted("a map in ascending order of keys"));
            }
            map.insert(key, value);
        }
        Ok(map)
    }
}

macro_rules! tuples {
    ($(($($item:ident),+)),+) => {$(
        impl<$($item: Text),+> Text for ($($item,)+) {
            fn write(&self, out: &mut String) {
                #[allow(non_snake_case, reason = "the macro names values like their types")]
                let ($($item,)+) = self;
                out.push('(');
                $(write_item(out, $item);)+
                out.push(')');
            }

            fn read(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
                from.expect("(")?;
                let tuple = ($($item::read(from)?,)+);
                from.expect(")")?;
                Ok(tuple)
            }
        }
    )+};
}

tuples!((A, B), (A, B, C, D));
