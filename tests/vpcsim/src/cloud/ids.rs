//! The ids EC2 gives to things, one type each, and the mint that makes new ones.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::random::Random;

/// An id type: text with a fixed prefix.
pub(crate) trait Id: Sized + Clone + Ord + fmt::Display {
    /// What ids of this kind begin with, hyphen included.
    const PREFIX: &'static str;

    /// Takes the text as it is.
    fn from_text(text: String) -> Self;

    /// Whether the text has the shape of such an id: prefix, then 8 or 17 hexadecimal digits.
    fn well_formed(text: &str) -> bool {
        text.strip_prefix(Self::PREFIX).is_some_and(|rest| {
            matches!(rest.len(), 8 | 17) && rest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Id for $name {
            const PREFIX: &'static str = $prefix;

            fn from_text(text: String) -> Self {
                Self(text)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

ids! {
    /// A VPC.
    VpcId = "vpc-";
    /// A subnet.
    SubnetId = "subnet-";
    /// A security group.
    GroupId = "sg-";
    /// An instance.
    InstanceId = "i-";
    /// A network interface.
    EniId = "eni-";
    /// The attachment of a network interface to an instance.
    AttachmentId = "eni-attach-";
    /// The association of a branch with a trunk interface.
    TrunkAssociationId = "trunk-assoc-";
    /// A permission on a network interface.
    PermissionId = "eni-perm-";
}

/// Makes ids and MAC addresses that were never made before by it.
#[derive(Debug, Clone)]
pub(crate) struct Mint {
    random: Random,
    made: BTreeSet<u64>,
}

impl Mint {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), made: BTreeSet::new() }
    }

    /// A new id: the prefix and 17 hexadecimal digits, the first of which is 0 as in EC2's.
    pub(crate) fn id<T: Id>(&mut self) -> T {
        T::from_text(format!("{}0{:016x}", T::PREFIX, self.fresh()))
    }

    /// A new locally administered unicast MAC address, of the kind that EC2 gives (02:…).
    pub(crate) fn mac(&mut self) -> [u8; 6] {
        let bytes = (self.fresh() >> 24).to_be_bytes();
        [0x02, bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]
    }

    /// A request id: a version 4 UUID.
    pub(crate) fn uuid(&mut self) -> String {
        let (high, low) = (self.random.bits(), self.random.bits());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xfff,
            low >> 48 & 0x3fff | 0x8000,
            low & 0xffff_ffff_ffff
        )
    }

    /// Bits whose upper 40 (all that a MAC keeps) were not given before.
    fn fresh(&mut self) -> u64 {
        loop {
            let bits = self.random.bits();
            if self.made.insert(bits >> 24) {
                return bits;
            }
        }
    }
}

/// `02:00:0a:…`, as EC2 and Linux write it.
#[must_use]
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minted_ids_are_well_formed_and_new() {
        let mut mint = Mint::new(1);
        let ids: BTreeSet<EniId> = (0..1000).map(|_| mint.id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| EniId::well_formed(id.as_str())));
        let macs: BTreeSet<[u8; 6]> = (0..1000).map(|_| mint.mac()).collect();
        assert_eq!(macs.len(), 1000);
        assert!(macs.iter().all(|mac| mac[0] == 2));
    }

    #[test]
    fn ill_formed_ids_are_told_apart() {
        for bad in
            ["", "eni-", "eni-123", "i-0123456789abcdef0", "eni-0123456789ABCDEF0", "eni-0123456789abcdef01"]
        {
            assert!(!EniId::well_formed(bad), "{bad}");
        }
        assert!(EniId::well_formed("eni-0123abcd"));
        assert!(!EniId::well_formed("eni-attach-0123456789abcdef0"));
    }
}
