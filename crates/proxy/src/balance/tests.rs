//! Balancers over made-up instances.

use std::cell::Cell;

use proptest::prelude::*;

use super::*;

/// One instance.
#[derive(Debug, Clone)]
struct Fake {
    usable: bool,
    in_flight: u32,
    cost: f32,
    part: u32,
    identity: u64,
}

struct Fakes(Vec<Fake>);

impl Fakes {
    fn equal(count: usize) -> Self {
        let fake = |at| Fake {
            usable: true,
            in_flight: 0,
            cost: 1.0,
            part: FULL,
            identity: hash_key(format!("orders-r1-{at}").as_bytes()),
        };
        Self((0..count).map(fake).collect())
    }
}

impl Candidates for Fakes {
    fn count(&self) -> usize {
        self.0.len()
    }
    fn is_usable(&self, at: usize) -> bool {
        self.0[at].usable
    }
    fn in_flight(&self, at: usize) -> u32 {
        self.0[at].in_flight
    }
    fn cost(&self, at: usize) -> f32 {
        self.0[at].cost
    }
    fn part(&self, at: usize) -> u32 {
        self.0[at].part
    }
    fn identity(&self, at: usize) -> u64 {
        self.0[at].identity
    }
}

/// Numbers that look random: splitmix64.
fn random(seed: u64) -> impl Fn() -> u64 {
    let state = Cell::new(seed);
    move || {
        state.set(state.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut word = state.get();
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

fn balancer(kind: BalanceKind) -> Balancer {
    Balancer::new(kind)
}

/// How often each is taken.
fn shares(balancer: &Balancer, fakes: &Fakes, picks: usize) -> Vec<usize> {
    let random = random(1);
    let mut taken = vec![0; fakes.count()];
    for _ in 0..picks {
        taken[balancer.pick(fakes, None, &random).unwrap()] += 1;
    }
    taken
}

#[test]
fn a_slow_instance_gets_little_by_ewma() {
    let mut fakes = Fakes::equal(3);
    fakes.0[1].cost = 10.0;
    let taken = shares(&balancer(BalanceKind::Ewma), &fakes, 3_000);
    assert_eq!(taken[1], 0, "{taken:?}");
    assert!(taken[0].abs_diff(taken[2]) < 300, "{taken:?}");
}

#[test]
fn a_new_instance_gets_its_part_by_ewma_and_in_turn() {
    for kind in [BalanceKind::Ewma, BalanceKind::RoundRobin] {
        let mut fakes = Fakes::equal(2);
        fakes.0[1].part = FULL / 4;
        let taken = shares(&balancer(kind), &fakes, 10_000);
        // In turn exactly a fifth; of two, an eighth: half of what is not refused to it.
        assert!((1_000..2_100).contains(&taken[1]), "{kind:?} {taken:?}");
    }
}

#[test]
fn new_instances_among_themselves_share_evenly() {
    for kind in [BalanceKind::Ewma, BalanceKind::RoundRobin] {
        let mut fakes = Fakes::equal(3);
        fakes.0.iter_mut().for_each(|fake| fake.part = FULL / 10);
        let taken = shares(&balancer(kind), &fakes, 9_000);
        let even = taken.iter().all(|taken| (2_400..3_600).contains(taken));
        assert!(even, "{kind:?} {taken:?}");
    }
}

#[test]
fn in_turn_is_smooth() {
    let mut fakes = Fakes::equal(3);
    fakes.0[0].part = FULL / 2;
    fakes.0[2].usable = false;
    let robin = balancer(BalanceKind::RoundRobin);
    let random = random(3);
    let picks: Vec<_> = (0..9)
        .map(|_| robin.pick(&fakes, None, &random).unwrap())
        .collect();
    assert_eq!(picks.iter().filter(|at| **at == 0).count(), 3, "{picks:?}");
    let longest = picks.chunk_by(|one, other| one == other).map(<[_]>::len);
    assert!(longest.max().unwrap() <= 2, "no bursts: {picks:?}");
}

#[test]
fn workers_do_not_begin_with_the_same_instance() {
    let fakes = Fakes::equal(8);
    let firsts: std::collections::HashSet<_> = (0..64)
        .map(|seed| balancer(BalanceKind::RoundRobin).pick(&fakes, None, &random(seed)))
        .collect();
    assert!(firsts.len() > 4, "{firsts:?}");
}

#[test]
fn keys_are_spread_evenly_and_stay_where_they_are() {
    let fakes = Fakes::equal(10);
    let hash = balancer(BalanceKind::Hash);
    let place = |fakes: &Fakes, key: u64| {
        let key = hash_key(&key.to_le_bytes());
        hash.pick(fakes, Some(key), &random(key)).unwrap()
    };
    let before: Vec<_> = (0..10_000).map(|key| place(&fakes, key)).collect();
    for at in 0..10 {
        let own = before.iter().filter(|place| **place == at).count();
        assert!((850..1_150).contains(&own), "{at}: {own}");
    }
    let mut fewer = fakes;
    fewer.0[3].usable = false;
    for (key, at) in before.iter().enumerate() {
        let now = place(&fewer, key as u64);
        assert!(
            *at == 3 || now == *at,
            "only the keys of the one that left move"
        );
    }
}

#[test]
fn a_popular_key_does_not_sink_its_instance() {
    let mut fakes = Fakes::equal(4);
    let hash = balancer(BalanceKind::Hash);
    for _ in 0..400 {
        let at = hash.pick(&fakes, Some(7), &random(0)).unwrap();
        fakes.0[at].in_flight += 1;
    }
    let most = fakes.0.iter().map(|fake| fake.in_flight).max().unwrap();
    assert!(most <= 126, "{most}");
    let mut few = Fakes::equal(4);
    let first = hash.pick(&few, Some(7), &random(0)).unwrap();
    few.0[first].in_flight = 15;
    assert_eq!(
        hash.pick(&few, Some(7), &random(0)),
        Some(first),
        "few stay together"
    );
}

#[test]
fn without_a_key_it_is_spread() {
    let fakes = Fakes::equal(4);
    let taken = shares(&balancer(BalanceKind::Hash), &fakes, 4_000);
    assert!(taken.iter().all(|taken| *taken > 800), "{taken:?}");
}

proptest! {
    /// Whatever the loads, parts and states, a balancer finds one that may be taken if there is
    /// any, and only such.
    #[test]
    fn whatever_may_be_taken_is_found(
        states in proptest::collection::vec((any::<bool>(), 0u32..500, 0.1f32..9e9, 1u32..=FULL), 0..12),
        key in proptest::option::of(any::<u64>()),
        seed: u64,
    ) {
        let mut fakes = Fakes::equal(states.len());
        for (fake, (usable, in_flight, cost, part)) in fakes.0.iter_mut().zip(states) {
            (fake.usable, fake.in_flight, fake.cost, fake.part) = (usable, in_flight, cost, part);
        }
        let random = random(seed);
        for kind in [BalanceKind::Ewma, BalanceKind::RoundRobin, BalanceKind::Hash] {
            let balancer = balancer(kind);
            for _ in 0..4 {
                match balancer.pick(&fakes, key, &random) {
                    Some(at) => prop_assert!(fakes.0[at].usable),
                    None => prop_assert!(fakes.0.iter().all(|fake| !fake.usable)),
                }
            }
        }
    }

    #[test]
    fn in_turn_everybody_gets_exactly_the_same(count in 1usize..40, seed: u64) {
        let fakes = Fakes::equal(count);
        let robin = balancer(BalanceKind::RoundRobin);
        let random = random(seed);
        let mut taken = vec![0; count];
        for _ in 0..count * 5 {
            taken[robin.pick(&fakes, None, &random).unwrap()] += 1;
        }
        prop_assert!(taken.iter().all(|taken| *taken == 5), "{:?}", taken);
    }
}

#[test]
fn of_two_the_less_loaded_is_taken() {
    for start in 0..2 {
        let load = |at: usize| Some([5, 3][at]);
        assert_eq!(pick(2, load, |n| start % n), Some(1));
    }
}

proptest! {
    #[test]
    fn of_two_whatever_may_be_taken_is_found(
        loads in proptest::collection::vec(proptest::option::of(0u32..9), 0..8),
        seed: usize,
    ) {
        let picked = pick(loads.len(), |at| loads[at], |n| seed % n);
        match picked {
            Some(at) => prop_assert!(loads[at].is_some()),
            None => prop_assert!(loads.iter().all(Option::is_none)),
        }
    }
}
