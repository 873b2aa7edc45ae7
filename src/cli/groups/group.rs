//! A group as its coordinator tells it.

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::find_coordinator_response::Coordinator;
use troupe_protocol::kafka::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribeGroupsRequest,
    DescribeGroupsResponse, consumer_group_describe_response, describe_groups_response,
};

use super::super::client::{AdminClient, ClientError, Connection};
use super::super::coordinator::{self, Kind, group_id};
use super::GroupError;
use super::assignment::{self, Assignment};
use super::list::CONSUMER_PROTOCOLS;

/// The state of a group that is not there.
pub(super) const DEAD: &str = "Dead";
/// The state of a group without members.
pub(super) const EMPTY: &str = "Empty";

/// A group, of either protocol.
pub(super) struct Group {
    pub(super) name: String,
    pub(super) coordinator: Coordinator,
    pub(super) state: String,
    pub(super) strategy: String,
    pub(super) members: Vec<Member>,
}

/// A member of a group.
pub(super) struct Member {
    pub(super) consumer_id: String,
    pub(super) instance_id: String,
    pub(super) host: String,
    pub(super) client_id: String,
    pub(super) assignment: Assignment,
}

impl Member {
    pub(super) fn partition_count(&self) -> usize {
        self.assignment.values().map(Vec::len).sum()
    }
}

impl From<describe_groups_response::DescribedGroupMember> for Member {
    fn from(member: describe_groups_response::DescribedGroupMember) -> Self {
        Self {
            consumer_id: member.member_id.to_string(),
            instance_id: member.group_instance_id.unwrap_or_default().to_string(),
            host: member.client_host.to_string(),
            client_id: member.client_id.to_string(),
            assignment: assignment::parse(member.member_assignment).unwrap_or_default(),
        }
    }
}

impl From<consumer_group_describe_response::Member> for Member {
    fn from(member: consumer_group_describe_response::Member) -> Self {
        let mut assignment = Assignment::new();
        for topic in member.assignment.topic_partitions {
            let partitions = assignment.entry(topic.topic_name.to_string()).or_default();
            partitions.extend(topic.partitions);
            partitions.sort_unstable();
        }
        Self {
            consumer_id: member.member_id.to_string(),
            instance_id: member.instance_id.unwrap_or_default().to_string(),
            host: member.client_host.to_string(),
            client_id: member.client_id.to_string(),
            assignment,
        }
    }
}

/// Asks for a group, first as one of the newer protocol (KIP-848); one that is not there is dead.
pub(super) async fn fetch(client: &mut AdminClient, name: &str) -> Result<Group, GroupError> {
    match fetch_newer(client, name).await? {
        Some(group) => Ok(group),
        None => fetch_classic(client, name).await,
    }
}

async fn fetch_newer(client: &mut AdminClient, name: &str) -> Result<Option<Group>, ClientError> {
    if !client.supports::<ConsumerGroupDescribeRequest>() {
        return Ok(None);
    }
    let request = |_: &Connection| {
        ConsumerGroupDescribeRequest::default().with_group_ids(vec![group_id(name)])
    };
    let code = |response: &ConsumerGroupDescribeResponse| {
        let group = response.groups.first();
        group.map_or(0, |group| group.error_code)
    };
    let answer = coordinator::ask(client, Kind::Group, name, request, code).await;
    let (coordinator, mut response) = match answer {
        Err(error) if is_not_newer(&error) => return Ok(None),
        answer => answer?,
    };
    let described = response.groups.pop().unwrap_or_default();
    Ok(Some(Group {
        name: name.to_owned(),
        coordinator,
        state: described.group_state.to_string(),
        strategy: described.assignor_name.to_string(),
        members: described.members.into_iter().map(Member::from).collect(),
    }))
}

fn is_not_newer(error: &ClientError) -> bool {
    let code = error.code();
    matches!(
        code,
        Some(ErrorCode::GroupIdNotFound | ErrorCode::UnsupportedVersion)
    )
}

async fn fetch_classic(client: &mut AdminClient, name: &str) -> Result<Group, GroupError> {
    let request =
        |_: &Connection| DescribeGroupsRequest::default().with_groups(vec![group_id(name)]);
    let code = |response: &DescribeGroupsResponse| match response.groups.first() {
        // Newer brokers have an error where older ones have a dead group (KIP-1043).
        Some(group) if group.error_code == ErrorCode::GroupIdNotFound.code() => 0,
        Some(group) => group.error_code,
        None => 0,
    };
    let (coordinator, mut response) =
        coordinator::ask(client, Kind::Group, name, request, code).await?;
    let described = response.groups.pop().unwrap_or_default();
    let protocol = described.protocol_type.to_string();
    if !CONSUMER_PROTOCOLS.contains(&&*protocol) {
        return Err(GroupError::NotOfConsumers(name.to_owned(), protocol));
    }
    let is_missing = described.error_code != 0;
    Ok(Group {
        name: name.to_owned(),
        coordinator,
        state: if is_missing {
            DEAD.to_owned()
        } else {
            described.group_state.to_string()
        },
        strategy: described.protocol_data.to_string(),
        members: described.members.into_iter().map(Member::from).collect(),
    })
}

#[cfg(test)]
mod tests {
    use troupe_protocol::kafka::StrBytes;
    use troupe_protocol::kafka::messages::consumer_group_describe_response::{
        self as newer, TopicPartitions,
    };

    use super::super::super::client::topic_name;
    use super::*;

    #[test]
    fn a_member_of_the_newer_protocol_has_what_it_is_assigned_now() {
        let topic = |name: &str, partitions: &[i32]| {
            TopicPartitions::default()
                .with_topic_name(topic_name(name.to_owned()))
                .with_partitions(partitions.to_vec())
        };
        let assigned = |topics| newer::Assignment::default().with_topic_partitions(topics);
        let member = newer::Member::default()
            .with_member_id(StrBytes::from_static_str("id"))
            .with_instance_id(None)
            .with_client_host(StrBytes::from_static_str("/127.0.0.1"))
            .with_assignment(assigned(vec![topic("u", &[0]), topic("t", &[2, 0])]))
            .with_target_assignment(assigned(vec![topic("t", &[0])]));
        let member = Member::from(member);
        assert_eq!((&*member.consumer_id, &*member.instance_id), ("id", ""));
        assert_eq!(assignment::show(&member.assignment), "t(0,2), u(0)");
        assert_eq!(member.partition_count(), 3);
    }
}
