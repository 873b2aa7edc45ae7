//! What the tests of coordinators in general share.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::metadata::{MetadataImage, PartitionImage, TopicImage};
use crate::partition::PartitionHandle;
use crate::partition::testing::BROKER;

/// Returns metadata in which this broker leads the one partition of `t`.
pub(super) fn image(local: &PartitionHandle, leader_epoch: i32) -> MetadataImage {
    image_with_id(7, local, leader_epoch)
}

/// Likewise; the topic has that id.
pub(super) fn image_with_id(id: u128, local: &PartitionHandle, leader_epoch: i32) -> MetadataImage {
    let partition = PartitionImage {
        leader: BROKER,
        leader_epoch,
        replicas: vec![BROKER],
        isr: vec![BROKER],
        local: Some(local.clone()),
    };
    let mut image = MetadataImage::default();
    image.put_topic(Arc::new(TopicImage {
        name: "t".into(),
        id: Uuid::from_u128(id),
        is_internal: true,
        config: Arc::default(),
        overrides: BTreeMap::new(),
        partitions: vec![partition],
    }));
    image
}
