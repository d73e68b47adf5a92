//! Tags and description of the ENIs we create: the incumbent's, because other controllers and IAM conditions rely on
//! them, plus one of ours (design §4).

use podwire_pool::OpId;

/// Names the instance an ENI was made for. *Source*: incumbent-behaviour §7.
pub const INSTANCE_TAG: &str = "node.k8s.amazonaws.com/instance_id";
/// When it was created, RFC 3339. *Source*: incumbent-behaviour §7.
pub const CREATED_AT_TAG: &str = "node.k8s.amazonaws.com/createdAt";
/// The cluster. *Source*: incumbent-behaviour §7.
pub const CLUSTER_TAG: &str = "cluster.k8s.amazonaws.com/name";
/// Who owns the ENI on EKS. *Source*: incumbent-behaviour §1.2, `CLUSTER_NAME`.
pub const OWNER_TAG: &str = "eks:eni:owner";
/// The operation that created the ENI, decimal: finds an ENI whose Create had an unknown outcome. *Source*: our choice.
pub const OP_TAG: &str = "podwire.io/op";

/// In a key of the operator's: reserved, the tag is left out. *Source*: incumbent-behaviour §1.2 (a substring, not a
/// prefix) for the first; the second is ours.
const RESERVED: [&str; 2] = ["k8s.amazonaws.com", "podwire.io/"];

/// What every new ENI is tagged with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TagSet {
    /// This instance.
    pub instance: String,
    /// The cluster's name, when known.
    pub cluster: Option<String>,
    /// `ADDITIONAL_ENI_TAGS`.
    pub additional: Vec<(String, String)>,
}

impl TagSet {
    /// Key and value of every tag of an ENI created by `op` at `created_at` (RFC 3339).
    #[must_use]
    pub fn for_new_eni(&self, op: OpId, created_at: &str) -> Vec<(String, String)> {
        let mut tags = self.for_untagged_eni(created_at);
        tags.push((OP_TAG.to_owned(), op.to_string()));
        tags
    }

    /// Key and value of every tag of an ENI of ours that no operation of ours created.
    #[must_use]
    pub fn for_untagged_eni(&self, created_at: &str) -> Vec<(String, String)> {
        let mut tags = vec![
            (INSTANCE_TAG.to_owned(), self.instance.clone()),
            (CREATED_AT_TAG.to_owned(), created_at.to_owned()),
        ];
        if let Some(cluster) = &self.cluster {
            tags.push((CLUSTER_TAG.to_owned(), cluster.clone()));
            tags.push((OWNER_TAG.to_owned(), "amazon-vpc-cni".to_owned()));
        }
        // Merged last: an operator may override the owner (incumbent-behaviour §1.2), never what ENIs are found by.
        for (key, value) in &self.additional {
            if RESERVED.iter().any(|reserved| key.contains(reserved)) {
                continue;
            }
            tags.retain(|(k, _)| k != key);
            tags.push((key.clone(), value.clone()));
        }
        tags
    }

    /// The description of every ENI we create. *Source*: incumbent-behaviour §7; its leak collection looks at the prefix.
    #[must_use]
    pub fn description(&self) -> String {
        format!("aws-K8S-{}", self.instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An operator's tag can neither hide an ENI from its owner nor claim another's.
    #[test]
    fn additional_tags_never_override_reserved_ones() {
        let forged = [INSTANCE_TAG, CREATED_AT_TAG, CLUSTER_TAG, OP_TAG, "node.k8s.amazonaws.com/no_manage"];
        let set = TagSet {
            instance: "i-1".into(),
            cluster: Some("mine".into()),
            additional: forged.map(|key| (key.to_owned(), "forged".to_owned())).to_vec(),
        };
        let tags = set.for_new_eni(OpId(7), "now");
        assert!(tags.iter().all(|(_, value)| value != "forged"), "{tags:?}");
        assert_eq!(tags.len(), 5, "{tags:?}");
    }

    /// incumbent-testcases D04, with ours beside them.
    #[test]
    fn tags_of_new_eni_as_the_incumbents_plus_op() {
        let plain = TagSet { instance: "i-1".into(), ..TagSet::default() }.for_new_eni(OpId(7), "now");
        assert!(plain.contains(&(INSTANCE_TAG.into(), "i-1".into())));
        assert!(plain.contains(&(OP_TAG.into(), "7".into())));
        assert!(!plain.iter().any(|(k, _)| k == CLUSTER_TAG || k == OWNER_TAG));
        let set = TagSet {
            instance: "i-1".into(),
            cluster: Some("awesome".into()),
            additional: vec![(OWNER_TAG.into(), "me".into()), ("team".into(), "net".into())],
        };
        let tags = set.for_new_eni(OpId(7), "now");
        assert!(tags.contains(&(CLUSTER_TAG.into(), "awesome".into())));
        assert_eq!(
            tags.iter().filter(|(k, _)| k == OWNER_TAG).map(|(_, v)| v.as_str()).collect::<Vec<_>>(),
            ["me"]
        );
        assert!(tags.contains(&("team".into(), "net".into())));
    }
}
