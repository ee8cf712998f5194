//! Compacted topics from outside: what is set, refused, kept and read over the gaps.

use std::time::Duration;

use atoll_base::Timestamp;
use atoll_broker::Inside;
use atoll_broker::inside::Outgoing;
use atoll_store::log::Header;
use kafka_protocol::messages::create_topics_request::CreatableTopicConfig;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};

use super::*;

const POLICY: [(&str, &str); 3] = [
    ("cleanup.policy", "compact"),
    ("segment.ms", "1"),
    ("delete.retention.ms", "0"),
];

fn string(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

async fn make(client: &mut Client, name: &str, configs: &[(&str, &str)]) -> i16 {
    let configs = configs.iter().map(|(key, value)| {
        CreatableTopicConfig::default()
            .with_name(string(key))
            .with_value(Some(string(value)))
    });
    let made = CreatableTopic::default()
        .with_name(topic(name))
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(configs.collect());
    let request = CreateTopicsRequest::default().with_topics(vec![made]);
    client.ask(5, &request).await.topics[0].error_code
}

async fn told(client: &mut Client, name: &str) -> HashMap<String, String> {
    let asked = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(string(name))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![asked]);
    let answer = client.ask(2, &request).await;
    let configs = answer.results[0].configs.iter();
    configs
        .map(|own| {
            (
                own.name.to_string(),
                own.value.as_ref().unwrap().to_string(),
            )
        })
        .collect()
}

async fn set(client: &mut Client, name: &str, key: &str, value: &str) -> i16 {
    let config = AlterableConfig::default()
        .with_name(string(key))
        .with_config_operation(0)
        .with_value(Some(string(value)));
    let asked = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(string(name))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![asked]);
    client.ask(1, &request).await.responses[0].error_code
}

fn keyed(
    pairs: &[(&str, Option<&str>)],
    time: i64,
    producer: Option<(Producer, i32)>,
    transactional: bool,
) -> Bytes {
    let mut options = Options::default();
    options.producer = producer;
    options.transactional = transactional;
    let mut batch = BatchBuilder::new(options);
    for (key, value) in pairs {
        let record = NewRecord {
            timestamp: time,
            key: Some(key.as_bytes()),
            value: value.map(str::as_bytes),
            ..NewRecord::default()
        };
        batch.push(&record).unwrap();
    }
    batch.finish().unwrap()
}

/// Offsets and values up to the end, and where that is.
async fn read(node: &Node, name: &str, from: i64) -> (Vec<(i64, String)>, i64) {
    let inside = Inside::new(node.broker.clone());
    let text = |value: Option<Bytes>| String::from_utf8(value.unwrap().to_vec()).unwrap();
    let (mut next, mut seen) = (from, Vec::new());
    loop {
        let part = inside.read(name, 0, next, 1 << 20).await.unwrap();
        assert_eq!(part.trouble, None);
        let records = part.records.into_iter();
        seen.extend(records.map(|own| (own.offset, text(own.value))));
        if part.next == next {
            return (seen, next);
        }
        next = part.next;
    }
}

fn later() -> Timestamp {
    Timestamp::now().after(Duration::from_secs(60))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policy_is_set_told_kept_and_changed() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path(), true).await;
    let mut client = node.client().await;
    let more = [
        ("min.compaction.lag.ms", "5"),
        ("min.cleanable.dirty.ratio", "0.07"),
    ];
    let policy = [&POLICY[..], &more].concat();
    assert_eq!(make(&mut client, "a", &policy).await, 0);
    for _ in 0..2 {
        let told = told(&mut client, "a").await;
        for (key, value) in &policy {
            assert_eq!(told[*key], *value);
        }
        node.stop().await;
        node = Node::start(dir.path(), true).await;
        client = node.client().await;
    }
    let invalid = ResponseError::InvalidConfig.code();
    for (key, value, told_as) in [
        ("cleanup.policy", "delete, compact", Some("compact,delete")),
        ("cleanup.policy", "delete", Some("delete")),
        ("cleanup.policy", "none", None),
        ("min.cleanable.dirty.ratio", "1.5", None),
        ("segment.ms", "0", None),
        ("segment.bytes", "1073741824", Some("1073741824")),
        ("segment.bytes", "1073741825", None),
    ] {
        let answer = set(&mut client, "a", key, value).await;
        assert_eq!(
            answer,
            if told_as.is_some() { 0 } else { invalid },
            "{key}={value}"
        );
        if let Some(expected) = told_as {
            assert_eq!(told(&mut client, "a").await[key], expected);
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_without_a_key_is_refused_at_every_door() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut client = node.client().await;
    make(&mut client, "a", &POLICY).await;
    let refused = put(&mut client, &produce("a", batch(&["x"], None, false), None)).await;
    assert_eq!(refused.error_code, ResponseError::InvalidRecord.code());
    let mut own = Outgoing {
        topic: "a".into(),
        partition: None,
        time: 0,
        key: None,
        value: Some(Bytes::from_static(b"x")),
        headers: Vec::new(),
    };
    let inside = Inside::new(node.broker.clone());
    let refused = inside
        .publish(std::slice::from_ref(&own))
        .await
        .unwrap_err();
    assert!(refused.is_of_the_record(), "{refused}");
    assert!(refused.to_string().contains("'a', which is compacted"));
    own.key = Some(Bytes::from_static(b"k"));
    assert_eq!(inside.publish(&[own]).await.unwrap(), [(0, 0)]);
    node.stop().await;
}

const ONE: Producer = Producer { id: 71, epoch: 0 };
const TWO: Producer = Producer { id: 72, epoch: 0 };

fn batches() -> [Bytes; 5] {
    [
        keyed(
            &[("k", Some("0")), ("l", Some("1")), ("m", Some("2"))],
            1000,
            Some((ONE, 0)),
            false,
        ),
        keyed(&[("k", Some("3")), ("n", Some("4"))], 2000, None, false),
        keyed(
            &[("m", Some("5")), ("m", Some("6"))],
            3000,
            Some((TWO, 0)),
            false,
        ),
        keyed(&[("m", Some("7")), ("k", Some("8"))], 4000, None, false),
        keyed(&[("n", None)], 5000, None, false),
    ]
}

/// A node with a topic "a" of these batches, which are compacted.
async fn compacted(dir: &std::path::Path) -> Node {
    let node = Node::start(dir, true).await;
    let mut client = node.client().await;
    make(&mut client, "a", &POLICY).await;
    for records in batches() {
        assert_eq!(
            put(&mut client, &produce("a", records, None))
                .await
                .error_code,
            0
        );
    }
    // Tombstones go with the second run.
    for _ in 0..2 {
        node.broker.tend(later()).await;
    }
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_pass_over_the_gaps() {
    let dir = tempfile::tempdir().unwrap();
    let node = compacted(dir.path()).await;
    let mut client = node.client().await;
    let expected = [
        (1, "1".to_owned()),
        (7, "7".to_owned()),
        (8, "8".to_owned()),
    ];
    for from in 0..10 {
        let left: Vec<_> = expected
            .iter()
            .filter(|own| own.0 >= from)
            .cloned()
            .collect();
        assert_eq!(read(&node, "a", from).await, (left, 10), "from {from}");
    }
    let fetched = get(&mut client, &fetch("a", 3, 0, false)).await;
    assert_eq!((fetched.error_code, fetched.high_watermark), (0, 10));
    let mut rest = fetched.records.unwrap();
    let mut heads = Vec::new();
    while !rest.is_empty() {
        let header = Header::verify(&rest).unwrap();
        heads.push((header.base_offset, header.last_offset(), header.records));
        let _ = rest.split_to(header.bytes);
    }
    // The head of the second producer's batch stays, and that of the last batch.
    assert_eq!(heads, [(5, 6, 0), (7, 8, 2), (9, 9, 0)]);
    // The first record of a time or later, where the one that had it is gone, too.
    for (time, expected) in [(0, 1), (1000, 1), (1001, 7), (4000, 7), (4001, -1)] {
        let asked = ListOffsetsPartition::default().with_timestamp(time);
        let asked = ListOffsetsTopic::default()
            .with_name(topic("a"))
            .with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default().with_topics(vec![asked]);
        let listed = client.ask(4, &request).await;
        assert_eq!(
            listed.topics[0].partitions[0].offset, expected,
            "time {time}"
        );
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_has_changed_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = compacted(dir.path()).await;
    let files = || {
        let log = walk(&dir.path().join("log/a-0")).into_iter();
        let times = log.map(|path| (path.metadata().unwrap().modified().unwrap(), path));
        times.collect::<Vec<_>>()
    };
    let before = files();
    for _ in 0..2 {
        node.broker.tend(later()).await;
        assert_eq!(files(), before);
        // Also not when what was compacted is not known any more.
        node.stop().await;
        node = Node::start(dir.path(), true).await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producers_go_on_where_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let node = compacted(dir.path()).await;
    // Without the snapshot, which the end writes, they are known from the log.
    let copy = tempfile::tempdir().unwrap();
    copy_all(&dir.path().join("log"), &copy.path().join("log"));
    node.stop().await;
    for (folder, name) in [(dir.path(), "kept"), (copy.path(), "rebuilt")] {
        let node = Node::start(folder, true).await;
        let mut client = node.client().await;
        if name == "rebuilt" {
            // The state knows nothing of the topic, the log has its records.
            make(&mut client, "a", &POLICY).await;
        }
        let again = put(&mut client, &produce("a", batches()[2].clone(), None)).await;
        assert_eq!(
            (again.error_code, again.base_offset),
            (0, 5),
            "{name}: a repeat"
        );
        let gap = keyed(&[("q", None)], 1, Some((TWO, 5)), false);
        let refused = put(&mut client, &produce("a", gap, None)).await;
        assert_eq!(
            refused.error_code,
            ResponseError::OutOfOrderSequenceNumber.code(),
            "{name}"
        );
        let next = keyed(&[("q", Some("9"))], 1, Some((ONE, 3)), false);
        assert_eq!(
            put(&mut client, &produce("a", next, None))
                .await
                .base_offset,
            10
        );
        assert_eq!(
            read(&node, "a", 9).await,
            (vec![(10, "9".to_owned())], 11),
            "{name}"
        );
        node.stop().await;
    }
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|own| own.unwrap().path())
        .collect();
    found.sort();
    found
}

fn copy_all(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for path in walk(from) {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_all(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// Where the batches begin.
fn heads(fetched: &PartitionData) -> Vec<i64> {
    let mut rest = fetched.records.clone().unwrap_or_default();
    let mut found = Vec::new();
    while let Ok(header) = Header::parse(&rest) {
        found.push(header.base_offset);
        let _ = rest.split_to(header.bytes);
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_has_a_value_learns_of_its_deletion() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut client = node.client().await;
    let policy = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "1"),
        ("delete.retention.ms", "3600000"),
    ];
    make(&mut client, "a", &policy).await;
    // By its own time the tombstone is as old as can be.
    for (key, value) in [("k", Some("0")), ("k", None), ("l", Some("2"))] {
        let record = keyed(&[(key, value)], 1000, None, false);
        put(&mut client, &produce("a", record, None)).await;
    }
    let hours = |hours| later().after(Duration::from_secs(3600_u64 * hours));
    let all = fetch("a", 0, 0, false);
    node.broker.tend(later()).await;
    assert_eq!(heads(&get(&mut client, &all).await), [1, 2]);
    node.stop().await;
    let node = Node::start(dir.path(), true).await;
    let mut client = node.client().await;
    // It is known when it was cleaned, also after a start.
    node.broker.tend(later()).await;
    assert_eq!(heads(&get(&mut client, &all).await), [1, 2]);
    node.broker.tend(hours(2)).await;
    assert_eq!(heads(&get(&mut client, &all).await), [2]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_producers_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut client = node.client().await;
    make(&mut client, "a", &[]).await;
    let record = keyed(&[("k", Some("0"))], 1000, Some((ONE, 0)), false);
    put(&mut client, &produce("a", record, None)).await;
    let own = node.broker.catalog().partition("a", 0).unwrap();
    let hours = |hours| Timestamp::now().after(Duration::from_secs(3600_u64 * hours));
    for (after, known) in [(23, 1), (25, 0)] {
        node.broker.tend(hours(after)).await;
        assert_eq!(own.producers().unwrap().len(), known);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_says_too_much_hides_no_later_record() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut client = node.client().await;
    make(&mut client, "a", &[]).await;
    let mut lies = keyed(&[("k", Some("0"))], 1000, None, false).to_vec();
    lies[35..43].copy_from_slice(&9000_i64.to_be_bytes());
    let sum = crc32c::crc32c(&lies[21..]);
    lies[17..21].copy_from_slice(&sum.to_be_bytes());
    put(&mut client, &produce("a", lies.into(), None)).await;
    put(
        &mut client,
        &produce("a", keyed(&[("k", Some("1"))], 5000, None, false), None),
    )
    .await;
    let own = node.broker.catalog().partition("a", 0).unwrap();
    assert_eq!(own.offset_for_time(1000).unwrap(), Some((0, 1000)));
    assert_eq!(own.offset_for_time(2000).unwrap(), Some((1, 5000)));
    assert_eq!(own.offset_for_time(6000).unwrap(), None);
    node.stop().await;
}

async fn begin(client: &mut Client, id: &str) -> Producer {
    let id = TransactionalId(string(id));
    let asked = InitProducerIdRequest::default()
        .with_transactional_id(Some(id.clone()))
        .with_transaction_timeout_ms(60_000);
    let given = client.ask(2, &asked).await;
    let place = AddPartitionsToTxnTopic::default()
        .with_name(topic("a"))
        .with_partitions(vec![0]);
    let asked = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(id)
        .with_v3_and_below_producer_id(given.producer_id)
        .with_v3_and_below_producer_epoch(given.producer_epoch)
        .with_v3_and_below_topics(vec![place]);
    assert_eq!(
        client.ask(1, &asked).await.results_by_topic_v3_and_below[0].results_by_partition[0]
            .partition_error_code,
        0
    );
    Producer {
        id: given.producer_id.0,
        epoch: given.producer_epoch,
    }
}

async fn end(client: &mut Client, id: &str, own: Producer, commits: bool) {
    let asked = EndTxnRequest::default()
        .with_transactional_id(TransactionalId(string(id)))
        .with_producer_id(own.id.into())
        .with_producer_epoch(own.epoch)
        .with_committed(commits);
    assert_eq!(client.ask(1, &asked).await.error_code, 0);
}

fn plain(key: &str, value: Option<&str>) -> Bytes {
    keyed(&[(key, value)], 1000, None, false)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_is_not_touched_and_an_aborted_one_goes() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut client = node.client().await;
    let eager = ("min.cleanable.dirty.ratio", "0");
    make(&mut client, "a", &[&POLICY[..], &[eager]].concat()).await;
    put(&mut client, &produce("a", plain("k", Some("0")), None)).await;
    let aborts = begin(&mut client, "aborts").await;
    let theirs = keyed(&[("k", Some("1"))], 1000, Some((aborts, 0)), true);
    put(&mut client, &produce("a", theirs, Some("aborts"))).await;
    end(&mut client, "aborts", aborts, false).await;
    put(&mut client, &produce("a", plain("l", Some("3")), None)).await;
    put(&mut client, &produce("a", plain("l", None), None)).await;
    let open = begin(&mut client, "open").await;
    let theirs = keyed(&[("k", Some("5"))], 1000, Some((open, 0)), true);
    put(&mut client, &produce("a", theirs, Some("open"))).await;
    put(&mut client, &produce("a", plain("k", Some("6")), None)).await;
    node.broker.tend(later()).await;
    node.broker.tend(later()).await;
    // Of k neither the open transaction's record nor what comes behind it counts yet.
    assert_eq!(read(&node, "a", 0).await, (vec![(0, "0".to_owned())], 5));
    // What was deleted has left a gap up to the open transaction.
    for from in 3..5 {
        assert_eq!(read(&node, "a", from).await, (vec![], 5));
    }
    end(&mut client, "open", open, true).await;
    put(&mut client, &produce("a", plain("m", Some("8")), None)).await;
    node.broker.tend(later()).await;
    let (records, next) = read(&node, "a", 0).await;
    assert_eq!(records, [(6, "6".to_owned()), (8, "8".to_owned())]);
    assert_eq!(next, 9);
    its_abort_is_forgotten(&dir, node).await;
}

/// In the end nothing tells of the aborted transaction any more.
async fn its_abort_is_forgotten(dir: &tempfile::TempDir, node: Node) {
    let mut client = node.client().await;
    // The head of the one that was aborted stays for its producer, and with it the mark.
    let asked = fetch("a", 0, 0, true);
    assert!(heads(&get(&mut client, &asked).await).contains(&2));
    let again = begin(&mut client, "aborts").await;
    let theirs = keyed(&[("k", Some("9"))], 1000, Some((again, 0)), true);
    put(&mut client, &produce("a", theirs, Some("aborts"))).await;
    end(&mut client, "aborts", again, true).await;
    // A round whose snapshot finds records under way leaves it to the next.
    for round in 0..40 {
        put(&mut client, &produce("a", plain("m", Some("x")), None)).await;
        let told = get(&mut client, &asked).await;
        let listed = told.aborted_transactions.as_ref().map_or(0, Vec::len);
        // First the list, then the mark.
        assert!(listed == 0 || heads(&told).contains(&2), "round {round}");
        if !heads(&told).contains(&2) {
            break;
        }
        node.broker.tend(later()).await;
    }
    let told = get(&mut client, &asked).await;
    assert_eq!(told.aborted_transactions.clone().unwrap_or_default(), []);
    assert!(!heads(&told).contains(&2), "{:?}", heads(&told));
    let expected = read(&node, "a", 0).await;
    node.stop().await;
    let node = Node::start(dir.path(), true).await;
    assert_eq!(read(&node, "a", 0).await, expected);
    let told = get(&mut node.client().await, &asked).await;
    assert_eq!(told.aborted_transactions.unwrap_or_default(), []);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_also_deleted_goes_by_its_age() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut client = node.client().await;
    for (name, policy, left) in [("a", "compact", 0), ("b", "compact,delete", 1)] {
        let policy = [
            ("cleanup.policy", policy),
            ("segment.ms", "1"),
            ("retention.ms", "1"),
        ];
        make(&mut client, name, &policy).await;
        put(
            &mut client,
            &produce(name, keyed(&[("k", Some("0"))], 1000, None, false), None),
        )
        .await;
        node.broker.tend(later()).await;
        node.broker.tend(later()).await;
        let ends = get(&mut client, &fetch(name, 1, 0, false)).await;
        assert_eq!((ends.log_start_offset, ends.high_watermark), (left, 1));
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn young_files_are_left_alone_and_what_power_may_take_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut client = node.client().await;
    for (durability, left) in [("synced", vec![1]), ("memory", vec![0, 1])] {
        let policy = [
            ("cleanup.policy", "compact"),
            ("segment.ms", "1"),
            ("min.compaction.lag.ms", "3600000"),
            ("atoll.durability", durability),
        ];
        assert_eq!(make(&mut client, durability, &policy).await, 0);
        let now = Timestamp::now().as_micros() / 1000;
        let record = |value| keyed(&[("k", Some(value))], now, None, false);
        for value in ["a", "b"] {
            put(&mut client, &produce(durability, record(value), None)).await;
        }
        // The file is finished, and too young.
        node.broker.tend(later()).await;
        assert_eq!(read(&node, durability, 0).await.0.len(), 2);
        set(&mut client, durability, "min.compaction.lag.ms", "0").await;
        set(&mut client, durability, "segment.ms", "3600000").await;
        put(&mut client, &produce(durability, record("c"), None)).await;
        node.broker.tend(later()).await;
        let (records, end) = read(&node, durability, 0).await;
        let values: Vec<_> = records.into_iter().map(|own| own.1).collect();
        let expected: Vec<_> = left.iter().map(|at| ["b", "c"][*at].to_owned()).collect();
        assert_eq!((values, end), (expected, 3), "{durability}");
    }
    node.stop().await;
}
