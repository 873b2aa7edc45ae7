//! What a replica does as a follower: it takes its leader's batches as they are, and cuts off what its leader has not got.

use std::ops::Range;
use std::sync::atomic::Ordering;

use actix::Context;
use bytes::Bytes;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::records::batch::{BatchHeader, batches};

use super::actor::bounds;
use super::messages::{AppendReplicated, BecomeFollower, Locate, Position, Truncate, TruncateTo};
use super::{Answer, Partition};

impl Partition {
    /// Follows from now on.
    pub(super) fn become_follower(&mut self, message: BecomeFollower, _: &mut Context<Self>) {
        let answer = self.replica.follow(message.leader_epoch);
        if answer == Ok(true) {
            let partition = &self.identity.topic_partition;
            let (leader, epoch) = (message.leader, message.leader_epoch);
            tracing::debug!(%partition, leader, epoch, "follows");
            self.send_producers_away();
        }
        self.settle();
        let _ = message.reply.send(answer.map(|_| ()));
    }

    /// Says how far the log is.
    pub(super) fn locate(&mut self, message: Locate, _: &mut Context<Self>) {
        let answer = self.position();
        let _ = message.reply.send(answer);
    }

    fn position(&mut self) -> Answer<Position> {
        let latest = self.log()?.epochs().latest();
        Ok(Position {
            log_start_offset: self.replica.log_start_offset(),
            log_end_offset: self.replica.log_end_offset(),
            last_epoch: latest.map_or(-1, |entry| entry.epoch),
            high_watermark: self.replica.high_watermark(),
        })
    }

    /// Appends batches of the leader, unchanged.
    pub(super) fn append_replicated(&mut self, message: AppendReplicated, ctx: &mut Context<Self>) {
        let AppendReplicated {
            records,
            leader_epoch,
            high_watermark,
            log_start_offset,
            reply,
        } = message;
        let appended = self
            .replica
            .check_follower(leader_epoch)
            .and_then(|()| self.write_replicated(&records, leader_epoch));
        let (flush_first, rolled) = match appended {
            Ok(appended) => appended,
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        self.replica.leader_has_replicated(high_watermark);
        let started = self.start_where_the_leader_does(log_start_offset);
        self.settle();
        let position = started.and_then(|()| self.position());
        if flush_first && position.is_ok() {
            self.replicated_replies
                .push((self.replica.log_end_offset(), reply));
            self.start_flush(ctx);
            return;
        }
        let _ = reply.send(position);
        self.start_flush_timer(ctx);
        if rolled {
            self.start_flush(ctx);
        }
    }

    /// Returns whether the batches have to be flushed before the leader hears of them, and whether a segment was closed.
    fn write_replicated(&mut self, records: &Bytes, leader_epoch: i32) -> Answer<(bool, bool)> {
        let (len, headers) = self.check_batches(records, leader_epoch)?;
        let (Some(first), Some(last)) = (headers.first(), headers.last()) else {
            return Ok((false, false));
        };
        let end = self.replica.log_end_offset();
        let empty = self.replica.log_start_offset() == end;
        if empty && first.base_offset < end && end <= first.last_offset() {
            // The leader's log starts within a batch, which comes whole.
            self.cut(TruncateTo::StartAt(first.base_offset))?;
        }
        let now_ms = self.surroundings.clock.now_ms();
        let log = self.log()?;
        let rolled = match log.append_all(records.get(..len).unwrap_or_default(), &headers, now_ms)
        {
            Ok(appended) => appended.rolled,
            Err(error) if log.is_failed() => {
                return Err(self.fail("writing to the log", &error));
            }
            Err(error) => {
                tracing::warn!(partition = %self.identity.topic_partition, "refused batches of the leader: {error}");
                return Err(ErrorCode::CorruptMessage);
            }
        };
        self.replica.appended(last.next_offset(), len as u64);
        let records = last.next_offset().saturating_sub(first.base_offset);
        let limit = u64::try_from(self.config.flush_messages).unwrap_or(u64::MAX);
        let records = u64::try_from(records).unwrap_or_default();
        Ok((self.flush.appended(records, limit), rolled))
    }

    /// Checks the whole batches: their CRC, and that no later leader wrote them. Returns their length together, and
    /// their headers.
    fn check_batches(
        &self,
        records: &Bytes,
        leader_epoch: i32,
    ) -> Answer<(usize, Vec<BatchHeader>)> {
        let (mut len, mut headers) = (0, Vec::new());
        for batch in batches(records) {
            let sound = batch.and_then(|batch| batch.check_crc().map(|()| *batch.header()));
            let header = sound.map_err(|error| {
                tracing::warn!(partition = %self.identity.topic_partition, "the leader sent a damaged batch: {error}");
                ErrorCode::CorruptMessage
            })?;
            if header.leader_epoch > leader_epoch {
                // The request was the last leader's still, the answer is the next one's: its epoch has to come first.
                break;
            }
            len += header.size;
            headers.push(header);
        }
        Ok((len, headers))
    }

    fn start_where_the_leader_does(&mut self, log_start_offset: i64) -> Answer<()> {
        match self.log()?.raise_log_start(log_start_offset) {
            Ok(true) => {
                self.replica.log_starts_at(log_start_offset);
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(error) => Err(self.fail("deleting records", &error)),
        }
    }

    /// Cuts off what the leader has not got.
    pub(super) fn truncate(&mut self, message: Truncate, _: &mut Context<Self>) {
        let answer = self
            .replica
            .check_follower(message.leader_epoch)
            .and_then(|()| self.cut(message.to))
            .and_then(|()| self.position());
        self.settle();
        let _ = message.reply.send(answer);
    }

    fn cut(&mut self, to: TruncateTo) -> Answer<()> {
        let (end, high_watermark) = (self.replica.log_end_offset(), self.replica.high_watermark());
        let log = self.log()?;
        let cut = match to {
            TruncateTo::Divergence { epoch, end_offset } => {
                let own = log.end_offset_for_epoch(epoch);
                log.truncate_to(divergence((epoch, end_offset), own, end, high_watermark))
            }
            TruncateTo::LogEnd(offset) => log.truncate_to(offset),
            TruncateTo::StartAt(offset) => log.truncate_fully_and_start_at(offset).map(|()| offset),
        };
        let (bounds, cleaned_to) = (bounds(log), log.cleaned_to());
        let recovery_point = log.recovery_point();
        let lost = self.replica.truncated(bounds);
        self.identity
            .recovery_point
            .store(recovery_point, Ordering::Release);
        self.identity
            .cleaned_to
            .store(cleaned_to, Ordering::Release);
        self.forget_flushes_beyond(bounds.end);
        let transactions = self.transactions.clone();
        transactions.reset(self.log()?.producers());
        if let Err(error) = cut {
            return Err(self.fail("truncating the log", &error));
        }
        if bounds.end != end {
            let partition = &self.identity.topic_partition;
            tracing::info!(%partition, from = end, to = bounds.end, "truncated the log");
        }
        // What the leader has deleted is not lost by starting where it does.
        if !matches!(to, TruncateTo::StartAt(_)) {
            self.mourn(lost);
        }
        Ok(())
    }

    /// Reports records that were acknowledged and are gone, as an unclean election does it.
    fn mourn(&self, lost: Option<Range<i64>>) {
        let Some(lost) = lost else {
            return;
        };
        let records = u64::try_from(lost.end - lost.start).unwrap_or_default();
        self.identity
            .lost_records
            .fetch_add(records, Ordering::AcqRel);
        tracing::error!(
            partition = %self.identity.topic_partition,
            from = lost.start,
            to = lost.end,
            "records below the high watermark are lost: the leader has not got them"
        );
    }

    /// Nobody can wait any more for what was cut off to be flushed: the rest will do.
    fn forget_flushes_beyond(&mut self, end: i64) {
        for (wanted, _) in &mut self.flush_replies {
            *wanted = end.min(*wanted);
        }
        for (_, reply) in self.replicated_replies.drain(..) {
            let _ = reply.send(Err(ErrorCode::NotLeaderOrFollower));
        }
    }

    /// Tells the leader of what is flushed.
    pub(super) fn answer_flushed(&mut self, flushed: i64) {
        let position = self.position();
        for (_, reply) in self
            .replicated_replies
            .extract_if(.., |(end, _)| *end <= flushed)
        {
            let _ = reply.send(position);
        }
    }
}

/// Finds the offset from which a follower's log is not its leader's, from the leader's answer: the largest epoch not
/// above that of the follower's last record, and where it ends there (KIP-595).
///
/// `own` is what the follower's log says of the same epoch, (-1, -1) for nothing. When the leader's epoch is not among
/// the follower's own, this goes back to the end of the one before it, and the leader is asked again.
pub(super) fn divergence(
    leader: (i32, i64),
    own: (i32, i64),
    log_end: i64,
    high_watermark: i64,
) -> i64 {
    let ends = match (leader, own) {
        // The leader knows of no epochs.
        ((_, ..0), _) => high_watermark,
        // This log does not.
        ((_, end), (_, ..0)) => end,
        ((_, end), (_, own_end)) => end.min(own_end),
    };
    ends.min(log_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_cut_where_it_parts_from_the_leaders() {
        for (leader, own, expected, why) in [
            ((3, 40), (3, 50), 40, "the leader's epoch ended earlier"),
            ((3, 60), (3, 50), 50, "the follower's did"),
            (
                (3, 60),
                (2, 30),
                30,
                "the epoch is not known: to the one before",
            ),
            ((3, 200), (3, 100), 100, "never beyond the end"),
            (
                (-1, 45),
                (-1, -1),
                45,
                "without epochs the leader's end counts",
            ),
            (
                (-1, -1),
                (3, 50),
                20,
                "without an answer the high watermark does",
            ),
        ] {
            assert_eq!(divergence(leader, own, 100, 20), expected, "{why}");
        }
    }
}
