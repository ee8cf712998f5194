//! Sessions of Fetch (KIP-227), as they go over the wire.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use atoll_broker::access::Account;
use atoll_broker::txn::Producer;
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, CreateTopicsRequest, EndTxnRequest, FetchRequest, FetchResponse,
    InitProducerIdRequest, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::client::{Client, Node};
use super::{batch, make, produce, put, topic};

/// The last version whose topics go by names, and one in which they go by ids.
const NAMED: i16 = 12;
const BY_ID: i16 = 13;

/// What a request names of a topic: its partitions, and from where on.
type Places<'a> = (&'a str, &'a [(i32, i64)]);

/// A reader with a session.
struct Reader {
    client: Client,
    ids: HashMap<String, Uuid>,
    version: i16,
    session: i32,
    epoch: i32,
    bytes_max: i32,
}

impl Reader {
    async fn new(node: &Node, version: i16) -> Self {
        let mut own = Self {
            client: node.client().await,
            ids: HashMap::new(),
            version,
            session: 0,
            epoch: 0,
            bytes_max: 1 << 20,
        };
        own.learn(node);
        own
    }

    /// What the topics' ids are.
    fn learn(&mut self, node: &Node) {
        let topics = node.broker.catalog().topics();
        let ids = topics.iter();
        self.ids = ids
            .map(|own| (own.name.to_string(), Uuid::from_bytes(own.id)))
            .collect();
    }

    fn id(&self, name: &str) -> Uuid {
        self.ids.get(name).copied().unwrap_or(Uuid::from_u128(7))
    }

    fn request(&self, wait: i32, changed: &[Places<'_>], forgotten: &[Places<'_>]) -> FetchRequest {
        let by_id = self.version >= BY_ID;
        let topics = changed.iter().map(|(name, places)| {
            let partitions = places.iter().map(|(index, offset)| {
                FetchPartition::default()
                    .with_partition(*index)
                    .with_fetch_offset(*offset)
                    .with_partition_max_bytes(1 << 20)
            });
            let asked = FetchTopic::default().with_partitions(partitions.collect());
            match by_id {
                true => asked.with_topic_id(self.id(name)),
                false => asked.with_topic(topic(name)),
            }
        });
        let forgotten = forgotten.iter().map(|(name, places)| {
            let partitions = places.iter().map(|(index, _)| *index).collect();
            let gone = ForgottenTopic::default().with_partitions(partitions);
            match by_id {
                true => gone.with_topic_id(self.id(name)),
                false => gone.with_topic(topic(name)),
            }
        });
        FetchRequest::default()
            .with_max_wait_ms(wait)
            .with_min_bytes(1)
            .with_max_bytes(self.bytes_max)
            .with_isolation_level(1)
            .with_session_id(self.session)
            .with_session_epoch(self.epoch)
            .with_topics(topics.collect())
            .with_forgotten_topics_data(forgotten.collect())
    }

    /// Asks as the session goes on, without waiting; returns its topics (by name) and partitions.
    async fn ask(
        &mut self,
        changed: &[Places<'_>],
        forgotten: &[Places<'_>],
    ) -> Vec<(String, i32, i16, usize)> {
        let request = self.request(0, changed, forgotten);
        let response = self.client.ask(self.version, &request).await;
        assert_eq!(response.error_code, 0);
        self.session = response.session_id;
        self.epoch += 1;
        self.seen(&response)
    }

    /// Topic, partition, error and number of bytes of all that an answer tells.
    fn seen(&self, response: &FetchResponse) -> Vec<(String, i32, i16, usize)> {
        let mut seen = Vec::new();
        for topic in &response.responses {
            let named = self.ids.iter().find(|(_, id)| **id == topic.topic_id);
            let name = named.map_or("?", |(name, _)| name);
            let name = if self.version >= BY_ID {
                name
            } else {
                &topic.topic
            };
            for own in &topic.partitions {
                let bytes = own.records.as_ref().map_or(0, Bytes::len);
                seen.push((name.to_owned(), own.partition_index, own.error_code, bytes));
            }
        }
        seen
    }

    /// The error of the answer as a whole.
    async fn refused(&mut self, changed: &[Places<'_>]) -> i16 {
        let request = self.request(0, changed, &[]);
        let response = self.client.ask(self.version, &request).await;
        assert_eq!((response.session_id, response.responses.len()), (0, 0));
        response.error_code
    }
}

/// What was seen without how much.
fn places(seen: &[(String, i32, i16, usize)]) -> Vec<(&str, i32, bool)> {
    let seen = seen.iter();
    seen.map(|(name, index, error, bytes)| {
        assert_eq!(*error, 0);
        (&**name, *index, *bytes > 0)
    })
    .collect()
}

async fn make_wide(client: &mut Client, name: &str, partitions: i32) {
    let made = CreatableTopic::default()
        .with_name(topic(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![made]);
    assert_eq!(client.ask(5, &request).await.topics[0].error_code, 0);
}

async fn write(client: &mut Client, name: &str, index: i32) {
    let mut request = produce(name, batch(&["x"], None, false), None);
    request.topic_data[0].partition_data[0].index = index;
    assert_eq!(put(client, &request).await.error_code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_tells_what_has_changed_and_nothing_else_in_every_version() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut writer = node.client().await;
    for version in 7..=16 {
        let (a, b) = (&*format!("a{version}"), &*format!("b{version}"));
        make_wide(&mut writer, a, 3).await;
        make(&mut writer, b).await;
        let mut reader = Reader::new(&node, version).await;
        let all = reader.ask(&[(a, &[(0, 0), (1, 0), (2, 0)])], &[]).await;
        assert_eq!(all.len(), 3, "{version}");
        assert_ne!(reader.session, 0);
        assert!(reader.ask(&[], &[]).await.is_empty());
        write(&mut writer, a, 1).await;
        let seen = reader.ask(&[], &[]).await;
        assert_eq!(places(&seen), [(a, 1, true)], "{version}");
        // It is told as long as nobody reads on.
        let seen = reader.ask(&[], &[]).await;
        assert_eq!(places(&seen), [(a, 1, true)], "{version}");
        let read_on = (a, &[(1, 1)][..]);
        assert!(reader.ask(&[read_on], &[]).await.is_empty());
        // Another topic comes, a partition goes.
        let seen = reader.ask(&[(b, &[(0, 0)])], &[(a, &[(2, 0)])]).await;
        assert_eq!(places(&seen), [(b, 0, false)], "{version}");
        write(&mut writer, a, 2).await;
        write(&mut writer, a, 0).await;
        let seen = reader.ask(&[], &[]).await;
        assert_eq!(places(&seen), [(a, 0, true)], "{version}");
        // The next after the last is the end of it.
        let whole = [(a, &[(0, 0), (1, 0)][..]), (b, &[(0, 0)])];
        assert!(reader.ask(&[], &whole).await.is_empty());
        assert_eq!(reader.session, 0);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_names_nothing_waits_for_what_the_session_reads() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut writer = node.client().await;
    make_wide(&mut writer, "a", 2).await;
    let mut reader = Reader::new(&node, NAMED).await;
    reader.ask(&[("a", &[(0, 0), (1, 0)])], &[]).await;
    let request = reader.request(60_000, &[], &[]);
    reader.client.send(NAMED, &request).await;
    write(&mut writer, "a", 1).await;
    let long_before_its_wait_ends = Duration::from_secs(30);
    let answer = reader.client.answer::<FetchRequest>(NAMED);
    let answer = tokio::time::timeout(long_before_its_wait_ends, answer).await;
    let seen = reader.seen(&answer.unwrap().unwrap());
    assert_eq!(places(&seen), [("a", 1, true)]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gave_records_goes_behind_the_others_when_an_answer_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut writer = node.client().await;
    make_wide(&mut writer, "a", 3).await;
    let mut reader = Reader::new(&node, BY_ID).await;
    reader.ask(&[("a", &[(0, 0), (1, 0), (2, 0)])], &[]).await;
    for index in 0..3 {
        write(&mut writer, "a", index).await;
    }
    reader.bytes_max = 1;
    let mut gave = Vec::new();
    for _ in 0..6 {
        let seen = reader.ask(&[], &[]).await;
        let full = seen.iter().filter(|own| own.3 > 0);
        gave.extend(full.map(|own| own.1));
    }
    assert_eq!(gave, [0, 1, 2, 0, 1, 2]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_and_a_stable_end_that_move_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut writer = node.client().await;
    make(&mut writer, "a").await;
    write(&mut writer, "a", 0).await;
    let mut reader = Reader::new(&node, NAMED).await;
    reader.ask(&[("a", &[(0, 1)])], &[]).await;
    assert!(reader.ask(&[], &[]).await.is_empty());
    let partition = node.broker.catalog().partition("a", 0).unwrap();
    tokio::task::block_in_place(|| partition.delete_before(1)).unwrap();
    let seen = reader.ask(&[], &[]).await;
    assert_eq!(places(&seen), [("a", 0, false)]);
    assert!(reader.ask(&[], &[]).await.is_empty());
    // An open transaction moves the high watermark; its end lets its records be read.
    let id = || TransactionalId(StrBytes::from_static_str("t"));
    let init = InitProducerIdRequest::default()
        .with_transactional_id(Some(id()))
        .with_transaction_timeout_ms(60_000);
    let made = writer.ask(4, &init).await;
    let (producer_id, epoch) = (made.producer_id, made.producer_epoch);
    let places_of_it = AddPartitionsToTxnTopic::default()
        .with_name(topic("a"))
        .with_partitions(vec![0]);
    let add = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(id())
        .with_v3_and_below_producer_id(producer_id)
        .with_v3_and_below_producer_epoch(epoch)
        .with_v3_and_below_topics(vec![places_of_it]);
    writer.ask(3, &add).await;
    let producer = Producer {
        id: producer_id.0,
        epoch,
    };
    let records = batch(&["x"], Some((producer, 0)), true);
    put(&mut writer, &produce("a", records, Some("t"))).await;
    let seen = reader.ask(&[], &[]).await;
    assert_eq!(places(&seen), [("a", 0, false)]);
    assert!(reader.ask(&[], &[]).await.is_empty());
    let end = EndTxnRequest::default()
        .with_transactional_id(id())
        .with_producer_id(producer_id)
        .with_producer_epoch(epoch)
        .with_committed(true);
    assert_eq!(writer.ask(3, &end).await.error_code, 0);
    let seen = reader.ask(&[], &[]).await;
    assert_eq!(places(&seen), [("a", 0, true)]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_follow_is_refused_and_the_client_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    make(&mut node.client().await, "a").await;
    let places = [("a", &[(0, 0)][..])];
    let not_found = ResponseError::FetchSessionIdNotFound.code();
    let mut reader = Reader::new(&node, NAMED).await;
    reader.epoch = 1;
    assert_eq!(reader.refused(&places).await, not_found);
    reader.epoch = 0;
    reader.ask(&places, &[]).await;
    let first = reader.session;
    reader.epoch = 2;
    let wrong = ResponseError::InvalidFetchSessionEpoch.code();
    assert_eq!(reader.refused(&[]).await, wrong);
    reader.epoch = 1;
    reader.version = BY_ID;
    let mixed = ResponseError::FetchSessionTopicIdError.code();
    assert_eq!(reader.refused(&[]).await, mixed);
    reader.version = NAMED;
    // Epoch 0 of a session ends it, and makes another.
    reader.epoch = 0;
    assert_eq!(reader.ask(&places, &[]).await.len(), 1);
    let second = reader.session;
    assert!(second != 0 && second != first);
    (reader.session, reader.epoch) = (first, 1);
    assert_eq!(reader.refused(&[]).await, not_found);
    // Epoch -1 ends it, and makes none.
    (reader.session, reader.epoch) = (second, -1);
    assert_eq!(reader.ask(&places, &[]).await.len(), 1);
    assert_eq!(reader.session, 0);
    (reader.session, reader.epoch) = (second, 1);
    assert_eq!(reader.refused(&[]).await, not_found);
    // One of before a restart is not known, and neither is what could be of any length.
    (reader.session, reader.epoch) = (0, 0);
    reader.ask(&places, &[]).await;
    let (session, long) = (reader.session, "x".repeat(300));
    assert_eq!(reader.refused(&[(&long, &[(0, 0)])]).await, not_found);
    assert_eq!(reader.refused(&[]).await, not_found);
    node.stop().await;
    let node = Node::start(dir.path(), true).await;
    let mut reader = Reader::new(&node, NAMED).await;
    (reader.session, reader.epoch) = (session, 1);
    assert_eq!(reader.refused(&[]).await, not_found);
    // Too large, or of a name that is none: answered all the same, without a session.
    (reader.session, reader.epoch) = (0, 0);
    let many: Vec<_> = (0..10_001).map(|index| (index, 0)).collect();
    assert_eq!(reader.ask(&[("a", &many)], &[]).await.len(), 10_001);
    assert_eq!(reader.session, 0);
    reader.epoch = 0;
    assert_eq!(reader.ask(&[(&long, &[(0, 0)])], &[]).await.len(), 1);
    assert_eq!(reader.session, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_gone_and_one_that_took_its_name_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut writer = node.client().await;
    make(&mut writer, "a").await;
    let (mut ids, mut names) = (
        Reader::new(&node, BY_ID).await,
        Reader::new(&node, NAMED).await,
    );
    let places = [("a", &[(0, 0)][..])];
    ids.ask(&places, &[]).await;
    names.ask(&places, &[]).await;
    node.broker.delete_topic("a").await.unwrap();
    let unknown = [
        ResponseError::UnknownTopicId.code(),
        ResponseError::UnknownTopicOrPartition.code(),
    ];
    // As long as it is so, and at once: nobody waits for what cannot come.
    for _ in 0..2 {
        let seen = [ids.ask(&[], &[]).await[0].2, names.ask(&[], &[]).await[0].2];
        assert_eq!(seen, unknown);
    }
    make(&mut writer, "a").await;
    let inconsistent = ResponseError::InconsistentTopicId.code();
    assert_eq!(ids.ask(&[], &[]).await[0].2, inconsistent);
    let seen = names.ask(&[], &[]).await;
    assert_eq!((seen.len(), seen[0].2), (1, 0));
    assert!(names.ask(&[], &[]).await.is_empty());
    // The old id goes, the new one comes.
    let forgotten = ids.request(0, &[], &places).forgotten_topics_data;
    ids.learn(&node);
    let mut request = ids.request(0, &places, &[]);
    request.forgotten_topics_data = forgotten;
    let response = ids.client.ask(BY_ID, &request).await;
    let seen = ids.seen(&response);
    assert_eq!((seen.len(), seen[0].2), (1, 0));
    node.stop().await;
}

async fn log_in(reader: &mut Reader, name: &str) {
    assert_eq!(reader.client.log_in(name, "s").await, 0);
}

fn reads(names: &[&str]) -> Account {
    Account {
        secret: "s".to_owned(),
        publishes: BTreeSet::new(),
        reads: names.iter().map(|&name| name.to_owned()).collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_gives_no_right_and_belongs_to_who_made_it() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let mut writer = node.client().await;
    make(&mut writer, "a").await;
    make(&mut writer, "b").await;
    let accounts = |own: &[&str]| {
        let accounts = [("one", reads(own)), ("two", reads(&["a", "b"]))];
        accounts
            .map(|(name, account)| (name.to_owned(), account))
            .into()
    };
    node.broker.access().replace(accounts(&["a", "b"]));
    let denied = ResponseError::TopicAuthorizationFailed.code();
    for version in [NAMED, BY_ID] {
        let mut reader = Reader::new(&node, version).await;
        log_in(&mut reader, "one").await;
        let places = [("a", &[(0, 1000)][..]), ("b", &[(0, 0)])];
        reader.ask(&places, &[]).await;
        reader.ask(&[("a", &[(0, 0)])], &[]).await;
        // Neither another account nor who has none may use it, or end it.
        for other in [Some("two"), None] {
            let mut thief = Reader::new(&node, version).await;
            if let Some(name) = other {
                log_in(&mut thief, name).await;
            }
            (thief.session, thief.epoch) = (reader.session, 2);
            let not_found = ResponseError::FetchSessionIdNotFound.code();
            assert_eq!(thief.refused(&[]).await, not_found);
            thief.epoch = -1;
            thief.ask(&[], &[]).await;
        }
        node.broker.access().replace(accounts(&["b"]));
        let seen = reader.ask(&[], &[]).await;
        assert_eq!((seen.len(), &*seen[0].0, seen[0].2), (1, "a", denied));
        node.broker.access().replace(accounts(&["a", "b"]));
        let seen = reader.ask(&[], &[]).await;
        assert_eq!((seen.len(), &*seen[0].0, seen[0].2), (1, "a", 0));
        assert!(reader.ask(&[], &[]).await.is_empty());
    }
    node.stop().await;
}
