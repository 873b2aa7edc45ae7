use bytes::Bytes;
use troupe_protocol::kafka::fetch::{FetchTopic, ForgottenTopic, IsolationLevel};

use super::*;

const NOW: Duration = Duration::from_secs(1_000);

fn partition(index: i32, fetch_offset: i64) -> FetchPartition {
    FetchPartition {
        index,
        current_leader_epoch: -1,
        fetch_offset,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        max_bytes: 1_000,
        replica_directory_id: Uuid::nil(),
        high_watermark: i64::MAX,
    }
}

fn request(session: (i32, i32), partitions: &[FetchPartition]) -> FetchRequest {
    let topic = FetchTopic {
        name: "t".to_owned(),
        topic_id: Uuid::nil(),
        partitions: partitions.to_vec(),
    };
    FetchRequest {
        cluster_id: None,
        replica_id: -1,
        replica_epoch: -1,
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 1_000,
        isolation_level: IsolationLevel::ReadUncommitted,
        session_id: session.0,
        session_epoch: session.1,
        topics: if partitions.is_empty() {
            Vec::new()
        } else {
            vec![topic]
        },
        forgotten_topics: Vec::new(),
        rack_id: String::new(),
    }
}

/// Answers every partition of a plan: its high watermark, and as many bytes.
fn fetched(plan: &Plan, answer: impl Fn(i32) -> (i64, usize)) -> Vec<Fetched<Bytes>> {
    let answered = plan.wanted.iter().map(|wanted| {
        let index = wanted.partition.index;
        let (high_watermark, bytes) = answer(index);
        let mut response = FetchPartitionResponse::failed(index, ErrorCode::None);
        response.high_watermark = high_watermark;
        response.log_start_offset = 0;
        response.records = Some(Bytes::from(vec![0; bytes]));
        Fetched {
            topic: wanted.topic.clone(),
            response,
        }
    });
    answered.collect()
}

fn indexes(plan: &Plan) -> Vec<i32> {
    plan.wanted
        .iter()
        .map(|wanted| wanted.partition.index)
        .collect()
}

/// Opens a session of `size` partitions, all with high watermark 10.
fn open(cache: &mut SessionCache, id: i32, size: i32, privileged: bool, now: Duration) -> i32 {
    let partitions: Vec<_> = (0..size).map(|index| partition(index, 0)).collect();
    let mut request = request((0, 0), &partitions);
    request.replica_id = if privileged { 7 } else { -1 };
    let plan = cache.begin(&request, 12, now).expect("a full fetch");
    let mut all = fetched(&plan, |_| (10, 0));
    let given = cache.finish(&plan, &mut all, now, || id).expect("no error");
    assert_eq!(
        all.len(),
        plan.wanted.len(),
        "a full fetch is answered in full"
    );
    given
}

fn go_on(
    cache: &mut SessionCache,
    id: i32,
    epoch: i32,
    answer: impl Fn(i32) -> (i64, usize),
) -> (Vec<i32>, Vec<i32>) {
    let plan = cache
        .begin(&request((id, epoch), &[]), 12, NOW)
        .expect("continues");
    let mut answers = fetched(&plan, answer);
    assert_eq!(cache.finish(&plan, &mut answers, NOW, || 99), Ok(id));
    (
        indexes(&plan),
        answers.iter().map(|one| one.response.index).collect(),
    )
}

#[test]
fn only_what_changed_is_answered() {
    let mut cache = SessionCache::new(10);
    let id = open(&mut cache, 5, 3, false, NOW);
    assert_eq!(id, 5);
    assert_eq!(
        go_on(&mut cache, id, 1, |_| (10, 0)),
        (vec![0, 1, 2], vec![])
    );
    let moved = |index| if index == 1 { (11, 0) } else { (10, 0) };
    assert_eq!(go_on(&mut cache, id, 2, moved).1, [1]);
    assert_eq!(go_on(&mut cache, id, 3, moved).1, [0_i32; 0]);
}

#[test]
fn who_had_data_goes_to_the_end() {
    let mut cache = SessionCache::new(10);
    let id = open(&mut cache, 5, 3, false, NOW);
    let data = |index| (10, usize::from(index == 0));
    assert_eq!(go_on(&mut cache, id, 1, data), (vec![0, 1, 2], vec![0]));
    assert_eq!(go_on(&mut cache, id, 2, data).0, [1, 2, 0]);
}

#[test]
fn an_error_is_repeated_and_its_end_is_told() {
    let mut cache = SessionCache::new(10);
    let id = open(&mut cache, 5, 1, false, NOW);
    for epoch in 1..3 {
        let plan = cache
            .begin(&request((id, epoch), &[]), 12, NOW)
            .expect("continues");
        let response = FetchPartitionResponse::failed(0, ErrorCode::NotLeaderOrFollower);
        let mut answers = vec![Fetched::<Bytes> {
            topic: plan.wanted[0].topic.clone(),
            response,
        }];
        assert_eq!(cache.finish(&plan, &mut answers, NOW, || 99), Ok(id));
        assert_eq!(answers.len(), 1);
    }
    assert_eq!(go_on(&mut cache, id, 3, |_| (10, 0)).1, [0]);
}

#[test]
fn partitions_come_move_and_go() {
    let mut cache = SessionCache::new(10);
    let id = open(&mut cache, 5, 2, false, NOW);
    let mut change = request((id, 1), &[partition(1, 77), partition(9, 0)]);
    change.forgotten_topics.push(ForgottenTopic {
        name: "t".to_owned(),
        topic_id: Uuid::nil(),
        partitions: vec![0, 4],
    });
    let plan = cache.begin(&change, 12, NOW).expect("continues");
    assert_eq!(indexes(&plan), [1, 9]);
    assert_eq!(plan.wanted[0].partition.fetch_offset, 77);
    // The last ones leave: so does the session.
    let mut leave = request((id, 2), &[]);
    leave.forgotten_topics.push(ForgottenTopic {
        name: "t".to_owned(),
        topic_id: Uuid::nil(),
        partitions: vec![1, 9],
    });
    assert_eq!(
        cache.begin(&leave, 12, NOW).map(|plan| plan.wanted),
        Ok(vec![])
    );
    assert_eq!(
        cache.begin(&request((id, 3), &[]), 12, NOW),
        Err(ErrorCode::FetchSessionIdNotFound)
    );
}

#[test]
fn epochs_and_ids_are_checked() {
    let mut cache = SessionCache::new(10);
    let id = open(&mut cache, 5, 1, false, NOW);
    assert_eq!(
        cache.begin(&request((6, 1), &[]), 12, NOW),
        Err(ErrorCode::FetchSessionIdNotFound)
    );
    assert_eq!(
        cache.begin(&request((id, 2), &[]), 12, NOW),
        Err(ErrorCode::InvalidFetchSessionEpoch)
    );
    assert_eq!(
        cache.begin(&request((id, 1), &[]), 13, NOW),
        Err(ErrorCode::FetchSessionTopicIdError)
    );
    let plan = cache
        .begin(&request((id, 1), &[]), 12, NOW)
        .expect("continues");
    assert_eq!(
        cache.begin(&request((id, 1), &[]), 12, NOW),
        Err(ErrorCode::InvalidFetchSessionEpoch)
    );
    // Another request of the session has overtaken this one.
    cache
        .begin(&request((id, 2), &[]), 12, NOW)
        .expect("continues");
    let late = cache.finish(&plan, &mut Vec::<Fetched<Bytes>>::new(), NOW, || 99);
    assert_eq!(late, Err(ErrorCode::InvalidFetchSessionEpoch));
    // Closed by the client.
    cache
        .begin(&request((id, -1), &[]), 12, NOW)
        .expect("a fetch without session");
    assert_eq!(
        cache.begin(&request((id, 3), &[]), 12, NOW),
        Err(ErrorCode::FetchSessionIdNotFound)
    );
}

#[test]
fn a_fetch_without_session_gets_none() {
    let mut cache = SessionCache::new(10);
    let plan = cache
        .begin(&request((0, -1), &[partition(0, 0)]), 12, NOW)
        .expect("a plan");
    let mut answers = fetched(&plan, |_| (10, 0));
    assert_eq!(cache.finish(&plan, &mut answers, NOW, || 99), Ok(0));
    assert_eq!(answers.len(), 1);
}

#[test]
fn the_epoch_wraps_to_one() {
    assert_eq!((next_epoch(0), next_epoch(i32::MAX)), (1, 1));
}

#[test]
fn ids_are_positive_and_new() {
    let mut cache = SessionCache::new(10);
    open(&mut cache, 5, 1, false, NOW);
    let plan = cache
        .begin(&request((0, 0), &[partition(0, 0)]), 12, NOW)
        .expect("a plan");
    let mut draws = [-3, 0, 5, 8].into_iter();
    let id = cache.finish(&plan, &mut fetched(&plan, |_| (1, 0)), NOW, || {
        draws.next().expect("enough")
    });
    assert_eq!(id, Ok(8));
}

#[test]
fn a_full_cache_evicts_by_kips_rules() {
    let later = NOW + EVICTION + Duration::from_secs(1);
    // Young and in use: nobody has to go for a consumer, but for a follower.
    let mut cache = SessionCache::new(1);
    open(&mut cache, 1, 1, false, NOW);
    assert_eq!(open(&mut cache, 2, 9, false, NOW), 0);
    assert_eq!(open(&mut cache, 3, 1, true, NOW), 3);
    // A follower's goes for nobody unless it is stale.
    assert_eq!(open(&mut cache, 4, 9, false, NOW), 0);
    assert_eq!(open(&mut cache, 5, 1, false, later), 5);
    // Old, in use and smaller.
    let mut cache = SessionCache::new(1);
    let id = open(&mut cache, 1, 2, false, NOW);
    cache
        .begin(&request((id, 1), &[]), 12, later)
        .expect("in use");
    assert_eq!(open(&mut cache, 2, 2, false, later), 0);
    assert_eq!(open(&mut cache, 3, 3, false, later), 3);
    // No slots, no sessions.
    assert_eq!(open(&mut SessionCache::new(0), 1, 1, false, NOW), 0);
}
