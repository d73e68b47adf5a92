//! Branches on trunks, as state: `AssociateTrunkInterface` and `DisassociateTrunkInterface`.

use super::eni::InterfaceType;
use super::ids::{EniId, TrunkAssociationId};
use super::{ApiError, Cloud, Millis, Tags, refuse};

/// How the trunk tells its branches apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// By VLAN id.
    Vlan(u16),
    /// By GRE key.
    Gre(u32),
}

/// A branch on a trunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkAssociation {
    /// Its id.
    pub id: TrunkAssociationId,
    /// The branch interface.
    pub branch: EniId,
    /// The trunk interface.
    pub trunk: EniId,
    /// How it is told apart.
    pub protocol: Protocol,
    /// Tags.
    pub tags: Tags,
    /// Makes a repetition harmless.
    pub client_token: Option<String>,
}

/// The highest VLAN id: 12 bits, without 0 and 4095.
///
/// Source: IEEE 802.1Q.
const VLAN_MAX: u32 = 4094;

impl Protocol {
    /// From the two parameters of which exactly one must be given.
    ///
    /// # Errors
    /// None or both are given, or the VLAN id is out of range.
    pub fn of(vlan: Option<u32>, gre: Option<u32>) -> Result<Self, ApiError> {
        match (vlan, gre) {
            (Some(id), None) => match u16::try_from(id) {
                Ok(vlan) if (1..=VLAN_MAX).contains(&id) => Ok(Self::Vlan(vlan)),
                Ok(_) | Err(_) => {
                    Err(ApiError::value(format!("Value ({id}) for parameter vlanId is invalid.")))
                }
            },
            (None, Some(key)) => Ok(Self::Gre(key)),
            (None, None) => Err(ApiError::missing("VlanId")),
            (Some(_), Some(_)) => Err(ApiError::combination("VlanId cannot be used with GreKey")),
        }
    }
}

impl Cloud {
    /// `AssociateTrunkInterface`.
    ///
    /// # Errors
    /// EC2's refusals; nothing has changed then.
    pub fn associate_trunk_interface(
        &mut self,
        now: Millis,
        branch: &EniId,
        trunk: &EniId,
        protocol: Protocol,
        client_token: Option<&str>,
    ) -> Result<TrunkAssociation, ApiError> {
        self.act(now, |cloud| {
            let token = client_token.map(str::to_owned);
            if let Some(known) =
                cloud.trunks.values().find(|tie| token.is_some() && tie.client_token == token)
            {
                let same = known.branch == *branch && known.trunk == *trunk && known.protocol == protocol;
                return if same { Ok(known.clone()) } else { Err(mismatch(client_token)) };
            }
            cloud.check_tie(branch, trunk, protocol)?;
            let tie = TrunkAssociation {
                id: cloud.mint.id(),
                branch: branch.clone(),
                trunk: trunk.clone(),
                protocol,
                tags: Tags::new(),
                client_token: token,
            };
            cloud.trunks.insert(tie.id.clone(), tie.clone());
            Ok(tie)
        })
    }

    /// `DisassociateTrunkInterface`.
    ///
    /// # Errors
    /// There is no such association.
    pub fn disassociate_trunk_interface(
        &mut self,
        now: Millis,
        id: &TrunkAssociationId,
    ) -> Result<(), ApiError> {
        self.act(now, |cloud| cloud.trunks.remove(id).map(|_| ()).ok_or_else(|| no_association(id)))
    }

    /// Whether this interface hangs on a trunk.
    #[must_use]
    pub fn is_tied(&self, branch: &EniId) -> bool {
        self.trunks.values().any(|tie| tie.branch == *branch)
    }

    fn check_tie(&self, branch: &EniId, trunk: &EniId, protocol: Protocol) -> Result<(), ApiError> {
        let (child, parent) = (self.own(branch)?, self.own(trunk)?);
        if parent.kind != InterfaceType::Trunk {
            return Err(ApiError::value(format!("Interface '{trunk}' is not a trunk interface")));
        }
        if child.attachment.is_some() || self.is_tied(branch) {
            return Err(ApiError::new(
                "InvalidNetworkInterface.InUse",
                format!("Interface: [{branch}] in use."),
            ));
        }
        if child.kind == InterfaceType::Trunk || branch == trunk {
            return Err(ApiError::value(format!("Interface '{branch}' cannot be a branch")));
        }
        let ties: Vec<&TrunkAssociation> = self.trunks.values().filter(|tie| tie.trunk == *trunk).collect();
        if ties.iter().any(|tie| tie.protocol == protocol) {
            return Err(ApiError::value(format!(
                "Trunk interface '{trunk}' already has an association with this VLAN id or GRE key"
            )));
        }
        let Some(to) = &parent.attachment else { return Ok(()) };
        let instance = self.instances.get(&to.instance).ok_or_else(|| refuse::no_instance(&to.instance))?;
        if ties.len() >= instance.limits.branches {
            return Err(ApiError::new(
                "BranchInterfaceLimitExceeded",
                format!(
                    "The limit of {} branch interfaces of '{trunk}' is reached",
                    instance.limits.branches
                ),
            ));
        }
        Ok(())
    }
}

pub(crate) fn no_association(id: &TrunkAssociationId) -> ApiError {
    ApiError::new(
        "InvalidTrunkInterfaceAssociationID.NotFound",
        format!("The trunk interface association ID '{id}' does not exist"),
    )
}

fn mismatch(token: Option<&str>) -> ApiError {
    ApiError::new(
        "IdempotentParameterMismatch",
        format!("The client token '{}' was used before with different parameters", token.unwrap_or_default()),
    )
}

#[cfg(test)]
mod tests;
