//! Rust source with comments and texts blanked out, so that a ban is about code alone.

/// The same lines; comments and the insides of texts and characters are spaces.
#[must_use]
pub fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = skipped(bytes, at);
        if end > at {
            out.extend(bytes[at..end].iter().map(|&byte| if byte == b'\n' { b'\n' } else { b' ' }));
            at = end;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Where the comment, text or character that begins here ends; `at` itself when none does.
fn skipped(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return block_comment(bytes, at);
    }
    let continues_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if !continues_word && let Some(end) = raw_text(bytes, at) {
        return end;
    }
    match bytes[at] {
        b'"' => quoted(bytes, at, b'"'),
        b'\'' => character(bytes, at),
        _ => at,
    }
}

fn block_comment(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0usize;
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

/// `r"…"`, `r#"…"#`, `br"…"` and their like.
fn raw_text(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let rest =
        rest.strip_prefix(b"b").or_else(|| rest.strip_prefix(b"c")).unwrap_or(rest).strip_prefix(b"r")?;
    let hashes = rest.iter().take_while(|&&byte| byte == b'#').count();
    let body = rest[hashes..].strip_prefix(b"\"")?;
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let end = body.windows(close.len()).position(|window| window == close).map(|found| found + close.len());
    Some(bytes.len() - body.len() + end.unwrap_or(body.len()))
}

fn quoted(bytes: &[u8], at: usize, quote: u8) -> usize {
    let mut at = at + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// A character ends within a few bytes; a lifetime does not end at all.
fn character(bytes: &[u8], at: usize) -> usize {
    match &bytes[at + 1..] {
        [b'\\', ..] => quoted(bytes, at, b'\''),
        rest => {
            let width = match rest.first() {
                Some(byte) if *byte < 0x80 => 1,
                Some(byte) if *byte < 0xe0 => 2,
                Some(byte) if *byte < 0xf0 => 3,
                Some(_) => 4,
                None => return at,
            };
            if rest.get(width) == Some(&b'\'') { at + 2 + width } else { at }
        }
    }
}

/// Lines of product code of a file, numbered from 1: blanked, and only up to an inline `#[cfg(test)] mod`.
pub fn product_lines(blanked: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines: Vec<&str> = blanked.lines().collect();
    let end = lines
        .windows(2)
        .position(|pair| {
            pair[0].trim() == "#[cfg(test)]"
                && pair[1].trim_start().starts_with("mod ")
                && pair[1].ends_with('{')
        })
        .unwrap_or(lines.len());
    lines.into_iter().take(end).enumerate().map(|(index, line)| (index + 1, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_texts_vanish_and_code_stays() {
        for (source, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("x\"y", 'z')"#, "f(      ,    )"),
            ("f(b'\\'', '\u{fc}')", "f(b    ,     )"),
            ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
            ("r#\"a\"b\"# c", "         c"),
            ("br\"\\\" c", "      c"),
            ("bar\"x\"", "bar   "),
            ("\"unended", "        "),
            ("'", "'"),
        ] {
            assert_eq!(code_only(source), code, "{source}");
        }
    }

    #[test]
    fn product_ends_where_inline_tests_begin() {
        let text = "a\n#[cfg(test)]\nmod tests;\nb\n#[cfg(test)]\nmod tests {\nc\n}";
        let lines: Vec<&str> = product_lines(text).map(|(_, line)| line).collect();
        assert_eq!(lines, ["a", "#[cfg(test)]", "mod tests;", "b"]);
    }
}
