//! The partition actor: owns the log, asks the replica what follows, answers those who wait.

use actix::{Actor, Context, Handler, Message};
use troupe_protocol::kafka::errors::ErrorCode;

use super::messages::{
    Append, BecomeLeader, Close, Delete, DeleteRecords, DescribeProducers, EpochEndOffset, Flush,
    ListOffset, ListSegmentOffsets, Read, ReadResult, UpdateConfig,
};
use super::replica::Replica;

/// One replica of one partition.
pub struct Partition {
    pub(super) replica: Replica,
}

impl Actor for Partition {
    type Context = Context<Self>;
}

/// Refuses each message while there is no log.
macro_rules! refused {
    ($($message:ty,)*) => {
        $(impl Handler<$message> for Partition {
            type Result = <$message as Message>::Result;

            fn handle(&mut self, message: $message, _: &mut Self::Context) {
                let _ = message.reply.send(Err(ErrorCode::KafkaStorageError));
            }
        })*
    };
}

refused! {
    Append, ListOffset, ListSegmentOffsets, EpochEndOffset, DescribeProducers, DeleteRecords,
    BecomeLeader, Flush, Close, Delete,
}

impl Handler<UpdateConfig> for Partition {
    type Result = ();

    fn handle(&mut self, message: UpdateConfig, _: &mut Self::Context) {
        self.replica
            .set_min_in_sync(message.config.min_insync_replicas);
    }
}

impl Handler<Read> for Partition {
    type Result = ();

    fn handle(&mut self, read: Read, _: &mut Self::Context) {
        let _ = read.reply.send(ReadResult {
            error: ErrorCode::KafkaStorageError,
            records: None,
            progress: self.replica.progress(),
            aborted: Vec::new(),
            diverging_epoch: None,
        });
    }
}
