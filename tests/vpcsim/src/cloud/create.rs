//! Interfaces come and go: `CreateNetworkInterface` and `DeleteNetworkInterface`.

use std::net::Ipv4Addr;

use super::agenda::Event;
use super::assign::{Assigned, refusal};
use super::ids::{EniId, GroupId, SubnetId};
use super::{ApiError, Cloud, Eni, InterfaceType, Millis, Tags, Tracking, Wanted, Wanted6, refuse};

/// Longest client token.
///
/// Source: Amazon EC2 Developer Guide, "Ensuring idempotency in Amazon EC2 API requests".
const TOKEN_MAX: usize = 64;

/// What `CreateNetworkInterface` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateInterface {
    /// In this subnet.
    pub subnet: SubnetId,
    /// Kind.
    pub kind: InterfaceType,
    /// Description.
    pub description: String,
    /// Security groups; empty: the default group.
    pub groups: Vec<GroupId>,
    /// Primary private address; `None`: EC2 picks.
    pub primary: Option<Ipv4Addr>,
    /// Secondary addresses and prefixes.
    pub wanted: Wanted,
    /// IPv6 addresses and prefixes.
    pub wanted6: Wanted6,
    /// Whether the first IPv6 address becomes the primary one.
    pub primary_ipv6: bool,
    /// Connection tracking timeouts.
    pub tracking: Tracking,
    /// Tags.
    pub tags: Tags,
    /// Makes a repetition harmless.
    pub client_token: Option<String>,
    /// Who asks.
    pub requester: String,
}

impl CreateInterface {
    /// An ordinary interface in this subnet, nothing else asked for.
    #[must_use]
    pub fn new(subnet: &SubnetId) -> Self {
        Self {
            subnet: subnet.clone(),
            kind: InterfaceType::Interface,
            description: String::new(),
            groups: Vec::new(),
            primary: None,
            wanted: Wanted::default(),
            wanted6: Wanted6::default(),
            primary_ipv6: false,
            tracking: Tracking::default(),
            tags: Tags::new(),
            client_token: None,
            requester: String::new(),
        }
    }
}

/// What a client token stands for.
#[derive(Debug, Clone)]
pub(super) struct Token {
    request: CreateInterface,
    answer: Eni,
}

impl Cloud {
    /// `CreateNetworkInterface`: all that is asked for, or nothing. A known client token answers what it answered
    /// before.
    ///
    /// # Errors
    /// EC2's refusals; nothing has changed then.
    pub fn create_network_interface(
        &mut self,
        now: Millis,
        request: &CreateInterface,
    ) -> Result<Eni, ApiError> {
        self.act(now, |cloud| {
            if let Some(answer) = cloud.known_token(request)? {
                return Ok(answer);
            }
            cloud.check_eni_quota()?;
            let eni = cloud.make_interface(request)?;
            cloud.plan(cloud.spec.timings.available, Event::Available(eni.id.clone()));
            if let Some(token) = &request.client_token {
                cloud.tokens.insert(token.clone(), Token { request: request.clone(), answer: eni.clone() });
            }
            Ok(eni)
        })
    }

    /// `DeleteNetworkInterface`.
    ///
    /// # Errors
    /// There is none, it is in use, or branches hang on it.
    pub fn delete_network_interface(&mut self, now: Millis, id: &EniId) -> Result<(), ApiError> {
        self.act(now, |cloud| {
            let eni = cloud.own(id)?;
            let tied = cloud.trunks.values().any(|tie| tie.trunk == *id || tie.branch == *id);
            if eni.attachment.is_some() || tied {
                return Err(ApiError::value(format!("Network interface '{id}' is currently in use.")));
            }
            cloud.destroy(id);
            Ok(())
        })
    }

    /// Makes the record and takes its addresses. Neither quota nor token are looked at here.
    pub(super) fn make_interface(&mut self, request: &CreateInterface) -> Result<Eni, ApiError> {
        if self.subnets.get(&request.subnet).is_none() {
            return Err(refuse::no_subnet(&request.subnet));
        }
        let groups = self.check_groups(&request.groups)?;
        check_wanted(request)?;
        if 1 + request.wanted.slots() > super::limits::widest_ipv4()
            || request.wanted6.slots() > super::limits::widest_ipv6()
        {
            return Err(refuse::address_limit());
        }
        self.check_tag_count(request.tags.len())?;
        let id: EniId = self.mint.id();
        let (primary, got) = self.take_for_new(&request.subnet, &id, request)?;
        let got6 = match self.take6(&request.subnet, &id, &request.wanted6) {
            Ok(got6) => got6,
            Err(error) => {
                self.give_back(&request.subnet, &id, primary, &got);
                return Err(error);
            }
        };
        let eni = Eni {
            id: id.clone(),
            mac: self.mint.mac(),
            subnet: request.subnet.clone(),
            kind: request.kind,
            description: request.description.clone(),
            groups,
            source_dest_check: true,
            pending: true,
            primary,
            secondaries: got.addresses,
            prefixes: got.prefixes,
            ipv6: got6.addresses,
            ipv6_prefixes: got6.prefixes,
            primary_ipv6: request.primary_ipv6,
            tracking: request.tracking,
            requester: request.requester.clone(),
            managed: false,
            created: self.now,
            attachment: None,
            tags: request.tags.clone(),
        };
        self.enis.insert(id, eni.clone());
        Ok(eni)
    }

    /// Removes the interface and gives all its addresses back. It must have no device.
    pub(super) fn destroy(&mut self, id: &EniId) {
        let Some(eni) = self.enis.remove(id) else { return };
        let held = Assigned { addresses: eni.secondaries, prefixes: eni.prefixes };
        self.give_back(&eni.subnet, id, eni.primary, &held);
        if let Some(space) = self.spaces.get_mut(&eni.subnet).and_then(|spaces| spaces.v6.as_mut()) {
            eni.ipv6.iter().for_each(|address| space.give(*address, id));
            eni.ipv6_prefixes.iter().for_each(|prefix| space.give_block(*prefix, id));
        }
        self.permissions.retain(|_, permission| permission.eni != *id);
    }

    /// These groups, or the default one.
    pub(super) fn check_groups(&self, groups: &[GroupId]) -> Result<Vec<GroupId>, ApiError> {
        if let Some(missing) = groups.iter().find(|group| !self.groups.contains_key(group)) {
            return Err(refuse::no_group(missing));
        }
        let most = self.spec.quotas.groups_per_interface;
        if groups.len() > most {
            return Err(ApiError::new(
                "SecurityGroupsPerInterfaceLimitExceeded",
                format!(
                    "The maximum number of security groups per interface has been reached. Limit: {most}"
                ),
            ));
        }
        Ok(if groups.is_empty() { vec![self.default_group.clone()] } else { groups.to_vec() })
    }

    fn known_token(&self, request: &CreateInterface) -> Result<Option<Eni>, ApiError> {
        let Some(token) = &request.client_token else { return Ok(None) };
        if token.len() > TOKEN_MAX || !token.is_ascii() {
            return Err(ApiError::new(
                "InvalidClientToken",
                format!("Client token is invalid: at most {TOKEN_MAX} ASCII characters are allowed"),
            ));
        }
        match self.tokens.get(token) {
            None => Ok(None),
            Some(known) if same_request(&known.request, request) => Ok(Some(known.answer.clone())),
            Some(_) => Err(ApiError::new(
                "IdempotentParameterMismatch",
                format!("The client token '{token}' was used before with different parameters"),
            )),
        }
    }

    /// The primary address and everything else; the primary first, so that no prefix takes its place.
    fn take_for_new(
        &mut self,
        subnet: &SubnetId,
        id: &EniId,
        request: &CreateInterface,
    ) -> Result<(Ipv4Addr, Assigned), ApiError> {
        let first = match request.primary {
            Some(address) => Wanted { addresses: vec![address], ..Wanted::default() },
            None => Wanted { count: 1, ..Wanted::default() },
        };
        // Explicit wishes come before EC2's own choice, or the choice might fall on one of them.
        let explicit = Wanted {
            addresses: request.wanted.addresses.clone(),
            prefixes: request.wanted.prefixes.clone(),
            ..Wanted::default()
        };
        let rest = Wanted {
            count: request.wanted.count,
            prefix_count: request.wanted.prefix_count,
            ..Wanted::default()
        };
        let mut held = Assigned::default();
        let mut primary = None;
        for (step, wanted) in [&explicit, &first, &rest].into_iter().enumerate() {
            match self.take(subnet, id, wanted) {
                Ok(got) if step == 1 => primary = got.addresses.first().copied(),
                Ok(got) => {
                    held.addresses.extend(got.addresses);
                    held.prefixes.extend(got.prefixes);
                }
                Err(error) => {
                    if let Some(primary) = primary {
                        held.addresses.push(primary);
                    }
                    self.give_all(subnet, id, &held);
                    return Err(error);
                }
            }
        }
        let primary = primary.ok_or_else(refuse::no_addresses)?;
        Ok((primary, held))
    }

    fn give_back(&mut self, subnet: &SubnetId, id: &EniId, primary: Ipv4Addr, held: &Assigned) {
        if let Some(spaces) = self.spaces.get_mut(subnet) {
            spaces.v4.give(primary, id);
        }
        self.give_all(subnet, id, held);
    }

    fn give_all(&mut self, subnet: &SubnetId, id: &EniId, held: &Assigned) {
        if let Some(spaces) = self.spaces.get_mut(subnet) {
            held.addresses.iter().for_each(|address| spaces.v4.give(*address, id));
            held.prefixes.iter().for_each(|prefix| spaces.v4.give_block(*prefix, id));
        }
    }
}

/// The requester does not belong to a request's identity: an instance's keys change.
fn same_request(one: &CreateInterface, other: &CreateInterface) -> bool {
    let strip = |request: &CreateInterface| CreateInterface { requester: String::new(), ..request.clone() };
    strip(one) == strip(other)
}

/// Source: Amazon EC2 API Reference, `CreateNetworkInterface`: a count of addresses, a count of prefixes and explicit
/// prefixes exclude one another.
fn check_wanted(request: &CreateInterface) -> Result<(), ApiError> {
    let wanted = &request.wanted;
    let others = wanted.count > 0 || !wanted.addresses.is_empty();
    if wanted.prefix_count > 0 && (others || !wanted.prefixes.is_empty()) {
        return Err(ApiError::combination(
            "Ipv4PrefixCount cannot be used with SecondaryPrivateIpAddressCount, PrivateIpAddresses or Ipv4Prefixes",
        ));
    }
    if !wanted.prefixes.is_empty() && others {
        return Err(ApiError::combination(
            "Ipv4Prefixes cannot be used with SecondaryPrivateIpAddressCount or PrivateIpAddresses",
        ));
    }
    if wanted.count > 0 && !wanted.addresses.is_empty() {
        return Err(ApiError::combination(
            "SecondaryPrivateIpAddressCount cannot be used with PrivateIpAddresses",
        ));
    }
    let wanted6 = &request.wanted6;
    if wanted6.count > 0 && !wanted6.addresses.is_empty()
        || wanted6.prefix_count > 0 && !wanted6.prefixes.is_empty()
    {
        return Err(ApiError::combination(
            "A count of IPv6 addresses or prefixes cannot be used with explicit ones",
        ));
    }
    if let Some(address) = request.primary.filter(|primary| wanted.addresses.contains(primary)) {
        return Err(refusal(&super::space::Taken::Held(EniId::from("")), &address));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
