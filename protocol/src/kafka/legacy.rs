//! Bridges the versions that the newer schema crate lacks: read with the older crate, carried over in the oldest version
//! that both have, and the same the other way round. What an old version says in its own way is adapted here.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol as current_protocol;
use kafka_protocol_legacy::messages as old;
use kafka_protocol_legacy::protocol as removed_protocol;

use super::api::ApiKey;
use super::bounded::{current, removed};
use super::wire::{DecodeError, EncodeError};

/// A message of the older crate, to be brought from one version to another.
pub(crate) trait Adapt {
    /// Changes what `version` says otherwise, or cannot say, after the message came from another version.
    fn adapt_to(&mut self, _version: i16) {}
}

/// Decodes an old version of a request into the struct of the newer crate.
pub(crate) fn decode_request<Old, New>(
    key: ApiKey,
    version: i16,
    body: Bytes,
) -> Result<New, DecodeError>
where
    Old: removed_protocol::Decodable + removed_protocol::Encodable + Adapt,
    New: current_protocol::Decodable + current_protocol::Message,
{
    upgrade(key, removed::decode::<Old>(key, version, body)?)
}

/// Decodes an old version of a response into the struct of the newer crate.
pub(crate) fn decode_response<Old, New>(
    key: ApiKey,
    version: i16,
    body: Bytes,
) -> Result<New, DecodeError>
where
    Old: removed_protocol::Decodable + removed_protocol::Encodable + Adapt,
    New: current_protocol::Decodable + current_protocol::Message,
{
    upgrade(key, removed::decode_trusted::<Old>(key, version, body)?)
}

/// Encodes the struct of the newer crate in an old version of a request.
pub(crate) fn encode_request<Old, New>(
    key: ApiKey,
    version: i16,
    message: New,
    out: &mut BytesMut,
) -> Result<(), EncodeError>
where
    Old: removed_protocol::Decodable + removed_protocol::Encodable + Adapt,
    New: current_protocol::Encodable + current_protocol::Message,
{
    downgrade::<Old, New>(key, version, &message, out)
}

/// Encodes the struct of the newer crate in an old version of a response.
pub(crate) fn encode_response<Old, New>(
    key: ApiKey,
    version: i16,
    message: New,
    out: &mut BytesMut,
) -> Result<(), EncodeError>
where
    Old: removed_protocol::Decodable + removed_protocol::Encodable + Adapt,
    New: current_protocol::Encodable + current_protocol::Message,
{
    downgrade::<Old, New>(key, version, &message, out)
}

fn upgrade<Old, New>(key: ApiKey, mut message: Old) -> Result<New, DecodeError>
where
    Old: removed_protocol::Encodable + Adapt,
    New: current_protocol::Decodable + current_protocol::Message,
{
    let shared = New::VERSIONS.min;
    message.adapt_to(shared);
    let mut bytes = BytesMut::new();
    removed::encode(key, shared, &message, &mut bytes).map_err(|error| DecodeError::Schema {
        api: key.name(),
        version: shared,
        reason: error.to_string(),
    })?;
    current::decode_trusted(key, shared, bytes.freeze())
}

fn downgrade<Old, New>(
    key: ApiKey,
    version: i16,
    message: &New,
    out: &mut BytesMut,
) -> Result<(), EncodeError>
where
    Old: removed_protocol::Decodable + removed_protocol::Encodable + Adapt,
    New: current_protocol::Encodable + current_protocol::Message,
{
    let shared = New::VERSIONS.min;
    let mut bytes = BytesMut::new();
    current::encode(key, shared, message, &mut bytes)?;
    let decoded = removed::decode_trusted::<Old>(key, shared, bytes.freeze());
    let mut message = decoded.map_err(|error| EncodeError {
        api: key.name(),
        version,
        reason: error.to_string(),
    })?;
    message.adapt_to(version);
    removed::encode(key, version, &message, out)
}

macro_rules! adapt_nothing {
    ($($message:ident)*) => {
        $(impl Adapt for old::$message {})*
    };
}

adapt_nothing! {
    OffsetCommitResponse
    OffsetFetchRequest OffsetFetchResponse
    CreateTopicsRequest CreateTopicsResponse
    DeleteTopicsRequest DeleteTopicsResponse
    OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse
    WriteTxnMarkersRequest WriteTxnMarkersResponse
    DescribeAclsRequest DescribeAclsResponse
    CreateAclsRequest CreateAclsResponse
    DeleteAclsRequest DeleteAclsResponse
    DescribeConfigsRequest
    AlterReplicaLogDirsRequest AlterReplicaLogDirsResponse
    DescribeLogDirsRequest DescribeLogDirsResponse
    CreateDelegationTokenRequest CreateDelegationTokenResponse
    RenewDelegationTokenRequest RenewDelegationTokenResponse
    ExpireDelegationTokenRequest ExpireDelegationTokenResponse
    DescribeDelegationTokenRequest DescribeDelegationTokenResponse
}

impl Adapt for old::OffsetCommitRequest {
    /// Drops the commit timestamp of v1: from v2 on the broker's own time counts.
    fn adapt_to(&mut self, _version: i16) {
        for topic in &mut self.topics {
            for partition in &mut topic.partitions {
                partition.commit_timestamp = -1;
            }
        }
    }
}

/// `ConfigResource.Type.TOPIC` and the source of a config that is set on its topic.
const TOPIC_RESOURCE: i8 = 2;
const TOPIC_SOURCE: i8 = 1;
const DEFAULT_SOURCE: i8 = 5;

impl Adapt for old::DescribeConfigsResponse {
    /// v0 has `is_default` where later versions have a source: a topic's config is a default unless set on the topic.
    fn adapt_to(&mut self, version: i16) {
        for resource in &mut self.results {
            for config in &mut resource.configs {
                if version == 0 {
                    let from_elsewhere = resource.resource_type == TOPIC_RESOURCE
                        && config.config_source != TOPIC_SOURCE;
                    config.is_default = from_elsewhere || config.config_source == DEFAULT_SOURCE;
                } else if config.is_default {
                    config.config_source = DEFAULT_SOURCE;
                    config.is_default = false;
                }
            }
        }
    }
}
