//! As much of HPACK as a gRPC client needs: writing a request's headers plainly, and finding two trailers in a response.
//!
//! The server is told to keep no dynamic table (HTTP/2 setting 1 is 0), so header blocks stand for themselves.
//! *Source*: RFC 7541. Pure.

/// What a header block says of a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Trailers {
    /// grpc-status.
    pub(super) status: Option<u32>,
    /// grpc-message, decoded.
    pub(super) message: String,
}

/// Index of `:method: POST` in the static table (RFC 7541, appendix A).
const METHOD_POST: u8 = 0x80 | 3;
/// Index of `:scheme: http`.
const SCHEME_HTTP: u8 = 0x80 | 6;
/// A header whose name is number 1 of the static table, `:authority`, not to be indexed.
const AUTHORITY: [u8; 1] = [1];
/// The same for number 4, `:path`.
const PATH: [u8; 1] = [4];
/// The same for number 31, `content-type`: 15 and 16 more.
const CONTENT_TYPE: [u8; 2] = [0x0f, 16];
/// A header with a new name, not to be indexed.
const NEW_NAME: u8 = 0;

/// The header block of a gRPC request.
pub(super) fn request(path: &str) -> Vec<u8> {
    let mut block = vec![METHOD_POST, SCHEME_HTTP];
    for (name, value) in
        [(&AUTHORITY[..], "localhost"), (&PATH[..], path), (&CONTENT_TYPE[..], "application/grpc")]
    {
        block.extend_from_slice(name);
        text(&mut block, value);
    }
    block.push(NEW_NAME);
    text(&mut block, "te");
    text(&mut block, "trailers");
    block
}

/// Plain text with its length; all texts here are short.
fn text(block: &mut Vec<u8>, value: &str) {
    let length = u8::try_from(value.len()).ok().filter(|l| *l < 0x7f);
    block.push(length.expect("names and paths are a few dozen bytes"));
    block.extend_from_slice(value.as_bytes());
}

/// Reads what a header block says of the call. `None` where the block is malformed.
pub(super) fn trailers(mut block: &[u8]) -> Option<Trailers> {
    let mut found = Trailers::default();
    while let Some(first) = block.first() {
        let (prefix, has_value) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            // A new size for the dynamic table, which there is none of.
            0x20.. => (5, false),
            _ => (4, true),
        };
        let index = integer(&mut block, prefix)?;
        if !has_value {
            continue;
        }
        let name = if index == 0 { string(&mut block)? } else { Vec::new() };
        let value = string(&mut block)?;
        match name.as_slice() {
            b"grpc-status" => found.status = std::str::from_utf8(&value).ok()?.parse().ok(),
            b"grpc-message" => found.message = unescaped(&value),
            _ => {}
        }
    }
    Some(found)
}

/// *Source*: RFC 7541 §5.1.
fn integer(block: &mut &[u8], prefix: u32) -> Option<usize> {
    let (first, mut rest) = block.split_first()?;
    let mask = (1_u8 << prefix) - 1;
    let mut value = usize::from(first & mask);
    if first & mask == mask {
        for shift in [0, 7, 14, 21] {
            let (byte, after) = rest.split_first()?;
            rest = after;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *block = rest;
                return Some(value);
            }
        }
        return None;
    }
    *block = rest;
    Some(value)
}

/// *Source*: RFC 7541 §5.2.
fn string(block: &mut &[u8]) -> Option<Vec<u8>> {
    let huffman = block.first()? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (bytes, rest) = block.split_at_checked(length)?;
    *block = rest;
    if huffman { Some(decoded(bytes)) } else { Some(bytes.to_vec()) }
}

/// Huffman codes of the printable characters, space to tilde, as (code, bits). *Source*: RFC 7541, appendix B. gRPC's
/// headers hold no others.
const CODES: [(u32, u32); 95] = [
    (0x14, 6),
    (0x3f8, 10),
    (0x3f9, 10),
    (0xffa, 12),
    (0x1ff9, 13),
    (0x15, 6),
    (0xf8, 8),
    (0x7fa, 11),
    (0x3fa, 10),
    (0x3fb, 10),
    (0xf9, 8),
    (0x7fb, 11),
    (0xfa, 8),
    (0x16, 6),
    (0x17, 6),
    (0x18, 6),
    (0x0, 5),
    (0x1, 5),
    (0x2, 5),
    (0x19, 6),
    (0x1a, 6),
    (0x1b, 6),
    (0x1c, 6),
    (0x1d, 6),
    (0x1e, 6),
    (0x1f, 6),
    (0x5c, 7),
    (0xfb, 8),
    (0x7ffc, 15),
    (0x20, 6),
    (0xffb, 12),
    (0x3fc, 10),
    (0x1ffa, 13),
    (0x21, 6),
    (0x5d, 7),
    (0x5e, 7),
    (0x5f, 7),
    (0x60, 7),
    (0x61, 7),
    (0x62, 7),
    (0x63, 7),
    (0x64, 7),
    (0x65, 7),
    (0x66, 7),
    (0x67, 7),
    (0x68, 7),
    (0x69, 7),
    (0x6a, 7),
    (0x6b, 7),
    (0x6c, 7),
    (0x6d, 7),
    (0x6e, 7),
    (0x6f, 7),
    (0x70, 7),
    (0x71, 7),
    (0x72, 7),
    (0xfc, 8),
    (0x73, 7),
    (0xfd, 8),
    (0x1ffb, 13),
    (0x7fff0, 19),
    (0x1ffc, 13),
    (0x3ffc, 14),
    (0x22, 6),
    (0x7ffd, 15),
    (0x3, 5),
    (0x23, 6),
    (0x4, 5),
    (0x24, 6),
    (0x5, 5),
    (0x25, 6),
    (0x26, 6),
    (0x27, 6),
    (0x6, 5),
    (0x74, 7),
    (0x75, 7),
    (0x28, 6),
    (0x29, 6),
    (0x2a, 6),
    (0x7, 5),
    (0x2b, 6),
    (0x76, 7),
    (0x2c, 6),
    (0x8, 5),
    (0x9, 5),
    (0x2d, 6),
    (0x77, 7),
    (0x78, 7),
    (0x79, 7),
    (0x7a, 7),
    (0x7b, 7),
    (0x7ffe, 15),
    (0x7fc, 11),
    (0x3ffd, 14),
    (0x1ffd, 13),
];

/// Text of printable characters; anything else ends it.
fn decoded(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let (mut code, mut bits) = (0_u32, 0_u32);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |i| u32::from(byte >> i & 1))) {
        (code, bits) = (code << 1 | bit, bits + 1);
        if let Some(found) = CODES.iter().position(|known| *known == (code, bits)) {
            text.push(b' ' + u8::try_from(found).expect("95 characters"));
            (code, bits) = (0, 0);
        } else if bits == 30 {
            break;
        }
    }
    text
}

/// gRPC escapes messages as `%XX`. *Source*: gRPC over HTTP/2, "Status-Message".
fn unescaped(value: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let hex = after.get(..2).filter(|_| *first == b'%').and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 7541, C.4.1: `www.example.com`; C.6.1: `302`.
    #[test]
    fn huffman_as_in_the_standard() {
        let bytes = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decoded(&bytes), b"www.example.com");
        assert_eq!(decoded(&[0x64, 0x02]), b"302");
    }

    #[test]
    fn trailers_found_among_others() {
        let mut block = vec![0x88, 0x20];
        for (name, value) in [("x", "y"), ("grpc-status", "14"), ("grpc-message", "going%20away%2")] {
            block.push(0x40);
            text(&mut block, name);
            text(&mut block, value);
        }
        let found = trailers(&block).expect("well formed");
        assert_eq!(found, Trailers { status: Some(14), message: "going away%2".into() });
        assert_eq!(trailers(&block[..block.len() - 1]), None);
    }

    #[test]
    fn request_reads_back_as_headers_without_status() {
        assert_eq!(trailers(&request("/podwire.v1.Ipam/Allocate")), Some(Trailers::default()));
    }

    proptest! {
        #[test]
        fn any_block_is_survived(block in proptest::collection::vec(any::<u8>(), 0..200)) {
            let found = trailers(&block).unwrap_or_default();
            prop_assert!(found.message.len() <= 3 * 8 * block.len());
        }
    }
}
