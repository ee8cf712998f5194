//! The machine in virtual time: what fires, what does not, what is told, and what a crash changes (nothing).

use std::collections::BTreeMap;

use atoll_base::ServiceName;
use proptest::prelude::*;

use super::super::{Aim, FAILED_MIN, ObjectiveConfig, Share};
use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn objective(target: &str) -> Objective {
    Objective {
        key: key(),
        target: target.parse::<Share>().unwrap(),
        bound: None,
        window: Duration::from_secs(30 * 86_400),
    }
}

fn key() -> Key {
    Key {
        service: ServiceName::new("orders").unwrap(),
        aim: Aim::Availability,
    }
}

fn id(severity: Severity) -> AlertId {
    AlertId {
        key: key(),
        severity,
    }
}

const START: Timestamp = Timestamp::from_micros(1_763_690_400_000_000);

/// All services are up, and these objectives hold.
fn declare(objectives: Vec<Objective>) -> Command {
    Command::Declare {
        objectives,
        coming: BTreeSet::new(),
    }
}

/// None is up yet; the folders have these objectives.
fn expect(objectives: Vec<Objective>) -> Command {
    Command::Declare {
        objectives,
        coming: [key().service].into(),
    }
}

fn opened(objectives: Vec<Objective>, restored: Restored, now: Timestamp) -> Machine {
    let mut machine = Machine::open(restored);
    assert_eq!(machine.apply(declare(objectives), now), []);
    machine
}

/// A machine and its time.
struct Run {
    machine: Machine,
    now: Timestamp,
    told: Vec<(Severity, AlertState)>,
    recorded: Vec<Change>,
}

impl Run {
    fn new(target: &str) -> Self {
        Self {
            machine: opened(vec![objective(target)], Restored::default(), START),
            now: START,
            told: Vec::new(),
            recorded: Vec::new(),
        }
    }

    fn apply(&mut self, command: Command) -> Vec<Action> {
        let actions = self.machine.apply(command, self.now);
        for action in &actions {
            match action {
                Action::Tell(notice) => self.told.push((notice.id.severity, notice.state)),
                Action::Record(change) => self.recorded.push(change.clone()),
                Action::Keep(_) | Action::Forget(_) => {}
            }
        }
        actions
    }

    fn requests(&mut self, total: u64, bad: u64) {
        self.apply(Command::Observe(vec![(key(), Tally { total, bad })]));
    }

    /// So many requests in each minute of this time.
    fn goes_on(&mut self, span: Duration, total: u64, bad: u64) {
        for _ in 0..span.as_secs() / 60 {
            self.now = self.now.after(MINUTE);
            self.requests(total, bad);
        }
    }

    fn silence(&mut self, until: Option<Timestamp>) {
        let id = id(Severity::Page);
        self.apply(Command::Silence { id, until });
    }

    fn states(&self) -> Vec<(Severity, AlertState)> {
        let alerts = self.machine.alerts();
        alerts
            .iter()
            .map(|own| (own.id.severity, own.state))
            .collect()
    }
}

use AlertState::{Firing, Pending, Resolved};
use Severity::{Page, Ticket};

#[test]
fn a_service_that_fails_altogether_fires_with_the_tenth_request() {
    let mut run = Run::new("99.9%");
    for failed in 1..FAILED_MIN {
        run.requests(1, 1);
        assert_eq!(run.states()[0], (Page, Pending), "{failed}");
    }
    assert_eq!(run.told, []);
    run.requests(1, 1);
    run.requests(1, 1);
    assert_eq!(run.told, [(Page, Firing)], "once, and no ticket beside it");
    let alerts = run.machine.alerts();
    assert_eq!(
        alerts[0].message,
        "the budget burns 1000.0 times too fast: 10 of 10 requests failed in 1h, 10 of 10 in 5m"
    );
}

#[test]
fn one_failure_of_three_alerts_nobody() {
    let mut run = Run::new("99.9%");
    run.requests(3, 1);
    run.goes_on(5 * HOUR, 0, 0);
    assert_eq!(run.told, []);
    assert_eq!(run.recorded, []);
    assert_eq!(
        run.states(),
        [(Ticket, Pending)],
        "the slowest rule still sees it"
    );
}

#[test]
fn what_stops_failing_is_resolved_by_the_short_window() {
    let mut run = Run::new("99.9%");
    run.goes_on(HOUR, 1000, 0);
    run.goes_on(10 * MINUTE, 1000, 500);
    assert_eq!(run.told, [(Page, Firing)]);
    run.goes_on(4 * MINUTE, 1000, 0);
    assert_eq!(
        run.told,
        [(Page, Firing)],
        "failures are in the last five minutes"
    );
    // Five minutes later the first rule lets go, and half an hour later the second.
    run.goes_on(27 * MINUTE, 1000, 0);
    assert_eq!(run.told[1], (Page, Resolved));
    assert_eq!(run.told[2], (Ticket, Firing), "what it has cost is a task");
    assert_eq!(run.states(), [(Page, Resolved), (Ticket, Firing)]);
    run.goes_on(HOUR, 1000, 0);
    assert_eq!(
        run.states(),
        [(Ticket, Firing)],
        "long resolved is not shown"
    );
}

#[test]
fn each_rule_fires_at_its_own_burn() {
    // Of 99%: 1 is 10 of 1000, 3 is 30, 6 is 60, 14.4 is 144.
    for (bad, span, told) in [
        (9, 72, None),
        (11, 72, Some(Ticket)),
        (31, 24, Some(Ticket)),
        (61, 6, Some(Page)),
        (145, 1, Some(Page)),
    ] {
        let mut run = Run::new("99%");
        run.goes_on(span * HOUR, 1000, bad);
        let first = run.told.first().map(|(severity, _)| *severity);
        assert_eq!(first, told, "{bad} of 1000");
    }
}

#[test]
fn a_rate_right_at_the_limit_does_not_come_and_go() {
    let mut run = Run::new("99%");
    run.goes_on(6 * HOUR, 1000, 61);
    for _ in 0..10 {
        run.goes_on(40 * MINUTE, 1000, 57);
        run.goes_on(40 * MINUTE, 1000, 65);
    }
    assert_eq!(run.told, [(Page, Firing)]);
}

#[test]
fn silence_holds_back_what_still_holds_at_its_end() {
    let mut run = Run::new("99%");
    run.silence(Some(run.now.after(HOUR)));
    assert_eq!(
        run.states(),
        [(Page, Resolved)],
        "silenced in advance, and shown"
    );
    run.goes_on(59 * MINUTE, 100, 50);
    assert_eq!(run.told, []);
    assert_eq!(run.states(), [(Page, Firing)]);
    assert!(run.recorded.iter().all(|change| change.silenced));
    run.goes_on(MINUTE, 100, 50);
    assert_eq!(run.told, [(Page, Firing)]);
    assert_eq!(run.machine.alerts()[0].silenced_until, None);
}

#[test]
fn what_comes_and_goes_in_silence_is_told_to_nobody() {
    let mut run = Run::new("90%");
    run.silence(Some(run.now.after(2 * HOUR)));
    run.goes_on(30 * MINUTE, 100, 95);
    run.goes_on(100 * MINUTE, 1000, 0);
    assert_eq!(run.told.iter().filter(|(own, _)| *own == Page).count(), 0);
    let page = run.recorded.iter().filter(|own| own.id.severity == Page);
    assert_eq!(
        page.map(|own| own.state).collect::<Vec<_>>(),
        [Firing, Resolved]
    );
}

#[test]
fn silence_that_is_taken_back_tells_at_once_and_one_in_the_past_is_none() {
    let mut run = Run::new("99%");
    run.silence(Some(run.now.after(HOUR)));
    run.goes_on(MINUTE, 100, 50);
    run.silence(None);
    assert_eq!(run.told, [(Page, Firing)]);
    run.silence(Some(run.now.before(HOUR)));
    assert_eq!(run.machine.alerts()[0].silenced_until, None);
}

#[test]
fn the_budget_is_what_is_left_of_what_may_fail() {
    let mut run = Run::new("99%");
    let left = |run: &Run| run.machine.standings(run.now)[0].budget_left;
    assert!(
        (left(&run) - 1.0).abs() < 1e-9,
        "no requests, nothing spent"
    );
    run.requests(1000, 5);
    assert!((left(&run) - 0.5).abs() < 1e-9);
    run.requests(0, 0);
    run.requests(1000, 35);
    assert!((left(&run) - -1.0).abs() < 1e-9, "twice of what there was");
    let standing = &run.machine.standings(run.now)[0];
    assert!((standing.burn_1h - 2.0).abs() < 1e-9);
    run.goes_on(2 * HOUR, 0, 0);
    let standing = &run.machine.standings(run.now)[0];
    assert!(standing.burn_1h.abs() < 1e-9 && (standing.burn_6h - 2.0).abs() < 1e-9);
}

#[test]
fn an_objective_that_is_taken_back_ends_its_alerts() {
    let mut run = Run::new("99%");
    run.requests(100, 100);
    let mut wider = objective("99.5%");
    wider.window = Duration::from_secs(7 * 86_400);
    run.apply(declare(vec![wider]));
    assert_eq!(
        run.told,
        [(Page, Firing)],
        "a change of it keeps counts and alerts"
    );
    let actions = run.apply(declare(Vec::new()));
    assert_eq!(run.told, [(Page, Firing), (Page, Resolved)]);
    assert_eq!(actions.last(), Some(&Action::Forget(key())));
    assert_eq!(run.states(), []);
    run.requests(100, 100);
    assert_eq!(run.told.len(), 2);
}

/// A run that was told of, and what its disk has.
fn burned() -> (Run, Disk) {
    let (mut run, mut disk) = (Run::new("99%"), Disk::default());
    run.goes_on(20 * 24 * HOUR, 1, 0);
    let tally = (
        key(),
        Tally {
            total: 9000,
            bad: 9000,
        },
    );
    let actions = run.apply(Command::Observe(vec![tally]));
    disk.take(&mut run.machine, &actions, run.now);
    assert_eq!(run.told, [(Page, Firing)]);
    (run, disk)
}

#[test]
fn what_was_kept_is_listed_and_judged_by_the_folder_and_nothing_is_forgotten_before_its_service_is_up()
 {
    let (mut run, mut disk) = burned();
    let before = run.machine.standings(run.now)[0].clone();
    run.machine = Machine::open(disk.restored());
    run.told.clear();
    // The folder has a window of a week, then none at all, then one again.
    let mut shorter = objective("99%");
    shorter.window = Duration::from_secs(7 * 86_400);
    assert_eq!(run.apply(expect(vec![shorter.clone()])), []);
    let standing = run.machine.standings(run.now).remove(0);
    assert_eq!(
        (standing.burn_1h, &standing.objective),
        (before.burn_1h, &shorter)
    );
    assert_eq!(run.states(), [(Page, Firing)]);
    for folder in [vec![], vec![shorter]] {
        assert_eq!(run.apply(expect(folder)), []);
        let actions = run.apply(Command::Observe(Vec::new()));
        disk.take(&mut run.machine, &actions, run.now);
    }
    assert!(run.machine.knows(&id(Page)));
    assert_eq!(run.apply(declare(vec![objective("99%")])), []);
    let now = run.machine.standings(run.now)[0].budget_left;
    assert_eq!(now, before.budget_left);
    let mut again = opened(vec![objective("99%")], disk.restored(), run.now);
    again.apply(Command::Observe(Vec::new()), run.now);
    assert_eq!(again.standings(run.now)[0].budget_left, now, "on disk, too");
    assert_eq!(run.told, []);
}

#[test]
fn a_service_that_never_serves_again_is_resolved_when_nobody_asks_and_fires_when_somebody_does() {
    let (mut run, disk) = burned();
    run.machine = Machine::open(disk.restored());
    run.told.clear();
    run.apply(expect(vec![objective("99%")]));
    run.goes_on(31 * MINUTE, 0, 0);
    assert_eq!(run.told.first(), Some(&(Page, Resolved)));
    let message = &run
        .recorded
        .iter()
        .find(|own| own.state == Resolved)
        .unwrap()
        .message;
    assert!(message.starts_with("no request came in 5m; "), "{message}");
    // It is asked, and nobody is there to answer.
    run.goes_on(10 * MINUTE, 10, 10);
    assert!(run.states().contains(&(Page, Firing)), "{:?}", run.told);
}

#[test]
fn what_fires_and_is_in_no_folder_ends_when_nothing_bad_comes() {
    let (mut run, disk) = burned();
    run.machine = Machine::open(disk.restored());
    run.told.clear();
    assert_eq!(run.apply(expect(Vec::new())), []);
    run.goes_on(29 * MINUTE, 0, 0);
    assert_eq!((run.states(), run.told.len()), (vec![(Page, Firing)], 0));
    run.goes_on(2 * MINUTE, 0, 0);
    assert_eq!(run.told, [(Page, Resolved)]);
    assert_eq!(run.recorded.last().unwrap().message, QUIET);
    assert!(run.machine.standings(run.now).is_empty());
    run.goes_on(HOUR, 0, 0);
    assert_eq!((run.states(), run.told.len()), (vec![], 1));
}

#[test]
fn what_no_service_has_any_more_is_ended_and_told_once_that_is_known() {
    let (mut run, disk) = burned();
    run.machine = Machine::open(disk.restored());
    assert_eq!(run.apply(expect(Vec::new())), []);
    let actions = run.apply(declare(Vec::new()));
    assert_eq!(run.told, [(Page, Firing), (Page, Resolved)]);
    let last = run.recorded.last().unwrap();
    assert_eq!((last.state, last.message.as_str()), (Resolved, GONE));
    assert_eq!(actions.last(), Some(&Action::Forget(key())));
    assert!(!run.machine.knows(&id(Page)));
    assert_eq!(run.apply(declare(Vec::new())), [], "once");
}

#[test]
fn what_is_held_can_be_silenced_and_is_told_when_it_is_declared() {
    let (mut run, disk) = burned();
    run.machine = Machine::open(disk.restored());
    run.silence(Some(run.now.after(HOUR)));
    let shown = run.machine.alerts();
    assert_eq!(shown[0].silenced_until, Some(run.now.after(HOUR)));
    run.apply(declare(vec![objective("99%")]));
    run.goes_on(50 * MINUTE, 1000, 0);
    assert_eq!(run.states()[0], (Page, Resolved));
    let resolved = (Page, Resolved);
    assert!(!run.told.contains(&resolved), "in silence: {:?}", run.told);
    run.goes_on(11 * MINUTE, 1000, 0);
    assert!(run.told.contains(&resolved), "{:?}", run.told);
}

#[test]
fn what_was_resolved_in_a_silence_and_comes_again_is_told_as_both() {
    let mut run = Run::new("99.9%");
    run.requests(10, 10);
    run.silence(Some(run.now.after(10 * HOUR)));
    run.goes_on(9 * HOUR, 0, 0);
    run.now = run.now.after(HOUR);
    let one = Command::Observe(vec![(key(), Tally { total: 1, bad: 1 })]);
    let actions = run.apply(one);
    assert_eq!(run.states()[0], (Page, Pending));
    let told = actions.iter().find_map(|own| match own {
        Action::Tell(notice) => Some((notice.state, notice.message.as_str())),
        _ => None,
    });
    let (state, message) = told.unwrap();
    assert_eq!(state, Resolved);
    assert!(
        message.starts_with("it was resolved; but the budget burns 1000.0 times too fast"),
        "{message}"
    );
}

/// What is on disk, as the actions make it.
#[derive(Default)]
struct Disk {
    rows: BTreeMap<(Scale, i64), Tally>,
    alerts: BTreeMap<AlertId, Kept>,
}

impl Disk {
    fn take(&mut self, machine: &mut Machine, actions: &[Action], now: Timestamp) {
        for action in actions {
            if let Action::Keep(kept) = action {
                self.alerts.insert(kept.id.clone(), kept.clone());
            }
        }
        for (_, row) in machine.take_unsaved() {
            self.rows.insert((row.scale, row.at), row.tally);
        }
        for (_, scales) in machine.oldest(now) {
            for (scale, oldest) in scales {
                self.rows
                    .retain(|(own, at), _| *own != scale || *at >= oldest);
            }
        }
    }

    fn restored(&self) -> Restored {
        let rows = self.rows.iter().map(|((scale, at), tally)| {
            let (scale, at, tally) = (*scale, *at, *tally);
            (key(), Row { scale, at, tally })
        });
        Restored {
            rows: rows.collect(),
            alerts: self.alerts.values().cloned().collect(),
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Requests { pause: u64, total: u64, bad: u64 },
    Silence { severity: Severity, minutes: u64 },
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let severity = prop_oneof![Just(Page), Just(Ticket)];
    prop_oneof![
        8 => (0u64..2000, 0u64..200, 0u64..100).prop_map(|(pause, total, share)| Step::Requests {
            pause,
            total,
            bad: total * share / 100,
        }),
        4 => (0u64..600, 1u64..500).prop_map(|(pause, total)| Step::Requests { pause, total, bad: 0 }),
        1 => (severity, 0u64..180).prop_map(|(severity, minutes)| Step::Silence { severity, minutes }),
        2 => Just(Step::Crash),
    ]
}

proptest! {
    /// However requests, silences and crashes come: each alert tells firing and resolved by turns, never in
    /// silence, never of few; and a node that crashes after each commit does what one does that never crashes.
    #[test]
    fn told_by_turns_and_the_same_after_a_crash(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut steady = Run::new("99%");
        let mut crashing = Run::new("99%");
        let mut disk = Disk::default();
        let mut bad_so_far = 0;
        for step in steps {
            let command = match step {
                Step::Crash => {
                    crashing.machine = opened(vec![objective("99%")], disk.restored(), crashing.now);
                    continue;
                }
                Step::Requests { pause, total, bad } => {
                    bad_so_far += bad;
                    steady.now = steady.now.after(Duration::from_secs(pause));
                    Command::Observe(vec![(key(), Tally { total, bad })])
                }
                Step::Silence { severity, minutes } => Command::Silence {
                    id: id(severity),
                    until: Some(steady.now.after(MINUTE * minutes as u32)),
                },
            };
            crashing.now = steady.now;
            let before = steady.told.len();
            let actions = steady.apply(command.clone());
            prop_assert_eq!(&actions, &crashing.apply(command));
            disk.take(&mut crashing.machine, &actions, steady.now);
            prop_assert_eq!(steady.machine.alerts(), crashing.machine.alerts());
            prop_assert_eq!(steady.machine.standings(steady.now), crashing.machine.standings(steady.now));
            for (severity, _) in &steady.told[before..] {
                let silent = steady.machine.alerts().into_iter().any(|own| {
                    own.id.severity == *severity && own.silenced_until.is_some()
                });
                prop_assert!(!silent);
                prop_assert!(bad_so_far >= FAILED_MIN);
            }
        }
        for severity in Severity::ALL {
            let told = steady.told.iter().filter(|(own, _)| *own == severity);
            for (at, (_, state)) in told.enumerate() {
                prop_assert_eq!(*state, if at % 2 == 0 { Firing } else { Resolved });
            }
        }
    }
}

#[test]
fn what_a_service_says_of_itself_becomes_objectives() {
    let config: ObjectiveConfig = serde_json::from_str(r#"{"latency":"300ms"}"#).unwrap();
    let own = config.objectives(&ServiceName::new("orders").unwrap());
    assert_eq!(own.len(), 1);
    assert_eq!(own[0].key.to_string(), "orders-latency");
}
