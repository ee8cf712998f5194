//! Atoll's own chores, run with `cargo xtask`.
//!
//! What they start are programs; the few crates beside are for the benches, which sign tokens and
//! answer gRPC calls.

mod app;
mod bench;
mod cgroup2;
mod client;
mod compat;
mod fuzz;
mod grpc;
mod install;
mod pace;
mod printer;
mod run;
mod sink;
mod taker;
mod test;
mod trivial;
mod ui;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask COMMAND
  test                 install what the tests need, run all of them
  compat [SUITE...]    only the real clients: librdkafka, kafka-python, aiokafka, kcat, rdkafka,
                       cloudevents, opentelemetry, opentelemetry-node, prometheus, tls, parquet,
                       openapi, crash (default: all)
  fuzz [SECONDS]       feed each decoder what it does not expect (default: 60 s each)
  cgroup2 [--kvm]      the supervisor's tests in QEMU, where cgroups are of version 2 only
  tour                 start examples/market and walk through it
  console              start examples/market and do in its console all that it can, in Chromium;
                       pictures of all pages in target/screenshots
  openapi              write ui/openapi.json anew, after a change of the admin API
  bench [proxy|proxy:SCENARIO|start|kill|memory|events|pushes|telemetry|ingest]...
                       measure; prints tables for BENCHMARKS.md (default: all)
                       SCENARIO: plain, auth, tls, body-100k, upload-1m, idle-5000, h2, grpc,
                       cache, latency, routes, telemetry; BENCH_ROUNDS and BENCH_SECONDS change how long";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["test"] => test::all(),
        ["compat", names @ ..] => test::compat(names),
        ["fuzz"] => fuzz::all(60),
        ["fuzz", seconds] if seconds.parse::<u32>().is_ok() => {
            fuzz::all(seconds.parse().unwrap_or_default())
        }
        ["cgroup2"] => cgroup2::all(false),
        ["cgroup2", "--kvm"] => cgroup2::all(true),
        ["tour"] => test::tour(),
        ["console"] => test::pages(),
        ["openapi"] => ui::openapi(),
        ["bench", names @ ..] => bench::run(names),
        ["serve"] => trivial::serve(),
        ["sink"] => sink::serve(),
        ["take"] => taker::serve(),
        ["print"] => printer::serve(),
        ["grpc"] => grpc::serve(),
        ["pace", address, seconds] => pace::run(address, seconds),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
