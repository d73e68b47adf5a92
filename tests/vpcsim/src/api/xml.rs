//! Writing XML: elements and escaped text, nothing else.

use std::fmt::{Display, Write};

/// The inside of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Xml {
    text: String,
}

impl Xml {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// `<name>value</name>`
    pub(super) fn leaf(&mut self, name: &str, value: impl Display) -> &mut Self {
        self.open(name);
        self.escape(&value.to_string());
        self.close(name)
    }

    /// The same if there is a value, nothing otherwise.
    pub(super) fn some(&mut self, name: &str, value: Option<impl Display>) -> &mut Self {
        match value {
            Some(value) => self.leaf(name, value),
            None => self,
        }
    }

    /// `<name>…</name>` with elements inside.
    pub(super) fn node(&mut self, name: &str, inside: impl FnOnce(&mut Self)) -> &mut Self {
        self.open(name);
        inside(self);
        self.close(name)
    }

    /// `<name><item>…</item>…</name>`
    pub(super) fn list<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        mut inside: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        self.open(name);
        for item in items {
            self.open("item");
            inside(self, item);
            self.close("item");
        }
        self.close(name)
    }

    /// `<return>true</return>`, which is all that many actions answer.
    pub(super) fn done() -> Self {
        let mut xml = Self::new();
        xml.leaf("return", true);
        xml
    }

    /// The whole document of a successful answer.
    pub(super) fn answer(&self, action: &str, request: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{action}Response \
             xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>{request}</requestId>{}</{action}Response>",
            self.text
        )
    }

    /// The whole document of a refusal.
    pub(super) fn refusal(code: &str, message: &str, request: &str) -> String {
        let mut xml = Self::new();
        xml.node("Response", |xml| {
            xml.node("Errors", |xml| {
                xml.node("Error", |xml| {
                    xml.leaf("Code", code).leaf("Message", message);
                });
            });
            xml.leaf("RequestID", request);
        });
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", xml.text)
    }

    fn open(&mut self, name: &str) {
        self.text.push('<');
        self.text.push_str(name);
        self.text.push('>');
    }

    fn close(&mut self, name: &str) -> &mut Self {
        self.text.push_str("</");
        self.text.push_str(name);
        self.text.push('>');
        self
    }

    fn escape(&mut self, value: &str) {
        for letter in value.chars() {
            match letter {
                '&' => self.text.push_str("&amp;"),
                '<' => self.text.push_str("&lt;"),
                '>' => self.text.push_str("&gt;"),
                '"' => self.text.push_str("&quot;"),
                '\t' | '\n' | '\r' => {
                    // A parser would turn a bare carriage return into a line feed.
                    self.text.write_fmt(format_args!("&#{};", u32::from(letter))).unwrap_or_default();
                }
                // XML 1.0 has no way to write other control characters.
                control if control.is_control() => self.text.push('\u{fffd}'),
                other => self.text.push(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_nested() {
        let mut xml = Xml::new();
        xml.node("a", |xml| {
            xml.leaf("b", "x<y>&\"z\"\r\u{1}").list("c", [1, 2], |xml, n| {
                xml.leaf("n", n);
            });
        });
        assert_eq!(
            xml.text,
            "<a><b>x&lt;y&gt;&amp;&quot;z&quot;&#13;\u{fffd}</b>\
             <c><item><n>1</n></item><item><n>2</n></item></c></a>"
        );
    }
}
