//! ApiVersions: what this broker serves (KIP-35, KIP-511).

use troupe_protocol::kafka::errors::ErrorCode;
pub(crate) use troupe_protocol::kafka::messages::ApiVersionsRequest as Request;
use troupe_protocol::kafka::messages::ApiVersionsResponse;
use troupe_protocol::kafka::messages::api_versions_response::ApiVersion;

use crate::gateway::dispatch;
use crate::gateway::request::RequestContext;

/// Lists the dispatch table. There are no features: a cluster with ZooKeeper has none to finalize.
pub(crate) async fn handle(cx: RequestContext, request: Request) -> ApiVersionsResponse {
    let legal = cx.version < 3
        || (is_legal(&request.client_software_name) && is_legal(&request.client_software_version));
    if legal {
        answer(ErrorCode::None)
    } else {
        ApiVersionsResponse::default().with_error_code(ErrorCode::InvalidRequest.code())
    }
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
