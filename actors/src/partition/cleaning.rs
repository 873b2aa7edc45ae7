//! What a partition does for the cleaners: it hands out what they may compact, and swaps their results in itself.

use std::sync::atomic::Ordering;

use actix::Context;
use troupe_protocol::kafka::errors::ErrorCode;

use super::messages::{BeginCleaning, EndCleaning, FindCleanable, ReplaceSegments};
use super::{Answer, Partition};
use crate::log::cleaner::{Replacement, SwapError};

impl Partition {
    /// Says how much there is to compact.
    pub(super) fn find_cleanable(&mut self, message: FindCleanable, _: &mut Context<Self>) {
        let now_ms = self.surroundings.clock.now_ms();
        let stable = self.replica.last_stable_offset();
        let cleanable = self.log().and_then(|log| {
            log.cleanable(now_ms, stable)
                .map_err(|_| ErrorCode::KafkaStorageError)
        });
        let _ = message.reply.send(cleanable);
    }

    /// Hands out the closed segments below the last stable offset.
    pub(super) fn begin_cleaning(&mut self, message: BeginCleaning, _: &mut Context<Self>) {
        let now_ms = self.surroundings.clock.now_ms();
        let stable = self.replica.last_stable_offset();
        let job = self.log().and_then(|log| {
            log.begin_cleaning(now_ms, stable)
                .map_err(|_| ErrorCode::KafkaStorageError)
        });
        let _ = message.reply.send(job);
    }

    /// Puts a compacted segment in its place.
    pub(super) fn replace_segments(&mut self, message: ReplaceSegments, ctx: &mut Context<Self>) {
        let answer = self.swap_in(message.replacement, ctx);
        let _ = message.reply.send(answer);
    }

    fn swap_in(&mut self, replacement: Box<Replacement>, ctx: &mut Context<Self>) -> Answer<bool> {
        match self.log()?.replace_segments(replacement) {
            Ok(files) => {
                self.remove_later(files, ctx);
                Ok(true)
            }
            Err(SwapError::Changed) => Ok(false),
            Err(SwapError::Io(error)) => Err(self.fail("replacing compacted segments", &error)),
        }
    }

    /// Takes note of how far the log is compacted, which the next checkpoint keeps.
    pub(super) fn end_cleaning(&mut self, message: EndCleaning, _: &mut Context<Self>) {
        if let Some(log) = &mut self.log {
            log.cleaned(message.cleaned_to);
            let cleaned_to = log.cleaned_to();
            self.identity
                .cleaned_to
                .store(cleaned_to, Ordering::Release);
        }
    }
}
