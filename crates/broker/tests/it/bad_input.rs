//! Clients that lie, break off, vanish or do not listen: each costs its own connection, no more.

use atoll_broker::records::{Compression, compress};
use atoll_broker::wire::kinds::KINDS;
use atoll_broker::wire::{FRAME_BYTES_MAX, FRAME_BYTES_UNPROVEN_MAX};
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, GroupId, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::client::{Client, Node};
use super::{batch, fetch, get, make, produce, put, topic};

// Bytes of a batch before its records, before what its checksum covers, before what its length counts.
const HEAD: usize = 61;
const COVERED: usize = 21;
const COUNTED: usize = 12;

fn list_offsets(name: &str, timestamp: i64) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
    let asked = ListOffsetsTopic::default()
        .with_name(topic(name))
        .with_partitions(vec![partition]);
    ListOffsetsRequest::default().with_topics(vec![asked])
}

async fn offset_error(client: &mut Client, name: &str, timestamp: i64) -> i16 {
    let listed = client.ask(7, &list_offsets(name, timestamp)).await;
    listed.topics[0].partitions[0].error_code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_proven_nothing_costs_little_and_not_for_long() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), false).await;
    let most = i32::try_from(FRAME_BYTES_UNPROVEN_MAX).unwrap();
    let mut large = node.client().await;
    large.raw(&(most + 1).to_be_bytes()).await;
    assert!(large.is_closed().await);
    let mut silent = node.client().await;
    let asked = ApiVersionsRequest::default();
    assert_eq!(silent.ask(0, &asked).await.error_code, 0);
    // Within ten seconds.
    assert!(silent.is_closed().await);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_length_beyond_the_limit_and_a_frame_that_breaks_off_end_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let most = i32::try_from(FRAME_BYTES_MAX).unwrap();
    for length in [most + 1, i32::MAX, -1, i32::MIN] {
        let mut client = node.client().await;
        client.raw(&length.to_be_bytes()).await;
        assert!(client.is_closed().await, "{length}");
    }
    for (length, sent) in [(most, 0), (most, 100_000), (10, 9), (8, 7)] {
        let mut client = node.client().await;
        let length = i32::to_be_bytes(length);
        client.raw(&[&length[..], &vec![0; sent]].concat()).await;
        client.says_no_more().await;
        assert!(client.is_closed().await, "{length:?} {sent}");
    }
    node.stop().await;
}

/// All zeros, all ones (negative lengths, endless numbers), and long texts that are not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_in_every_kind_and_version_is_answered_or_ends_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    for kind in KINDS {
        for version in kind.versions() {
            for byte in [0, 0xff, 0x7f, 0x01] {
                let head = [
                    &(kind.key as i16).to_be_bytes()[..],
                    &version.to_be_bytes(),
                    &[0, 0, 0, 7, 255, 255, 0],
                ];
                let mut client = node.client().await;
                client
                    .frame(&[&head.concat()[..], &[byte; 64]].concat())
                    .await;
                client.says_no_more().await;
                // An answer, or none; then the end, in any case.
                while !client.is_closed().await {}
            }
        }
    }
    let mut client = node.client().await;
    client.ask(3, &ApiVersionsRequest::default()).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_checksum_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut client = node.client().await;
    make(&mut client, "a").await;
    let sound = batch(&["x"], None, false);
    for at in [17, 20, HEAD, sound.len() - 1] {
        let mut broken = sound.to_vec();
        broken[at] ^= 0x80;
        let refused = put(&mut client, &produce("a", broken.into(), None)).await;
        let expected = ResponseError::CorruptMessage.code();
        assert_eq!(refused.error_code, expected, "byte {at}");
    }
    let read = get(&mut client, &fetch("a", 0, 0, false)).await;
    assert_eq!(read.high_watermark, 0);
    node.stop().await;
}

/// A batch that says it has one record, of these bytes as they are compressed.
fn bomb(codec: Compression, code: u8, bytes: &[u8]) -> Bytes {
    let mut bomb = batch(&["x"], None, false)[..HEAD].to_vec();
    bomb.extend_from_slice(&compress(codec, bytes).unwrap());
    bomb[COVERED + 1] = code;
    let length = u32::try_from(bomb.len() - COUNTED).unwrap();
    bomb[8..12].copy_from_slice(&length.to_be_bytes());
    let checksum = crc32c::crc32c(&bomb[COVERED..]);
    bomb[17..21].copy_from_slice(&checksum.to_be_bytes());
    bomb.into()
}

/// Batches are kept as they come; whoever asks for an offset by time has the broker open one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decompression_bomb_is_opened_up_to_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut client = node.client().await;
    let zeros = vec![0; 200 << 20];
    for (codec, code, name) in [
        (Compression::Gzip, 1, "gzip"),
        (Compression::Lz4, 3, "lz4"),
        (Compression::Zstd, 4, "zstd"),
    ] {
        make(&mut client, name).await;
        let bomb = bomb(codec, code, &zeros);
        assert!(bomb.len() < 1 << 20, "{name} is taken");
        let put = put(&mut client, &produce(name, bomb.clone(), None)).await;
        assert_eq!(put.error_code, 0, "{name}");
        // From here on the peak is counted anew.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = resident_peak();
        let expected = ResponseError::CorruptMessage.code();
        assert_eq!(
            offset_error(&mut client, name, 500).await,
            expected,
            "{name}"
        );
        let grown = resident_peak() - before;
        // Twice the limit of 64 MiB, and what a window may take.
        assert!(grown < 160 << 20, "{name} took {grown} bytes");
        let read = get(&mut client, &fetch(name, 0, 0, false)).await;
        assert_eq!(read.records.unwrap(), bomb, "{name}");
    }
    node.stop().await;
}

/// The most memory that this process had, in bytes.
fn resident_peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: usize = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_topic_is_named_and_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut client = node.client().await;
    make(&mut client, "a").await;
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    let records = batch(&["x"], None, false);
    let refused = put(&mut client, &produce("no", records.clone(), None)).await;
    assert_eq!(refused.error_code, unknown);
    let refused = get(&mut client, &fetch("no", 0, 60_000, false)).await;
    assert_eq!(refused.error_code, unknown);
    assert_eq!(offset_error(&mut client, "no", -1).await, unknown);
    assert_eq!(commit(&mut client, "no").await, unknown);
    let mut beyond = produce("a", records, None);
    beyond.topic_data[0].partition_data[0].index = 1;
    assert_eq!(put(&mut client, &beyond).await.error_code, unknown);
    beyond.topic_data[0].partition_data[0].index = -1;
    assert_eq!(put(&mut client, &beyond).await.error_code, unknown);
    let all = client
        .ask(9, &MetadataRequest::default().with_topics(None))
        .await;
    assert_eq!(all.topics.len(), 1);
    node.stop().await;
}

async fn commit(client: &mut Client, name: &str) -> i16 {
    let offset = OffsetCommitRequestPartition::default().with_committed_offset(1);
    let offset = OffsetCommitRequestTopic::default()
        .with_name(topic(name))
        .with_partitions(vec![offset]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![offset]);
    client.ask(8, &request).await.topics[0].partitions[0].error_code
}

/// The first test of accounts has Produce, Fetch and Metadata; here is what else names a topic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_reaches_no_topic_of_others_by_any_request() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), false).await;
    node.has_account_of_mine();
    for name in ["mine", "other"] {
        let config = Default::default();
        node.broker.catalog().declare(name, &config).await.unwrap();
    }
    let mut client = node.client().await;
    assert_eq!(client.log_in("orders", "s").await, 0);
    assert_eq!(offset_error(&mut client, "mine", -1).await, 0);
    assert_eq!(commit(&mut client, "mine").await, 0);
    let denied = ResponseError::TopicAuthorizationFailed.code();
    assert_eq!(offset_error(&mut client, "other", -1).await, denied);
    assert_eq!(commit(&mut client, "other").await, denied);
    // It sets up nothing, its own topics neither: that stands in atoll.toml.
    for name in ["mine", "other", "new"] {
        assert_eq!(manage(&mut client, name).await, [denied; 4], "{name}");
    }
    let left = node.broker.catalog().topics();
    let left: Vec<_> = left.iter().map(|own| &*own.name).collect();
    assert_eq!(left, ["mine", "other"]);
    node.stop().await;
}

/// What each request that changes a topic is told.
async fn manage(client: &mut Client, name: &str) -> [i16; 4] {
    let own = CreatableTopic::default()
        .with_name(topic(name))
        .with_num_partitions(1)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![own]);
    let created = client.ask(5, &request).await.topics[0].error_code;
    let request = DeleteTopicsRequest::default().with_topic_names(vec![topic(name)]);
    let deleted = client.ask(5, &request).await.responses[0].error_code;
    let own = CreatePartitionsTopic::default()
        .with_name(topic(name))
        .with_count(9);
    let request = CreatePartitionsRequest::default().with_topics(vec![own]);
    let widened = client.ask(3, &request).await.results[0].error_code;
    let partition = DeleteRecordsPartition::default().with_offset(-1);
    let own = DeleteRecordsTopic::default()
        .with_name(topic(name))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![own]);
    let emptied = client.ask(2, &request).await;
    [
        created,
        deleted,
        widened,
        emptied.topics[0].partitions[0].error_code,
    ]
}

/// Its answers fill all buffers on the way; the node stops all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_does_not_keep_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut writer = node.client().await;
    make(&mut writer, "a").await;
    let large = "x".repeat(900_000);
    put(
        &mut writer,
        &produce("a", batch(&[&large], None, false), None),
    )
    .await;
    let mut deaf = node.client().await;
    // More than the kernel keeps for both sides, so that the broker has to wait.
    for _ in 0..50 {
        deaf.send(11, &fetch("a", 0, 0, false)).await;
    }
    // Others are served meanwhile.
    let read = get(&mut writer, &fetch("a", 0, 0, false)).await;
    assert_eq!(read.high_watermark, 1);
    node.stop().await;
    drop(deaf);
}

/// Who says no more while it waits is let go at once, and who is gone with a reset is not missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_leave_while_they_wait_are_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut writer = node.client().await;
    make(&mut writer, "a").await;
    let waits = fetch("a", 0, 60_000, false);
    for _ in 0..100 {
        let mut reader = node.client().await;
        reader.send(11, &waits).await;
        reader.resets();
    }
    let mut reader = node.client().await;
    reader.send(11, &waits).await;
    reader.says_no_more().await;
    let long_before_its_wait_ends = std::time::Duration::from_secs(30);
    let closed = tokio::time::timeout(long_before_its_wait_ends, reader.is_closed()).await;
    assert_eq!(closed, Ok(true));
    put(&mut writer, &produce("a", batch(&["x"], None, false), None)).await;
    node.stop().await;
}
