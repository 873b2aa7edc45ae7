//! Follows the notices of changed configurations, which tools and other brokers leave. This broker's own come by here too and
//! change nothing any more.

use super::ReplicaManagerHandle;
use crate::controller::topics::AdminError;
use crate::coordination::schema::{ConfigChange, from_json};
use crate::coordination::{CoordinationClient, paths};

/// Prefix of the names of the notices in `/config/changes`.
const CONFIG_CHANGE: &str = "config_change_";

/// Notices older than this, in milliseconds, have been seen by every broker.
const NOTICE_LIFETIME_MS: i64 = 15 * 60 * 1_000;

pub(super) async fn follow(
    replicas: &ReplicaManagerHandle,
    client: &CoordinationClient,
) -> Result<(), AdminError> {
    let (notices, watcher) = client.watch_children(paths::CONFIG_CHANGES).await?;
    // What was noticed before this session is in the configurations themselves.
    replicas.reread().await?;
    let mut seen = notices.iter().filter_map(|name| sequence(name)).max();
    let mut changes = Box::pin(watcher.changed());
    loop {
        tokio::select! {
            () = client.ended() => return Ok(()),
            _ = &mut changes => {
                let (notices, watcher) = client.watch_children(paths::CONFIG_CHANGES).await?;
                changes = Box::pin(watcher.changed());
                seen = take_up(replicas, client, notices, seen).await?;
            }
        }
    }
}

/// Takes up the notices after `seen`, purges outdated ones, and returns the last that was seen.
async fn take_up(
    replicas: &ReplicaManagerHandle,
    client: &CoordinationClient,
    mut notices: Vec<String>,
    mut seen: Option<i64>,
) -> Result<Option<i64>, AdminError> {
    notices.sort_by_key(|name| sequence(name));
    let mut dated = Vec::with_capacity(notices.len());
    for name in notices {
        let path = format!("{}/{name}", paths::CONFIG_CHANGES);
        let Some((data, stat)) = client.get(&path).await? else {
            continue;
        };
        dated.push((path, stat.ctime));
        let number = sequence(&name);
        if number <= seen {
            continue;
        }
        seen = number;
        match changed_entity(&data) {
            // One that can't be read says nothing about the others.
            Some(entity) => {
                if let Err(error) = replicas.refresh_config(entity).await {
                    tracing::error!("a changed configuration can't be read: {}", error.message);
                }
            }
            None => tracing::warn!("a notice of a changed configuration makes no sense: {name}"),
        }
    }
    // Their ages are compared with one another: that takes no clock but the service's own.
    let newest = dated.iter().map(|(_, ctime)| *ctime).max().unwrap_or(0);
    for (path, _) in dated
        .iter()
        .filter(|(_, ctime)| ctime + NOTICE_LIFETIME_MS < newest)
    {
        client.delete(path).await?;
    }
    Ok(seen)
}

fn sequence(name: &str) -> Option<i64> {
    name.strip_prefix(CONFIG_CHANGE)?.parse().ok()
}

/// Reads which entity changed, in any of the three dialects that Kafka's tools have spoken.
fn changed_entity(notice: &[u8]) -> Option<String> {
    let path = |data| from_json::<ConfigChange>("", data).map(|change| change.entity_path);
    let typed = |data| {
        from_json::<TypedConfigChange>("", data)
            .map(|change| format!("{}/{}", change.entity_type, change.entity_name))
    };
    let topic = |data| from_json::<String>("", data).map(|topic| format!("topics/{topic}"));
    path(notice)
        .or_else(|_| typed(notice))
        .or_else(|_| topic(notice))
        .ok()
}

/// The notice of Kafka 0.9 and 0.10.0.
#[derive(serde::Deserialize)]
struct TypedConfigChange {
    entity_type: String,
    entity_name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_of_every_age_are_understood() {
        let of_2015 = br#""t""#;
        let of_2016 = br#"{"version":1,"entity_type":"topics","entity_name":"t"}"#;
        let of_today = br#"{"version":2,"entity_path":"topics/t"}"#;
        for notice in [&of_2015[..], of_2016, of_today] {
            assert_eq!(changed_entity(notice).as_deref(), Some("topics/t"));
        }
        assert_eq!(changed_entity(b"{}"), None);
    }

    #[test]
    fn notices_are_numbered() {
        assert_eq!(sequence("config_change_0000000012"), Some(12));
        assert_eq!(sequence("other"), None);
    }
}
