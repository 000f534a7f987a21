//! What each segment holds and who still needs it: pure bookkeeping, no file is touched.
//!
//! A segment is needed while a group has an entry in it above its floor. Truncated entries need
//! nothing: a `Truncate` lowers what the group is known to have in every segment. Segments go
//! oldest first, so a `Truncate` never goes before the entries it voids, and the latest `State`
//! of a slot is appended anew before its segment goes.

use crate::base::{GroupId, LogIndex};
use crate::log::record::{Position, RecordKind};
use std::collections::BTreeMap;

/// First and last index of the entries of a group in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: LogIndex,
    pub(super) last: LogIndex,
}

/// Where the latest value of a slot stands, and how many bytes it takes in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) position: Position,
    pub(super) bytes: u64,
}

/// Who holds the oldest segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pin {
    pub(super) group: GroupId,
    pub(super) index: LogIndex,
    /// How many of the oldest segments would be free if the group's floor were `index`.
    pub(super) segments: usize,
}

#[derive(Debug, Default)]
pub(super) struct Retention {
    segments: BTreeMap<u32, BTreeMap<GroupId, Span>>,
    floors: BTreeMap<GroupId, LogIndex>,
    states: BTreeMap<(GroupId, u8), Place>,
    state_bytes: u64,
    last_to_outlive: Option<Position>,
    // The span being extended, kept out of the maps: appends come in runs of one group.
    hot: Option<(u32, GroupId, Span)>,
}

impl Retention {
    /// A segment has been begun.
    pub(super) fn begin(&mut self, segment: u32) {
        self.cool();
        self.segments.insert(segment, BTreeMap::new());
    }

    /// A record whose first frame is at `position` and whose last is in segment `last_segment`.
    /// The segments have begun.
    #[inline]
    pub(super) fn note(
        &mut self,
        group: GroupId,
        kind: RecordKind,
        index: LogIndex,
        position: Position,
        last_segment: u32,
        bytes: u64,
    ) {
        match kind {
            RecordKind::Entry => {
                if let Some((segment, g, span)) = &mut self.hot
                    && *segment == position.segment()
                    && last_segment == *segment
                    && *g == group
                {
                    span.first = span.first.min(index);
                    span.last = span.last.max(index);
                    return;
                }
                self.note_entry(group, index, position.segment(), last_segment);
            }
            RecordKind::Truncate => {
                self.last_to_outlive = Some(position);
                self.truncate(group, index);
            }
            RecordKind::State => {
                self.last_to_outlive = Some(position);
                let slot = (index.0 & 0xFF) as u8;
                let old = self.states.insert((group, slot), Place { position, bytes });
                self.state_bytes += bytes;
                self.state_bytes -= old.map_or(0, |old| old.bytes);
            }
        }
    }

    fn note_entry(&mut self, group: GroupId, index: LogIndex, first: u32, last: u32) {
        self.cool();
        // An entry that goes on in further segments needs them all.
        for segment in first..=last {
            let Some(spans) = self.segments.get_mut(&segment) else { continue };
            let span = spans.remove(&group).map_or(Span { first: index, last: index }, |s| Span {
                first: s.first.min(index),
                last: s.last.max(index),
            });
            if segment == last {
                self.hot = Some((segment, group, span));
            } else {
                spans.insert(group, span);
            }
        }
    }

    fn truncate(&mut self, group: GroupId, index: LogIndex) {
        self.cool();
        for spans in self.segments.values_mut() {
            if let Some(span) = spans.get_mut(&group) {
                span.last = span.last.min(index);
                if span.first > index {
                    spans.remove(&group);
                }
            }
        }
        // Entries above `index` will be appended anew, and they are needed.
        if let Some(floor) = self.floors.get_mut(&group) {
            *floor = (*floor).min(index);
        }
    }

    fn cool(&mut self) {
        if let Some((segment, group, span)) = self.hot.take()
            && let Some(spans) = self.segments.get_mut(&segment)
        {
            spans.insert(group, span);
        }
    }

    /// Raises a group's floor; it never sinks but by a truncation.
    pub(super) fn set_floor(&mut self, group: GroupId, index: LogIndex) {
        let floor = self.floors.entry(group).or_default();
        *floor = (*floor).max(index);
    }

    /// Forgets a group: it needs nothing any more, its states included.
    pub(super) fn remove_group(&mut self, group: GroupId) {
        self.cool();
        self.floors.remove(&group);
        for spans in self.segments.values_mut() {
            spans.remove(&group);
        }
        let state_bytes = &mut self.state_bytes;
        self.states.retain(|(g, _), place| {
            if *g == group {
                *state_bytes -= place.bytes;
            }
            *g != group
        });
    }

    /// The oldest segments that nobody needs, in order; never the newest.
    pub(super) fn unneeded(&mut self) -> Vec<u32> {
        self.cool();
        let newest = self.segments.keys().next_back().copied();
        self.segments
            .iter()
            .take_while(|(segment, spans)| {
                Some(**segment) != newest && self.pins(spans).next().is_none()
            })
            .map(|(segment, _)| *segment)
            .collect()
    }

    fn pins<'a>(
        &'a self,
        spans: &'a BTreeMap<GroupId, Span>,
    ) -> impl Iterator<Item = (GroupId, LogIndex)> + 'a {
        spans
            .iter()
            .filter(|(group, span)| span.last > self.floor(**group))
            .map(|(g, s)| (*g, s.last))
    }

    fn floor(&self, group: GroupId) -> LogIndex {
        self.floors.get(&group).copied().unwrap_or_default()
    }

    /// Who keeps the oldest segment; of several groups the one whose flush frees most.
    pub(super) fn pinned_by(&mut self) -> Option<Pin> {
        self.cool();
        let newest = self.segments.keys().next_back().copied()?;
        let oldest = self.segments.values().next().filter(|_| self.segments.len() > 1)?;
        self.pins(oldest)
            .map(|(group, index)| {
                let free = |(segment, spans): &(&u32, &BTreeMap<GroupId, Span>)| {
                    **segment != newest
                        && self.pins(spans).all(|(g, last)| g == group && last <= index)
                };
                Pin { group, index, segments: self.segments.iter().take_while(free).count() }
            })
            .max_by_key(|pin| pin.segments)
    }

    /// The latest states that stand in `segment` or before it.
    pub(super) fn states_up_to(&self, segment: u32) -> Vec<Position> {
        let mut out: Vec<Position> = self
            .states
            .values()
            .map(|place| place.position)
            .filter(|position| position.segment() <= segment)
            .collect();
        out.sort();
        out
    }

    /// Where the last record stands that must be durable before an older segment goes: what a
    /// truncation voids and what a state replaces may go only with their successor there for good.
    pub(super) fn last_to_outlive(&self) -> Option<Position> {
        self.last_to_outlive
    }

    /// Bytes that it takes to append every state anew.
    #[inline]
    pub(super) fn state_bytes(&self) -> u64 {
        self.state_bytes
    }

    /// A segment is gone.
    pub(super) fn forget(&mut self, segment: u32) {
        self.cool();
        self.segments.remove(&segment);
    }

    /// Entries by group in `segment`.
    #[cfg(test)]
    fn spans(&mut self, segment: u32) -> Vec<(u64, u64, u64)> {
        self.cool();
        let spans = &self.segments[&segment];
        spans.iter().map(|(g, s)| (g.0, s.first.0, s.last.0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(r: &mut Retention, group: u64, index: u64, first: u32, last: u32) {
        let position = Position::new(first, 100);
        r.note(GroupId(group), RecordKind::Entry, LogIndex(index), position, last, 10);
    }

    fn three_segments() -> Retention {
        let mut r = Retention::default();
        for segment in 1..=3 {
            r.begin(segment);
            entry(&mut r, 1, u64::from(segment) * 10, segment, segment);
            entry(&mut r, 1, u64::from(segment) * 10 + 1, segment, segment);
        }
        r
    }

    #[test]
    fn a_segment_is_needed_until_every_group_has_passed_it() {
        let mut r = three_segments();
        entry(&mut r, 2, 5, 3, 3);
        assert_eq!(r.spans(3), [(1, 30, 31), (2, 5, 5)]);
        assert!(r.unneeded().is_empty());
        let pin = Pin { group: GroupId(1), index: LogIndex(11), segments: 1 };
        assert_eq!(r.pinned_by(), Some(pin));
        r.set_floor(GroupId(1), LogIndex(20));
        assert_eq!(r.unneeded(), [1]);
        r.set_floor(GroupId(1), LogIndex(99));
        // The newest stays whatever the floors say.
        assert_eq!(r.unneeded(), [1, 2]);
        r.forget(1);
        r.forget(2);
        assert_eq!((r.unneeded(), r.pinned_by()), (vec![], None));
    }

    #[test]
    fn truncated_entries_need_nothing_and_pull_the_floor_down() {
        let mut r = three_segments();
        r.set_floor(GroupId(1), LogIndex(11));
        let at = Position::new(3, 200);
        r.note(GroupId(1), RecordKind::Truncate, LogIndex(9), at, 3, 10);
        assert_eq!(r.unneeded(), [1, 2]);
        entry(&mut r, 1, 10, 3, 3);
        r.begin(4);
        assert_eq!(r.unneeded(), [1, 2]);
    }

    #[test]
    fn an_entry_over_several_segments_needs_them_all() {
        let mut r = Retention::default();
        r.begin(1);
        r.begin(2);
        r.begin(3);
        entry(&mut r, 1, 7, 1, 3);
        r.begin(4);
        assert!(r.unneeded().is_empty());
        r.set_floor(GroupId(1), LogIndex(7));
        assert_eq!(r.unneeded(), [1, 2, 3]);
    }

    #[test]
    fn only_the_latest_state_of_a_slot_counts() {
        let mut r = three_segments();
        for (segment, slot, bytes) in [(1, 0, 10), (2, 0, 30), (1, 1, 5)] {
            let at = Position::new(segment, 300);
            r.note(GroupId(1), RecordKind::State, LogIndex(slot), at, segment, bytes);
        }
        assert_eq!(r.state_bytes(), 35);
        assert_eq!(r.states_up_to(1), [Position::new(1, 300)]);
        assert_eq!(r.states_up_to(2).len(), 2);
        r.remove_group(GroupId(1));
        assert_eq!((r.state_bytes(), r.states_up_to(9).len()), (0, 0));
        assert_eq!(r.unneeded(), [1, 2]);
    }
}
