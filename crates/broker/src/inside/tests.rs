//! The broker from within, on a real disk.

use atoll_base::Tasks;
use atoll_store::Sql;
use atoll_store::log::{Log, RealDisk};

use super::*;
use crate::access::Access;

struct Home {
    inside: Inside,
    tasks: Tasks,
    folder: tempfile::TempDir,
}

impl Home {
    async fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap()).await
    }

    async fn open(folder: tempfile::TempDir) -> Self {
        let tasks = Tasks::new();
        let sql = Sql::open(
            &folder.path().join("state.db"),
            &[crate::journal::MIGRATION],
        )
        .unwrap();
        std::fs::create_dir_all(folder.path().join("log")).unwrap();
        let (log, _) = Log::open(&folder.path().join("log"), Arc::new(RealDisk)).unwrap();
        let broker = Broker::open(sql, log, Access::new(true), true, &tasks)
            .await
            .unwrap();
        Self {
            inside: Inside::new(broker),
            tasks,
            folder,
        }
    }

    async fn again(self) -> Self {
        self.inside.broker().close().await;
        self.tasks.stop();
        assert!(self.tasks.join(Duration::from_secs(5)).await);
        Self::open(self.folder).await
    }

    async fn topic(&self, name: &str, partitions: i32) {
        let config = TopicConfig {
            partitions,
            ..TopicConfig::default()
        };
        self.inside.ensure(name, config).await.unwrap();
    }

    async fn values(&self, topic: &str) -> Vec<String> {
        let records = self
            .inside
            .read(topic, 0, 0, 1 << 20)
            .await
            .unwrap()
            .records;
        let text = |record: Record| String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        records.into_iter().map(text).collect()
    }
}

fn record(topic: &str, key: Option<&str>, value: &str) -> Outgoing {
    Outgoing {
        topic: topic.into(),
        partition: None,
        time: 1000,
        key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: vec![("a".to_owned(), Some(Bytes::from_static(b"b")))],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_read_as_it_was() {
    let home = Home::new().await;
    home.topic("t", 1).await;
    let places = home
        .inside
        .publish(&[record("t", Some("k"), "1"), record("t", None, "2")])
        .await;
    assert_eq!(places.unwrap(), [(0, 0), (0, 1)]);
    let Part { records, next, .. } = home.inside.read("t", 0, 1, 1 << 20).await.unwrap();
    assert_eq!((records.len(), next), (1, 2));
    assert_eq!(records[0].offset, 1);
    assert_eq!(records[0].headers.iter().count(), 1);
    assert_eq!(records[0].timestamp, 1000);
    assert_eq!(home.inside.read("t", 0, 2, 1).await.unwrap().next, 2);
    let beyond = home.inside.read("t", 0, 3, 1).await.unwrap_err();
    assert_eq!(beyond.response(), ResponseError::OffsetOutOfRange);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_without_a_key_go_to_all_partitions_and_those_of_a_key_to_one() {
    let home = Home::new().await;
    home.topic("t", 3).await;
    let loose: Vec<_> = (0..3).map(|_| record("t", None, "x")).collect();
    let places = home.inside.publish(&loose).await.unwrap();
    let mut partitions: Vec<_> = places.iter().map(|(partition, _)| *partition).collect();
    partitions.sort_unstable();
    assert_eq!(partitions, [0, 1, 2]);
    let keyed: Vec<_> = (0..3).map(|_| record("t", Some("21"), "x")).collect();
    let places = home.inside.publish(&keyed).await.unwrap();
    let of_key = (-973_932_308_i32 & 0x7fff_ffff) % 3;
    assert!(
        places.iter().all(|(partition, _)| *partition == of_key),
        "{places:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_batch_takes_is_several_batches() {
    let home = Home::new().await;
    home.topic("t", 1).await;
    let big = "x".repeat(400 << 10);
    let records: Vec<_> = (0..5).map(|_| record("t", None, &big)).collect();
    let places = home.inside.publish(&records).await.unwrap();
    assert_eq!(places.last(), Some(&(0, 4)));
    let too_big = record("t", None, &"x".repeat(2 << 20));
    let error = home.inside.publish(&[too_big]).await.unwrap_err();
    assert_eq!(error.response(), ResponseError::MessageTooLarge);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_holds_as_a_whole_and_again_after_a_restart() {
    let home = Home::new().await;
    home.topic("in", 1).await;
    home.topic("out", 1).await;
    for round in 1..=3 {
        let mark = committed("in".into(), 0, round, "m".to_owned());
        let records = [record("out", None, &round.to_string())];
        home.inside
            .settle("atoll.a.in", vec![mark], &records)
            .await
            .unwrap();
    }
    let home = home.again().await;
    let mark = committed("in".into(), 0, 4, String::new());
    let records = [record("out", None, "4")];
    home.inside
        .settle("atoll.a.in", vec![mark], &records)
        .await
        .unwrap();
    assert_eq!(home.values("out").await, ["1", "2", "3", "4"]);
    let offsets = home.inside.broker().groups().offsets("atoll.a.in");
    assert_eq!(offsets.values().next().unwrap().next, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_that_fails_leaves_nothing() {
    let home = Home::new().await;
    home.topic("in", 1).await;
    home.topic("out", 1).await;
    let mark = || vec![committed("in".into(), 0, 1, String::new())];
    let good = record("out", None, "good");
    let nowhere = Outgoing {
        partition: Some(7),
        ..record("out", None, "nowhere")
    };
    let failed = home
        .inside
        .settle("atoll.a.in", mark(), &[good.clone(), nowhere])
        .await;
    failed.unwrap_err();
    assert!(
        home.inside
            .broker()
            .groups()
            .offsets("atoll.a.in")
            .is_empty()
    );
    home.inside
        .settle("atoll.a.in", mark(), &[good])
        .await
        .unwrap();
    assert_eq!(home.values("out").await, ["good"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_committed_is_not_seen() {
    let home = Home::new().await;
    home.topic("t", 1).await;
    let transactions = home.inside.broker().transactions();
    let partition = home.inside.broker().catalog().partition("t", 0).unwrap();
    for (value, outcome) in [("no", Outcome::Abort), ("yes", Outcome::Commit)] {
        partition.ready().await.unwrap();
        let producer = transactions
            .init(Some("x"), TRANSACTION_TIMEOUT, None)
            .await
            .unwrap();
        let place = txn::Partition {
            topic: "t".to_owned(),
            index: 0,
        };
        transactions
            .add_partitions("x", producer, vec![place])
            .await
            .unwrap();
        let options = Options {
            producer: Some((producer, 0)),
            transactional: true,
            ..Options::default()
        };
        let batch = build(&[record("t", None, value)], &[0], options).unwrap();
        let produced = transactions
            .produce("x", producer, &partition, batch)
            .await
            .unwrap();
        partition.acknowledged(produced).await.unwrap();
        home.inside
            .publish(&[record("t", None, "beside")])
            .await
            .unwrap();
        let Part {
            records: seen,
            next,
            ..
        } = home.inside.read("t", 0, 0, 1 << 20).await.unwrap();
        assert!(seen.iter().all(|own| own.value.as_ref().unwrap() != "no"));
        let waiting = home.inside.wait("t", 0, next);
        let ended = transactions.end("x", producer, outcome);
        let (_, ended) = tokio::join!(waiting, ended);
        ended.unwrap();
    }
    assert_eq!(home.values("t").await, ["beside", "yes", "beside"]);
}
