//! The broker from outside, over a socket.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod bad_input;
mod client;
mod compaction;
mod fetch_sessions;
mod inspect;

use std::collections::{BTreeSet, HashMap};

use atoll_broker::access::Account;
use atoll_broker::records::{BatchBuilder, NewRecord, Options};
use atoll_broker::txn::Producer;
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, ApiVersionsRequest, CreateTopicsRequest,
    EndTxnRequest, FetchRequest, FindCoordinatorRequest, GroupId, InitProducerIdRequest,
    ListOffsetsRequest, MetadataRequest, OffsetFetchRequest, ProduceRequest, TopicName,
    TransactionalId, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;

use client::{Client, Node};

fn topic(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn batch(values: &[&str], producer: Option<(Producer, i32)>, transactional: bool) -> Bytes {
    let mut options = Options::default();
    options.producer = producer;
    options.transactional = transactional;
    let mut batch = BatchBuilder::new(options);
    for value in values {
        let record = NewRecord {
            timestamp: 1000,
            value: Some(value.as_bytes()),
            ..NewRecord::default()
        };
        batch.push(&record).unwrap();
    }
    batch.finish().unwrap()
}

fn produce(name: &str, records: Bytes, transaction: Option<&str>) -> ProduceRequest {
    let data = PartitionProduceData::default().with_records(Some(records));
    let data = TopicProduceData::default()
        .with_name(topic(name))
        .with_partition_data(vec![data]);
    let id = transaction.map(|id| TransactionalId(StrBytes::from_string(id.to_owned())));
    ProduceRequest::default()
        .with_transactional_id(id)
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![data])
}

async fn put(client: &mut Client, request: &ProduceRequest) -> PartitionProduceResponse {
    let response = client.ask(9, request).await;
    response.responses[0].partition_responses[0].clone()
}

fn fetch(name: &str, from: i64, wait: i32, committed: bool) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_fetch_offset(from)
        .with_partition_max_bytes(1 << 20);
    let asked = FetchTopic::default()
        .with_topic(topic(name))
        .with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_wait_ms(wait)
        .with_min_bytes(1)
        .with_isolation_level(i8::from(committed))
        .with_topics(vec![asked])
}

async fn get(client: &mut Client, request: &FetchRequest) -> PartitionData {
    let response = client.ask(11, request).await;
    response.responses[0].partitions[0].clone()
}

async fn make(client: &mut Client, name: &str) {
    let made = CreatableTopic::default()
        .with_name(topic(name))
        .with_num_partitions(1)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![made]);
    assert_eq!(client.ask(5, &request).await.topics[0].error_code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_read_byte_for_byte_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut client = node.client().await;
    make(&mut client, "a").await;
    let producer = Producer { id: 5, epoch: 0 };
    let first = batch(&["x", "y"], Some((producer, 0)), false);
    assert_eq!(
        put(&mut client, &produce("a", first.clone(), None))
            .await
            .base_offset,
        0
    );
    let node = {
        node.stop().await;
        Node::start(dir.path(), true).await
    };
    let mut client = node.client().await;
    let read = get(&mut client, &fetch("a", 0, 0, false)).await;
    assert_eq!((read.error_code, read.high_watermark), (0, 2));
    assert_eq!(read.records.unwrap(), first);
    // The same batch again is the same records.
    let again = put(&mut client, &produce("a", first, None)).await;
    assert_eq!((again.error_code, again.base_offset), (0, 0));
    let next = batch(&["z"], Some((producer, 2)), false);
    assert_eq!(
        put(&mut client, &produce("a", next, None))
            .await
            .base_offset,
        2
    );
    let gap = batch(&["w"], Some((producer, 9)), false);
    let refused = put(&mut client, &produce("a", gap, None)).await;
    let expected = ResponseError::OutOfOrderSequenceNumber.code();
    assert_eq!(refused.error_code, expected);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_waits_for_records() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let (mut reader, mut writer) = (node.client().await, node.client().await);
    make(&mut writer, "a").await;
    reader.send(11, &fetch("a", 0, 60_000, false)).await;
    put(&mut writer, &produce("a", batch(&["x"], None, false), None)).await;
    let response = reader.answer::<FetchRequest>(11).await.unwrap();
    assert_eq!(response.responses[0].partitions[0].high_watermark, 1);
    let beyond = get(&mut reader, &fetch("a", 9, 60_000, false)).await;
    assert_eq!(beyond.error_code, ResponseError::OffsetOutOfRange.code());
    // One that leaves while it waits is let go: the node stops at once.
    reader.send(11, &fetch("a", 1, 60_000, false)).await;
    drop(reader);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_are_seen_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut client = node.client().await;
    make(&mut client, "a").await;
    let id = || TransactionalId(StrBytes::from_static_str("t"));
    let init = InitProducerIdRequest::default()
        .with_transactional_id(Some(id()))
        .with_transaction_timeout_ms(60_000);
    let made = client.ask(4, &init).await;
    assert_eq!(made.error_code, 0);
    let producer = Producer {
        id: made.producer_id.0,
        epoch: made.producer_epoch,
    };
    let early = produce("a", batch(&["?"], Some((producer, 0)), true), Some("t"));
    let refused = put(&mut client, &early).await;
    assert_eq!(refused.error_code, ResponseError::InvalidTxnState.code());
    for (sequence, commits) in [(0, false), (1, true)] {
        let places = AddPartitionsToTxnTopic::default()
            .with_name(topic("a"))
            .with_partitions(vec![0]);
        let add = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(id())
            .with_v3_and_below_producer_id(made.producer_id)
            .with_v3_and_below_producer_epoch(made.producer_epoch)
            .with_v3_and_below_topics(vec![places]);
        let added = client.ask(3, &add).await.results_by_topic_v3_and_below;
        assert_eq!(added[0].results_by_partition[0].partition_error_code, 0);
        let records = batch(&["x"], Some((producer, sequence)), true);
        let put = put(&mut client, &produce("a", records, Some("t"))).await;
        assert_eq!(put.error_code, 0, "{put:?}");
        let open = get(&mut client, &fetch("a", put.base_offset, 0, true)).await;
        assert_eq!(open.last_stable_offset, put.base_offset);
        assert!(open.records.unwrap().is_empty());
        let end = EndTxnRequest::default()
            .with_transactional_id(id())
            .with_producer_id(made.producer_id)
            .with_producer_epoch(made.producer_epoch)
            .with_committed(commits);
        assert_eq!(client.ask(3, &end).await.error_code, 0);
        let ended = get(&mut client, &fetch("a", put.base_offset, 0, true)).await;
        assert_eq!(ended.last_stable_offset, put.base_offset + 2);
        assert_eq!(ended.aborted_transactions.unwrap().is_empty(), commits);
    }
    // Who takes the id over fences the one before.
    client.ask(4, &init).await;
    let late = produce("a", batch(&["!"], Some((producer, 2)), true), Some("t"));
    let fenced = put(&mut client, &late).await;
    assert_eq!(
        fenced.error_code,
        ResponseError::InvalidProducerEpoch.code()
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_is_unsettled_where_a_transaction_will_commit_it_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut client = node.client().await;
    make(&mut client, "a").await;
    make(&mut client, "b").await;
    let id = || TransactionalId(StrBytes::from_static_str("t"));
    let group = |name: &'static str| GroupId(StrBytes::from_static_str(name));
    let init = InitProducerIdRequest::default()
        .with_transactional_id(Some(id()))
        .with_transaction_timeout_ms(60_000);
    let made = client.ask(4, &init).await;
    let add = AddOffsetsToTxnRequest::default()
        .with_transactional_id(id())
        .with_producer_id(made.producer_id)
        .with_producer_epoch(made.producer_epoch)
        .with_group_id(group("g"));
    assert_eq!(client.ask(3, &add).await.error_code, 0);
    let offset = TxnOffsetCommitRequestPartition::default().with_committed_offset(5);
    let offset = TxnOffsetCommitRequestTopic::default()
        .with_name(topic("a"))
        .with_partitions(vec![offset]);
    let commit = TxnOffsetCommitRequest::default()
        .with_transactional_id(id())
        .with_group_id(group("g"))
        .with_producer_id(made.producer_id)
        .with_producer_epoch(made.producer_epoch)
        .with_generation_id(-1)
        .with_topics(vec![offset]);
    let kept = client.ask(3, &commit).await;
    assert_eq!(kept.topics[0].partitions[0].error_code, 0);
    let unstable = ResponseError::UnstableOffsetCommit.code();
    for (name, stable, expected) in [
        ("g", true, [(unstable, -1), (0, -1)]),
        ("g", false, [(0, -1), (0, -1)]),
        ("other", true, [(0, -1), (0, -1)]),
    ] {
        assert_eq!(
            committed(&mut client, name, stable).await,
            expected,
            "{name} {stable}"
        );
    }
    let end = EndTxnRequest::default()
        .with_transactional_id(id())
        .with_producer_id(made.producer_id)
        .with_producer_epoch(made.producer_epoch)
        .with_committed(true);
    assert_eq!(client.ask(3, &end).await.error_code, 0);
    assert_eq!(committed(&mut client, "g", true).await, [(0, 5), (0, -1)]);
    node.stop().await;
}

/// Error and offset of a group in partition 0 of `a` and of `b`; the group itself is without error.
async fn committed(client: &mut Client, group: &str, stable: bool) -> [(i16, i64); 2] {
    let places = ["a", "b"].map(|name| {
        OffsetFetchRequestTopics::default()
            .with_name(topic(name))
            .with_partition_indexes(vec![0])
    });
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_topics(Some(places.to_vec()));
    let request = OffsetFetchRequest::default()
        .with_groups(vec![group])
        .with_require_stable(stable);
    let response = client.ask(8, &request).await;
    let group = &response.groups[0];
    assert_eq!(group.error_code, 0);
    [0, 1].map(|at| {
        let own = &group.topics[at].partitions[0];
        (own.error_code, own.committed_offset)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_may_do_what_it_declares() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), false).await;
    let account = Account {
        secret: "secret".to_owned(),
        publishes: BTreeSet::from(["mine".to_owned()]),
        reads: BTreeSet::new(),
    };
    let accounts = HashMap::from([("orders".to_owned(), account)]);
    node.broker.access().replace(accounts);
    for name in ["mine", "other"] {
        let config = Default::default();
        node.broker.catalog().declare(name, &config).await.unwrap();
    }
    let mut nobody = node.client().await;
    nobody.send(9, &MetadataRequest::default()).await;
    assert!(nobody.is_closed().await);
    for (password, expected) in [("secret", 0), ("guess", 58)] {
        let mut client = node.client().await;
        assert_eq!(client.log_in("orders", password).await, expected);
        if expected != 0 {
            client.send(9, &MetadataRequest::default()).await;
            assert!(client.is_closed().await);
            continue;
        }
        let seen = client
            .ask(9, &MetadataRequest::default().with_topics(None))
            .await;
        let names: Vec<_> = seen
            .topics
            .iter()
            .map(|own| own.name.clone().unwrap())
            .collect();
        assert_eq!(names, [topic("mine")]);
        let mine = put(
            &mut client,
            &produce("mine", batch(&["x"], None, false), None),
        )
        .await;
        assert_eq!(mine.error_code, 0);
        let other = put(
            &mut client,
            &produce("other", batch(&["x"], None, false), None),
        )
        .await;
        let denied = ResponseError::TopicAuthorizationFailed.code();
        assert_eq!(other.error_code, denied);
        assert_eq!(
            get(&mut client, &fetch("mine", 0, 0, false))
                .await
                .error_code,
            denied
        );
    }
    node.stop().await;
}

/// Clients of many ages ask in many versions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut client = node.client().await;
    make(&mut client, "a").await;
    let records = batch(&["x"], None, false);
    for version in 3..=11 {
        let put = client
            .ask(version, &produce("a", records.clone(), None))
            .await;
        assert_eq!(
            put.responses[0].partition_responses[0].error_code, 0,
            "{version}"
        );
    }
    for version in 4..=12 {
        let read = client.ask(version, &fetch("a", 0, 0, true)).await;
        let read = &read.responses[0].partitions[0];
        assert_eq!((read.error_code, read.high_watermark), (0, 9), "{version}");
    }
    let partition = ListOffsetsPartition::default().with_timestamp(-1);
    let asked = ListOffsetsTopic::default()
        .with_name(topic("a"))
        .with_partitions(vec![partition]);
    let asked = ListOffsetsRequest::default().with_topics(vec![asked]);
    for version in 1..=7 {
        let listed = client.ask(version, &asked).await;
        assert_eq!(listed.topics[0].partitions[0].offset, 9, "{version}");
    }
    for version in 0..=12 {
        let wanted = MetadataRequestTopic::default().with_name(Some(topic("a")));
        let asked = MetadataRequest::default().with_topics(Some(vec![wanted]));
        let known = client.ask(version, &asked).await;
        assert_eq!(known.topics[0].partitions.len(), 1, "{version}");
    }
    for version in 0..=4 {
        client.ask(version, &ApiVersionsRequest::default()).await;
        let key = StrBytes::from_static_str("g");
        let asked = match version {
            4 => FindCoordinatorRequest::default().with_coordinator_keys(vec![key]),
            _ => FindCoordinatorRequest::default().with_key(key),
        };
        let found = client.ask(version, &asked).await;
        let port = found
            .coordinators
            .first()
            .map_or(found.port, |own| own.port);
        assert_eq!(port, i32::from(node.addr.port()), "{version}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_ends_its_own_connection_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let metadata = |version: i16, body: &[u8]| {
        let head = [
            &3_i16.to_be_bytes()[..],
            &version.to_be_bytes(),
            &[0, 0, 0, 7, 255, 255],
        ];
        let tags: &[u8] = if version >= 9 { &[0] } else { &[] };
        [&head.concat()[..], tags, body].concat()
    };
    for frame in [
        vec![],
        vec![0],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        metadata(0, &[0x03, 0x3c, 0x0c, 0x00, 0xb6]),
        metadata(12, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0]),
        metadata(12, &[]),
        metadata(99, &[]),
    ] {
        let mut client = node.client().await;
        client.frame(&frame).await;
        assert!(client.is_closed().await, "{frame:?}");
    }
    for length in [-1_i32, i32::MAX] {
        let mut client = node.client().await;
        client.raw(&length.to_be_bytes()).await;
        assert!(client.is_closed().await, "{length}");
    }
    let mut client = node.client().await;
    // What is not known of ApiVersions is answered in the words of its first version (KIP-511).
    let head = [0, 18, 0, 99, 0, 0, 0, 7, 255, 255, 0];
    client.frame(&head).await;
    let told = client.answer::<ApiVersionsRequest>(0).await.unwrap();
    assert_eq!(told.error_code, ResponseError::UnsupportedVersion.code());
    let wanted = MetadataRequestTopic::default().with_name(Some(topic("no such/topic")));
    let request = MetadataRequest::default().with_topics(Some(vec![wanted]));
    let named = client.ask(9, &request).await;
    let expected = ResponseError::InvalidTopicException.code();
    assert_eq!(named.topics[0].error_code, expected);
    make(&mut client, "a").await;
    let sound = batch(&["x"], None, false);
    for at in [16, 17, 60, sound.len() - 1] {
        let mut broken = sound.to_vec();
        broken[at] ^= 1;
        let refused = put(&mut client, &produce("a", broken.into(), None)).await;
        assert_ne!(refused.error_code, 0, "byte {at}");
    }
    let two = [&sound[..], &sound[..]].concat();
    let refused = put(&mut client, &produce("a", two.into(), None)).await;
    assert_eq!(refused.error_code, ResponseError::InvalidRecord.code());
    assert_eq!(
        get(&mut client, &fetch("a", 0, 0, false))
            .await
            .high_watermark,
        0
    );
    node.stop().await;
}
