//! Brokers that start where they can't, or while something else goes wrong.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use troupe_protocol::kafka::legacy_messages::update_metadata_request::{
    UpdateMetadataBroker, UpdateMetadataEndpoint,
};
use troupe_protocol::kafka::legacy_messages::{
    BrokerId as WireId, StrBytes as WireText, UpdateMetadataRequest,
};
use troupe_protocol::kafka::messages::MetadataRequest;
use zookeeper_client::{Acls, Client, CreateMode};

use super::{Cluster, call_at, known, start, try_start, until};

/// ZooKeeper's operation for a transaction.
const MULTI: i32 = 14;

#[actix_rt::test]
async fn a_second_broker_with_the_same_id_is_told_where_the_first_one_is() {
    let cluster = Cluster::start().await;
    let one = cluster.broker(1).await;
    let logs = cluster.dir.path().join("others");
    let refused = try_start(1, &logs, &cluster.connect()).await;
    let error = refused.err().expect("refused").to_string();
    let (_, addr) = &one.listeners[0];
    assert!(error.contains("broker.id=1"), "{error}");
    assert!(error.contains(&format!("PLAINTEXT://{addr}")), "{error}");
    assert_eq!(known(&one).await, (vec![1], 1));
    cluster.end(vec![one]).await;
}

#[actix_rt::test]
async fn a_directory_of_another_cluster_is_refused() {
    let first = Cluster::start().await;
    let one = first.broker(1).await;
    let theirs = one.cluster_id.to_string();
    one.stop().await;
    let second = Cluster::start().await;
    let two = second.broker(2).await;
    let logs = first.dir.path().join("logs-1");
    let refused = try_start(1, &logs, &second.connect()).await;
    let error = refused.err().expect("refused").to_string();
    assert!(error.contains(&format!("cluster {theirs}")), "{error}");
    assert!(error.contains(&*two.cluster_id), "{error}");
    assert!(error.contains("meta.properties"), "{error}");
    second.end(vec![two]).await;
    first.end(Vec::new()).await;
}

/// Passes frames on until one of them is the answer to the transaction that is to be lost.
async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, lost: Rc<Cell<Option<i32>>>) {
    let mut first = true;
    while let Ok(frame) = frame(&mut from).await {
        let xid = frame.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
        if !first && xid.is_some() && xid == lost.get() {
            return;
        }
        first = false;
        if put(&mut to, &frame).await.is_err() {
            return;
        }
    }
}

/// Passes frames on, and notes the first transaction that registers a broker.
async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, lost: Rc<Cell<Option<i32>>>) {
    while let Ok(frame) = frame(&mut from).await {
        let number = |at: usize| {
            let bytes = frame.get(at..at + 4)?;
            Some(i32::from_be_bytes(bytes.try_into().ok()?))
        };
        let path = b"/brokers/ids/";
        let registers = frame.windows(path.len()).any(|bytes| bytes == path);
        if number(4) == Some(MULTI) && registers && lost.get().is_none() {
            lost.set(number(0));
        }
        if put(&mut to, &frame).await.is_err() {
            return;
        }
    }
}

async fn frame(from: &mut OwnedReadHalf) -> std::io::Result<Vec<u8>> {
    let size = from.read_u32().await?;
    let mut frame = vec![0; usize::try_from(size).unwrap_or(0)];
    from.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn put(to: &mut OwnedWriteHalf, frame: &[u8]) -> std::io::Result<()> {
    to.write_u32(u32::try_from(frame.len()).unwrap_or(0))
        .await?;
    to.write_all(frame).await
}

#[actix_rt::test]
async fn a_registration_whose_answer_is_lost_counts_all_the_same() {
    let cluster = Cluster::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let lost = Rc::new(Cell::new(None));
    let (connect, losing) = (cluster.connect(), Rc::clone(&lost));
    actix_rt::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TcpStream::connect(&connect).await.expect("a connection");
            let (from_broker, to_broker) = stream.into_split();
            let (from_service, to_service) = service.into_split();
            actix_rt::spawn(requests(from_broker, to_service, Rc::clone(&losing)));
            actix_rt::spawn(answers(from_service, to_broker, Rc::clone(&losing)));
        }
    });
    let logs = cluster.dir.path().join("logs-1");
    let one = start(1, &logs, &format!("127.0.0.1:{port}")).await;
    assert!(lost.get().is_some(), "nothing was lost");
    assert_eq!(known(&one).await, (vec![1], 1));
    cluster.end(vec![one]).await;
}

/// Tells the broker that it is alive, and nothing of topics: of type 1 among other changes, of type 2 because there are none.
async fn inform(port: u16, kind: i8) {
    let endpoint = UpdateMetadataEndpoint::default()
        .with_port(i32::from(port))
        .with_host(WireText::from_static_str("127.0.0.1"))
        .with_listener(WireText::from_static_str("PLAINTEXT"));
    let broker = UpdateMetadataBroker::default()
        .with_id(WireId(2))
        .with_endpoints(vec![endpoint]);
    let order = UpdateMetadataRequest::default()
        .with_controller_id(WireId(9))
        .with_controller_epoch(5)
        .with_broker_epoch(i64::MAX)
        .with_type(kind)
        .with_live_brokers(vec![broker]);
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(call_at(addr, 8, order).await.error_code, 0);
    // Whoever waited for that has had a turn when this is answered.
    let known = call_at(addr, 12, MetadataRequest::default()).await;
    assert_eq!(known.brokers.len(), 1);
}

#[actix_rt::test]
async fn who_knows_only_the_brokers_is_not_ready() {
    let cluster = Cluster::start().await;
    let client = Client::connect(&cluster.connect())
        .await
        .expect("a session");
    // The controller is played by the test, and takes office just now.
    let persistent = CreateMode::Persistent.with_acls(Acls::anyone_all());
    let ephemeral = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    let controller = br#"{"version":1,"brokerid":9,"timestamp":"1"}"#;
    let epoch = client.create("/controller_epoch", b"5", &persistent).await;
    epoch.expect("an epoch");
    let office = client.create("/controller", controller, &ephemeral).await;
    office.expect("an office");
    let logs = cluster.dir.path().join("logs-2");
    let connect = cluster.connect();
    let starting = actix_rt::spawn(async move { start(2, &logs, &connect).await });
    until("it is registered", || async {
        let found = client.check_stat("/brokers/ids/2").await;
        found.expect("an answer").is_some()
    })
    .await;
    let (registration, _) = client.get_data("/brokers/ids/2").await.expect("there");
    let registration = String::from_utf8(registration).expect("text");
    let (_, port) = registration.split_once(r#""port":"#).expect("a port");
    let port: String = port.chars().take_while(char::is_ascii_digit).collect();
    let port: u16 = port.parse().expect("a port");
    inform(port, 1).await;
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert!(!starting.is_finished(), "ready without the topics");
    inform(port, 2).await;
    let two = starting.await.expect("started");
    cluster.end(vec![two]).await;
}
