//! Keeps a broker in its cluster: joins, and when the session was lost, leads nothing until it has joined again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::StartError;
use crate::config::BrokerConfig;
use crate::controller::Candidate;
use crate::controller::membership::{SessionMemory, deregistered, join};
use crate::controller::topics::AdminError;
use crate::coordination::{CoordinationClient, SharedSession};
use crate::metadata::BrokerNode;
use crate::network::Network;

/// Time between two attempts to join again.
const RETRY: Duration = Duration::from_secs(1);

/// How long the service has to confirm the end of the session when the broker stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// What it takes to join.
pub(super) struct Joining {
    pub(super) connect: String,
    pub(super) network: Network,
    pub(super) config: Arc<BrokerConfig>,
    pub(super) node: BrokerNode,
    pub(super) memory: SessionMemory,
    /// Lends what is kept here to everyone else.
    pub(super) session: SharedSession,
    pub(super) candidate: Candidate,
}

/// The running membership.
pub(super) struct Session {
    /// Nothing once the broker leaves.
    stop: Option<oneshot::Sender<()>>,
    shared: SharedSession,
    task: JoinHandle<CoordinationClient>,
}

impl Joining {
    /// Joins with a session, and keeps joined from then on.
    pub(super) async fn begin(self, client: CoordinationClient) -> Result<Session, StartError> {
        self.join(&client).await?;
        let (stop, stopped) = oneshot::channel();
        let shared = self.session.clone();
        let task = actix_rt::spawn(self.keep(client, stopped));
        Ok(Session {
            stop: Some(stop),
            shared,
            task,
        })
    }

    async fn join(&self, client: &CoordinationClient) -> Result<(), StartError> {
        let Candidate {
            replicas, clock, ..
        } = &self.candidate;
        let epoch = join(client, &self.node, &self.memory, clock.as_ref()).await?;
        let joined = async {
            replicas.registered(epoch).await?;
            self.candidate.stand(client).await
        };
        joined.await.map_err(StartError::Topics)
    }

    /// Leaves all offices, with the session that they were held by.
    async fn leave(&self) {
        // Who is gone holds none.
        let _ = self.candidate.controller.resign().await;
        self.candidate.replicas.resign().await;
    }

    /// Follows what happens in the cluster, until the session ends.
    async fn follow(&self, client: &CoordinationClient) -> Result<(), AdminError> {
        let configs = self.candidate.replicas.follow(client);
        tokio::try_join!(configs, self.candidate.follow(client))?;
        Ok(())
    }

    async fn keep(
        self,
        mut client: CoordinationClient,
        mut stopped: oneshot::Receiver<()>,
    ) -> CoordinationClient {
        loop {
            let removed = tokio::select! {
                _ = &mut stopped => return self.step_down(client).await,
                followed = self.follow(&client) => {
                    if let Err(error) = followed {
                        tracing::error!("changes in the coordination service can't be followed: {}", error.message);
                    }
                    false
                }
                // That there is no session any more, the other branch tells.
                Ok(()) = deregistered(&client, self.node.id) => true,
            };
            if removed || client.has_ended() {
                self.leave().await;
                let why = match removed {
                    true => "the registration of this broker was removed",
                    false => "the session with the coordination service has expired",
                };
                tracing::warn!("{why}; this broker leads nothing until it is registered anew");
                tokio::select! {
                    _ = &mut stopped => return client,
                    renewed = self.rejoin() => client = renewed,
                }
            } else {
                actix_rt::time::sleep(RETRY).await;
            }
        }
    }

    /// Has another broker become the controller before this one is gone.
    async fn step_down(&self, client: CoordinationClient) -> CoordinationClient {
        if let Err(error) = self.candidate.make_room(&client).await {
            tracing::warn!("the controller's office is not given up: {}", error.message);
        }
        client
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
        let client = super::connect_client(&self.connect, &self.config, &self.network).await?;
        self.session.replace(client.clone());
        self.join(&client).await?;
        Ok(client)
    }
}

impl Session {
    /// Begins to leave: gives the controller's office up, and joins no more.
    pub(super) fn retire(&mut self) {
        if let Some(stop) = self.stop.take() {
            // One that has ended is not in office.
            let _ = stop.send(());
        }
    }

    /// Leaves the cluster: closes the session, upon which the registration goes.
    pub(super) async fn end(mut self) {
        self.retire();
        let Ok(client) = self.task.await else {
            return;
        };
        self.shared.end();
        if !client.close(FAREWELL).await {
            tracing::warn!(
                "the coordination service does not confirm the end of the session; it will expire"
            );
        }
    }
}
