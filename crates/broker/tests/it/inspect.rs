//! What is told to those who look for hanging transactions and for what fills the disk.

use std::path::Path;

use atoll_broker::Passed;
use atoll_broker::txn::Producer;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_log_dirs_response::DescribeLogDirsResult;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::PartitionResponse;
use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, DescribeLogDirsRequest, DescribeProducersRequest,
    DescribeTransactionsRequest, EndTxnRequest, InitProducerIdRequest, ListTransactionsRequest,
    TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use super::client::{Client, Node};
use super::{batch, fetch, get, make, produce, put, topic};

fn id(name: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(name.to_owned()))
}

async fn init(client: &mut Client, name: &str) -> Producer {
    let init = InitProducerIdRequest::default()
        .with_transactional_id(Some(id(name)))
        .with_transaction_timeout_ms(60_000);
    let made = client.ask(4, &init).await;
    assert_eq!(made.error_code, 0);
    Producer {
        id: made.producer_id.0,
        epoch: made.producer_epoch,
    }
}

/// Begins a transaction with one record in partition 0 of the topic.
async fn begin(client: &mut Client, name: &str, of: &str, producer: Producer) {
    let places = AddPartitionsToTxnTopic::default()
        .with_name(topic(of))
        .with_partitions(vec![0]);
    let add = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(id(name))
        .with_v3_and_below_producer_id(producer.id.into())
        .with_v3_and_below_producer_epoch(producer.epoch)
        .with_v3_and_below_topics(vec![places]);
    let added = client.ask(3, &add).await.results_by_topic_v3_and_below;
    assert_eq!(added[0].results_by_partition[0].partition_error_code, 0);
    let records = batch(&["x", "y"], Some((producer, 0)), true);
    let put = put(client, &produce(of, records, Some(name))).await;
    assert_eq!(put.error_code, 0);
}

async fn end(client: &mut Client, name: &str, producer: Producer) {
    let end = EndTxnRequest::default()
        .with_transactional_id(id(name))
        .with_producer_id(producer.id.into())
        .with_producer_epoch(producer.epoch)
        .with_committed(true);
    assert_eq!(client.ask(3, &end).await.error_code, 0);
}

async fn described(client: &mut Client, name: &str) -> TransactionState {
    let asked = DescribeTransactionsRequest::default();
    // Twice named, once described.
    let asked = asked.with_transactional_ids(vec![id(name), id(name)]);
    let mut all = client.ask(0, &asked).await.transaction_states;
    assert_eq!(all.len(), 1);
    all.remove(0)
}

/// The partitions 0 and 1 of the topic.
async fn producers(client: &mut Client, of: &str) -> Vec<PartitionResponse> {
    let asked = TopicRequest::default()
        .with_name(topic(of))
        .with_partition_indexes(vec![1, 0, 0]);
    let asked = DescribeProducersRequest::default().with_topics(vec![asked]);
    let mut topics = client.ask(0, &asked).await.topics;
    topics.remove(0).partitions
}

async fn listed(client: &mut Client, version: i16, asked: &ListTransactionsRequest) -> Vec<String> {
    let response = client.ask(version, asked).await;
    assert_eq!(response.error_code, 0);
    let all = response.transaction_states.iter();
    all.map(|own| own.transactional_id.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_and_its_producer_are_described_while_it_is_open_and_after() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut client = node.client().await;
    make(&mut client, "a").await;
    put(&mut client, &produce("a", batch(&["x"], None, false), None)).await;
    let producer = init(&mut client, "t").await;
    let idle = described(&mut client, "t").await;
    assert_eq!((idle.error_code, &*idle.transaction_state), (0, "Empty"));
    assert_eq!(idle.transaction_start_time_ms, -1);
    begin(&mut client, "t", "a", producer).await;
    let open = described(&mut client, "t").await;
    assert_eq!(
        (&*open.transaction_state, open.transaction_timeout_ms),
        ("Ongoing", 60_000)
    );
    assert_eq!((open.producer_id.0, open.producer_epoch), (producer.id, 0));
    let since = atoll_base::Timestamp::now().as_micros() / 1000 - open.transaction_start_time_ms;
    assert!((0..60_000).contains(&since), "{since}");
    assert_eq!(
        (&*open.topics[0].topic.0, &open.topics[0].partitions[..]),
        ("a", &[0][..])
    );
    let known = producers(&mut client, "a").await;
    assert_eq!((known[0].partition_index, known[0].error_code), (0, 0));
    let own = &known[0].active_producers[0];
    assert_eq!((own.producer_id.0, own.producer_epoch), (producer.id, 0));
    assert_eq!((own.last_sequence, own.current_txn_start_offset), (1, 1));
    let missing = ResponseError::UnknownTopicOrPartition.code();
    assert_eq!(
        (known[1].partition_index, known[1].error_code),
        (1, missing)
    );
    assert_eq!(producers(&mut client, "no").await[0].error_code, missing);
    end(&mut client, "t", producer).await;
    let ended = described(&mut client, "t").await;
    assert_eq!(&*ended.transaction_state, "CompleteCommit");
    assert!(ended.topics.is_empty() && ended.transaction_start_time_ms == -1);
    let known = producers(&mut client, "a").await;
    assert_eq!(known[0].active_producers[0].current_txn_start_offset, -1);
    // Neither who was never heard of nor who only wrote without asking is known.
    let early = batch(&["?"], Some((producer, 0)), true);
    put(&mut client, &produce("a", early, Some("never"))).await;
    for name in ["never", "nobody"] {
        let nobody = described(&mut client, name).await;
        let expected = ResponseError::TransactionalIdNotFound.code();
        assert_eq!(
            (nobody.error_code, nobody.producer_id.0),
            (expected, -1),
            "{name}"
        );
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_are_listed_by_state_producer_duration_and_pattern() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut client = node.client().await;
    make(&mut client, "a").await;
    let idle = init(&mut client, "idle").await;
    let open = init(&mut client, "open").await;
    begin(&mut client, "open", "a", open).await;
    let ended = init(&mut client, "ended").await;
    begin(&mut client, "ended", "a", ended).await;
    end(&mut client, "ended", ended).await;
    let all = ListTransactionsRequest::default();
    for version in 0..=2 {
        let listed = listed(&mut client, version, &all).await;
        assert_eq!(listed, ["ended", "idle", "open"], "{version}");
    }
    let states = |names: &[&'static str]| {
        let names = names.iter().map(|name| StrBytes::from_static_str(name));
        all.clone().with_state_filters(names.collect())
    };
    let of = states(&["Ongoing", "Empty"]);
    assert_eq!(listed(&mut client, 0, &of).await, ["idle", "open"]);
    let told = client.ask(0, &states(&["Hopeful", "Dead"])).await;
    assert!(told.transaction_states.is_empty());
    assert_eq!(
        told.unknown_state_filters,
        [StrBytes::from_static_str("Hopeful")]
    );
    let of = all
        .clone()
        .with_producer_id_filters(vec![idle.id.into(), ended.id.into()]);
    assert_eq!(listed(&mut client, 0, &of).await, ["ended", "idle"]);
    for (longer, expected) in [
        (-1, &["ended", "idle", "open"][..]),
        (0, &["open"]),
        (3_600_000, &[]),
    ] {
        let of = all.clone().with_duration_filter(longer);
        assert_eq!(listed(&mut client, 1, &of).await, expected, "{longer}");
    }
    let like = |pattern: &'static str| {
        let pattern = StrBytes::from_static_str(pattern);
        all.clone().with_transactional_id_pattern(Some(pattern))
    };
    assert_eq!(listed(&mut client, 2, &like(".*e.*e.*")).await, ["ended"]);
    assert!(listed(&mut client, 2, &like("end")).await.is_empty());
    let refused = client.ask(2, &like("(")).await.error_code;
    assert_eq!(refused, ResponseError::InvalidRegularExpression.code());
    node.stop().await;
}

async fn folder(client: &mut Client, version: i16, of: Option<&[&str]>) -> DescribeLogDirsResult {
    let topics = of.map(|names| {
        let asked = names.iter().map(|name| {
            DescribableLogDirTopic::default()
                .with_topic(topic(name))
                .with_partitions(vec![0, 0, 7])
        });
        asked.collect()
    });
    let asked = DescribeLogDirsRequest::default().with_topics(topics);
    let response = client.ask(version, &asked).await;
    assert_eq!((response.error_code, response.results.len()), (0, 1));
    response.results[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_folder_of_the_log_is_described_with_sizes() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut client = node.client().await;
    make(&mut client, "a").await;
    make(&mut client, "b").await;
    let large = batch(&[&"x".repeat(10_000)], None, false);
    put(&mut client, &produce("a", large, None)).await;
    for version in 1..=4 {
        let all = folder(&mut client, version, None).await;
        assert_eq!(Path::new(&*all.log_dir), dir.path().join("log"));
        let sizes: Vec<_> = all
            .topics
            .iter()
            .map(|own| (&*own.name.0, own.partitions[0].partition_size))
            .collect();
        let on_disk = dir.path().join("log/a-0");
        let files = std::fs::read_dir(on_disk).unwrap().flatten();
        let size: u64 = files.map(|file| file.metadata().unwrap().len()).sum();
        let size = i64::try_from(size).unwrap();
        assert!(size > 10_000);
        assert_eq!(sizes, [("a", size), ("b", 0)], "version {version}");
        let volume = (all.total_bytes, all.usable_bytes);
        if version < 4 {
            assert_eq!(volume, (-1, -1));
        } else {
            assert!(volume.0 >= volume.1 && volume.1 > 0, "{volume:?}");
        }
    }
    let one = folder(&mut client, 4, Some(&["a", "no", "a"])).await.topics;
    assert_eq!((one.len(), one[0].partitions.len()), (1, 1));
    assert!(folder(&mut client, 4, Some(&[])).await.topics.is_empty());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_sees_of_others_neither_producers_nor_topics_nor_sizes() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut open = node.client().await;
    make(&mut open, "mine").await;
    make(&mut open, "other").await;
    for (name, of) in [("orders-shared", "other"), ("atoll.x", "mine")] {
        let producer = init(&mut open, name).await;
        begin(&mut open, name, of, producer).await;
    }
    node.has_account_of_mine();
    let mut client = node.client().await;
    assert_eq!(client.log_in("orders", "s").await, 0);
    assert_eq!(producers(&mut client, "mine").await[0].error_code, 0);
    let denied = producers(&mut client, "other").await.remove(0);
    let expected = ResponseError::TopicAuthorizationFailed.code();
    assert_eq!(denied.error_code, expected);
    assert!(denied.active_producers.is_empty());
    assert_eq!(described(&mut open, "orders-shared").await.topics.len(), 1);
    let shared = described(&mut client, "orders-shared").await;
    assert_eq!((shared.error_code, shared.topics.len()), (0, 0));
    let expected = ResponseError::TransactionalIdAuthorizationFailed.code();
    for other in ["atoll.x", "others"] {
        let denied = described(&mut client, other).await;
        assert_eq!(
            (denied.error_code, denied.producer_id),
            (expected, (-1).into()),
            "{other}"
        );
    }
    let all = ListTransactionsRequest::default();
    assert_eq!(listed(&mut client, 2, &all).await, ["orders-shared"]);
    let expected = ResponseError::ClusterAuthorizationFailed.code();
    for (version, expected) in [(2, 0), (3, expected), (4, expected)] {
        let asked = DescribeLogDirsRequest::default().with_topics(None);
        let told = client.ask(version, &asked).await;
        assert_eq!((told.error_code, told.results.len()), (expected, 0));
    }
    node.stop().await;
}

/// By account and topic; who has no account is not counted, nor what was refused or sent again, nor marks of
/// transactions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_counted_by_account_and_topic() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut open = node.client().await;
    make(&mut open, "mine").await;
    make(&mut open, "other").await;
    put(
        &mut open,
        &produce("mine", batch(&["a", "b"], None, false), None),
    )
    .await;
    let producer = init(&mut open, "t").await;
    begin(&mut open, "t", "mine", producer).await;
    end(&mut open, "t", producer).await;
    assert_eq!(node.broker.passed(), []);
    node.has_account_of_mine();
    let mut client = node.client().await;
    assert_eq!(client.log_in("orders", "s").await, 0);
    for of in ["mine", "other"] {
        let records = batch(&["c", "d", "e"], None, false);
        put(&mut client, &produce(of, records, None)).await;
    }
    // A retry of what is there already is answered, not counted.
    let one = Some((Producer { id: 4711, epoch: 0 }, 0));
    let request = produce("mine", batch(&["f", "g"], one, false), None);
    let (first, again) = (
        put(&mut client, &request).await,
        put(&mut client, &request).await,
    );
    assert_eq!((first.error_code, first), (0, again));
    // From the second record on: of two and two, one is behind it; the mark is none.
    get(&mut client, &fetch("mine", 1, 0, false)).await;
    let passed = Passed {
        account: "orders".to_owned(),
        topic: "mine".to_owned(),
        published: 3 + 2,
        read: 1 + 2 + 3 + 2,
    };
    assert_eq!(node.broker.passed(), [passed]);
    node.stop().await;
}
