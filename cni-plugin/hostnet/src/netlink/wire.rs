//! The netlink byte format: messages and nested attributes. *Source*: linux/netlink.h. Pure.

use super::uapi::{NLA_TYPE_MASK, NLM_F_REQUEST};

const HEADER_LEN: usize = 16;
const ATTR_HEADER_LEN: usize = 4;
const NLA_F_NESTED: u16 = 1 << 15;

/// A request under construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A request of this type; `NLM_F_REQUEST` is added to `flags`.
    pub(crate) fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        Self { bytes }
    }

    /// Adds raw bytes: the fixed header of the message's family.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// Adds an attribute.
    pub(crate) fn attr(mut self, kind: u16, payload: &[u8]) -> Self {
        self.push(kind, payload);
        self
    }

    /// Adds an attribute when there is one to add.
    pub(crate) fn maybe(self, kind: u16, payload: Option<&[u8]>) -> Self {
        match payload {
            Some(payload) => self.attr(kind, payload),
            None => self,
        }
    }

    /// Adds a host-order number.
    pub(crate) fn u32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Adds a network-order number, as nftables wants them.
    pub(crate) fn be32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Adds text with its closing NUL.
    pub(crate) fn text(mut self, kind: u16, text: &str) -> Self {
        let start = self.open(kind);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.close(start);
        self
    }

    /// Adds an attribute that holds attributes.
    pub(crate) fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.open(kind | NLA_F_NESTED);
        let mut filled = fill(self);
        filled.close(start);
        filled
    }

    /// Length so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The type of the request.
    pub(crate) fn kind(&self) -> u16 {
        u16::from_ne_bytes([self.bytes[4], self.bytes[5]])
    }

    /// The finished request.
    pub(crate) fn finish(mut self, sequence: u32, extra_flags: u16) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).expect("a request is far below 4 GiB");
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | extra_flags;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }

    fn push(&mut self, kind: u16, payload: &[u8]) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(payload);
        self.close(start);
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        let length = u16::try_from(self.bytes.len() - start).expect("builders keep attributes below 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// One received message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received<'a> {
    /// Message type.
    pub(crate) kind: u16,
    /// Header flags.
    pub(crate) flags: u16,
    /// Sequence number of the request it answers.
    pub(crate) sequence: u32,
    /// Of a notification: the port of the socket that asked for the change; 0 where the kernel does not say.
    pub(crate) port: u32,
    /// What follows the netlink header.
    pub(crate) payload: &'a [u8],
}

/// Walks the messages of one datagram; stops at the first malformed one.
pub(crate) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(datagram, 0)?).ok()?;
        if length < HEADER_LEN || length > datagram.len() {
            return None;
        }
        let (one, rest) = datagram.split_at(length);
        let padding = length.next_multiple_of(4) - length;
        datagram = rest.get(padding..).unwrap_or_default();
        Some(Received {
            kind: u16_at(one, 4)?,
            flags: u16_at(one, 6)?,
            sequence: u32_at(one, 8)?,
            port: u32_at(one, 12)?,
            payload: one.get(HEADER_LEN..)?,
        })
    })
}

/// One received attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attr<'a> {
    /// Type, without the nesting and byte-order flags.
    pub(crate) kind: u16,
    /// Content.
    pub(crate) payload: &'a [u8],
}

impl<'a> Attr<'a> {
    /// The attributes inside.
    pub(crate) fn nested(self) -> impl Iterator<Item = Self> {
        attrs(self.payload)
    }

    /// A host-order number.
    pub(crate) fn u32(self) -> Option<u32> {
        u32_at(self.payload, 0)
    }

    /// A network-order number.
    pub(crate) fn be32(self) -> Option<u32> {
        Some(u32::from_be_bytes(self.payload.get(..4)?.try_into().ok()?))
    }

    /// Text up to its NUL. Bytes that are not UTF-8 make it no text.
    pub(crate) fn text(self) -> Option<&'a str> {
        let bytes = self.payload.split(|b| *b == 0).next()?;
        std::str::from_utf8(bytes).ok()
    }
}

/// Walks the attributes of a buffer; stops at the first malformed one.
pub(crate) fn attrs(mut bytes: &[u8]) -> impl Iterator<Item = Attr<'_>> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        if length < ATTR_HEADER_LEN || length > bytes.len() {
            return None;
        }
        let kind = u16_at(bytes, 2)? & NLA_TYPE_MASK;
        let payload = bytes.get(ATTR_HEADER_LEN..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attr { kind, payload })
    })
}

/// The first attribute of a kind.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Option<Attr<'_>> {
    attrs(bytes).find(|a| a.kind == kind)
}

/// Reads a host-order number.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Reads a host-order number.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn message_reads_back() {
        let bytes = Message::new(16, 0x400)
            .raw(&[1, 2, 3, 4])
            .text(3, "eth0")
            .nest(18, |m| m.u32(1, 7).attr(2, &[9]))
            .finish(5, 4);
        let received: Vec<_> = messages(&bytes).collect();
        assert_eq!(received.len(), 1);
        assert_eq!((received[0].kind, received[0].flags, received[0].sequence), (16, 0x405, 5));
        let body = &received[0].payload[4..];
        assert_eq!(find(body, 3).and_then(Attr::text), Some("eth0"));
        let nest = find(body, 18).expect("nest");
        assert_eq!(nest.nested().map(|a| (a.kind, a.payload.len())).collect::<Vec<_>>(), [(1, 4), (2, 1)]);
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes) {
                for attr in attrs(message.payload) {
                    let _ = (attr.u32(), attr.be32(), attr.text(), attr.nested().count());
                }
            }
            prop_assert!(attrs(&bytes).count() <= bytes.len());
        }
    }
}
