//! Series over hours, in no time at all.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::metrics::query::{COARSE, Gathered, Plan, Query, Stat, Totals};
use crate::metrics::{Explicit, Histogram, Temporality};

const NOON: i64 = 1_763_726_400;

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros((NOON + second) * 1_000_000)
}

fn point(name: &str, labels: &[(&str, &str)], second: i64, value: Value) -> MetricPoint {
    MetricPoint {
        name: name.into(),
        unit: "s".into(),
        help: "what it is".into(),
        labels: labels.iter().map(|(k, v)| (*k, *v)).collect(),
        start: Some(at(0)),
        time: at(second),
        value,
        exemplars: Vec::new(),
    }
}

fn counted(value: f64) -> Value {
    Value::Sum(value, Temporality::Cumulative)
}

fn set(max_series: usize) -> Set {
    Set::new(MetricsConfig {
        max_series,
        ..MetricsConfig::default()
    })
}

fn ask(
    set: &Set,
    name: &str,
    stat: Stat,
    (since, until, step): (i64, i64, u64),
) -> (Plan, Vec<Option<f64>>) {
    let query = Query {
        name: name.to_owned(),
        matchers: Vec::new(),
        since: at(since),
        until: at(until),
        step: Duration::from_secs(step),
        stat,
    };
    let plan = set.plan(&query, at(until));
    let mut gathered = Gathered::default();
    set.gather(&query, &plan, |key, micros, cell| {
        gathered.add(&plan, key, micros, cell);
    });
    let views = gathered.finish(&plan, stat);
    let points = views.into_iter().flat_map(|(_, view)| view.points);
    (plan, points.map(|(_, value)| value).collect())
}

#[test]
fn a_counter_has_a_rate_over_a_new_beginning_too() {
    let mut set = set(9);
    for (second, value) in [(10, 100.0), (20, 150.0), (30, 150.0), (40, 20.0)] {
        set.take(point("c", &[], second, counted(value)), at(second))
            .unwrap();
    }
    let (plan, rates) = ask(&set, "c", Stat::Rate, (0, 50, 10));
    assert_eq!(plan.resolution, FINE);
    assert_eq!(rates, [None, Some(10.0), Some(5.0), Some(0.0), Some(2.0)]);
    let (_, added) = ask(&set, "c", Stat::Value, (0, 50, 10));
    assert_eq!(added[1..].iter().flatten().sum::<f64>(), 170.0);
}

#[test]
fn totals_have_every_series_and_an_answer_tells_what_it_leaves_out() {
    let mut set = set(700);
    for second in [10, 20, 40] {
        for own in 0..600 {
            let labels = [("topic", format!("t{own:03}"))];
            let labels = labels.each_ref().map(|(key, value)| (*key, value.as_str()));
            let added = Value::Sum(f64::from(own), Temporality::Delta);
            set.take(point("c", &labels, second, added), at(second))
                .unwrap();
        }
    }
    // A gauge that was there for three of the five steps, with three values in one of them.
    for (second, value) in [(11, 4.0), (14, 4.0), (17, 4.0), (25, 4.0), (35, 8.0)] {
        set.take(point("g", &[], second, Value::Gauge(value)), at(second))
            .unwrap();
    }
    let totals = |name: &str| {
        let query = Query::total(name, at(0), at(50));
        let plan = set.plan(&query, at(50));
        let mut totals = Totals::default();
        set.gather(&query, &plan, |key, micros, cell| {
            totals.add(&plan, key, micros, cell);
        });
        totals.finish(&plan)
    };
    let added: Vec<f64> = totals("c").into_iter().map(|(_, value)| value).collect();
    let expected: Vec<f64> = (0..600).map(|own| f64::from(own) * 3.0).collect();
    assert_eq!(added, expected, "by their labels");
    let [(_, memory)] = totals("g")[..] else {
        panic!("one series");
    };
    assert_eq!(memory, 24.0 / 5.0 * 30.0, "the average for 30 seconds");

    let query = Query::total("c", at(0), at(50));
    let plan = set.plan(&query, at(50));
    let mut gathered = Gathered::default();
    set.gather(&query, &plan, |key, micros, cell| {
        gathered.add(&plan, key, micros, cell);
    });
    assert_eq!(gathered.left_out(), 100);
    assert_eq!(gathered.finish(&plan, Stat::Value).len(), 500);
}

#[test]
fn a_step_is_never_shorter_than_the_points_are_apart() {
    let mut set = set(9);
    for minute in 1..=10 {
        let second = minute * 60;
        set.take(
            point("c", &[], second, counted(minute as f64 * 60.0)),
            at(second),
        )
        .unwrap();
    }
    let (plan, rates) = ask(&set, "c", Stat::Rate, (120, 600, 10));
    assert_eq!(plan.step, 60_000_000);
    assert!(rates.iter().all(|rate| *rate == Some(1.0)), "{rates:?}");
}

#[test]
fn gauges_are_averaged_and_histograms_have_quantiles() {
    let mut set = set(9);
    for (second, value) in [(11, 4.0), (15, 8.0), (25, 1.0)] {
        set.take(point("g", &[], second, Value::Gauge(value)), at(second))
            .unwrap();
    }
    assert_eq!(
        ask(&set, "g", Stat::Value, (10, 30, 10)).1,
        [Some(6.0), Some(1.0)]
    );
    let own = Histogram::Explicit(Explicit {
        bounds: [1.0, 2.0].into(),
        counts: vec![0, 10, 0],
        sum: 15.0,
        min: None,
        max: None,
    });
    set.take(
        point("h", &[], 12, Value::Histogram(own, Temporality::Delta)),
        at(12),
    )
    .unwrap();
    assert_eq!(
        ask(&set, "h", Stat::Quantile(0.5), (10, 20, 10)).1,
        [Some(1.5)]
    );
    assert_eq!(ask(&set, "h", Stat::Value, (10, 20, 10)).1, [Some(1.5)]);
    assert_eq!(ask(&set, "h", Stat::Rate, (10, 20, 10)).1, [Some(1.0)]);
}

#[test]
fn series_are_bounded_told_and_forgotten_after_a_day() {
    let mut set = set(2);
    for (name, label) in [("a", "1"), ("a", "2")] {
        set.take(point(name, &[("l", label)], 10, Value::Gauge(1.0)), at(10))
            .unwrap();
    }
    let third = point("a", &[("l", "3")], 10, Value::Gauge(1.0));
    assert_eq!(set.take(third.clone(), at(10)), Err(Refused::TooMany));
    assert_eq!(set.take_overflowing().as_deref(), Some("a"));
    assert_eq!((set.take_overflowing(), set.refused()), (None, 1));
    let names = set.names();
    assert_eq!(
        (names[0].labels.as_slice(), names[0].series),
        (&["l".to_owned()][..], 2)
    );
    set.retire(at(23 * 3600));
    assert_eq!(set.len(), 2);
    set.retire(at(25 * 3600));
    assert!(set.is_empty() && set.names().is_empty());
    let later = MetricPoint {
        time: at(25 * 3600),
        ..third
    };
    assert_eq!(set.take(later, at(25 * 3600)), Ok(()));
}

#[test]
fn late_points_are_added_where_sums_hold_and_a_clock_ahead_closes_nothing() {
    let mut set = set(9);
    let delta = |value| Value::Sum(value, Temporality::Delta);
    for second in (0..600).step_by(10) {
        set.take(point("d", &[], second, delta(1.0)), at(600))
            .unwrap();
        set.take(point("g", &[], second, Value::Gauge(1.0)), at(600))
            .unwrap();
    }
    set.take(point("d", &[], 5, delta(1.0)), at(600)).unwrap();
    assert_eq!(
        set.take(point("g", &[], 5, Value::Gauge(1.0)), at(600)),
        Err(Refused::Late)
    );
    assert_eq!(
        set.take(point("d", &[], -3001, delta(1.0)), at(600)),
        Err(Refused::Late)
    );
    assert_eq!(ask(&set, "d", Stat::Value, (0, 600, 600)).1, [Some(61.0)]);
    set.take(point("g", &[], 80_000, Value::Gauge(7.0)), at(610))
        .unwrap();
    set.take(point("g", &[], 605, Value::Gauge(1.0)), at(611))
        .unwrap();
}

#[test]
fn older_times_are_answered_at_coarser_steps() {
    let set = set(9);
    let query = |age: i64| Query {
        name: "c".to_owned(),
        matchers: Vec::new(),
        since: at(-age),
        until: at(0),
        step: Duration::from_secs(1),
        stat: Stat::Value,
    };
    let plans = [1800, 7200, 7 * 24 * 3600].map(|age| set.plan(&query(age), at(0)));
    assert_eq!(plans.map(|plan| plan.resolution), [FINE, MINUTES, COARSE]);
    assert_eq!(plans.map(|plan| plan.step / 1_000_000), [10, 60, 600]);
}

proptest! {
    #[test]
    fn down_sampling_keeps_sums(
        added in prop::collection::vec((1_i64..40, 0_u32..1000), 1..200),
        step in prop::sample::select(vec![10_u64, 60, 600]),
    ) {
        let mut set = set(9);
        let (mut second, mut sum) = (0, 0.0);
        for (gap, value) in added {
            second += gap;
            sum += f64::from(value);
            let point = point("d", &[], second, Value::Sum(value.into(), Temporality::Delta));
            prop_assert_eq!(set.take(point, at(second)), Ok(()));
        }
        for since in [0, -7200] {
            let (_, values) = ask(&set, "d", Stat::Value, (since, second + 1, step));
            prop_assert_eq!(values.iter().flatten().sum::<f64>(), sum);
        }
        let drained: f64 = set.drain().iter().map(|(own, _)| match own.cell {
            Cell::Counter(value) => value,
            _ => f64::NAN,
        }).sum();
        prop_assert_eq!(drained, sum);
        prop_assert!(set.drain().is_empty());
    }
}
