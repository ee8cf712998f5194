//! The memory of Atoll with the market running and nobody asking.

use std::fs;
use std::process::Command;

use crate::app::App;
use crate::run::{atoll, output, root};

pub(super) fn run() -> anyhow::Result<()> {
    let atoll = atoll(true)?;
    let app = App::new("bench-memory")?;
    output(
        Command::new("cp")
            .arg("--archive")
            .arg(root().join("examples/market/."))
            .arg(app.dir()),
    )?;
    let manifest = app.dir().join("atoll.toml");
    let text = fs::read_to_string(&manifest)?;
    fs::write(&manifest, crate::test::with_free_ports(&text))?;
    app.up(&atoll)?;
    let status = fs::read_to_string(format!("/proc/{}/status", app.pid()?))?;
    let kib = |name: &str| -> f64 {
        let line = status.lines().find(|line| line.starts_with(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number
            .and_then(|number| number.parse().ok())
            .unwrap_or(f64::NAN)
    };
    println!("\n| Atoll with `market` running, idle | MiB |\n|---|---|");
    println!("| resident (VmRSS) | {:.1} |", kib("VmRSS:") / 1024.0);
    println!(
        "| of it anonymous (RssAnon) | {:.1} |",
        kib("RssAnon:") / 1024.0
    );
    Ok(())
}
