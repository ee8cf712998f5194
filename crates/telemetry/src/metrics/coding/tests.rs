//! What is written is read again, bit by bit.

use proptest::prelude::*;

use super::*;

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-1000_i32..1000).prop_map(f64::from),
        any::<f64>().prop_filter("compares", |own| !own.is_nan()),
        Just(0.0),
        (0_i32..100).prop_map(|own| f64::from(own) / 7.0),
    ]
}

fn histogram() -> impl Strategy<Value = Histogram> {
    let counts = prop::collection::vec(prop_oneof![Just(0_u64), 0_u64..9, any::<u64>()], 1..20);
    let ends = || prop::option::of(number());
    let explicit = (counts.clone(), number(), ends()).prop_map(|(counts, sum, max)| {
        let bounds: Vec<f64> = (1..counts.len()).map(|at| at as f64).collect();
        Histogram::Explicit(Explicit {
            bounds: bounds.into(),
            counts,
            sum,
            min: None,
            max,
        })
    });
    let exponential = (counts, number(), ends(), -10_i32..20, any::<i16>()).prop_map(
        |(counts, sum, min, scale, offset)| {
            Histogram::Exponential(Exponential {
                zero: counts[0],
                positive: Buckets::new(offset.into(), &counts).unwrap(),
                negative: Buckets::new(3, &counts[..1]).unwrap(),
                zero_threshold: 0.25,
                sum,
                min,
                max: None,
                ..Exponential::empty(scale)
            })
        },
    );
    prop_oneof![explicit, exponential]
}

fn cells() -> impl Strategy<Value = (Kind, Vec<(i64, Cell)>)> {
    let gauge = (1_u64..4, number(), number(), number()).prop_map(|(count, sum, min, max)| {
        if count == 1 {
            Cell::gauge(sum)
        } else {
            Cell::Gauge {
                count,
                sum,
                min,
                max,
            }
        }
    });
    let step = prop_oneof![
        Just(1_i64),
        1_i64..9,
        1_i64..100_000,
        -99_i64..99,
        Just(1_i64 << 40)
    ];
    let with = |kind: Kind, cell: BoxedStrategy<Cell>| {
        prop::collection::vec((step.clone(), cell), 0..50).prop_map(move |steps| {
            let mut slot = 29_000_000;
            let cells = steps.into_iter().map(|(step, cell)| {
                slot += step;
                (slot, cell)
            });
            (kind, cells.collect())
        })
    };
    prop_oneof![
        with(Kind::Gauge, gauge.boxed()),
        with(Kind::Counter, number().prop_map(Cell::Counter).boxed()),
        with(
            Kind::Histogram,
            histogram().prop_map(Cell::Histogram).boxed()
        ),
    ]
}

proptest! {
    #[test]
    fn cells_are_read_as_they_were_written((kind, cells) in cells()) {
        let (mut writer, mut before) = (BitWriter::default(), Before::default());
        for (slot, cell) in &cells {
            writer.cell(*slot, cell, &mut before);
        }
        let (mut reader, mut before) = (BitReader::new(writer.bytes()), Before::default());
        for expected in &cells {
            let read = reader.cell(kind, &mut before);
            prop_assert_eq!(read.as_ref(), Some(expected));
        }
    }

    #[test]
    fn no_bits_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for kind in [Kind::Gauge, Kind::Counter, Kind::Histogram] {
            let (mut reader, mut before) = (BitReader::new(&bytes), Before::default());
            while reader.cell(kind, &mut before).is_some() {}
        }
    }
}

#[test]
fn steady_series_cost_little() {
    let size = |cell: &dyn Fn(i64) -> Cell| {
        let (mut writer, mut before) = (BitWriter::default(), Before::default());
        for slot in 0..120 {
            writer.cell(29_000_000 + slot, &cell(slot), &mut before);
        }
        writer.bytes().len() as f64 / 120.0
    };
    assert!(size(&|_| Cell::Counter(0.0)) < 0.5);
    assert!(size(&|_| Cell::gauge(17.0)) < 1.2);
    assert!(size(&|slot| Cell::Counter((slot * 37 % 50) as f64)) < 3.0);
}
