//! Whose orders a broker obeys.

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::legacy_messages::{
    BrokerId as WireId, ControlledShutdownRequest, UpdateMetadataRequest,
};

use super::{Cluster, call, create, known, leaders};

#[actix_rt::test]
async fn orders_of_the_past_are_refused() {
    let cluster = Cluster::start().await;
    let one = cluster.broker(1).await;
    let order = |controller_epoch, broker_epoch| {
        UpdateMetadataRequest::default()
            .with_controller_id(WireId(9))
            .with_controller_epoch(controller_epoch)
            .with_broker_epoch(broker_epoch)
    };
    let old = call(&one, 8, order(0, i64::MAX)).await;
    assert_eq!(old.error_code, ErrorCode::StaleControllerEpoch.code());
    let late = call(&one, 8, order(1, 0)).await;
    assert_eq!(late.error_code, ErrorCode::StaleBrokerEpoch.code());
    assert_eq!(known(&one).await, (vec![1], 1));
    let late = ControlledShutdownRequest::default()
        .with_broker_id(WireId(1))
        .with_broker_epoch(0);
    let late = call(&one, 3, late).await;
    assert_eq!(late.error_code, ErrorCode::StaleBrokerEpoch.code());
    let nobody = ControlledShutdownRequest::default()
        .with_broker_id(WireId(5))
        .with_broker_epoch(1);
    let nobody = call(&one, 3, nobody).await;
    assert_eq!(nobody.error_code, ErrorCode::BrokerNotAvailable.code());
    cluster.end(vec![one]).await;
}

#[actix_rt::test]
async fn nobody_locks_the_controller_out_with_an_epoch_of_the_future() {
    let cluster = Cluster::start().await;
    let one = cluster.broker(1).await;
    let two = cluster.broker(2).await;
    for broker in [&one, &two] {
        let order = UpdateMetadataRequest::default()
            .with_controller_id(WireId(9))
            .with_controller_epoch(i32::MAX)
            .with_broker_epoch(i64::MAX);
        let refused = call(broker, 8, order).await;
        assert_eq!(refused.error_code, ErrorCode::StaleControllerEpoch.code());
    }
    // The real one is obeyed as before.
    assert_eq!(create(&one, "t", &[&[1], &[2]]).await, ErrorCode::None);
    assert_eq!(leaders(&two, "t").await, [1, 2]);
    assert_eq!(known(&two).await, (vec![1, 2], 1));
    cluster.end(vec![two, one]).await;
}
