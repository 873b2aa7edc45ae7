//! ApiVersions: what this broker serves (KIP-35, KIP-511).

use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::errors::ErrorCode;
pub(crate) use troupe_protocol::kafka::messages::ApiVersionsRequest as Request;
use troupe_protocol::kafka::messages::ApiVersionsResponse;
use troupe_protocol::kafka::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};

use crate::gateway::dispatch;
use crate::gateway::request::RequestContext;
use crate::transactions::TRANSACTION_VERSION;

/// First version with features.
const FIRST_WITH_FEATURES: i16 = 3;
/// First version whose readers know features that are supported from version 0 on.
const FIRST_WITH_ANY_MINIMUM: i16 = 4;

/// Lists the dispatch table, and the one feature that is finalized: the version of the transaction protocol (KIP-890).
/// Kafka finalizes none in a cluster with ZooKeeper; clients of 4.0 and later only use the newer protocol if it is.
pub(crate) async fn handle(cx: RequestContext, request: Request) -> ApiVersionsResponse {
    let legal = cx.version < FIRST_WITH_FEATURES
        || (is_legal(&request.client_software_name) && is_legal(&request.client_software_version));
    if legal && cx.version >= FIRST_WITH_FEATURES {
        with_features(answer(ErrorCode::None), cx.version)
    } else if legal {
        answer(ErrorCode::None)
    } else {
        ApiVersionsResponse::default().with_error_code(ErrorCode::InvalidRequest.code())
    }
}

/// Says which features are finalized, and in which versions they are supported. The latter start at 0, which clients
/// that ask by less than version 4 can't read (KAFKA-17011).
fn with_features(answer: ApiVersionsResponse, version: i16) -> ApiVersionsResponse {
    let name = StrBytes::from_static_str("transaction.version");
    let finalized = FinalizedFeatureKey::default()
        .with_name(name.clone())
        .with_min_version_level(TRANSACTION_VERSION)
        .with_max_version_level(TRANSACTION_VERSION);
    let supported = SupportedFeatureKey::default()
        .with_name(name)
        .with_max_version(TRANSACTION_VERSION);
    let supported = (version >= FIRST_WITH_ANY_MINIMUM).then_some(supported);
    answer
        .with_supported_features(supported.into_iter().collect())
        .with_finalized_features(vec![finalized])
        // It never changes.
        .with_finalized_features_epoch(0)
}

/// Answers a version that is not served: clients take the ranges and come back with one that is.
pub(crate) fn unsupported_version() -> ApiVersionsResponse {
    answer(ErrorCode::UnsupportedVersion)
}

fn answer(error: ErrorCode) -> ApiVersionsResponse {
    let keys = dispatch::served().map(|(key, versions)| {
        ApiVersion::default()
            .with_api_key(key as i16)
            .with_min_version(*versions.start())
            .with_max_version(*versions.end())
    });
    ApiVersionsResponse::default()
        .with_error_code(error.code())
        .with_api_keys(keys.collect())
}

/// Tells whether a text may name a client or its version: letters and digits, with `-` and `.` in between.
fn is_legal(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_clients_follow_the_protocol() {
        for legal in ["a", "librdkafka", "apache-kafka-java", "3.9.1"] {
            assert!(is_legal(legal), "{legal}");
        }
        for illegal in ["", "-a", "a-", "a b", "a_b", "é"] {
            assert!(!is_legal(illegal), "{illegal}");
        }
    }

    #[test]
    fn the_answer_lists_itself() {
        let answer = unsupported_version();
        assert_eq!(answer.error_code, 35);
        let own = answer
            .api_keys
            .iter()
            .find(|api| api.api_key == 18)
            .expect("ApiVersions is served");
        assert_eq!((own.min_version, own.max_version), (0, 4));
    }
}
