//! Follows, while in office, the znodes that others write: brokers that come and go, new topics, added partitions, marks for
//! deletion, what old tools ask for in `/admin`, in-sync sets that leaders change, states that make no sense. The controller's
//! own writes come by here too and change nothing any more.

use tokio::select;

use super::topics::AdminError;
use super::watch_states::StateWatches;
use super::watch_topics::TopicWatches;
use super::{ControllerHandle, Synchronise};
use crate::coordination::{CoordinationClient, paths};

pub(super) async fn follow(
    controller: &ControllerHandle,
    client: &CoordinationClient,
) -> Result<(), AdminError> {
    let watch = async |path: &'static str| client.watch_children(path).await;
    let (_, watcher) = watch(paths::BROKER_IDS).await?;
    let mut brokers = Box::pin(watcher.changed());
    let (names, watcher) = watch(paths::TOPICS).await?;
    let mut topics = Box::pin(watcher.changed());
    let mut deletions = Box::pin(watch(paths::DELETE_TOPICS).await?.1.changed());
    let mut isr = Box::pin(watch(paths::ISR_CHANGES).await?.1.changed());
    let exists = async |path: &'static str| client.watch(path).await;
    let mut reassignments = Box::pin(exists(paths::REASSIGN_PARTITIONS).await?.changed());
    let mut preferred = Box::pin(exists(paths::PREFERRED_ELECTION).await?.changed());
    catch_up(controller).await?;
    let mut watches = TopicWatches::default();
    let assignments = watches.add(client, names).await?;
    controller
        .synchronise(Synchronise::Assignments(assignments))
        .await?;
    let mut states = StateWatches::default();
    loop {
        watch_senseless(&mut states, controller, client).await?;
        select! {
            () = client.ended() => return Ok(()),
            _ = &mut brokers => {
                brokers = Box::pin(watch(paths::BROKER_IDS).await?.1.changed());
                controller.synchronise(Synchronise::Brokers).await?;
                controller.synchronise(Synchronise::Reassignments).await?;
                // Some may have waited for a broker.
                delete_marked(controller);
            }
            _ = &mut topics => {
                let (names, watcher) = watch(paths::TOPICS).await?;
                topics = Box::pin(watcher.changed());
                controller.synchronise(Synchronise::Topics).await?;
                let assignments = watches.add(client, names).await?;
                controller.synchronise(Synchronise::Assignments(assignments)).await?;
            }
            changed = watches.changed() => {
                let assignments = watches.add(client, vec![changed]).await?;
                controller.synchronise(Synchronise::Assignments(assignments)).await?;
            }
            () = states.changed() => controller.synchronise(Synchronise::States).await?,
            _ = &mut deletions => {
                deletions = Box::pin(watch(paths::DELETE_TOPICS).await?.1.changed());
                delete_marked(controller);
            }
            _ = &mut isr => {
                isr = Box::pin(watch(paths::ISR_CHANGES).await?.1.changed());
                controller.synchronise(Synchronise::Isr).await?;
                controller.synchronise(Synchronise::Reassignments).await?;
            }
            _ = &mut reassignments => {
                reassignments = Box::pin(exists(paths::REASSIGN_PARTITIONS).await?.changed());
                controller.synchronise(Synchronise::Reassignments).await?;
            }
            _ = &mut preferred => {
                preferred = Box::pin(exists(paths::PREFERRED_ELECTION).await?.changed());
                controller.synchronise(Synchronise::PreferredElection).await?;
            }
        }
    }
}

/// Takes up what was written before it was watched.
async fn catch_up(controller: &ControllerHandle) -> Result<(), AdminError> {
    for change in [
        Synchronise::Brokers,
        Synchronise::Topics,
        Synchronise::Isr,
        Synchronise::Reassignments,
        Synchronise::PreferredElection,
    ] {
        controller.synchronise(change).await?;
    }
    delete_marked(controller);
    Ok(())
}

/// Watches every state that makes no sense now. One that was mended just before is taken up here.
async fn watch_senseless(
    states: &mut StateWatches,
    controller: &ControllerHandle,
    client: &CoordinationClient,
) -> Result<(), AdminError> {
    while states
        .add(client, controller.senseless_states().await?)
        .await?
    {
        controller.synchronise(Synchronise::States).await?;
    }
    Ok(())
}

/// Has marked topics deleted. That may take as long as it takes some broker to come to it, and the others do not wait.
fn delete_marked(controller: &ControllerHandle) {
    let controller = controller.clone();
    actix_rt::spawn(async move {
        if let Err(error) = controller.synchronise(Synchronise::Deletions).await {
            tracing::error!("topics can't be deleted yet: {}", error.message);
        }
    });
}
