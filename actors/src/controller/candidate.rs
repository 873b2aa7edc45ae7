//! A broker's candidacy for controller: whoever finds the office vacant tries to take it, everybody else watches it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};

use troupe_protocol::kafka::errors::ErrorCode;

use super::membership::{self, Office};
use super::topics::AdminError;
use super::{ControllerHandle, Synchronise, watch_znodes};
use crate::coordination::{CoordinationClient, paths};
use crate::metadata::{BrokerId, NO_LEADER};
use crate::replica_manager::ReplicaManagerHandle;
use crate::runtime::Clock;

/// How long the start waits for topics to be deleted.
const DELETIONS_AT_START: Duration = Duration::from_secs(10);

/// A broker that may become the controller.
#[derive(Clone)]
pub struct Candidate {
    /// Its id.
    pub broker_id: BrokerId,
    /// Its controller.
    pub controller: ControllerHandle,
    /// Who is told that there is a controller.
    pub replicas: ReplicaManagerHandle,
    /// When it took the office.
    pub clock: Arc<dyn Clock>,
}

impl Candidate {
    /// Stands once, when this broker has just come up: takes the office if it is vacant, and brings up the cluster then.
    pub async fn stand(&self, client: &CoordinationClient) -> Result<(), AdminError> {
        match membership::office(client, self.broker_id).await? {
            Office::Vacant => {
                if self.try_take_office(client, true).await? {
                    self.finish_deletions().await;
                }
                Ok(())
            }
            Office::Own => Ok(()),
            Office::Of(id) => self.replicas.controller_is(id).await,
        }
    }

    /// Stands whenever the office is vacant and serves while it is held, until the session ends.
    pub async fn follow(&self, client: &CoordinationClient) -> Result<(), AdminError> {
        while !client.has_ended() {
            // Armed before the look, so that nothing happens unseen between the two.
            let mut changed = Box::pin(client.watch(paths::CONTROLLER).await?.changed());
            match membership::office(client, self.broker_id).await? {
                Office::Own => {
                    let serving = Box::pin(watch_znodes::follow(&self.controller, client));
                    match select(changed, serving).await {
                        Either::Left(_) => {}
                        Either::Right((served, _)) => {
                            let out_of_office =
                                |error: &AdminError| error.code == ErrorCode::NotController;
                            if served.as_ref().is_err_and(out_of_office) {
                                // The election was won, and then broken off before the work began.
                                self.make_room(client).await?;
                            }
                            served?;
                        }
                    }
                }
                Office::Vacant => {
                    self.replicas.controller_is(NO_LEADER).await?;
                    self.try_take_office(client, false).await?;
                }
                Office::Of(id) => {
                    self.controller.resign().await?;
                    self.replicas.controller_is(id).await?;
                    changed.as_mut().await;
                }
            }
        }
        Ok(())
    }

    /// Deletes what is marked before anything else on disk counts as forgotten; but what has to wait for another broker, or
    /// can't be deleted, holds up no start.
    async fn finish_deletions(&self) {
        let deletions = self.controller.synchronise(Synchronise::Deletions);
        match tokio::time::timeout(DELETIONS_AT_START, deletions).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("topics can't be deleted yet: {}", error.message),
            Err(_) => tracing::warn!("topics that are to be deleted wait for other brokers"),
        }
    }

    async fn try_take_office(
        &self,
        client: &CoordinationClient,
        restarted: bool,
    ) -> Result<bool, AdminError> {
        let elected = membership::elect(client, self.broker_id, self.clock.as_ref()).await?;
        let Some(election) = elected else {
            return Ok(false);
        };
        tracing::info!("controller, with epoch {}", election.epoch);
        let taken = self.controller.take_office(election, restarted).await;
        if taken.is_err() {
            self.make_room(client).await?;
        }
        taken.map(|()| true)
    }

    /// Gives the office up, where it is still this broker's: for who can't do the work, or stops.
    pub async fn make_room(&self, client: &CoordinationClient) -> Result<(), AdminError> {
        if membership::office(client, self.broker_id).await? == Office::Own {
            client.delete(paths::CONTROLLER).await?;
        }
        Ok(())
    }
}
