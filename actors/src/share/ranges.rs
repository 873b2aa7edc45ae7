//! Values of ranges of offsets.

use std::collections::BTreeMap;

/// Maps ranges of offsets, first and last included, to values. Neighbours of one value are one range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeMap<T> {
    /// By first offset: the last one and the value. They do not overlap.
    ranges: BTreeMap<i64, (i64, T)>,
}

impl<T> Default for RangeMap<T> {
    fn default() -> Self {
        Self {
            ranges: BTreeMap::new(),
        }
    }
}

impl<T: Clone + PartialEq> RangeMap<T> {
    /// Lists the ranges in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (i64, i64, &T)> {
        self.ranges
            .iter()
            .map(|(&first, (last, value))| (first, *last, value))
    }

    /// Tells whether there is no range.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Gives offsets a value, whatever they had before.
    pub fn set(&mut self, first: i64, last: i64, value: T) {
        if first > last {
            return;
        }
        self.split(first);
        if let Some(next) = last.checked_add(1) {
            self.split(next);
        }
        let gone: Vec<i64> = self.ranges.range(first..=last).map(|(&at, _)| at).collect();
        for at in gone {
            self.ranges.remove(&at);
        }
        let (first, last) = self.absorb_neighbours(first, last, &value);
        self.ranges.insert(first, (last, value));
    }

    /// Forgets all offsets below one.
    pub fn clear_below(&mut self, offset: i64) {
        self.split(offset);
        self.ranges = self.ranges.split_off(&offset);
    }

    /// Lists what makes up a range: each piece with its value, or without where there is none.
    pub fn pieces(&self, first: i64, last: i64) -> Vec<(i64, i64, Option<&T>)> {
        let mut pieces = Vec::new();
        let mut at = first;
        let before = self.ranges.range(..first).next_back();
        let within = before.into_iter().chain(self.ranges.range(first..));
        for (&start, (end, value)) in within {
            if start > last || at > last {
                break;
            }
            if *end < at {
                continue;
            }
            if start > at {
                pieces.push((at, start.saturating_sub(1), None));
            }
            let end = (*end).min(last);
            pieces.push((start.max(at), end, Some(value)));
            at = end.saturating_add(1);
        }
        if at <= last {
            pieces.push((at, last, None));
        }
        pieces
    }

    /// Makes a range begin at this offset where one reaches over it.
    fn split(&mut self, offset: i64) {
        let Some((_, (last, value))) = self.ranges.range_mut(..offset).next_back() else {
            return;
        };
        if *last >= offset {
            let rest = (*last, value.clone());
            *last = offset.saturating_sub(1);
            self.ranges.insert(offset, rest);
        }
    }

    /// Takes out the neighbours that have the same value; returns the range with them.
    fn absorb_neighbours(&mut self, mut first: i64, mut last: i64, value: &T) -> (i64, i64) {
        let before = self.ranges.range(..first).next_back();
        if let Some((&start, (end, same))) = before
            && end.checked_add(1) == Some(first)
            && same == value
        {
            self.ranges.remove(&start);
            first = start;
        }
        let next = last.saturating_add(1);
        if let Some((end, same)) = self.ranges.get(&next)
            && same == value
        {
            last = *end;
            self.ranges.remove(&next);
        }
        (first, last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listed(map: &RangeMap<char>) -> Vec<(i64, i64, char)> {
        map.iter()
            .map(|(first, last, &value)| (first, last, value))
            .collect()
    }

    #[test]
    fn a_value_covers_what_was_there() {
        let mut map = RangeMap::default();
        map.set(0, 9, 'a');
        map.set(3, 5, 'b');
        assert_eq!(listed(&map), [(0, 2, 'a'), (3, 5, 'b'), (6, 9, 'a')]);
        map.set(3, 5, 'a');
        assert_eq!(listed(&map), [(0, 9, 'a')]);
        map.clear_below(4);
        assert_eq!(listed(&map), [(4, 9, 'a')]);
        map.set(i64::MAX, i64::MAX, 'z');
        map.set(7, 6, 'x');
        assert_eq!(listed(&map).len(), 2);
    }

    #[test]
    fn pieces_name_the_gaps() {
        let mut map = RangeMap::default();
        map.set(2, 3, 'a');
        map.set(6, 9, 'b');
        assert_eq!(
            map.pieces(0, 7),
            [
                (0, 1, None),
                (2, 3, Some(&'a')),
                (4, 5, None),
                (6, 7, Some(&'b'))
            ]
        );
        assert_eq!(map.pieces(3, 3), [(3, 3, Some(&'a'))]);
        assert_eq!(map.pieces(10, 11), [(10, 11, None)]);
        assert_eq!(map.pieces(5, 4), []);
    }

    proptest! {
        #[test]
        fn it_is_a_map_of_single_offsets(
            steps in prop::collection::vec((0i64..30, 0i64..10, 0u8..4), 0..40),
            first in 0i64..40,
            length in 0i64..20,
        ) {
            let mut map = RangeMap::default();
            let mut model = BTreeMap::new();
            for (first, length, value) in steps {
                if value == 0 {
                    map.clear_below(first);
                    model.retain(|&offset, _| offset >= first);
                } else {
                    map.set(first, first + length, value);
                    model.extend((first..=first + length).map(|offset| (offset, value)));
                }
            }
            let single = |pieces: Vec<(i64, i64, Option<u8>)>| -> Vec<(i64, Option<u8>)> {
                let pieces = pieces.into_iter();
                pieces.flat_map(|(first, last, value)| (first..=last).map(move |at| (at, value))).collect()
            };
            let pieces = map.pieces(first, first + length);
            let pieces = pieces.into_iter().map(|(first, last, value)| (first, last, value.copied()));
            let expected: Vec<_> = (first..=first + length).map(|at| (at, model.get(&at).copied())).collect();
            prop_assert_eq!(single(pieces.collect()), expected);
            let ranges: Vec<_> = map.iter().collect();
            for pair in ranges.windows(2) {
                prop_assert!(pair[0].1 < pair[1].0, "{:?}", ranges);
                prop_assert!(pair[0].1 + 1 < pair[1].0 || pair[0].2 != pair[1].2, "{:?}", ranges);
            }
        }
    }
}
