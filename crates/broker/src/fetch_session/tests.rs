//! Sessions, step by step, and at random against a list of what a client would believe.

use super::*;
use crate::dice::Dice;

fn orders() -> Principal {
    Principal::Account("orders".to_owned())
}

fn named(name: &str) -> Topic {
    Topic::Name(name.into())
}

fn id(id: u8, name: Option<&str>) -> Topic {
    let name = name.map(Arc::from);
    Topic::Id { id: [id; 16], name }
}

fn from(offset: i64) -> Want {
    Want {
        offset,
        bytes_max: 1000,
    }
}

fn ends(high_watermark: i64) -> Ends {
    Ends {
        high_watermark,
        last_stable: high_watermark,
        start: 0,
    }
}

fn increment(id: i32, epoch: i32) -> Increment {
    Increment {
        id,
        epoch,
        by_id: false,
        changed: Vec::new(),
        forgotten: Vec::new(),
    }
}

fn partitions(count: i32) -> Vec<(Arc<Topic>, i32, Want, Ends)> {
    let topic = Arc::new(named("a"));
    let all = (0..count).map(|index| (Arc::clone(&topic), index, from(0), ends(5)));
    all.collect()
}

fn order(round: &Round) -> Vec<i32> {
    round.wanted.iter().map(|own| own.index).collect()
}

fn gave(own: &Wanted) -> Told {
    Told {
        place: own.place,
        ends: ends(9),
        gave: true,
    }
}

struct Bench {
    sessions: Sessions,
    now: Instant,
}

impl Bench {
    fn new(sessions: usize, partitions: usize, of_one: usize) -> Self {
        let limits = Limits {
            sessions,
            partitions,
            of_one,
            ..Limits::default()
        };
        Self {
            sessions: Sessions::new(limits),
            now: atoll_base::clock::monotonic(),
        }
    }

    fn make(&mut self, id: i32, count: i32) -> Option<i32> {
        let wanted = partitions(count);
        self.sessions.make(id, &orders(), false, wanted, self.now)
    }

    fn next(&mut self, increment: Increment) -> Result<Round, Refused> {
        self.sessions.next(&orders(), increment, self.now)
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn known(&self) -> Vec<i32> {
        let mut known: Vec<_> = self.sessions.known.keys().copied().collect();
        known.sort_unstable();
        known
    }
}

fn small() -> Bench {
    Bench::new(3, 20, 10)
}

#[test]
fn a_session_goes_on_epoch_by_epoch_and_remembers_what_was_wanted_and_told() {
    let mut bench = small();
    assert_eq!(bench.make(7, 2), Some(7));
    let mut first = increment(7, 1);
    first.changed = vec![(named("a"), vec![(1, from(3)), (2, from(4))])];
    let round = bench.next(first).unwrap();
    assert_eq!((round.id, round.epoch), (7, 2));
    let seen: Vec<_> = round
        .wanted
        .iter()
        .map(|own| (own.index, own.want.offset, own.told))
        .collect();
    let new = Ends::UNKNOWN;
    assert_eq!(seen, [(0, 0, ends(5)), (1, 3, ends(5)), (2, 4, new)]);
    let told = Told {
        place: round.wanted[2].place,
        ends: ends(8),
        gave: false,
    };
    bench.sessions.told(7, 2, [told]).unwrap();
    let mut second = increment(7, 2);
    second.forgotten = vec![(named("a"), vec![0, 9]), (named("b"), vec![0])];
    let round = bench.next(second).unwrap();
    let seen: Vec<_> = round
        .wanted
        .iter()
        .map(|own| (own.index, own.told))
        .collect();
    assert_eq!(seen, [(1, ends(5)), (2, ends(8))]);
    assert_eq!(bench.sessions.partitions(), 2);
}

#[test]
fn what_was_lost_or_came_twice_is_noticed_and_changes_nothing() {
    let mut bench = small();
    bench.make(7, 2);
    for given in [0, -1, 2, i32::MIN, i32::MAX] {
        let mut wrong = increment(7, given);
        wrong.forgotten = vec![(named("a"), vec![0])];
        let expected = 1;
        assert_eq!(
            bench.next(wrong).unwrap_err(),
            Refused::Epoch { given, expected }
        );
    }
    assert_eq!(order(&bench.next(increment(7, 1)).unwrap()), [0, 1]);
    assert!(bench.next(increment(7, 1)).is_err());
    // An answer that another request has overtaken is not given.
    let late = bench.next(increment(7, 2)).unwrap();
    bench.next(increment(7, 3)).unwrap();
    let told = bench.sessions.told(7, late.epoch, []);
    let (given, expected) = (3, 4);
    assert_eq!(told, Err(Refused::Epoch { given, expected }));
}

#[test]
fn the_epoch_after_the_greatest_is_one() {
    let mut bench = small();
    bench.make(7, 1);
    bench.sessions.known.get_mut(&7).unwrap().epoch = i32::MAX;
    assert_eq!(bench.next(increment(7, i32::MAX)).unwrap().epoch, 1);
    assert_eq!(bench.next(increment(7, 1)).unwrap().epoch, 2);
}

#[test]
fn for_others_there_is_no_session() {
    let mut bench = small();
    bench.make(7, 2);
    for who in [Principal::Anonymous, Principal::Account("x".to_owned())] {
        let refused = bench.sessions.next(&who, increment(7, 1), bench.now);
        assert_eq!(refused.unwrap_err(), Refused::NotFound(7));
        bench.sessions.end(7, &who);
    }
    assert!(bench.next(increment(7, 1)).is_ok());
    bench.sessions.end(7, &orders());
    assert_eq!(
        bench.next(increment(7, 2)).unwrap_err(),
        Refused::NotFound(7)
    );
    assert_eq!((bench.sessions.len(), bench.sessions.partitions()), (0, 0));
    // Who was answered meanwhile is not told.
    assert_eq!(bench.sessions.told(7, 2, []), Ok(()));
}

#[test]
fn who_gave_records_goes_behind_the_others() {
    let mut bench = small();
    bench.make(7, 4);
    let round = bench.next(increment(7, 1)).unwrap();
    let told = [gave(&round.wanted[0]), gave(&round.wanted[2])];
    bench.sessions.told(7, 2, told).unwrap();
    let round = bench.next(increment(7, 2)).unwrap();
    assert_eq!(order(&round), [1, 3, 0, 2]);
    bench.sessions.told(7, 3, [gave(&round.wanted[0])]).unwrap();
    // One that is wanted otherwise keeps its place, and can be forgotten where it is now.
    let mut change = increment(7, 3);
    change.changed = vec![(named("a"), vec![(0, from(9))])];
    change.forgotten = vec![(named("a"), vec![2])];
    let round = bench.next(change).unwrap();
    assert_eq!(order(&round), [3, 0, 1]);
    assert_eq!(round.wanted[1].want, from(9));
}

#[test]
fn a_session_without_partitions_ends() {
    let mut bench = small();
    assert_eq!(bench.make(7, 0), None);
    bench.make(7, 1);
    let mut last = increment(7, 1);
    last.forgotten = vec![(named("a"), vec![0])];
    let round = bench.next(last).unwrap();
    assert_eq!((round.id, round.wanted.len()), (0, 0));
    assert!(bench.sessions.is_empty());
}

#[test]
fn topics_go_by_names_or_by_ids_and_not_by_both() {
    let mut bench = small();
    bench.make(7, 1);
    let mut other = increment(7, 1);
    other.by_id = true;
    assert_eq!(bench.next(other).unwrap_err(), Refused::TopicIds);
    let topic = Arc::new(id(1, Some("a")));
    let wanted = vec![(topic, 0, from(0), ends(5))];
    let made = bench.sessions.make(8, &orders(), true, wanted, bench.now);
    assert_eq!(made, Some(8));
    assert_eq!(bench.next(increment(8, 1)).unwrap_err(), Refused::TopicIds);
    // An id whose topic is gone meanwhile has no name, and is the same all the same.
    let mut gone = increment(8, 1);
    gone.by_id = true;
    gone.changed = vec![(id(2, None), vec![(0, from(0))])];
    gone.forgotten = vec![(id(1, None), vec![0])];
    let round = bench.next(gone).unwrap();
    assert_eq!(round.wanted.len(), 1);
    assert_eq!(*round.wanted[0].topic, id(2, None));
}

#[test]
fn a_number_that_is_taken_or_none_makes_no_session() {
    let mut bench = small();
    assert_eq!(bench.make(7, 1), Some(7));
    for id in [7, 0, -1, i32::MIN] {
        assert_eq!(bench.make(id, 1), None, "{id}");
    }
    assert_eq!(bench.known(), [7]);
}

#[test]
fn without_room_the_one_that_was_idle_longest_goes_and_one_in_use_does_not() {
    let mut bench = small();
    for id in [1, 2, 3] {
        bench.make(id, 2);
        bench.pass(30);
    }
    // 1 is in use: its requests keep it.
    bench.next(increment(1, 1)).unwrap();
    assert_eq!(bench.make(4, 2), None);
    bench.pass(59);
    assert_eq!(bench.make(4, 2), None, "2 was idle for 119 s");
    bench.pass(1);
    assert_eq!(bench.make(4, 2), Some(4));
    assert_eq!(bench.known(), [1, 3, 4]);
}

#[test]
fn a_larger_one_takes_the_place_of_the_smallest_that_is_not_new() {
    let mut bench = small();
    for (id, size) in [(1, 3), (2, 2), (3, 4)] {
        bench.make(id, size);
    }
    let use_all = |bench: &mut Bench, epoch| {
        for id in bench.known() {
            let _ = bench.next(increment(id, epoch));
        }
    };
    bench.pass(119);
    use_all(&mut bench, 1);
    assert_eq!(bench.make(4, 9), None, "all are new");
    bench.pass(1);
    use_all(&mut bench, 2);
    assert_eq!(bench.make(4, 2), None, "none is smaller");
    assert_eq!(bench.make(4, 4), Some(4));
    assert_eq!(bench.known(), [1, 3, 4]);
}

#[test]
fn partitions_are_bounded_in_each_and_in_all() {
    let mut bench = small();
    assert_eq!(bench.make(1, 11), None, "one has 10 at most");
    assert_eq!(bench.make(1, 10), Some(1));
    assert_eq!(bench.make(2, 9), Some(2));
    assert_eq!(bench.make(3, 2), None, "all have 20 at most");
    assert_eq!(bench.make(3, 1), Some(3));
    for (id, index) in [(2, 9), (1, 10)] {
        let mut more = increment(id, 1);
        more.changed = vec![(named("a"), vec![(index, from(0))])];
        assert_eq!(bench.next(more).unwrap_err(), Refused::NotFound(id));
    }
    assert_eq!((bench.known(), bench.sessions.partitions()), (vec![3], 1));
    // Nobody goes in vain: two would have to, and only one may.
    let mut bench = Bench::new(3, 20, 20);
    bench.make(1, 8);
    bench.make(2, 8);
    bench.pass(120);
    bench.next(increment(2, 1)).unwrap();
    assert_eq!(bench.make(3, 16), Some(3));
    assert_eq!(bench.known(), [3]);
    let mut bench = Bench::new(3, 20, 20);
    bench.make(1, 8);
    bench.pass(120);
    bench.make(2, 8);
    assert_eq!(bench.make(3, 16), None);
    assert_eq!(bench.known(), [1, 2]);
}

/// What a client that follows the rules believes of its session, and what the session does.
#[test]
fn at_random_a_session_is_what_its_client_believes() {
    for seed in 0..300 {
        let mut dice = Dice::new(seed);
        let mut bench = Bench::new(4, 60, 30);
        let mut believed: Vec<(Topic, i32, Want)> = Vec::new();
        let (mut id, mut epoch) = (0, 0);
        for step in 0..60 {
            if id == 0 {
                let count = i32::try_from(dice.below(6)).unwrap();
                id = bench.make(step + 1, count).unwrap_or(0);
                epoch = 1;
                let own = partitions(if id == 0 { 0 } else { count }).into_iter();
                let own = own.map(|(topic, index, want, _)| (Topic::clone(&topic), index, want));
                believed = own.collect();
                continue;
            }
            let request = at_random(&mut dice, id, epoch, &mut believed);
            let Ok(round) = bench.next(request) else {
                assert!(believed.len() > 30, "refused without a reason");
                id = 0;
                continue;
            };
            let seen = round.wanted.iter();
            let mut seen: Vec<_> = seen
                .map(|own| (own.topic.key_text(), own.index, own.want.offset))
                .collect();
            let mut expected: Vec<_> = believed
                .iter()
                .map(|(topic, index, want)| (topic.key_text(), *index, want.offset))
                .collect();
            seen.sort_unstable();
            expected.sort_unstable();
            assert_eq!(seen, expected, "seed {seed} step {step}");
            assert_eq!(bench.sessions.partitions(), believed.len());
            let told = round.wanted.iter().filter(|_| dice.below(3) == 0).map(gave);
            let told: Vec<_> = told.collect();
            bench.sessions.told(round.id, round.epoch, told).unwrap();
            (id, epoch) = (round.id, round.epoch);
        }
    }
}

impl Topic {
    fn key_text(&self) -> String {
        format!("{self:?}")
    }
}

/// A request, and what its client believes after it.
fn at_random(
    dice: &mut Dice,
    id: i32,
    epoch: i32,
    believed: &mut Vec<(Topic, i32, Want)>,
) -> Increment {
    let mut request = increment(id, epoch);
    for _ in 0..dice.below(5) {
        let topic = named(["a", "b", "c"][usize::try_from(dice.below(3)).unwrap()]);
        let index = i32::try_from(dice.below(12)).unwrap();
        if dice.below(2) == 0 {
            let want = from(i64::try_from(dice.below(100)).unwrap());
            // What is named in both is forgotten: that comes last.
            let forgotten =
                |(own, of_it): &(Topic, Vec<i32>)| *own == topic && of_it.contains(&index);
            if request.forgotten.iter().any(forgotten) {
                continue;
            }
            believed.retain(|(own, at, _)| (own, *at) != (&topic, index));
            believed.push((topic.clone(), index, want));
            request.changed.push((topic, vec![(index, want)]));
        } else {
            believed.retain(|(own, at, _)| (own, *at) != (&topic, index));
            request.forgotten.push((topic, vec![index]));
        }
    }
    request
}
