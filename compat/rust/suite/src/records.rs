//! Records: order, compression, idempotence.

use anyhow::ensure;
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::client::{PATIENCE, config, consume, publish, same, topic, values};

pub(crate) async fn come_back_in_order(address: &str) -> anyhow::Result<()> {
    let own = topic(address, 1).await?;
    let sent: Vec<String> = (0..5_000).map(|number| number.to_string()).collect();
    let offsets = publish(address, &own, &sent, 1, &[]).await?;
    ensure!(
        offsets.iter().map(|at| at.1).eq(0..5_000),
        "offsets do not rise by one"
    );
    same(
        &values(&consume(address, &own, 5_000, &[]).await?),
        &sent,
        "what was read",
    )?;
    let other = topic(address, 1).await?;
    let producer: FutureProducer = config(address, &[]).create()?;
    let header = Header {
        key: "h",
        value: Some("1"),
    };
    let headers = OwnedHeaders::new().insert(header);
    let record = FutureRecord::<_, ()>::to(&other)
        .key("k")
        .timestamp(1234)
        .headers(headers);
    producer
        .send(record, PATIENCE)
        .await
        .map_err(|(error, _)| error)?;
    let read = consume(address, &other, 1, &[]).await?;
    let seen = (
        read[0].key(),
        read[0].payload(),
        read[0].timestamp().to_millis(),
    );
    same(
        &seen,
        &(Some(&b"k"[..]), None, Some(1234)),
        "key, value and time",
    )?;
    let header = read[0].headers().and_then(|own| own.try_get(0));
    same(&header.map(|own| own.key), &Some("h"), "the header")
}

pub(crate) async fn come_back_in_every_compression(address: &str) -> anyhow::Result<()> {
    let sent: Vec<String> = (0..500)
        .map(|number| format!("{number} ").repeat(50))
        .collect();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let own = topic(address, 1).await?;
        publish(address, &own, &sent, 1, &[("compression.type", codec)]).await?;
        same(
            &values(&consume(address, &own, 500, &[]).await?),
            &sent,
            codec,
        )?;
    }
    Ok(())
}

pub(crate) async fn are_written_once_by_an_idempotent_producer(
    address: &str,
) -> anyhow::Result<()> {
    let own = topic(address, 3).await?;
    let sent: Vec<String> = (0..3_000).map(|number| number.to_string()).collect();
    let more = [("enable.idempotence", "true"), ("batch.num.messages", "7")];
    publish(address, &own, &sent, 3, &more).await?;
    let read = consume(address, &own, 3_000, &[]).await?;
    for partition in 0..3 {
        let of_it: Vec<_> = read
            .iter()
            .filter(|one| one.partition() == partition)
            .cloned()
            .collect();
        let first = usize::try_from(partition)?;
        let wanted: Vec<_> = sent.iter().skip(first).step_by(3).cloned().collect();
        same(&values(&of_it), &wanted, "a partition")?;
    }
    Ok(())
}
