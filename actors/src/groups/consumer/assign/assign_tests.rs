//! What the assignors promise, for any members and topics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn topic(number: usize) -> Uuid {
    Uuid::from_u128(number as u128 + 1)
}

/// Members by id: which topics they subscribe to, and what they have.
type Members = BTreeMap<Arc<str>, (BTreeSet<usize>, Partitions)>;

fn assign(assignor: Assignor, members: &Members, sizes: &[i32]) -> Assignment {
    let sizes: Sizes = sizes
        .iter()
        .enumerate()
        .map(|(n, &size)| (topic(n), size))
        .collect();
    let members: Vec<Subscriber<'_>> = members
        .iter()
        .map(|(id, (topics, current))| Subscriber {
            id,
            instance_id: None,
            topics: topics.iter().map(|&n| topic(n)).collect(),
            current,
        })
        .collect();
    assignor.assign(&members, &sizes)
}

fn members(subscriptions: &[&[usize]]) -> Members {
    let numbered = subscriptions.iter().enumerate();
    let member = |(n, topics): (usize, &&[usize])| {
        let id: Arc<str> = format!("m{n}").into();
        (id, (topics.iter().copied().collect(), Partitions::new()))
    };
    numbered.map(member).collect()
}

fn numbers(assignment: &Assignment, member: &str, of: usize) -> Vec<i32> {
    let partitions = assignment[member].iter();
    partitions
        .filter(|(id, _)| *id == topic(of))
        .map(|&(_, number)| number)
        .collect()
}

#[test]
fn ranges_of_equal_topics_are_equal() {
    let assignment = assign(Assignor::Range, &members(&[&[0, 1], &[0, 1]]), &[3, 3]);
    for of in [0, 1] {
        assert_eq!(numbers(&assignment, "m0", of), [0, 1]);
        assert_eq!(numbers(&assignment, "m1", of), [2]);
    }
}

#[test]
fn static_members_get_the_first_ranges() {
    let none = Partitions::new();
    let (a, b, name): (Arc<str>, Arc<str>, Arc<str>) = ("a".into(), "b".into(), "i".into());
    let subscriber = |id, instance_id| Subscriber {
        id,
        instance_id,
        topics: [topic(0)].into(),
        current: &none,
    };
    let members = [subscriber(&a, None), subscriber(&b, Some(&name))];
    let assignment = Assignor::Range.assign(&members, &[(topic(0), 2)].into());
    assert_eq!(numbers(&assignment, "b", 0), [0]);
}

#[test]
fn partitions_are_handed_on_along_chains() {
    // m0 alone may relieve nobody directly: its topic is shared with m1 only, m1's other one with m2.
    let mut members = members(&[&[0], &[0, 1], &[1]]);
    members.get_mut("m0").unwrap().1 = (0..3).map(|n| (topic(0), n)).collect();
    members.get_mut("m1").unwrap().1 = (0..2).map(|n| (topic(1), n)).collect();
    let assignment = assign(Assignor::Uniform, &members, &[3, 3]);
    let sizes: Vec<usize> = assignment.values().map(Partitions::len).collect();
    assert_eq!(sizes, [2, 2, 2]);
}

#[test]
fn nobody_or_nothing_is_fine() {
    for assignor in [Assignor::Uniform, Assignor::Range] {
        assert!(assign(assignor, &Members::new(), &[3]).is_empty());
        assert!(assign(assignor, &members(&[&[]]), &[3])["m0"].is_empty());
    }
}

#[test]
fn assignors_have_kafkas_names() {
    assert_eq!(Assignor::named("uniform"), Some(Assignor::Uniform));
    assert_eq!(Assignor::named("range"), Some(Assignor::Range));
    assert_eq!(Assignor::named("sticky"), None);
}

/// Demands that every partition that somebody subscribes to has one owner, who subscribes to it.
fn check_complete(members: &Members, sizes: &[i32], assignment: &Assignment) {
    assert_eq!(assignment.len(), members.len());
    for (number, &size) in sizes.iter().enumerate() {
        let subscribed = members.values().any(|(topics, _)| topics.contains(&number));
        for partition in 0..size {
            let partition = (topic(number), partition);
            let owners: Vec<_> = assignment
                .iter()
                .filter(|(_, owned)| owned.contains(&partition))
                .collect();
            assert_eq!(owners.len(), usize::from(subscribed), "{partition:?}");
            for (owner, _) in owners {
                assert!(members[owner].0.contains(&number));
            }
        }
    }
}

fn moved(members: &Members, assignment: &Assignment) -> usize {
    let moved = |(id, (_, before)): (&Arc<str>, &(_, Partitions))| {
        before.difference(&assignment[id]).count()
    };
    members.iter().map(moved).sum()
}

fn subscriptions() -> impl Strategy<Value = Vec<BTreeSet<usize>>> {
    prop::collection::vec(prop::collection::btree_set(0usize..4, 0..4), 1..7)
}

fn with_ids(subscriptions: Vec<BTreeSet<usize>>, before: &Assignment) -> Members {
    let numbered = subscriptions.into_iter().enumerate();
    let member = |(n, topics): (usize, BTreeSet<usize>)| {
        let id: Arc<str> = format!("m{n}").into();
        let current = before.get(&id).cloned().unwrap_or_default();
        (id, (topics, current))
    };
    numbered.map(member).collect()
}

proptest! {
    #[test]
    fn everything_is_assigned_once(
        before in subscriptions(),
        after in subscriptions(),
        sizes in prop::collection::vec(0i32..9, 4),
        range in any::<bool>(),
    ) {
        let assignor = if range { Assignor::Range } else { Assignor::Uniform };
        let first = with_ids(before, &Assignment::new());
        let assignment = assign(assignor, &first, &sizes);
        check_complete(&first, &sizes, &assignment);
        // And again, from there, with other members and subscriptions.
        let second = with_ids(after, &assignment);
        let assignment = assign(assignor, &second, &sizes);
        check_complete(&second, &sizes, &assignment);
        if !range {
            check_balance(&second, &assignment);
            let third = second.iter().map(|(id, (topics, _))| {
                (id.clone(), (topics.clone(), assignment[id].clone()))
            }).collect();
            prop_assert_eq!(assign(assignor, &third, &sizes), assignment, "nothing moves without need");
        }
    }

    #[test]
    fn with_equal_subscriptions_no_more_moves_than_must(
        before in 1usize..7, after in 1usize..7, size in 0i32..20,
    ) {
        let all = |count: usize| vec![BTreeSet::from([0]); count];
        let first = with_ids(all(before), &Assignment::new());
        let assignment = assign(Assignor::Uniform, &first, &[size]);
        let second = with_ids(all(after), &assignment);
        let assignment = assign(Assignor::Uniform, &second, &[size]);
        let sizes: Vec<usize> = assignment.values().map(Partitions::len).collect();
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        prop_assert!(most - least <= 1);
        let total = usize::try_from(size).unwrap();
        let (share, extra) = (total / after, total % after);
        let mut had: Vec<usize> = second.values().map(|(_, before)| before.len()).collect();
        had.sort_unstable_by(|a, b| b.cmp(a));
        let must = had.iter().enumerate().map(|(place, &had)| {
            had.saturating_sub(share + usize::from(place < extra))
        });
        prop_assert_eq!(moved(&second, &assignment), must.sum::<usize>());
    }
}

/// Demands that nobody could hand a partition to somebody who has at least two less.
fn check_balance(members: &Members, assignment: &Assignment) {
    for owned in assignment.values() {
        for partition in owned {
            for (taker, (topics, _)) in members {
                if topics.iter().any(|&n| topic(n) == partition.0) {
                    assert!(assignment[taker].len() + 1 >= owned.len(), "{assignment:?}");
                }
            }
        }
    }
}
