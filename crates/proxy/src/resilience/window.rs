//! Two counts over the last ten seconds.
//!
//! Ten slots of a second, exact sums: no averages that remember what nobody remembers. The slot of
//! the running second is part of it, so it covers nine to ten seconds.

use super::Millis;

/// Seconds that a [`Window`] covers.
pub(super) const SECONDS: usize = 10;

/// How often something was asked for and how often something came of it, over ten seconds.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    /// The second of the newest slot.
    second: u64,
    slots: [[u32; 2]; SECONDS],
}

impl Window {
    /// Adds to both counts.
    pub(super) fn add(&mut self, first: u32, second: u32, now: Millis) {
        self.advance(now);
        let slot = &mut self.slots[self.second as usize % SECONDS];
        slot[0] = slot[0].saturating_add(first);
        slot[1] = slot[1].saturating_add(second);
    }

    /// Both sums.
    pub(super) fn sums(&mut self, now: Millis) -> [u64; 2] {
        self.advance(now);
        let mut sums = [0; 2];
        for slot in &self.slots {
            sums[0] += u64::from(slot[0]);
            sums[1] += u64::from(slot[1]);
        }
        sums
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.slots = Default::default();
    }

    /// Empties the slots of the seconds that have passed. Time that goes back, as two threads may
    /// tell it, stands still.
    fn advance(&mut self, now: Millis) {
        let second = now / 1000;
        let passed = second.saturating_sub(self.second);
        for step in 1..=passed.min(SECONDS as u64) {
            self.slots[(self.second + step) as usize % SECONDS] = [0; 2];
        }
        self.second = self.second.max(second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_forgets_after_ten_seconds() {
        let mut window = Window::default();
        window.add(3, 1, 500);
        window.add(4, 0, 5_000);
        assert_eq!(window.sums(9_999), [7, 1]);
        assert_eq!(window.sums(10_000), [4, 0]);
        assert_eq!(window.sums(1_000_000), [0, 0]);
    }

    proptest! {
        #[test]
        fn sums_are_those_of_the_last_ten_seconds(
            adds in proptest::collection::vec((0u64..4_000, 0u32..100), 1..60),
        ) {
            let mut window = Window::default();
            let (mut now, mut all) = (0, Vec::new());
            for (pause, count) in adds {
                now += pause;
                window.add(count, 1, now);
                all.push((now / 1000, u64::from(count)));
                let recent = all.iter().filter(|(at, _)| at + SECONDS as u64 > now / 1000);
                let sum: u64 = recent.clone().map(|(_, count)| count).sum();
                prop_assert_eq!(window.sums(now), [sum, recent.count() as u64]);
            }
        }
    }
}
