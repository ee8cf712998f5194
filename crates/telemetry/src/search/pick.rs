//! Rows that were chosen, and how they are fetched: only then all of their columns are read.

use arrow_buffer::BooleanBufferBuilder;

use crate::Error;
use crate::columns::Row;
use crate::shelf::Unit;

/// A row of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pick {
    pub(crate) unit: usize,
    pub(crate) part: usize,
    pub(crate) row: usize,
}

/// Calls `each` with every row of `picks`, in the order of the snapshot. Rows of a file that cannot be read are
/// left out, which is told once.
pub(crate) fn fetch(units: &[Unit], mut picks: Vec<Pick>, mut each: impl FnMut(Row<'_>)) {
    picks.sort_unstable();
    for picks in picks.chunk_by(|a, b| (a.unit, a.part) == (b.unit, b.part)) {
        let fetched = fetch_part(&units[picks[0].unit], picks, &mut each);
        if let (Err(error), Unit::Cold(file)) = (fetched, &units[picks[0].unit])
            && file.found_broken()
        {
            tracing::warn!(%error, "a file of telemetry is skipped");
        }
    }
}

fn fetch_part(unit: &Unit, picks: &[Pick], each: &mut dyn FnMut(Row<'_>)) -> Result<(), Error> {
    match unit {
        Unit::Hot(hot) => {
            let batch = &hot.batch;
            picks.iter().for_each(|pick| {
                let row = pick.row;
                each(Row { batch, row });
            });
        }
        Unit::Cold(file) => {
            let part = picks[0].part;
            let rows = file.groups()[part].rows;
            let mut mask = BooleanBufferBuilder::new(rows);
            mask.append_n(rows, false);
            picks.iter().for_each(|pick| mask.set_bit(pick.row, true));
            let all = file.kind().all_columns();
            let batch = &file.read(part, &all, Some(mask.finish()))?;
            (0..batch.num_rows()).for_each(|row| each(Row { batch, row }));
        }
    }
    Ok(())
}
