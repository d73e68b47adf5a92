//! How much there may be: limits of instance types, quotas of the account.

use super::eni::Eni;
use super::ids::InstanceId;
use super::limits::{self, TypeLimits};
use super::place::InstanceState;
use super::{ApiError, Cloud, refuse};

impl Cloud {
    /// Whether an interface may hold so many more IPv4 slots.
    pub(super) fn check_ipv4_slots(&self, eni: &Eni, more: usize) -> Result<(), ApiError> {
        let most = self.limits_at(eni).map_or_else(limits::widest_ipv4, |limits| limits.ipv4_per_eni);
        if eni.ipv4_slots() + more > most { Err(refuse::address_limit()) } else { Ok(()) }
    }

    /// Whether an interface may hold so many more IPv6 slots.
    pub(super) fn check_ipv6_slots(&self, eni: &Eni, more: usize) -> Result<(), ApiError> {
        let most = self.limits_at(eni).map_or_else(limits::widest_ipv6, |limits| limits.ipv6_per_eni);
        if eni.ipv6_slots() + more > most {
            return Err(ApiError::new(
                "PrivateIpAddressLimitExceeded",
                "Number of IPv6 addresses will exceed limit.",
            ));
        }
        Ok(())
    }

    /// Whether prefixes may be put on this interface: only Nitro and bare metal take them.
    ///
    /// Source of the rule: Amazon EC2 User Guide, "Prefix delegation": "supported on Nitro-based instances". The error's
    /// code and wording are our choice; EC2's are not documented.
    pub(super) fn check_prefixes_fit(&self, eni: &Eni) -> Result<(), ApiError> {
        self.limits_at(eni).map_or(Ok(()), prefixes_fit)
    }

    /// Whether an interface may be attached to this instance, on this card.
    pub(super) fn check_attach_fits(
        &self,
        eni: &Eni,
        instance: &InstanceId,
        card: u32,
    ) -> Result<(), ApiError> {
        let there = self.instances.get(instance).ok_or_else(|| refuse::no_instance(instance))?;
        let limits = there.limits;
        let Some(on_card) = limits.on_card(card) else {
            return Err(ApiError::value(format!(
                "Network card index '{card}' is not valid for instance type '{}'",
                limits.name
            )));
        };
        let cards: Vec<u32> =
            self.enis.values().filter_map(|other| other.attached_to(instance)).map(|to| to.card).collect();
        let same_card = cards.iter().filter(|other| **other == card).count();
        // The type's limit is the sum of its cards' limits, so the cards' limits are all there is to check.
        if same_card >= on_card {
            return Err(ApiError::new(
                "AttachmentLimitExceeded",
                format!("Interface count {} exceeds the limit for {}", cards.len() + 1, limits.name),
            ));
        }
        if eni.ipv4_slots() > limits.ipv4_per_eni || eni.ipv6_slots() > limits.ipv6_per_eni {
            return Err(refuse::address_limit());
        }
        if !eni.prefixes.is_empty() || !eni.ipv6_prefixes.is_empty() {
            prefixes_fit(limits)?;
        }
        Ok(())
    }

    /// Whether the Region's quota of interfaces leaves room for one more.
    pub(super) fn check_eni_quota(&self) -> Result<(), ApiError> {
        if self.enis.len() >= self.spec.quotas.network_interfaces {
            return Err(ApiError::new(
                "NetworkInterfaceLimitExceeded",
                format!(
                    "The maximum number of network interfaces has been reached. Limit: {}",
                    self.spec.quotas.network_interfaces
                ),
            ));
        }
        Ok(())
    }

    /// Whether the VPC's network address usage leaves room for so many more units.
    pub(super) fn check_address_usage(&self, more: usize) -> Result<(), ApiError> {
        if self.network_address_usage() + more > self.spec.quotas.network_address_usage {
            return Err(ApiError::new(
                "NetworkAddressUsageLimitExceeded",
                format!("The network address usage limit of VPC '{}' has been exceeded", self.vpc.id),
            ));
        }
        Ok(())
    }

    /// Network address usage units in use: each address and prefix on an interface, and each attached interface beyond
    /// its instance's first, counts one.
    ///
    /// Source: Amazon VPC User Guide, "Network Address Usage for your VPC".
    #[must_use]
    pub fn network_address_usage(&self) -> usize {
        let extra = |eni: &Eni| usize::from(eni.attachment.is_some() && !eni.is_primary());
        self.enis.values().map(|eni| eni.ipv4_slots() + eni.ipv6_slots() + extra(eni)).sum()
    }

    /// Units that attaching this interface adds.
    pub(super) fn attach_usage(&self, instance: &InstanceId) -> usize {
        let running =
            self.instances.get(instance).is_some_and(|instance| instance.state == InstanceState::Running);
        usize::from(running)
    }

    fn limits_at(&self, eni: &Eni) -> Option<&'static TypeLimits> {
        let instance = &eni.attachment.as_ref()?.instance;
        self.instances.get(instance).map(|instance| instance.limits)
    }
}

pub(super) fn prefixes_fit(limits: &TypeLimits) -> Result<(), ApiError> {
    if limits.prefixes {
        return Ok(());
    }
    Err(ApiError::new(
        "UnsupportedOperation",
        format!("Instance type '{}' does not support prefixes on network interfaces", limits.name),
    ))
}
