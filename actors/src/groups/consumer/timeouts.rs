//! What time brings to a consumer group.

use std::sync::Arc;

use super::group::{ConsumerGroup, Step};
use super::member::{Member, MemberState};

impl ConsumerGroup {
    /// Puts out members that were silent for too long, or too slow to give partitions back or to join again.
    pub fn tick(&mut self, step: &mut Step<'_>) {
        let now_ms = step.now.monotonic_ms;
        let members = self.members.iter();
        let late: Vec<Arc<str>> = members
            .filter(|(_, member)| member.deadlines.first() <= now_ms)
            .map(|(id, _)| Arc::clone(id))
            .collect();
        for id in late {
            tracing::info!(group = %self.id, member = %id, "a member of a consumer group was too late");
            self.fence(&id, step);
        }
    }

    /// Returns when [`tick`](Self::tick) has something to do at the earliest, on the monotonic clock. Heartbeats only
    /// move it away.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        let members = self.members.values();
        members.map(|member| member.deadlines.first()).min()
    }

    /// Starts the session timeout of a member again.
    pub(super) fn touch(&mut self, id: &str, step: &mut Step<'_>) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let deadline_ms = step.after(session_timeout_ms(member, step));
        member.deadlines.session_ms = deadline_ms;
        step.due_ms = Some(step.due_ms.map_or(deadline_ms, |due| due.min(deadline_ms)));
    }

    /// Gives everyone the time to be heard of again, after the group was loaded.
    pub(super) fn touch_all(&mut self, step: &Step<'_>) {
        for member in self.members.values_mut() {
            member.deadlines.session_ms = step.after(session_timeout_ms(member, step));
            if member.current.state == MemberState::UnrevokedPartitions && !member.is_classic() {
                let timeout_ms = member.metadata.rebalance_timeout_ms;
                member.deadlines.revoke_ms = Some(step.after(timeout_ms));
            }
        }
    }
}

fn session_timeout_ms(member: &Member, step: &Step<'_>) -> i32 {
    let classic = member.metadata.classic.as_ref();
    classic.map_or(step.config.session_timeout_ms, |classic| {
        classic.session_timeout_ms
    })
}
