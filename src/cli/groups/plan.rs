//! Offsets as comma-separated values: what `--export` writes and `--from-file` reads.
//!
//! A line is `topic,partition,offset`, with the group before it unless there is exactly one `--group`.

use std::collections::BTreeMap;

use super::partitions::Partition;

/// Offsets by group and partition.
pub(super) type Plan = BTreeMap<String, BTreeMap<Partition, i64>>;

/// Writes a plan; with `only_group` without the groups.
pub(super) fn export(plan: &Plan, only_group: bool) -> String {
    let mut lines = String::new();
    for (group, offsets) in plan {
        for ((topic, partition), offset) in offsets {
            if !only_group {
                lines.push_str(&format!("{},", quote(group)));
            }
            lines.push_str(&format!("{},{partition},{offset}\n", quote(topic)));
        }
    }
    lines
}

/// Reads a plan. Lines without a group are of `only_group`, where the first line is without.
///
/// Errors with what is wrong with which line.
pub(super) fn parse(text: &str, only_group: Option<&str>) -> Result<Plan, String> {
    let lines = || {
        text.lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
    };
    let first = lines().next().and_then(|(_, line)| fields(line));
    let only_group = only_group.filter(|_| first.is_some_and(|fields| offset(&fields).is_some()));
    let mut plan = Plan::new();
    for (index, line) in lines() {
        let row = fields(line).and_then(|fields| match only_group {
            Some(group) => Some((group.to_owned(), offset(&fields)?)),
            None => {
                let (group, fields) = fields.split_first()?;
                Some((group.clone(), offset(fields)?))
            }
        });
        let expected = match only_group {
            Some(_) => "topic,partition,offset",
            None => "group,topic,partition,offset",
        };
        let (group, (partition, offset)) = row
            .ok_or_else(|| format!("line {} is not {expected}: {line}", index.saturating_add(1)))?;
        plan.entry(group).or_default().insert(partition, offset);
    }
    Ok(plan)
}

fn offset(fields: &[String]) -> Option<(Partition, i64)> {
    let [topic, partition, offset] = fields else {
        return None;
    };
    let partition = partition.trim().parse().ok()?;
    Some(((topic.clone(), partition), offset.trim().parse().ok()?))
}

/// Splits a line at its commas; `None` where a quote is not closed.
fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            _ => field.push(character),
        }
    }
    fields.push(field);
    (!quoted).then_some(fields)
}

/// Quotes what Kafka's tool quotes: texts that are long, or have any character before `-` in ASCII.
fn quote(text: &str) -> String {
    const LONGEST_UNQUOTED: usize = 24;
    if text.len() <= LONGEST_UNQUOTED && text.chars().all(|character| character >= '-') {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(topic: &str, partition: i32, offset: i64) -> (Partition, i64) {
        ((topic.to_owned(), partition), offset)
    }

    #[test]
    fn a_plan_of_one_group_needs_no_group() {
        let plan = Plan::from([("g".to_owned(), [at("t", 0, 7), at("t", 1, 8)].into())]);
        let text = export(&plan, true);
        assert_eq!(text, "t,0,7\nt,1,8\n");
        assert_eq!(parse(&text, Some("g")), Ok(plan.clone()));
        // The other form is read with one group as well.
        let text = export(&plan, false);
        assert_eq!(text, "g,t,0,7\ng,t,1,8\n");
        assert_eq!(parse(&text, Some("g")), Ok(plan));
    }

    #[test]
    fn a_bad_line_is_named() {
        assert_eq!(
            parse("t,0,7\n\nt,one,7\n", Some("g")),
            Err("line 3 is not topic,partition,offset: t,one,7".to_owned())
        );
        assert_eq!(
            parse("t,0,7\n", None),
            Err("line 1 is not group,topic,partition,offset: t,0,7".to_owned())
        );
        assert!(parse("g,\"t,0,7\n", None).is_err());
    }

    #[test]
    fn long_and_odd_names_are_quoted() {
        assert_eq!(quote("a-b.c_d"), "a-b.c_d");
        assert_eq!(quote("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(
            quote("twenty-five-characters-xx"),
            "\"twenty-five-characters-xx\""
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            group in "[ -~]{1,30}",
            topic in "[a-zA-Z0-9._-]{1,40}",
            partition in 0..i32::MAX,
            offset in 0..i64::MAX,
        ) {
            let plan = Plan::from([(group, [at(&topic, partition, offset)].into())]);
            prop_assert_eq!(parse(&export(&plan, false), None), Ok(plan));
        }
    }
}
