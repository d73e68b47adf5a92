//! Names of things: one type each, so that an ENI id cannot be taken for a subnet id.

use std::fmt;

macro_rules! text_id {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Wraps the id as EC2 or the runtime gave it.
            pub fn new(text: impl Into<Box<str>>) -> Self {
                Self(text.into())
            }

            /// The id verbatim.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        crate::text::wraps!($name);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

text_id! {
    /// An elastic network interface, `eni-…`.
    EniId,
    /// An attachment of an ENI to an instance, `eni-attach-…`.
    AttachmentId,
    /// A subnet, `subnet-…`.
    SubnetId,
    /// A security group, `sg-…`.
    GroupId,
    /// An instance, `i-…`.
    InstanceId,
    /// One boot of the machine (/proc/sys/kernel/random/boot_id).
    BootId,
}

macro_rules! number_id {
    ($($(#[$doc:meta])* $name:ident($raw:ty)),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $raw);

        crate::text::wraps!($name);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    )*};
}

number_id! {
    /// One operation the pool asked for. Never used twice in the life of a pool; late or unknown results are ignored by it.
    OpId(u64),
    /// One caller waiting for an answer.
    RequestId(u64),
    /// One durable step of the ledger; revisions become durable in order.
    Revision(u64),
    /// Index of a network card; 0 is the default card.
    NetworkCard(u32),
    /// Device index of an attachment on its network card; 0 on card 0 is the primary ENI.
    DeviceIndex(u32),
}

/// A link-layer address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or(MacError)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| MacError)?;
        }
        if parts.next().is_some() { Err(MacError) } else { Ok(Self(bytes)) }
    }
}

/// A text that is no MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacError;

impl fmt::Display for MacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a MAC address")
    }
}

impl std::error::Error for MacError {}

/// One attachment of a container to the network: container id and interface name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SandboxKey {
    /// The runtime's id of the sandbox.
    pub container_id: Box<str>,
    /// Interface name inside the sandbox, for example `eth0`.
    pub ifname: Box<str>,
}

crate::text::fields!(SandboxKey { container_id, ifname });

impl SandboxKey {
    /// Names an attachment.
    pub fn new(container_id: impl Into<Box<str>>, ifname: impl Into<Box<str>>) -> Self {
        Self { container_id: container_id.into(), ifname: ifname.into() }
    }
}

/// The pod a sandbox belongs to, as the runtime told it. Fields may be empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PodRef {
    /// Kubernetes namespace.
    pub namespace: Box<str>,
    /// Pod name.
    pub name: Box<str>,
    /// Pod UID.
    pub uid: Box<str>,
    /// The CNI network's name, so that GC of one network never touches another.
    pub network: Box<str>,
}

crate::text::fields!(PodRef { namespace, name, uid, network });
