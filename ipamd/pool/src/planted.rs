//! Bugs that can be planted on purpose, so that the simulator's oracle is known to see them (testing.md, "bug zoo").
//! Without the feature `planted` nothing of this is compiled in: every question is answered with a constant `false`.

use crate::machine::Pool;

/// A known bug: each breaks one promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    not(feature = "planted"),
    allow(dead_code, unreachable_pub, reason = "only the simulator plants bugs")
)]
pub enum Bug {
    /// A restart forgets what sandboxes hold (S1).
    ForgetsAllocations,
    /// A restart forgets that addresses cool (S4).
    ForgetsCooling,
    /// Addresses are free as soon as they are released (S4).
    NeverCools,
    /// Addresses are usable before the host sends them out by their ENI (S2).
    HostNotAwaited,
    /// An unassignment with an unknown outcome is taken for undone (S2).
    UnknownTrusted,
    /// The intent of an unassignment is not on disk before the call (S2).
    IntentNotAwaited,
    /// Whatever is attached is ours (S3, S11).
    TakesForeign,
    /// Prefixes go back while addresses of them cool (S5).
    GivesBackCooling,
    /// A reply does not wait for its revision (S6).
    RepliesEarly,
    /// A release is acted on before it is on disk (S7).
    ReleasesEarly,
    /// An ADD that began before the DEL of its sandbox is served (S8).
    IgnoresTombstones,
    /// Metadata is the truth: what it does not list is gone, what it lists is there (S2, S10).
    FollowsMetadata,
    /// A waiting ADD is not refused at its deadline (L2).
    ForgetsDeadlines,
    /// Host changes that failed are not tried again (L1).
    GivesUpOnHost,
    /// An ENI that was created with an unknown outcome is not looked for (L4).
    LosesCreated,
    /// Nothing is ever given back (L5).
    KeepsEverything,
    /// What is in excess goes back at once (L5, S9).
    NoPatience,
    /// An ENI's own address is a pod's like any other (S3).
    GivesPrimary,
    /// Limits of the instance type are not looked at (S9).
    IgnoresLimits,
    /// A released address is left out of the counts (S12).
    Miscounts,
    /// An ENI waits on for a call that has ended (S13).
    ForgetsAnswers,
    /// A back-off has no end (L1).
    WaitsForever,
    /// A release that the disk once refused is never finished (L3).
    DropsReleases,
    /// A throttle changes nothing (L6).
    IgnoresBudget,
    /// A subnet's tags are not looked at (S3).
    IgnoresRole,
    /// A subnet's floor is not looked at (S14).
    IgnoresFloor,
    /// A detached ENI is a leak whoever its owner is (S11).
    IgnoresOwner,
    /// A cordoned node detaches ENIs like any other (S15).
    DetachesCordoned,
    /// An ENI without tags is changed as it is (S11).
    ChangesUntagged,
}

/// By its name.
#[cfg(feature = "planted")]
impl crate::text::Text for Bug {
    fn write(&self, out: &mut String) {
        out.push_str(&format!("{self:?}"));
    }

    fn read(from: &mut crate::text::Reader<'_>) -> Result<Self, crate::text::Unreadable> {
        let start = from.clone();
        let name = from.name();
        let known = Self::ALL.into_iter().find(|bug| format!("{bug:?}") == name);
        known.ok_or_else(|| start.wanted("the name of a planted bug"))
    }
}

impl Bug {
    /// All of them.
    #[cfg(feature = "planted")]
    pub const ALL: [Self; 29] = [
        Self::ForgetsAllocations,
        Self::ForgetsCooling,
        Self::NeverCools,
        Self::HostNotAwaited,
        Self::UnknownTrusted,
        Self::IntentNotAwaited,
        Self::TakesForeign,
        Self::GivesBackCooling,
        Self::RepliesEarly,
        Self::ReleasesEarly,
        Self::IgnoresTombstones,
        Self::FollowsMetadata,
        Self::ForgetsDeadlines,
        Self::GivesUpOnHost,
        Self::LosesCreated,
        Self::KeepsEverything,
        Self::NoPatience,
        Self::GivesPrimary,
        Self::IgnoresLimits,
        Self::Miscounts,
        Self::ForgetsAnswers,
        Self::WaitsForever,
        Self::DropsReleases,
        Self::IgnoresBudget,
        Self::IgnoresRole,
        Self::IgnoresFloor,
        Self::IgnoresOwner,
        Self::DetachesCordoned,
        Self::ChangesUntagged,
    ];
}

impl Pool {
    /// Whether this bug is planted.
    #[cfg(feature = "planted")]
    pub(crate) fn planted(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Whether this bug is planted: never.
    #[cfg(not(feature = "planted"))]
    #[allow(clippy::unused_self, reason = "the same call as with the feature")]
    pub(crate) const fn planted(&self, _bug: Bug) -> bool {
        false
    }

    /// Plants a bug. Those that concern a restart act now.
    #[cfg(feature = "planted")]
    pub fn plant(&mut self, bug: Bug) {
        use crate::address::State;
        self.bug = Some(bug);
        match bug {
            Bug::ForgetsAllocations => {
                let keys: Vec<_> = self.ledger.sandboxes().map(|(key, _)| key.clone()).collect();
                for key in keys {
                    self.ledger.let_go(&key, crate::Time::default());
                }
            }
            Bug::ForgetsCooling => {
                let cooling: Vec<_> = self.ledger.cooling_index().iter().map(|(_, ip)| *ip).collect();
                for ip in cooling {
                    self.ledger.set_address(ip, State::Free { since: self.now });
                }
            }
            Bug::NeverCools
            | Bug::HostNotAwaited
            | Bug::UnknownTrusted
            | Bug::IntentNotAwaited
            | Bug::TakesForeign
            | Bug::GivesBackCooling
            | Bug::RepliesEarly
            | Bug::ReleasesEarly
            | Bug::IgnoresTombstones
            | Bug::FollowsMetadata
            | Bug::ForgetsDeadlines
            | Bug::GivesUpOnHost
            | Bug::LosesCreated
            | Bug::KeepsEverything
            | Bug::NoPatience
            | Bug::GivesPrimary
            | Bug::IgnoresLimits
            | Bug::Miscounts
            | Bug::ForgetsAnswers
            | Bug::WaitsForever
            | Bug::DropsReleases
            | Bug::IgnoresBudget
            | Bug::IgnoresRole
            | Bug::IgnoresFloor
            | Bug::IgnoresOwner
            | Bug::DetachesCordoned
            | Bug::ChangesUntagged => {}
        }
    }
}
