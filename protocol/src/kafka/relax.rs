//! Takes out of a response what its version cannot say and its reader does not miss.
//!
//! The schemas mark most such fields as ignorable and leave them out by themselves; these they refuse to encode. With
//! this, a handler fills in what it knows and need not look at the version.

use super::messages::{
    DescribeClusterResponse, DescribeGroupsResponse, JoinGroupResponse, ListOffsetsResponse,
    MetadataResponse,
};

/// What authorized operations are when nobody asked for them.
const NOT_ASKED: i32 = i32::MIN;
/// The endpoint type of brokers (KIP-919).
const BROKERS: i8 = 1;

/// A response that some of its versions can say less of.
pub(crate) trait Relax {
    /// Resets the fields that the version lacks.
    fn relax(&mut self, version: i16);
}

impl Relax for ListOffsetsResponse {
    fn relax(&mut self, version: i16) {
        if version < 4 {
            for partition in self
                .topics
                .iter_mut()
                .flat_map(|topic| &mut topic.partitions)
            {
                partition.leader_epoch = -1;
            }
        }
    }
}

impl Relax for MetadataResponse {
    fn relax(&mut self, version: i16) {
        if !(8..=10).contains(&version) {
            self.cluster_authorized_operations = NOT_ASKED;
        }
        if version < 8 {
            for topic in &mut self.topics {
                topic.topic_authorized_operations = NOT_ASKED;
            }
        }
    }
}

impl Relax for DescribeGroupsResponse {
    fn relax(&mut self, version: i16) {
        for group in &mut self.groups {
            if version < 3 {
                group.authorized_operations = NOT_ASKED;
            }
            if version < 6 {
                group.error_message = None;
            }
        }
    }
}

impl Relax for DescribeClusterResponse {
    fn relax(&mut self, version: i16) {
        if version < 1 {
            self.endpoint_type = BROKERS;
        }
        if version < 2 {
            for broker in &mut self.brokers {
                broker.is_fenced = false;
            }
        }
    }
}

impl Relax for JoinGroupResponse {
    fn relax(&mut self, version: i16) {
        if version < 9 {
            self.skip_assignment = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::kafka::api::Request;
    use crate::kafka::messages::describe_cluster_response::DescribeClusterBroker;
    use crate::kafka::messages::describe_groups_response::DescribedGroup;
    use crate::kafka::messages::list_offsets_response::{
        ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
    };
    use crate::kafka::messages::metadata_response::MetadataResponseTopic;
    use crate::kafka::messages::{
        DescribeClusterRequest, DescribeGroupsRequest, JoinGroupRequest, ListOffsetsRequest,
        MetadataRequest, TopicName,
    };

    fn encodes_at_every_version<R: Request>(response: R::Response)
    where
        R::Response: Clone,
    {
        for version in R::versions() {
            let mut out = BytesMut::new();
            R::encode_response(response.clone(), version, &mut out)
                .unwrap_or_else(|error| panic!("{error}"));
            R::decode_response(version, out.freeze()).unwrap();
        }
    }

    #[test]
    fn full_answers_fit_every_version() {
        let partition = ListOffsetsPartitionResponse::default().with_leader_epoch(4);
        let topic = ListOffsetsTopicResponse::default().with_partitions(vec![partition]);
        encodes_at_every_version::<ListOffsetsRequest>(
            ListOffsetsResponse::default().with_topics(vec![topic]),
        );
        let topic = MetadataResponseTopic::default()
            .with_name(Some(TopicName("t".into())))
            .with_topic_authorized_operations(7);
        let response = MetadataResponse::default()
            .with_cluster_authorized_operations(7)
            .with_topics(vec![topic]);
        encodes_at_every_version::<MetadataRequest>(response);
        let group = DescribedGroup::default()
            .with_authorized_operations(7)
            .with_error_message(Some("no".into()));
        encodes_at_every_version::<DescribeGroupsRequest>(
            DescribeGroupsResponse::default().with_groups(vec![group]),
        );
        let broker = DescribeClusterBroker::default().with_is_fenced(true);
        let response = DescribeClusterResponse::default()
            .with_endpoint_type(2)
            .with_brokers(vec![broker]);
        encodes_at_every_version::<DescribeClusterRequest>(response);
        encodes_at_every_version::<JoinGroupRequest>(
            JoinGroupResponse::default()
                .with_skip_assignment(true)
                .with_protocol_name(Some("range".into())),
        );
    }
}
