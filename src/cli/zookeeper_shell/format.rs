//! How the shell shows statistics, ACLs, data and events, as ZooKeeper's own does.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use troupe_protocol::zookeeper::records::perms;
use troupe_protocol::zookeeper::{Acl, Id, Stat};

use crate::znode_client::{Event, state};

/// The letters of permissions, in the order in which they are shown.
const PERMISSIONS: [(char, i32); 5] = [
    ('c', perms::CREATE),
    ('d', perms::DELETE),
    ('r', perms::READ),
    ('w', perms::WRITE),
    ('a', perms::ADMIN),
];

pub(super) fn stat(stat: &Stat) -> String {
    [
        format!("cZxid = 0x{:x}", stat.czxid),
        format!("ctime = {}", date(stat.ctime)),
        format!("mZxid = 0x{:x}", stat.mzxid),
        format!("mtime = {}", date(stat.mtime)),
        format!("pZxid = 0x{:x}", stat.pzxid),
        format!("cversion = {}", stat.cversion),
        format!("dataVersion = {}", stat.version),
        format!("aclVersion = {}", stat.aversion),
        format!("ephemeralOwner = 0x{:x}", stat.ephemeral_owner),
        format!("dataLength = {}", stat.data_length),
        format!("numChildren = {}", stat.num_children),
    ]
    .join("\n")
}

pub(super) fn list(names: &[String]) -> String {
    format!("[{}]", names.join(", "))
}

pub(super) fn acl(list: &[Acl]) -> String {
    let entry = |entry: &Acl| {
        let letters: String = PERMISSIONS
            .iter()
            .filter(|(_, bit)| entry.perms & bit != 0)
            .map(|(letter, _)| letter)
            .collect();
        let (scheme, id) = (
            String::from_utf8_lossy(&entry.id.scheme),
            String::from_utf8_lossy(&entry.id.id),
        );
        format!("'{scheme},'{id}\n: {letters}")
    };
    list.iter().map(entry).collect::<Vec<_>>().join("\n")
}

/// Reads `scheme:id:perms,…`; tells of each entry that is none.
pub(super) fn parse_acl(text: &str) -> (Vec<Acl>, Vec<String>) {
    let (mut list, mut troubles) = (Vec::new(), Vec::new());
    for entry in text.split(',') {
        let parts = entry
            .split_once(':')
            .and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once(':')?)));
        let Some((scheme, (id, letters))) = parts else {
            troubles.push(format!("{entry} does not have the form scheme:id:perm"));
            continue;
        };
        let mut perms = 0;
        for letter in letters.chars() {
            match PERMISSIONS.iter().find(|(known, _)| *known == letter) {
                Some((_, bit)) => perms |= bit,
                None => troubles.push(format!("Unknown perm type: {letter}")),
            }
        }
        list.push(Acl {
            perms,
            id: Id::new(scheme, id),
        });
    }
    (list, troubles)
}

/// Shows data as text, with `-b` in base64 and with `-x` as hexadecimal numbers.
pub(super) fn data(data: Option<&[u8]>, base64: bool, hexadecimal: bool) -> String {
    match data {
        None => "null".to_owned(),
        Some(data) if base64 => STANDARD.encode(data),
        Some(data) if hexadecimal => hexdump(data),
        Some(data) => String::from_utf8_lossy(data).into_owned(),
    }
}

fn hexdump(data: &[u8]) -> String {
    const RULE: &str =
        "+--------+-------------------------------------------------+----------------+";
    let mut dump = format!(
        "{:9}+{:-<49}+\n{:9}|  0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f |\n{RULE}\n",
        "", "", ""
    );
    for (row, bytes) in data.chunks(16).enumerate() {
        let numbers: String = bytes.iter().map(|byte| format!(" {byte:02x}")).collect();
        let shown = |byte: &u8| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '.',
        };
        let text: String = bytes.iter().map(shown).collect();
        // Writing to a string does not fail.
        let _ = writeln!(dump, "|{:08x}|{numbers:48} |{text:16}|", row * 16);
    }
    dump.push_str(RULE);
    dump
}

pub(super) fn event(event: &Event) -> String {
    let state = match event.state {
        state::DISCONNECTED => "Disconnected",
        state::SYNC_CONNECTED => "SyncConnected",
        state::AUTH_FAILED => "AuthFailed",
        state::EXPIRED => "Expired",
        state::CLOSED => "Closed",
        _ => "Unknown",
    };
    let kind = match event.kind {
        1 => "NodeCreated",
        2 => "NodeDeleted",
        3 => "NodeDataChanged",
        4 => "NodeChildrenChanged",
        5 => "DataWatchRemoved",
        6 => "ChildWatchRemoved",
        7 => "PersistentWatchRemoved",
        _ => "None",
    };
    let path = event.path.as_deref().unwrap_or("null");
    format!(
        "\nWATCHER::\n\nWatchedEvent state:{state} type:{kind} path:{path} zxid: {}",
        event.zxid
    )
}

/// Writes a time as Java's `Date` does, in UTC.
fn date(since_epoch_ms: i64) -> String {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let seconds = since_epoch_ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let named = |names: &[&'static str], index: i64| {
        let index = usize::try_from(index).unwrap_or_default();
        names.get(index).copied().unwrap_or_default()
    };
    format!(
        "{} {} {day:02} {:02}:{:02}:{:02} UTC {year}",
        named(&WEEKDAYS, days.rem_euclid(7)),
        named(&MONTHS, month - 1),
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Returns year, month and day of a number of days since 1970, by eras of 400 years that begin in March.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_javas() {
        assert_eq!(date(0), "Thu Jan 01 00:00:00 UTC 1970");
        assert_eq!(date(1_795_460_410_999), "Mon Nov 23 19:00:10 UTC 2026");
        assert_eq!(date(951_782_400_000), "Tue Feb 29 00:00:00 UTC 2000");
    }

    #[test]
    fn an_acl_comes_back() {
        let (list, troubles) = parse_acl("world:anyone:r,digest:user:hash=:cdrwa");
        assert!(troubles.is_empty());
        assert_eq!(
            acl(&list),
            "'world,'anyone\n: r\n'digest,'user:hash=\n: cdrwa"
        );
        let (list, troubles) = parse_acl("world:anyone");
        assert!(list.is_empty());
        assert_eq!(
            troubles,
            ["world:anyone does not have the form scheme:id:perm"]
        );
    }

    #[test]
    fn data_is_shown_in_three_ways() {
        assert_eq!(data(None, false, false), "null");
        assert_eq!(data(Some(b"1"), true, false), "MQ==");
        let dump = data(Some(b"hello"), false, true);
        let row = "|00000000| 68 65 6c 6c 6f                                  |hello           |";
        assert_eq!(dump.lines().nth(3), Some(row));
        assert!(
            dump.lines().skip(2).all(|line| line.len() == row.len()),
            "{dump}"
        );
    }
}
