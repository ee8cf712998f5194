//! The crate `rdkafka`: librdkafka as Rust programs have it, built from its sources.
//!
//! The same shape as the suites in Python: `rdkafka-suite ADDRESS` runs all checks in order and
//! tells of each; `rdkafka-suite member ADDRESS GROUP TOPIC` is a member of a group, to be killed.

mod admin;
mod client;
mod groups;
mod records;
mod transactions;

use std::process::ExitCode;
use std::time::Instant;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let address = match arguments.as_slice() {
        ["member", address, group, topic] => return groups::member(address, group, topic).await,
        [address] => *address,
        _ => {
            eprintln!("usage: rdkafka-suite ADDRESS");
            return ExitCode::from(2);
        }
    };
    let mut failed = false;
    macro_rules! check {
        ($check:path) => {
            let begun = Instant::now();
            let verdict = match $check(address).await {
                Ok(()) => "ok    ",
                Err(error) => {
                    eprintln!("{error:?}");
                    failed = true;
                    "FAILED"
                }
            };
            let name = stringify!($check);
            println!("{verdict} {name} {:.1}s", begun.elapsed().as_secs_f64());
        };
    }
    check!(records::come_back_in_order);
    check!(records::come_back_in_every_compression);
    check!(records::are_written_once_by_an_idempotent_producer);
    check!(transactions::are_whole_or_nothing);
    check!(transactions::commit_offsets_with_the_records);
    check!(groups::go_on_when_members_die);
    check!(admin::makes_changes_and_deletes_topics);
    check!(admin::lists_and_deletes_groups);
    ExitCode::from(u8::from(failed))
}
