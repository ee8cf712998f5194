//! Adding histograms: whatever the order, the same; and nothing is lost.

use proptest::prelude::*;

use super::*;
use crate::metrics::exponential::Buckets;

fn buckets() -> impl Strategy<Value = Buckets> {
    let counts = prop::collection::vec(prop_oneof![Just(0_u64), 1_u64..1000], 0..40);
    (-300_i32..300, counts).prop_map(|(offset, counts)| Buckets::new(offset, &counts).unwrap())
}

/// Sums are whole, so that adding them does not depend on the order.
fn exponential() -> impl Strategy<Value = Exponential> {
    let numbers = (
        -3_i32..8,
        0_u64..9,
        -1000_i64..1000,
        prop::option::of(-9_i32..9),
    );
    (numbers, buckets(), buckets()).prop_map(|((scale, zero, sum, least), positive, negative)| {
        let mut own = Exponential {
            zero,
            zero_threshold: if zero > 4 { 0.5 } else { 0.0 },
            positive,
            negative,
            sum: sum as f64,
            min: least.map(f64::from),
            max: least.map(|least| f64::from(least) + 10.0),
            ..Exponential::empty(scale)
        };
        own.fit();
        own
    })
}

fn explicit() -> impl Strategy<Value = Explicit> {
    let bounds = prop::collection::btree_set(0_i32..8, 0..6);
    (bounds, prop::collection::vec(0_u64..100, 9), -99_i32..99).prop_map(|(bounds, counts, sum)| {
        let bounds: Vec<f64> = bounds.into_iter().map(f64::from).collect();
        Explicit {
            counts: counts[..=bounds.len()].to_vec(),
            bounds: bounds.into(),
            sum: sum.into(),
            min: None,
            max: Some(sum.into()),
        }
    })
}

fn histogram() -> impl Strategy<Value = [Histogram; 3]> {
    let one = [exponential(), exponential(), exponential()];
    let other = [explicit(), explicit(), explicit()];
    prop_oneof![
        one.prop_map(|own| own.map(Histogram::Exponential)),
        other.prop_map(|own| own.map(Histogram::Explicit)),
    ]
}

fn added(a: &Histogram, b: &Histogram) -> Histogram {
    let mut sum = a.clone();
    assert!(sum.merge(b));
    sum
}

proptest! {
    #[test]
    fn the_order_of_adding_does_not_matter([a, b, c] in histogram()) {
        prop_assert_eq!(added(&added(&a, &b), &c), added(&a, &added(&b, &c)));
        prop_assert_eq!(added(&a, &b), added(&b, &a));
    }

    #[test]
    fn nothing_is_lost_by_adding([a, b, _] in histogram()) {
        let sum = added(&a, &b);
        prop_assert_eq!(sum.count(), a.count() + b.count());
        prop_assert_eq!(sum.sum(), a.sum() + b.sum());
    }

    #[test]
    fn what_was_added_is_what_is_found_between(a in exponential(), b in exponential()) {
        let (a, b) = (Histogram::Exponential(a), Histogram::Exponential(b));
        let sum = added(&a, &b);
        let since = sum.since(&a).unwrap();
        prop_assert_eq!(since.count(), b.count());
        prop_assert_eq!(added(&a, &since).count(), sum.count());
        if a.count() > 0 {
            prop_assert_eq!(b.since(&sum), None, "less than before is a new beginning");
        }
    }

    #[test]
    fn a_quantile_is_off_by_a_bucket_at_most(values in prop::collection::vec(1_u32..100_000, 1..200), q in 0.0_f64..1.0) {
        let mut own = Exponential::empty(5);
        for value in &values {
            let index = (f64::from(*value).log2() * 32.0).ceil() as i32 - 1;
            let one = Exponential { positive: Buckets::new(index, &[1]).unwrap(), ..Exponential::empty(5) };
            own.merge(&one);
        }
        let mut values = values;
        values.sort_unstable();
        let at = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len());
        let (found, exact) = (own.quantile(q).unwrap(), f64::from(values[at - 1]));
        let width = (-f64::from(own.scale)).exp2().exp2();
        prop_assert!(found <= exact * width * 1.001 && found * width * 1.001 >= exact, "{found} {exact}");
    }
}

#[test]
fn scales_meet_at_the_coarser_and_many_buckets_make_it_coarser_still() {
    let one = |scale, index| Exponential {
        positive: Buckets::new(index, &[1]).unwrap(),
        ..Exponential::empty(scale)
    };
    let mut own = one(2, 5);
    own.merge(&one(0, 1));
    assert_eq!((own.scale, own.positive.parts()), (0, (1, &[2][..])));
    let mut far = one(3, -200);
    far.merge(&one(3, 200));
    assert_eq!((far.scale, far.count()), (1, 2));
    assert_eq!(far.positive.parts().0, -50);
    assert_eq!(far.positive.parts().1.len(), 101);
}

#[test]
fn quantiles_of_chosen_bounds_are_those_of_prometheus() {
    let own = Histogram::Explicit(Explicit {
        bounds: [0.1, 0.5, 1.0].into(),
        counts: vec![10, 10, 0, 5],
        sum: 9.0,
        min: None,
        max: None,
    });
    assert_eq!(own.quantile(0.2), Some(0.05));
    assert!((own.quantile(0.6).unwrap() - 0.3).abs() < 1e-9);
    assert_eq!(
        own.quantile(0.99),
        Some(1.0),
        "above all bounds: the last of them"
    );
    assert_eq!(
        Histogram::Exponential(Exponential::empty(3)).quantile(0.5),
        None
    );
}

#[test]
fn kinds_are_not_mixed_and_bounds_meet_where_both_have_them() {
    let explicit = |bounds: &[f64], counts: &[u64]| Explicit {
        bounds: bounds.into(),
        counts: counts.to_vec(),
        sum: 0.0,
        min: None,
        max: None,
    };
    let mut own = Histogram::Explicit(explicit(&[1.0, 2.0, 4.0], &[1, 2, 3, 4]));
    assert!(!own.merge(&Histogram::Exponential(Exponential::empty(0))));
    assert!(own.merge(&Histogram::Explicit(explicit(
        &[2.0, 3.0, 4.0],
        &[10, 20, 30, 40]
    ))));
    assert_eq!(
        own,
        Histogram::Explicit(explicit(&[2.0, 4.0], &[13, 53, 44]))
    );
}
