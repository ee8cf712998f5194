//! `atoll metrics`: which there are, and how one went.

use std::collections::BTreeMap;

use atoll_base::ByteCount;
use clap::{Args, ValueEnum};

use super::output::{FAINT, Output, curve, inert, table};
use super::{Client, Failure, moment};
use crate::admin::client::escape;
use crate::admin::series::{MetricView, OneSeries, SeriesAnswer};

/// Points of a curve; a step is as long as that takes.
const POINTS: i64 = 40;

#[derive(Debug, Args)]
pub(super) struct MetricsArgs {
    /// The metric. Default: list all that there are.
    name: Option<String>,
    /// Only series with this label.
    #[arg(value_name = "LABEL=VALUE", value_parser = label)]
    labels: Vec<String>,
    /// What of it. Default: of a counter its rate, of a gauge its value, of a histogram the 95th percentile.
    #[arg(long, value_enum)]
    stat: Option<StatName>,
    /// From when: a time span (10m) or a moment (RFC 3339).
    #[arg(long, value_name = "WHEN", default_value = "1h")]
    since: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StatName {
    /// How much was added in a second.
    Rate,
    /// The value, or how much was added.
    Value,
    /// Half are not above.
    P50,
    /// 95 in 100 are not above.
    P95,
    /// 99 in 100 are not above.
    P99,
}

pub(super) async fn run(client: &Client, args: &MetricsArgs, out: &Output) -> Result<(), Failure> {
    let names: Vec<MetricView> = client.get("/v1/metrics/names").await?;
    let Some(name) = &args.name else {
        list(&names, out);
        return Ok(());
    };
    let Some(metric) = names.iter().find(|own| own.name == *name) else {
        let known = names.iter().map(|own| own.name.as_str());
        let meant = crate::manifest::nearest(name, known);
        let meant = meant.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
        let detail = format!("there is no metric `{name}`{meant} (`atoll metrics` lists all)");
        return Err(anyhow::anyhow!(detail).into());
    };
    let stat = args.stat.unwrap_or(match metric.kind.as_str() {
        "counter" => StatName::Rate,
        "gauge" => StatName::Value,
        _ => StatName::P95,
    });
    let since = moment(&args.since)?;
    let length = atoll_base::Timestamp::now().since(since).as_micros();
    let step = i64::try_from(length).unwrap_or(i64::MAX) / POINTS;
    let stat = stat.to_possible_value().expect("none is hidden");
    let question = format!(
        "/v1/metrics/series?name={}&match={}&since={}&stat={}&step_us={step}",
        escape(name),
        escape(&args.labels.join(",")),
        escape(&since.to_string()),
        stat.get_name(),
    );
    let found: SeriesAnswer = client.get(&question).await?;
    if out.json {
        out.json(&found);
        return Ok(());
    }
    if found.series.is_empty() {
        out.say("no series fits");
        return Ok(());
    }
    out.say(format!(
        "{FAINT}{} {} {}, a point for each {}{FAINT:#}",
        inert(name),
        stat.get_name(),
        unit(&metric.unit, stat.get_name()),
        super::output::micros(found.step_us)
    ));
    let show = if metric.unit == "By" { bytes } else { number };
    out.data(table(&rows(&found.series, show)));
    if found.left_out > 0 {
        out.say(format!(
            "{FAINT}{} more series; a label narrows it down: `atoll metrics {} LABEL=VALUE`{FAINT:#}",
            found.left_out,
            inert(name)
        ));
    }
    Ok(())
}

fn list(names: &[MetricView], out: &Output) {
    if out.json {
        out.json(&names);
        return;
    }
    if names.is_empty() {
        out.say("no metrics yet; the node's own come after ten seconds");
        return;
    }
    let head = ["METRIC", "KIND", "UNIT", "LABELS", "MEANING"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(names.iter().map(|own| {
        vec![
            inert(&own.name).into_owned(),
            own.kind.clone(),
            inert(&own.unit).into_owned(),
            inert(&own.labels.join(" ")).into_owned(),
            inert(&own.help).into_owned(),
        ]
    }));
    out.data(table(&rows));
}

fn unit(unit: &str, stat: &str) -> String {
    if stat == "rate" {
        format!("{unit}/s")
    } else {
        unit.to_owned()
    }
}

/// Each series with its last, its least and its greatest value; the labels that differ name it.
fn rows(series: &[OneSeries], show: fn(f64) -> String) -> Vec<Vec<String>> {
    let head = ["LAST", "LEAST", "MOST", "HOW IT WENT", "SERIES"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for own in series {
        let values: Vec<Option<f64>> = own.points.iter().map(|(_, value)| *value).collect();
        let known = values.iter().flatten().copied();
        let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), show);
        rows.push(vec![
            shown(known.clone().next_back()),
            shown(known.clone().reduce(f64::min)),
            shown(known.reduce(f64::max)),
            curve(&values),
            labels(&own.labels),
        ]);
    }
    rows
}

fn labels(labels: &BTreeMap<String, String>) -> String {
    let pairs = labels
        .iter()
        .map(|(key, value)| format!("{}={}", inert(key), inert(value)));
    pairs.collect::<Vec<_>>().join(" ")
}

fn bytes(value: f64) -> String {
    ByteCount(value.max(0.0) as u64).to_string()
}

/// A number with about four digits.
fn number(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if value == 0.0 => "0".to_owned(),
        1e15.. => format!("{value:.3e}"),
        1e9.. => format!("{:.2}G", value / 1e9),
        1e6.. => format!("{:.2}M", value / 1e6),
        1e4.. => format!("{:.1}k", value / 1e3),
        10.0.. => format!("{value:.1}"),
        0.001.. => format!("{value:.4}"),
        _ => format!("{value:.2e}"),
    }
}

fn label(text: &str) -> Result<String, String> {
    let wrong = || format!("\"{text}\" is not LABEL=VALUE");
    let (key, value) = text.split_once('=').ok_or_else(wrong)?;
    Ok(format!("{key}:{value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, shown) in [
            (0.0, "0"),
            (0.000_012, "1.20e-5"),
            (0.25, "0.2500"),
            (12.34, "12.3"),
            (12_345.0, "12.3k"),
            (-2_500_000.0, "-2.50M"),
            (3e9, "3.00G"),
        ] {
            assert_eq!(number(value), shown);
        }
    }
}
