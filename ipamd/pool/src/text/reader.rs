//! Reads text piece by piece, and says where it stops making sense.

use std::fmt;

use crate::text::Text;

/// Text that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Where. *Unit*: bytes from the start of the text.
    pub at: usize,
    /// What should stand there.
    pub wanted: &'static str,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: expected {}", self.at, self.wanted)
    }
}

impl std::error::Error for Unreadable {}

/// A text, and how far it has been read.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    text: &'a str,
    left: &'a str,
}

impl<'a> Reader<'a> {
    /// Starts at the beginning.
    #[must_use]
    pub const fn new(text: &'a str) -> Self {
        Self { text, left: text }
    }

    /// The complaint that something else should stand here.
    #[must_use]
    pub const fn wanted(&self, wanted: &'static str) -> Unreadable {
        Unreadable { at: self.text.len() - self.left.len(), wanted }
    }

    fn skip_spaces(&mut self) {
        self.left = self.left.trim_start_matches(' ');
    }

    /// Takes this mark when it comes next.
    pub(crate) fn takes(&mut self, mark: &str) -> bool {
        self.skip_spaces();
        match self.left.strip_prefix(mark) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// This mark comes next.
    pub(crate) fn expect(&mut self, mark: &'static str) -> Result<(), Unreadable> {
        if self.takes(mark) { Ok(()) } else { Err(self.wanted(mark)) }
    }

    /// `name:value` comes next.
    pub(crate) fn field<T: Text>(&mut self, name: &'static str) -> Result<T, Unreadable> {
        self.expect(name)?;
        self.expect(":")?;
        T::read(self)
    }

    /// The name of a variant; empty when none comes next.
    pub(crate) fn name(&mut self) -> &'a str {
        self.while_char(|c| c.is_ascii_alphanumeric())
    }

    /// A word without quotes: a number, an address, a MAC; empty when none comes next.
    pub(crate) fn bare(&mut self) -> &'a str {
        self.while_char(|c| !matches!(c, ' ' | '{' | '}' | '[' | ']' | '(' | ')' | '=' | '"'))
    }

    fn while_char(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        self.skip_spaces();
        let end = self.left.find(|c| !belongs(c)).unwrap_or(self.left.len());
        let (word, left) = self.left.split_at(end);
        self.left = left;
        word
    }

    /// The next character, spaces included.
    pub(crate) fn next_char(&mut self) -> Option<char> {
        let next = self.left.chars().next()?;
        self.left = &self.left[next.len_utf8()..];
        Some(next)
    }

    /// Items up to the closing mark.
    pub(crate) fn items<T: Text>(
        &mut self,
        open: &'static str,
        close: &'static str,
    ) -> Result<Vec<T>, Unreadable> {
        self.expect(open)?;
        let mut items = Vec::new();
        while !self.takes(close) {
            items.push(T::read(self)?);
        }
        Ok(items)
    }

    /// Nothing comes any more.
    ///
    /// # Errors
    /// Something does.
    pub fn end(mut self) -> Result<(), Unreadable> {
        self.skip_spaces();
        if self.left.is_empty() { Ok(()) } else { Err(self.wanted("the end")) }
    }
}
