//! What a server sends, in words that can be compared between servers.

use std::collections::{BTreeMap, BTreeSet};

use troupe_protocol::zookeeper::Acl;
use troupe_protocol::zookeeper::jute::{JuteError, Reader};
use troupe_protocol::zookeeper::requests::op;

use super::operation::Op;

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Text(String),
    /// The number of a transaction: comparable by its rank only.
    Zxid(i64),
    /// A session: comparable by whose it is only.
    Owner(i64),
}

/// A reply or an event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Message {
    event: bool,
    /// 0 for none.
    pub error: i32,
    parts: Vec<Part>,
}

impl Message {
    pub fn is_event(&self) -> bool {
        self.event
    }

    pub(super) fn event(zxid: i64, mut reader: Reader) -> Result<Message, JuteError> {
        let (kind, state) = (reader.int()?, reader.int()?);
        let path = text(&reader.string()?);
        Ok(Message {
            event: true,
            error: 0,
            parts: vec![
                Part::Text(format!("event {kind} state {state} {path} by ")),
                Part::Zxid(zxid),
            ],
        })
    }

    pub(super) fn reply(op: &Op, error: i32, mut reader: Reader) -> Result<Message, JuteError> {
        let mut parts = vec![Part::Text(format!("error {error} "))];
        if error == 0 {
            record(op.code(), &mut reader, &mut parts)?;
        }
        parts.push(Part::Text(match reader.remaining() {
            0 => String::new(),
            more => format!("and {more} bytes too many"),
        }));
        Ok(Message {
            event: false,
            error,
            parts,
        })
    }

    /// The parts as one text, with the numbers of transactions and sessions as they are.
    pub fn text(&self) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Zxid(zxid) => format!("{zxid:#x} "),
            Part::Owner(owner) => format!("{owner:#x} "),
        };
        self.parts.iter().map(part).collect()
    }
}

/// Writes messages so that those of another server look the same: transactions by their rank among all that are
/// mentioned, sessions by their names.
pub fn render(messages: &[(String, Message)], sessions: &BTreeMap<i64, String>) -> Vec<String> {
    let zxids: BTreeSet<i64> = messages
        .iter()
        .flat_map(|(_, message)| &message.parts)
        .filter_map(|part| match part {
            Part::Zxid(zxid) if *zxid > 0 => Some(*zxid),
            _ => None,
        })
        .collect();
    let ranks: BTreeMap<i64, usize> = zxids.into_iter().zip(1..).collect();
    let part = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Zxid(zxid) => ranks
            .get(zxid)
            .map_or(format!("z({zxid}) "), |rank| format!("z{rank} ")),
        Part::Owner(owner) => sessions
            .get(owner)
            .map_or(format!("{owner:#x} "), |name| format!("{name} ")),
    };
    messages
        .iter()
        .map(|(who, message)| {
            let text: String = message.parts.iter().map(part).collect();
            format!("{who}: {text}")
        })
        .collect()
}

fn record(code: i32, reader: &mut Reader, parts: &mut Vec<Part>) -> Result<(), JuteError> {
    let mut say = |text: String| parts.push(Part::Text(text));
    match code {
        op::CREATE | op::SYNC => say(text(&reader.string()?)),
        op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
            say(text(&reader.string()?));
            stat(reader, parts)?;
        }
        op::EXISTS | op::SET_DATA | op::SET_ACL => stat(reader, parts)?,
        op::GET_DATA => {
            say(data(reader)?);
            stat(reader, parts)?;
        }
        op::GET_ACL => {
            say(acl(reader)?);
            stat(reader, parts)?;
        }
        op::GET_CHILDREN | op::GET_EPHEMERALS => say(names(reader)?),
        op::GET_CHILDREN2 => {
            say(names(reader)?);
            stat(reader, parts)?;
        }
        op::GET_ALL_CHILDREN_NUMBER | op::ADD_WATCH => say(reader.int()?.to_string()),
        op::WHO_AM_I => {
            let ids = reader.vector(|reader| {
                Ok(format!(
                    "{}:{}",
                    text(&reader.string()?),
                    text(&reader.string()?)
                ))
            })?;
            say(sorted(ids));
        }
        op::MULTI | op::MULTI_READ => items(reader, parts)?,
        _ => {}
    }
    Ok(())
}

fn items(reader: &mut Reader, parts: &mut Vec<Part>) -> Result<(), JuteError> {
    loop {
        let (code, done, error) = (reader.int()?, reader.boolean()?, reader.int()?);
        parts.push(Part::Text(format!("[{code} {done} {error} ")));
        if done {
            return Ok(());
        }
        match code {
            -1 => parts.push(Part::Text(format!("error {}", reader.int()?))),
            op::DELETE | op::CHECK => {}
            code => record(code, reader, parts)?,
        }
        parts.push(Part::Text("] ".to_owned()));
    }
}

fn stat(reader: &mut Reader, parts: &mut Vec<Part>) -> Result<(), JuteError> {
    let (czxid, mzxid) = (reader.long()?, reader.long()?);
    let (ctime, mtime) = (reader.long()?, reader.long()?);
    let versions = (reader.int()?, reader.int()?, reader.int()?);
    let owner = reader.long()?;
    let (data_length, children) = (reader.int()?, reader.int()?);
    let pzxid = reader.long()?;
    parts.extend([
        Part::Text(" {czxid ".to_owned()),
        Part::Zxid(czxid),
        Part::Text("mzxid ".to_owned()),
        Part::Zxid(mzxid),
        Part::Text("pzxid ".to_owned()),
        Part::Zxid(pzxid),
        Part::Text(format!(
            "versions {versions:?} length {data_length} children {children} changed {} owner ",
            mtime >= ctime
        )),
        Part::Owner(owner),
        Part::Text("}".to_owned()),
    ]);
    Ok(())
}

fn acl(reader: &mut Reader) -> Result<String, JuteError> {
    let list = reader.vector(Acl::decode)?;
    Ok(sorted(list.map(|list| {
        list.iter()
            .map(|acl| {
                let id = (text(&acl.id.scheme), text(&acl.id.id));
                format!("{}:{}:{}", acl.perms, id.0, id.1)
            })
            .collect()
    })))
}

fn data(reader: &mut Reader) -> Result<String, JuteError> {
    Ok(match reader.buffer()? {
        None => "null".to_owned(),
        Some(data) => format!("{:?}", text(&data)),
    })
}

fn names(reader: &mut Reader) -> Result<String, JuteError> {
    let names = reader.vector(|reader| reader.string().map(|name| text(&name)))?;
    Ok(sorted(names))
}

/// Servers give sets in any order.
fn sorted(list: Option<Vec<String>>) -> String {
    match list {
        None => "null".to_owned(),
        Some(mut list) => {
            list.sort();
            format!("{list:?}")
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
