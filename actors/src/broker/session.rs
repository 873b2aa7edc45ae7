//! Keeps a broker in its cluster: joins, and when the session was lost, leads nothing until it has joined again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::StartError;
use crate::config::BrokerConfig;
use crate::controller::ControllerHandle;
use crate::controller::membership::{SessionMemory, join};
use crate::coordination::CoordinationClient;
use crate::metadata::BrokerNode;
use crate::runtime::Clock;

/// Time between two attempts to join again.
const RETRY: Duration = Duration::from_secs(1);

/// How long the service has to confirm the end of the session when the broker stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// What it takes to join.
pub(super) struct Joining {
    pub(super) connect: String,
    pub(super) config: Arc<BrokerConfig>,
    pub(super) node: BrokerNode,
    pub(super) memory: SessionMemory,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) controller: ControllerHandle,
}

/// The running membership.
pub(super) struct Session {
    stop: oneshot::Sender<()>,
    task: JoinHandle<CoordinationClient>,
}

impl Joining {
    /// Joins with a session, and keeps joined from then on.
    pub(super) async fn begin(self, client: CoordinationClient) -> Result<Session, StartError> {
        self.join(&client, None).await?;
        let (stop, stopped) = oneshot::channel();
        let task = actix_rt::spawn(self.keep(client, stopped));
        Ok(Session { stop, task })
    }

    async fn join(
        &self,
        client: &CoordinationClient,
        renewed: Option<CoordinationClient>,
    ) -> Result<(), StartError> {
        let membership = join(client, &self.node, &self.memory, self.clock.as_ref()).await?;
        self.controller
            .take_office(self.node.clone(), membership, renewed)
            .await
            .map_err(StartError::Topics)
    }

    async fn keep(
        self,
        mut client: CoordinationClient,
        mut stopped: oneshot::Receiver<()>,
    ) -> CoordinationClient {
        loop {
            tokio::select! {
                _ = &mut stopped => return client,
                followed = self.controller.follow(&client) => {
                    if let Err(error) = followed {
                        tracing::error!("changes in the coordination service can't be followed: {}", error.message);
                    }
                }
            }
            if client.has_ended() {
                self.controller.leave_office().await;
                tracing::warn!(
                    "the session with the coordination service has expired; this broker leads nothing until it is registered anew"
                );
                tokio::select! {
                    _ = &mut stopped => return client,
                    renewed = self.rejoin() => client = renewed,
                }
            } else {
                actix_rt::time::sleep(RETRY).await;
            }
        }
    }

    async fn rejoin(&self) -> CoordinationClient {
        loop {
            match self.try_rejoin().await {
                Ok(client) => {
                    tracing::info!("joined again");
                    return client;
                }
                Err(error) => tracing::error!("cannot join again yet: {error}"),
            }
            actix_rt::time::sleep(RETRY).await;
        }
    }

    async fn try_rejoin(&self) -> Result<CoordinationClient, StartError> {
        let client = super::connect_client(&self.connect, &self.config).await?;
        self.join(&client, Some(client.clone())).await?;
        Ok(client)
    }
}

impl Session {
    /// Leaves the cluster: closes the session, upon which the registration goes.
    pub(super) async fn end(self, controller: ControllerHandle) {
        let _ = self.stop.send(());
        let Ok(client) = self.task.await else {
            return;
        };
        controller.retire().await;
        if !client.close(FAREWELL).await {
            tracing::warn!(
                "the coordination service does not confirm the end of the session; it will expire"
            );
        }
    }
}
