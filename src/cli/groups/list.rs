//! `--list`.

use std::collections::BTreeMap;

use troupe_protocol::kafka::messages::ListGroupsRequest;
use troupe_protocol::kafka::messages::list_groups_response::ListedGroup;

use super::super::client::{AdminClient, ClientError};
use super::super::output;
use super::flags::{GroupsCommand, UsageError};
use super::table;

const STATES: [&str; 7] = [
    "PreparingRebalance",
    "CompletingRebalance",
    "Stable",
    "Dead",
    "Empty",
    "Assigning",
    "Reconciling",
];
const TYPES: [&str; 2] = ["Consumer", "Classic"];
/// The protocol types of consumers; a group with nothing but offsets has an empty one.
pub(super) const CONSUMER_PROTOCOLS: [&str; 2] = ["consumer", ""];

/// Which columns to show, and what they must hold: anything where the list is empty.
pub(super) struct Filters {
    states: Option<Vec<&'static str>>,
    types: Option<Vec<&'static str>>,
}

impl Filters {
    /// Reads `--state` and `--type`.
    pub(super) fn from_flags(command: &GroupsCommand) -> Result<Self, UsageError> {
        let parse = |flag: &Option<String>, known: &[&'static str], list, nouns| {
            let unknown = |text: &String| {
                let known = known.join(", ");
                UsageError(format!(
                    "Invalid {list} '{text}'. Valid {nouns} are: {known}"
                ))
            };
            let names = flag
                .as_ref()
                .map(|text| parse_names(text, known).ok_or_else(|| unknown(text)));
            names.transpose()
        };
        Ok(Self {
            states: parse(&command.state, &STATES, "state list", "states")?,
            types: parse(&command.kind, &TYPES, "types list", "types")?,
        })
    }

    fn select(&self, group: &ListedGroup) -> bool {
        let fits = |names: &Option<Vec<&'static str>>, name: &str| {
            names
                .as_ref()
                .is_none_or(|names| names.is_empty() || names.contains(&name))
        };
        fits(&self.states, &group.group_state) && fits(&self.types, kind(group))
    }
}

/// Reads names with commas between, in any case; `None` where one is not known.
fn parse_names(text: &str, known: &[&'static str]) -> Option<Vec<&'static str>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let find = |name: &str| {
        let mut known = known.iter().copied();
        known.find(|known| known.eq_ignore_ascii_case(name.trim()))
    };
    text.split(',').map(find).collect()
}

/// Returns the type; brokers that do not tell it have no other (KIP-848).
fn kind(group: &ListedGroup) -> &'static str {
    let mut known = TYPES.into_iter();
    let named = known.find(|kind| kind.eq_ignore_ascii_case(&group.group_type));
    named.unwrap_or("Classic")
}

/// Asks every broker for its groups of consumers.
pub(super) async fn groups(
    client: &mut AdminClient,
) -> Result<BTreeMap<String, ListedGroup>, ClientError> {
    let mut groups = BTreeMap::new();
    for broker in client.metadata(Some(Vec::new())).await?.brokers {
        let connection = client.broker(&broker.host, broker.port).await?;
        let response = connection.call(ListGroupsRequest::default()).await?;
        ClientError::check(response.error_code, None)?;
        for group in response.groups {
            if CONSUMER_PROTOCOLS.contains(&&*group.protocol_type) {
                groups.insert(group.group_id.to_string(), group);
            }
        }
    }
    Ok(groups)
}

/// Prints the groups.
pub(super) async fn list(client: &mut AdminClient, filters: &Filters) -> Result<(), ClientError> {
    let mut groups = groups(client).await?;
    groups.retain(|_, group| filters.select(group));
    if filters.states.is_none() && filters.types.is_none() {
        groups.keys().for_each(output::line);
        return Ok(());
    }
    let longest = groups.keys().map(|name| name.chars().count()).max();
    let width = longest.unwrap_or_default().max(15).saturating_add(10);
    let mut columns = vec![("GROUP", Some(width))];
    columns.extend(filters.types.as_ref().map(|_| ("TYPE", Some(20))));
    columns.extend(filters.states.as_ref().map(|_| ("STATE", Some(20))));
    let row = |(name, group): (&String, &ListedGroup)| {
        let mut row = vec![name.clone()];
        row.extend(filters.types.as_ref().map(|_| kind(group).to_owned()));
        row.extend(
            filters
                .states
                .as_ref()
                .map(|_| group.group_state.to_string()),
        );
        row
    };
    let rows: Vec<_> = groups.iter().map(row).collect();
    table::lines(&columns, &rows)
        .into_iter()
        .for_each(output::line);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_in_any_case() {
        let parse = |text| parse_names(text, &STATES);
        assert_eq!(parse("stable, EMPTY"), Some(vec!["Stable", "Empty"]));
        assert_eq!(parse(""), Some(Vec::new()));
        assert_eq!(parse("Empty,foo"), None);
    }

    #[test]
    fn what_is_not_known_is_refused_with_kafkas_text() {
        let error = |state: Option<&str>, kind: Option<&str>| {
            let command = GroupsCommand {
                state: state.map(str::to_owned),
                kind: kind.map(str::to_owned),
                ..GroupsCommand::default()
            };
            let filters = Filters::from_flags(&command).map(|_| ());
            filters.unwrap_err().0
        };
        assert_eq!(
            error(Some("foo"), None),
            "Invalid state list 'foo'. Valid states are: PreparingRebalance, CompletingRebalance, Stable, Dead, \
             Empty, Assigning, Reconciling"
        );
        assert_eq!(
            error(None, Some("foo")),
            "Invalid types list 'foo'. Valid types are: Consumer, Classic"
        );
    }
}
