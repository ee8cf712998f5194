//! Rollouts in virtual time.

use std::time::{Duration, Instant};

use atoll_base::{InstanceId, RevisionNumber, ServiceName, clock};
use proptest::prelude::*;

use super::{Action, Command, Fleet, Goal};

const TIMEOUT: Duration = Duration::from_secs(60);
const WATCH: Duration = Duration::from_secs(2);
const DRAIN: Duration = Duration::from_secs(30);

fn service() -> ServiceName {
    ServiceName::new("orders").unwrap()
}

fn id(revision: u32, ordinal: u32) -> InstanceId {
    InstanceId::new(service(), RevisionNumber(revision), ordinal)
}

fn goal(deployment: i64, revision: u32, count: u32) -> Goal {
    let revision = RevisionNumber(revision);
    Goal {
        deployment,
        revision,
        count,
        timeout: TIMEOUT,
        watch: WATCH,
        drain: DRAIN,
    }
}

/// A fleet, its clock, and what was asked of the world.
struct Stage {
    fleet: Fleet,
    now: Instant,
}

impl Stage {
    fn new() -> Self {
        Self {
            fleet: Fleet::new(service()),
            now: clock::monotonic(),
        }
    }

    /// One with revision 1 serving from `count` instances.
    fn serving(count: u32) -> Self {
        let mut stage = Self::new();
        stage.apply(Command::Begin(goal(1, 1, count)));
        for ordinal in 1..=count {
            stage.apply(Command::Ready(id(1, ordinal)));
        }
        assert_eq!(stage.fleet.serving().len(), count as usize);
        stage
    }

    fn apply(&mut self, command: Command) -> Vec<Action> {
        self.fleet.apply(command, self.now)
    }

    fn after(&mut self, wait: Duration) -> Vec<Action> {
        self.now += wait;
        self.apply(Command::Tick)
    }
}

fn scale(deployment: i64, count: u32) -> Command {
    Command::Scale(goal(deployment, 1, count))
}

fn finished(deployment: i64) -> Action {
    Action::Finish {
        deployment,
        failure: None,
    }
}

fn failure(actions: &[Action]) -> Option<&str> {
    actions.iter().find_map(|action| match action {
        Action::Finish {
            failure: Some(reason),
            ..
        } => Some(reason.as_str()),
        _ => None,
    })
}

#[test]
fn at_the_first_start_each_instance_serves_as_soon_as_it_is_ready() {
    let mut stage = Stage::new();
    let begun = stage.apply(Command::Begin(goal(1, 1, 2)));
    assert_eq!(
        begun,
        [
            Action::Start(id(1, 1)),
            Action::Start(id(1, 2)),
            Action::Commit(RevisionNumber(1))
        ]
    );
    assert_eq!(
        stage.apply(Command::Ready(id(1, 2))),
        [Action::Serve(vec![id(1, 2)])]
    );
    assert_eq!(
        stage.apply(Command::Ready(id(1, 1))),
        [Action::Serve(vec![id(1, 1), id(1, 2)]), finished(1)]
    );
}

#[test]
fn a_deployment_moves_traffic_when_all_are_ready_and_stops_the_old_after_the_watch() {
    let mut stage = Stage::serving(2);
    stage.apply(Command::Begin(goal(2, 2, 2)));
    assert_eq!(stage.apply(Command::Ready(id(2, 3))), [], "one is not all");
    assert_eq!(
        stage.apply(Command::Ready(id(2, 4))),
        [
            Action::Commit(RevisionNumber(2)),
            Action::Serve(vec![id(2, 3), id(2, 4)])
        ]
    );
    assert_eq!(stage.after(WATCH / 2), []);
    assert_eq!(
        stage.after(WATCH),
        [
            Action::AwaitDrain(id(1, 1)),
            Action::AwaitDrain(id(1, 2)),
            finished(2)
        ]
    );
    assert_eq!(
        stage.apply(Command::Drained(id(1, 1))),
        [Action::Stop(id(1, 1))]
    );
    assert_eq!(
        stage.after(DRAIN),
        [Action::Stop(id(1, 2))],
        "one that never drains is stopped"
    );
    stage.apply(Command::Stopped(id(1, 1)));
    stage.apply(Command::Stopped(id(1, 2)));
    assert_eq!(stage.fleet.next_deadline(), None);
}

#[test]
fn a_revision_that_keeps_failing_never_gets_traffic() {
    let mut stage = Stage::serving(1);
    stage.apply(Command::Begin(goal(2, 2, 1)));
    assert_eq!(
        stage.apply(Command::Lost(id(2, 2), "exited with code 1".into())),
        []
    );
    let actions = stage.apply(Command::Lost(id(2, 2), "exited with code 1".into()));
    assert_eq!(failure(&actions), Some("orders-r2-2 exited with code 1"));
    assert_eq!(actions[0], Action::AwaitDrain(id(2, 2)));
    assert_eq!(stage.fleet.serving(), [id(1, 1)]);
    assert_eq!(stage.fleet.current(), Some(RevisionNumber(1)));
}

#[test]
fn a_revision_that_is_never_ready_fails_at_the_deadline() {
    let mut stage = Stage::serving(1);
    stage.apply(Command::Begin(goal(2, 2, 2)));
    stage.apply(Command::Ready(id(2, 2)));
    let actions = stage.after(TIMEOUT);
    assert_eq!(failure(&actions), Some("orders-r2-3 not ready within 60s"));
    assert_eq!(stage.fleet.serving(), [id(1, 1)]);
}

#[test]
fn a_revision_that_fails_soon_after_the_shift_gives_traffic_back() {
    let mut stage = Stage::serving(1);
    stage.apply(Command::Begin(goal(2, 2, 1)));
    stage.apply(Command::Ready(id(2, 2)));
    assert_eq!(stage.fleet.serving(), [id(2, 2)]);
    assert_eq!(stage.fleet.standby(), [id(1, 1)]);
    let actions = stage.apply(Command::Lost(id(2, 2), "killed by SIGSEGV".into()));
    assert_eq!(
        actions[0],
        Action::Serve(vec![id(1, 1)]),
        "before anything is written"
    );
    assert!(actions.contains(&Action::Commit(RevisionNumber(1))));
    assert_eq!(
        failure(&actions),
        Some("orders-r2-2 killed by SIGSEGV, after it had become ready")
    );
}

#[test]
fn a_first_start_that_fails_goes_on_trying() {
    let mut stage = Stage::new();
    stage.apply(Command::Begin(goal(1, 1, 1)));
    stage.apply(Command::Lost(id(1, 1), "x".into()));
    let actions = stage.apply(Command::Lost(id(1, 1), "x".into()));
    assert!(failure(&actions).is_some());
    assert_eq!(
        stage.apply(Command::Ready(id(1, 1))),
        [Action::Serve(vec![id(1, 1)])]
    );
}

#[test]
fn an_instance_that_dies_in_ordinary_times_is_out_and_comes_back() {
    let mut stage = Stage::serving(2);
    assert_eq!(
        stage.apply(Command::Lost(id(1, 1), "killed".into())),
        [Action::Serve(vec![id(1, 2)])]
    );
    assert_eq!(
        stage.apply(Command::Ready(id(1, 1))),
        [Action::Serve(vec![id(1, 1), id(1, 2)])]
    );
}

#[test]
fn scaling_up_is_over_when_the_new_ones_are_ready() {
    let mut stage = Stage::serving(1);
    let up = stage.apply(scale(2, 3));
    assert_eq!(up, [Action::Start(id(1, 2)), Action::Start(id(1, 3))]);
    assert_eq!(stage.apply(Command::Ready(id(1, 2))).len(), 1);
    let all = stage.apply(Command::Ready(id(1, 3)));
    assert_eq!(all[1], finished(2));
}

#[test]
fn scaling_down_takes_out_the_newest_and_is_over_at_once() {
    let mut stage = Stage::serving(3);
    assert_eq!(
        stage.apply(scale(2, 2)),
        [
            Action::Serve(vec![id(1, 1), id(1, 2)]),
            Action::AwaitDrain(id(1, 3)),
            finished(2)
        ]
    );
}

#[test]
fn scaling_down_keeps_those_that_serve() {
    let mut stage = Stage::serving(2);
    stage.apply(Command::Lost(id(1, 1), "x".into()));
    let down = stage.apply(scale(2, 1));
    assert_eq!(down, [Action::AwaitDrain(id(1, 1)), finished(2)]);
}

#[test]
fn instances_that_are_wanted_but_do_not_come_are_told_and_go_on_trying() {
    let mut stage = Stage::serving(1);
    stage.apply(scale(2, 2));
    let actions = stage.after(TIMEOUT);
    assert_eq!(failure(&actions), Some("orders-r1-2 not ready within 60s"));
    assert_eq!(
        stage.apply(Command::Ready(id(1, 2))).len(),
        1,
        "it serves all the same"
    );
}

#[test]
fn an_old_instance_that_dies_while_the_new_start_does_not_stop_the_rollout() {
    let mut stage = Stage::serving(1);
    stage.apply(Command::Begin(goal(2, 2, 1)));
    assert_eq!(
        stage.apply(Command::Lost(id(1, 1), "x".into())),
        [Action::Serve(vec![])]
    );
    let actions = stage.apply(Command::Ready(id(2, 2)));
    assert_eq!(
        actions,
        [
            Action::Commit(RevisionNumber(2)),
            Action::Serve(vec![id(2, 2)])
        ]
    );
}

/// What may happen, in any order.
#[derive(Debug, Clone)]
enum Step {
    Begin(u32),
    Scale(u32),
    Ready(usize),
    Lost(usize),
    Drained(usize),
    Stopped,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1u32..4).prop_map(Step::Begin),
        (1u32..4).prop_map(Step::Scale),
        (0usize..8).prop_map(Step::Ready),
        (0usize..8).prop_map(Step::Ready),
        (0usize..8).prop_map(Step::Lost),
        (0usize..8).prop_map(Step::Drained),
        Just(Step::Stopped),
        (0u64..70).prop_map(Step::Wait),
    ]
}

/// What was begun and is not over, as somebody sees it who counts along.
#[derive(Default)]
struct Books {
    /// The deployment, and for a rollout the revision that is to serve.
    open: Option<(i64, Option<RevisionNumber>)>,
    /// What was committed last since it was begun.
    committed: Option<RevisionNumber>,
}

impl Books {
    /// Before the fleet takes it. What comes while something runs is ignored, and so is a change of
    /// scale of nothing.
    fn command(&mut self, command: &Command, fleet: &Fleet) {
        let idle = fleet.rollout().is_none();
        let begun = match command {
            Command::Begin(goal) if idle => (goal.deployment, Some(goal.revision)),
            Command::Scale(goal) if idle && fleet.current().is_some() => (goal.deployment, None),
            _ => return,
        };
        self.open = Some(begun);
        self.committed = None;
    }

    /// Each deployment is told its end once, and one that went well not before its revision was
    /// committed; nothing is committed in between.
    fn action(&mut self, action: &Action) -> Result<(), TestCaseError> {
        match action {
            Action::Commit(revision) => {
                prop_assert!(
                    self.open.is_some(),
                    "a commit of {revision} out of the blue"
                );
                self.committed = Some(*revision);
            }
            Action::Finish {
                deployment,
                failure,
            } => {
                let begun = self.open.take();
                prop_assert_eq!(begun.map(|(id, _)| id), Some(*deployment));
                let revision = begun.and_then(|(_, revision)| revision);
                if failure.is_none() && revision.is_some() {
                    prop_assert_eq!(self.committed, revision, "not committed");
                }
            }
            _ => {}
        }
        Ok(())
    }
}

proptest! {
    /// Whatever happens: a stopped instance never serves, a ready one is never held back without
    /// another serving, no instance is stopped while it serves, and what was begun is over exactly
    /// once, in the end.
    #[test]
    fn the_promises_hold_over_random_histories(steps in prop::collection::vec(step(), 0..80)) {
        let mut stage = Stage::new();
        let mut known: Vec<InstanceId> = Vec::new();
        let mut stopping: Vec<InstanceId> = Vec::new();
        let mut revision = 0;
        let mut books = Books::default();
        for (number, step) in steps.into_iter().enumerate() {
            let deployment = i64::try_from(number).unwrap();
            let pick = |i: usize| known.get(i.checked_rem(known.len())?).cloned();
            let command = match step {
                Step::Begin(count) => {
                    revision += 1;
                    Some(Command::Begin(goal(deployment, revision, count)))
                }
                Step::Scale(count) => Some(scale(deployment, count)),
                Step::Ready(i) => pick(i).map(Command::Ready),
                Step::Lost(i) => pick(i).map(|id| Command::Lost(id, "x".into())),
                Step::Drained(i) => pick(i).map(Command::Drained),
                Step::Stopped => stopping.pop().map(Command::Stopped),
                Step::Wait(secs) => {
                    stage.now += Duration::from_secs(secs);
                    Some(Command::Tick)
                }
            };
            let Some(command) = command else { continue };
            let was_served = !stage.fleet.serving().is_empty();
            let lost = matches!(command, Command::Lost(..));
            let mut serving = stage.fleet.serving().to_vec();
            books.command(&command, &stage.fleet);
            for action in stage.apply(command) {
                books.action(&action)?;
                match action {
                    Action::Start(id) => known.push(id),
                    Action::Serve(ids) => {
                        prop_assert!(ids.iter().all(|id| !stopping.contains(id)));
                        serving = ids;
                    }
                    Action::AwaitDrain(id) => prop_assert!(!serving.contains(&id)),
                    Action::Stop(id) => {
                        prop_assert!(!serving.contains(&id));
                        stopping.push(id);
                    }
                    Action::Commit(_) | Action::Finish { .. } => {}
                }
            }
            prop_assert!(
                lost || !was_served || !stage.fleet.serving().is_empty(),
                "the last serving instance was taken out on purpose"
            );
            prop_assert_eq!(stage.fleet.rollout(), books.open.map(|(id, _)| id));
        }
        // Time alone brings everything to its end: the start, then the watch.
        for _ in 0..2 {
            for action in stage.after(TIMEOUT) {
                books.action(&action)?;
            }
        }
        prop_assert_eq!(books.open, None, "never over");
    }
}
