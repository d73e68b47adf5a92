//! Instances come and go, and the credentials that they call EC2 with.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::agenda::Event;
use super::build::id_or_new;
use super::create::CreateInterface;
use super::eni::{Attachment, AttachmentStatus};
use super::history::Caller;
use super::ids::{GroupId, InstanceId, SubnetId};
use super::place::{Instance, InstanceState};
use super::view::{Credentials, Launched};
use super::{ApiError, Cloud, InstanceSpec, Millis, Wanted, Wanted6, limits, quota, refuse};

/// How long role credentials last.
///
/// Source: Amazon EC2 User Guide, "Retrieve security credentials from instance metadata": about six hours.
const KEY_LIFE: Duration = Duration::from_secs(6 * 3600);

/// New ones appear so long before the old ones expire.
///
/// Source: as above: "at least five minutes before the expiration of the old ones".
const KEY_OVERLAP: Duration = Duration::from_secs(15 * 60);

/// Whose an access key is.
#[derive(Debug, Clone)]
pub(super) struct Key {
    instance: InstanceId,
    credentials: Credentials,
}

impl Cloud {
    /// Runs an instance: when this returns it runs, its primary interface is attached and its device is there.
    ///
    /// # Errors
    /// EC2's refusals of `RunInstances`; nothing has changed then.
    pub fn run_instance(&mut self, now: Millis, spec: &InstanceSpec) -> Result<Launched, ApiError> {
        self.act(now, |cloud| {
            let limits = limits::of(&spec.instance_type).ok_or_else(|| {
                ApiError::value(format!("Invalid value '{}' for InstanceType.", spec.instance_type))
            })?;
            let id: InstanceId = id_or_new(spec.id.as_deref(), &mut cloud.mint)
                .map_err(|error| ApiError::new("InvalidInstanceID.Malformed", error.to_string()))?;
            if cloud.instances.get(&id).is_some() {
                return Err(ApiError::value(format!("The instance ID '{id}' already exists")));
            }
            let request = cloud.launch_interface(spec)?;
            if 1 + request.wanted.slots() > limits.ipv4_per_eni
                || request.wanted6.slots() > limits.ipv6_per_eni
            {
                // Not the code of `AssignPrivateIpAddresses`: launches have one of their own.
                return Err(ApiError::new(
                    "InvalidInterface.IpAddressLimitExceeded",
                    format!("The number of addresses exceeds the limit of {}", limits.name),
                ));
            }
            if request.wanted.has_prefixes() || request.wanted6.has_prefixes() {
                quota::prefixes_fit(limits)?;
            }
            cloud.check_address_usage(1 + request.wanted.slots() + request.wanted6.slots())?;
            cloud.check_eni_quota()?;
            let az = cloud.subnets.get(&request.subnet).map(|subnet| subnet.az.clone()).unwrap_or_default();
            let eni = cloud.make_interface(&request)?;
            let instance = Instance {
                id: id.clone(),
                limits,
                subnet: request.subnet,
                az,
                primary_eni: eni.id.clone(),
                state: InstanceState::Running,
                launched: cloud.now,
                tags: spec.tags.clone(),
            };
            cloud.instances.insert(id.clone(), instance);
            let attachment = Attachment {
                id: cloud.mint.id(),
                instance: id.clone(),
                card: 0,
                device: 0,
                status: AttachmentStatus::Attached,
                since: cloud.now,
                delete_on_termination: spec.delete_on_termination,
            };
            let record = cloud.eni_mut(&eni.id)?;
            record.pending = false;
            record.attachment = Some(attachment);
            cloud.plug(&eni.id);
            Ok(Launched { instance: id, eni: eni.id, mac: eni.mac, address: eni.primary })
        })
    }

    /// Terminates an instance; its devices vanish when it has ended. Terminating it again changes nothing.
    ///
    /// # Errors
    /// There is no such instance.
    pub fn terminate_instance(&mut self, now: Millis, id: &InstanceId) -> Result<(), ApiError> {
        self.act(now, |cloud| {
            let instance = cloud.instances.get_mut(id).ok_or_else(|| refuse::no_instance(id))?;
            if instance.state == InstanceState::Running {
                instance.state = InstanceState::ShuttingDown;
                cloud.plan(cloud.spec.timings.terminate, Event::Terminated(id.clone()));
            }
            Ok(())
        })
    }

    /// The instance's role credentials now, as its metadata service gives them.
    ///
    /// # Errors
    /// There is no such instance.
    pub fn credentials(&mut self, now: Millis, instance: &InstanceId) -> Result<Credentials, ApiError> {
        self.tick(now);
        if self.instances.get(instance).is_none() {
            return Err(refuse::no_instance(instance));
        }
        let newest = self.keys.values().filter(|key| key.instance == *instance).map(|key| &key.credentials);
        if let Some(valid) = newest.max_by_key(|credentials| credentials.expires)
            && valid.expires.since(self.now) > KEY_OVERLAP
        {
            return Ok(valid.clone());
        }
        // 26 letters of a request id's 32 digits: enough to be unique, in the alphabet of access keys.
        let digits = self.mint.uuid().replace('-', "").to_uppercase();
        let credentials = Credentials {
            access_key: format!("ASIA{}", &digits[..16]),
            secret_key: format!("secret-of-{instance}"),
            token: format!("token-{}", digits.to_lowercase()),
            updated: self.now,
            expires: self.now.plus(KEY_LIFE),
        };
        let key = Key { instance: instance.clone(), credentials: credentials.clone() };
        self.keys.insert(credentials.access_key.clone(), key);
        Ok(credentials)
    }

    /// Who signs with this access key.
    ///
    /// # Errors
    /// `AuthFailure`: outsiders are listed and this is none of them. `RequestExpired`: an instance's key has expired.
    pub fn caller(&self, access_key: &str) -> Result<Caller, ApiError> {
        let access_key = access_key.to_owned();
        match self.keys.get(&access_key) {
            Some(key) if key.credentials.expires <= self.now => {
                Err(ApiError::new("RequestExpired", "Request has expired."))
            }
            Some(key) => Ok(Caller { access_key, instance: Some(key.instance.clone()) }),
            None if self.spec.access_keys.is_empty() || self.spec.access_keys.contains(&access_key) => {
                Ok(Caller { access_key, instance: None })
            }
            None => Err(ApiError::new(
                "AuthFailure",
                "AWS was not able to validate the provided access credentials",
            )),
        }
    }

    fn launch_interface(&self, spec: &InstanceSpec) -> Result<CreateInterface, ApiError> {
        let subnet = SubnetId::from(spec.subnet.as_str());
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let groups =
            spec.groups.iter().map(|name| self.group_named(name)).collect::<Result<Vec<GroupId>, _>>()?;
        Ok(CreateInterface {
            groups,
            primary: spec.address,
            wanted: Wanted {
                addresses: Vec::<Ipv4Addr>::new(),
                count: count(spec.secondary_addresses),
                prefixes: Vec::new(),
                prefix_count: count(spec.prefixes),
            },
            wanted6: Wanted6 {
                addresses: spec.ipv6.clone(),
                count: count(spec.ipv6_addresses),
                prefixes: Vec::new(),
                prefix_count: count(spec.ipv6_prefixes),
            },
            requester: self.spec.account.clone(),
            ..CreateInterface::new(&subnet)
        })
    }

    fn group_named(&self, name: &str) -> Result<GroupId, ApiError> {
        let found = self.groups.values().find(|group| group.name == name || group.id.as_str() == name);
        found.map(|group| group.id.clone()).ok_or_else(|| refuse::no_group(&GroupId::from(name)))
    }
}

#[cfg(test)]
mod tests;
