//! `CreateTags` and `DeleteTags`, for whatever has tags.

use super::ids::{EniId, GroupId, Id, InstanceId, SubnetId, TrunkAssociationId, VpcId};
use super::{ApiError, Cloud, Millis, Tags, refuse};

/// What happens to a resource's tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagChange {
    /// These are set.
    Set(Tags),
    /// These go: always, or only if the value is this one.
    Remove(Vec<(String, Option<String>)>),
    /// All go.
    Clear,
}

impl Cloud {
    /// `CreateTags` or `DeleteTags` on all these resources, or on none.
    ///
    /// # Errors
    /// A resource does not exist, or would have too many tags.
    pub fn change_tags(
        &mut self,
        now: Millis,
        resources: &[String],
        change: &TagChange,
    ) -> Result<(), ApiError> {
        self.act(now, |cloud| {
            for id in resources {
                let mut after = cloud.tags_of(id)?.clone();
                change.apply(&mut after);
                if matches!(change, TagChange::Set(_)) {
                    cloud.check_tag_count(after.len())?;
                }
            }
            for id in resources {
                change.apply(cloud.tags_mut(id)?);
            }
            Ok(())
        })
    }

    pub(super) fn check_tag_count(&self, count: usize) -> Result<(), ApiError> {
        let most = self.spec.quotas.tags_per_resource;
        if count > most {
            return Err(ApiError::new(
                "TagLimitExceeded",
                format!("The maximum number of Tags for a resource has been reached. Limit: {most}"),
            ));
        }
        Ok(())
    }

    fn tags_of(&self, id: &str) -> Result<&Tags, ApiError> {
        let text = || id.to_owned();
        match kind(id)? {
            Kind::Eni => self.own(&EniId::from(id)).map(|eni| &eni.tags),
            Kind::Instance => {
                let id = InstanceId::from_text(text());
                self.instances.get(&id).map(|instance| &instance.tags).ok_or_else(|| refuse::no_instance(&id))
            }
            Kind::Subnet => {
                let id = SubnetId::from_text(text());
                self.subnets.get(&id).map(|subnet| &subnet.tags).ok_or_else(|| refuse::no_subnet(&id))
            }
            Kind::Group => {
                let id = GroupId::from_text(text());
                self.groups.get(&id).map(|group| &group.tags).ok_or_else(|| no_such_group(&id))
            }
            Kind::Vpc if self.vpc.id.as_str() == id => Ok(&self.vpc.tags),
            Kind::Vpc => Err(no_vpc(id)),
            Kind::Trunk => {
                let id = TrunkAssociationId::from_text(text());
                self.trunks.get(&id).map(|tie| &tie.tags).ok_or_else(|| super::trunk::no_association(&id))
            }
        }
    }

    fn tags_mut(&mut self, id: &str) -> Result<&mut Tags, ApiError> {
        let text = || id.to_owned();
        match kind(id)? {
            Kind::Eni => self.eni_mut(&EniId::from(id)).map(|eni| &mut eni.tags),
            Kind::Instance => {
                let id = InstanceId::from_text(text());
                self.instances.get_mut(&id).map(|it| &mut it.tags).ok_or_else(|| refuse::no_instance(&id))
            }
            Kind::Subnet => {
                let id = SubnetId::from_text(text());
                self.subnets.get_mut(&id).map(|it| &mut it.tags).ok_or_else(|| refuse::no_subnet(&id))
            }
            Kind::Group => {
                let id = GroupId::from_text(text());
                self.groups.get_mut(&id).map(|it| &mut it.tags).ok_or_else(|| no_such_group(&id))
            }
            Kind::Vpc if self.vpc.id.as_str() == id => Ok(&mut self.vpc.tags),
            Kind::Vpc => Err(no_vpc(id)),
            Kind::Trunk => {
                let id = TrunkAssociationId::from_text(text());
                self.trunks
                    .get_mut(&id)
                    .map(|it| &mut it.tags)
                    .ok_or_else(|| super::trunk::no_association(&id))
            }
        }
    }
}

impl TagChange {
    fn apply(&self, tags: &mut Tags) {
        match self {
            Self::Set(new) => tags.extend(new.clone()),
            Self::Remove(keys) => {
                for (key, value) in keys {
                    if tags.get(key).is_some_and(|now| value.as_ref().is_none_or(|only| only == now)) {
                        tags.remove(key);
                    }
                }
            }
            // AWS's own tags cannot be deleted by users.
            Self::Clear => tags.retain(|key, _| key.starts_with("aws:")),
        }
    }
}

enum Kind {
    Eni,
    Instance,
    Subnet,
    Group,
    Vpc,
    Trunk,
}

fn kind(id: &str) -> Result<Kind, ApiError> {
    let kinds = [
        (EniId::PREFIX, Kind::Eni),
        (InstanceId::PREFIX, Kind::Instance),
        (SubnetId::PREFIX, Kind::Subnet),
        (GroupId::PREFIX, Kind::Group),
        (VpcId::PREFIX, Kind::Vpc),
        (TrunkAssociationId::PREFIX, Kind::Trunk),
    ];
    let found = kinds.into_iter().find(|(prefix, _)| id.starts_with(prefix));
    found
        .map(|(_, kind)| kind)
        .ok_or_else(|| ApiError::new("InvalidID", format!("The ID '{id}' is not valid")))
}

pub(crate) fn no_such_group(id: &GroupId) -> ApiError {
    ApiError::new("InvalidGroup.NotFound", format!("The security group '{id}' does not exist"))
}

pub(crate) fn no_vpc(id: &str) -> ApiError {
    ApiError::new("InvalidVpcID.NotFound", format!("The vpc ID '{id}' does not exist"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_set_replaced_and_removed() {
        let mut tags = Tags::from([("a".to_owned(), "1".to_owned()), ("aws:x".to_owned(), "y".to_owned())]);
        TagChange::Set(Tags::from([("a".to_owned(), "2".to_owned()), ("b".to_owned(), String::new())]))
            .apply(&mut tags);
        assert_eq!(tags["a"], "2");
        TagChange::Remove(vec![("a".to_owned(), Some("1".to_owned()))]).apply(&mut tags);
        assert!(tags.contains_key("a"), "another value stays");
        TagChange::Remove(vec![("a".to_owned(), None)]).apply(&mut tags);
        TagChange::Clear.apply(&mut tags);
        assert_eq!(tags.keys().collect::<Vec<_>>(), ["aws:x"]);
    }
}
