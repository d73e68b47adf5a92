//! What dead nodes left behind: detached ENIs, and whether their owners still exist. Finds; the pool decides.

use aws_sdk_ec2::types::InstanceStateName;
use podwire_pool::{InstanceId, ObservedEni};

use crate::client::{Ec2Client, filter};
use crate::failure::Failed;
use crate::tags::{CLUSTER_TAG, INSTANCE_TAG};

impl Ec2Client {
    /// Detached ENIs of this cluster's nodes; where the cluster has no name, of this instance alone.
    /// *Source* of the description: incumbent-behaviour §5.7 (it keeps ENIs of other programs out that copied the tags).
    pub(crate) async fn find_detached(&self) -> Result<Vec<ObservedEni>, Failed> {
        let mut filters = vec![filter("status", ["available"]), filter("description", ["aws-K8S-*"])];
        if let Some(cluster) = &self.options.tags.cluster {
            filters.push(filter("vpc-id", [self.options.vpc.as_str()]));
            filters.push(filter("tag-key", [INSTANCE_TAG]));
            filters.push(filter(&format!("tag:{CLUSTER_TAG}"), [cluster.as_str()]));
        } else {
            filters.push(filter(&format!("tag:{INSTANCE_TAG}"), [self.options.instance.as_str()]));
        }
        self.describe_by(filters).await
    }

    /// Which of these instances exist and are not terminated. Asked by filter: an id that EC2 no longer knows is no
    /// error then, but absent.
    pub(crate) async fn existing(&self, ids: &[InstanceId]) -> Result<Vec<InstanceId>, Failed> {
        let wanted = filter("instance-id", ids.iter().map(InstanceId::as_str));
        let request = self.client.describe_instances().filters(wanted);
        let mut pages = request.into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| Failed::of(&e))?;
            let instances = page.reservations().iter().flat_map(|r| r.instances());
            let alive = instances.filter(|i| {
                i.state().and_then(|s| s.name()).is_none_or(|name| *name != InstanceStateName::Terminated)
            });
            found.extend(alive.filter_map(|i| i.instance_id()).map(InstanceId::new));
        }
        Ok(found)
    }
}
