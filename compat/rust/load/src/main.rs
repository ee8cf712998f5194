//! The clients of `cargo xtask bench events`: each command does one thing and prints a number or two.
//!
//! A client that is slower than its broker measures itself. So Kafka's is librdkafka, read in
//! batches; NATS is spoken by hand, without the bookkeeping of a library, which is kinder to it than
//! any; and a single record is sent by hand too, without the threads of librdkafka.

mod disk;
mod kafka;
mod nats;
mod wire;

use std::process::ExitCode;

const USAGE: &str = "usage: load COMMAND
  produce ADDRESS TOPIC PARTITIONS COUNT      acknowledged records per second
  consume ADDRESS TOPIC PARTITIONS COUNT      records per second
  topics ADDRESS COUNT PARTITIONS             makes topics idle-0, idle-1, …; prints how many
  one ADDRESS TOPIC FOLDER COUNT              median microseconds of one record, nothing in flight;
                                              and of as many bytes and an fdatasync in the folder
  nats-produce ADDRESS STREAM COUNT           as produce, asynchronous; makes the stream
  nats-consume ADDRESS STREAM COUNT           as consume, by pull
  nats-one ADDRESS STREAM COUNT               as one, without the disk; makes the stream";

/// What each record carries.
pub(crate) const VALUE: [u8; 100] = [b'x'; 100];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(numbers) => {
            numbers.iter().for_each(|number| println!("{number:.1}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> anyhow::Result<Vec<f64>> {
    let number = match *arguments {
        ["produce", address, topic, partitions, count] => {
            kafka::produce(address, topic, partitions.parse()?, count.parse()?)
        }
        ["consume", address, topic, partitions, count] => {
            kafka::consume(address, topic, partitions.parse()?, count.parse()?)
        }
        ["topics", address, count, partitions] => {
            kafka::topics(address, count.parse()?, partitions.parse()?)
        }
        ["one", address, topic, folder, count] => {
            return wire::one(address, topic, folder.as_ref(), count.parse()?);
        }
        ["nats-produce", address, stream, count] => nats::produce(address, stream, count.parse()?),
        ["nats-consume", address, stream, count] => nats::consume(address, stream, count.parse()?),
        ["nats-one", address, stream, count] => nats::one(address, stream, count.parse()?),
        _ => anyhow::bail!(USAGE),
    };
    Ok(vec![number?])
}

/// The middle one, in microseconds.
pub(crate) fn median(mut times: Vec<std::time::Duration>) -> f64 {
    times.sort_unstable();
    times
        .get(times.len() / 2)
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}
