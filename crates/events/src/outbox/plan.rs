//! What is published next, decided: which rows of an outbox go out, and which are held.
//!
//! A row that its topic refuses is held, and so are the rows behind it that have its topic and key:
//! order is kept for each key, and nobody else waits. Rows without a key wait for nobody.
//!
//! The rows that go out are named in the mark that is kept together with their records ([`Mark`]).
//! It has each id with a digest of the row, so that a row of another database that has the same id
//! is not taken for it.

use std::collections::HashSet;

use bytes::Bytes;
use ring::digest::{Context, SHA256};

/// A row of an outbox that is not marked as published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Its number.
    pub(super) id: i64,
    /// Where it goes.
    pub(super) topic: String,
    /// Records of one key stay in order.
    pub(super) key: Option<String>,
    /// What it says.
    pub(super) value: Option<Bytes>,
    /// An object of JSON with texts, by the names of headers.
    pub(super) headers: Option<String>,
}

/// What is to be done with rows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan<T> {
    /// What goes out, in order, with the rows that it is made of.
    pub(super) out: Vec<(Row, T)>,
    /// Rows that are refused, and why.
    pub(super) refused: Vec<(i64, String)>,
    /// How many rows wait because of them.
    pub(super) waiting: usize,
}

/// The rows that went out last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Mark(pub(super) Vec<(i64, u32)>);

/// The longest text of a mark; a bus keeps this much for sure.
const MARK_LENGTH_MAX: usize = 4000;

/// Sorts rows that are in order of their ids. `judge` makes of a row what goes out, or says why not.
pub(super) fn plan<T>(
    rows: Vec<Row>,
    batch: usize,
    judge: impl Fn(&Row) -> Result<T, String>,
) -> Plan<T> {
    let mut plan = Plan {
        out: Vec::new(),
        refused: Vec::new(),
        waiting: 0,
    };
    let mut held: HashSet<(String, String)> = HashSet::new();
    let (mut length, mut last) = (0, 0);
    for row in rows {
        let lane = row.key.clone().map(|key| (row.topic.clone(), key));
        if lane.as_ref().is_some_and(|lane| held.contains(lane)) {
            plan.waiting += 1;
            continue;
        }
        match judge(&row) {
            Ok(made) => {
                length += part(row.id, last, row.digest()).len();
                if plan.out.len() >= batch || length > MARK_LENGTH_MAX {
                    break;
                }
                last = row.id;
                plan.out.push((row, made));
            }
            Err(reason) => {
                held.extend(lane);
                plan.refused.push((row.id, reason));
            }
        }
    }
    plan
}

impl Row {
    /// Tells it from another row that has the same id in another database.
    pub(super) fn digest(&self) -> u32 {
        let mut context = Context::new(&SHA256);
        let value = self.value.as_deref();
        let parts = [
            Some(self.topic.as_bytes()),
            self.key.as_deref().map(str::as_bytes),
            value,
            self.headers.as_deref().map(str::as_bytes),
        ];
        for part in parts {
            let length = part.map_or(u64::MAX, |part| part.len() as u64);
            context.update(&length.to_be_bytes());
            context.update(part.unwrap_or_default());
        }
        let digest = context.finish();
        let first = digest.as_ref().first_chunk::<4>();
        first.map_or(0, |first| u32::from_be_bytes(*first))
    }
}

impl Mark {
    pub(super) fn of<T>(out: &[(Row, T)]) -> Self {
        Self(out.iter().map(|(row, _)| (row.id, row.digest())).collect())
    }

    pub(super) fn to_text(&self) -> String {
        let mut last = 0;
        let parts = self.0.iter().map(|(id, digest)| {
            let part = part(*id, last, *digest);
            last = *id;
            part
        });
        parts.collect()
    }

    /// Nothing, if it is none.
    pub(super) fn from_text(text: &str) -> Self {
        let mut last: i64 = 0;
        let parts = text.split(',').filter(|part| !part.is_empty());
        let parts = parts.map(|part| {
            let (step, digest) = part.split_once(':')?;
            last = last.wrapping_add(step.parse().ok()?);
            Some((last, u32::from_str_radix(digest, 16).ok()?))
        });
        Self(parts.collect::<Option<_>>().unwrap_or_default())
    }

    pub(super) fn ids(&self) -> Vec<i64> {
        self.0.iter().map(|(id, _)| *id).collect()
    }

    /// Those of the rows that are the ones that went out.
    pub(super) fn of_these(&self, rows: &[Row]) -> Vec<i64> {
        let known: HashSet<&(i64, u32)> = self.0.iter().collect();
        let rows = rows.iter();
        let ours = rows.filter(|row| known.contains(&(row.id, row.digest())));
        ours.map(|row| row.id).collect()
    }
}

fn part(id: i64, last: i64, digest: u32) -> String {
    format!("{}:{digest:08x},", id.wrapping_sub(last))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(id: i64, key: Option<&str>) -> Row {
        Row {
            id,
            topic: "t".to_owned(),
            key: key.map(str::to_owned),
            value: Some(Bytes::from(format!("v{id}"))),
            headers: None,
        }
    }

    fn ids<T>(plan: &Plan<T>) -> Vec<i64> {
        plan.out.iter().map(|(row, _)| row.id).collect()
    }

    #[test]
    fn a_row_that_is_refused_holds_its_key_and_nobody_else() {
        let rows = vec![
            row(1, Some("a")),
            row(2, Some("b")),
            row(3, Some("a")),
            row(4, None),
            row(5, None),
            row(6, Some("b")),
        ];
        let bad = |row: &Row| match row.id {
            1 | 4 => Err(format!("no {}", row.id)),
            _ => Ok(()),
        };
        let plan = plan(rows, 10, bad);
        assert_eq!(ids(&plan), [2, 5, 6]);
        let refused = [(1, "no 1".to_owned()), (4, "no 4".to_owned())];
        assert_eq!((plan.refused.as_slice(), plan.waiting), (&refused[..], 1));
    }

    #[test]
    fn a_batch_is_no_larger_than_asked_for_and_than_its_mark_can_be() {
        let all = |_: &Row| Ok(());
        let rows: Vec<Row> = (1..=9).map(|id| row(id, None)).collect();
        assert_eq!(ids(&plan(rows, 4, all)), [1, 2, 3, 4]);
        let wide: Vec<Row> = (1..=1000).map(|id| row(id << 50, None)).collect();
        let plan = plan(wide, 1000, all);
        let text = Mark::of(&plan.out).to_text();
        assert!(
            (3900..=MARK_LENGTH_MAX).contains(&text.len()),
            "{}",
            text.len()
        );
    }

    #[test]
    fn a_mark_knows_its_rows_and_not_others_with_their_ids() {
        let out = [(row(7, None), ()), (row(9, Some("k")), ())];
        let mark = Mark::from_text(&Mark::of(&out).to_text());
        assert_eq!(mark.ids(), [7, 9]);
        let mut other = row(7, None);
        other.value = None;
        assert_eq!(mark.of_these(&[other, row(9, Some("k"))]), [9]);
        assert_eq!(Mark::from_text("what?"), Mark::default());
        assert_eq!(Mark::from_text(""), Mark::default());
    }

    proptest! {
        #[test]
        fn marks_survive_their_text(pairs in prop::collection::vec(any::<(i64, u32)>(), 0..50)) {
            let mark = Mark(pairs);
            prop_assert_eq!(Mark::from_text(&mark.to_text()), mark);
        }
    }
}
