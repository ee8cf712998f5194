//! The life of an instance, in virtual time.

use super::*;

const HALF: f64 = 0.5;

/// A machine in virtual time.
struct Run {
    machine: Lifecycle,
    now: Instant,
}

impl Run {
    fn new(restart: bool) -> Self {
        let limits = Limits {
            start_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(10),
            failures: 3,
            restart,
        };
        let mut run = Self {
            machine: Lifecycle::new(limits),
            now: atoll_base::clock::monotonic(),
        };
        assert_eq!(run.on(Input::Start), [Action::Spawn]);
        run
    }

    fn on(&mut self, input: Input) -> Vec<Action> {
        self.machine.apply(input, self.now, HALF)
    }

    fn pass(&mut self, span: Duration) -> &mut Self {
        self.now += span;
        self
    }

    fn ready(&mut self) {
        assert_eq!(self.on(Input::Spawned), []);
        assert!(matches!(
            self.on(Input::Healthy)[..],
            [Action::TellReady { .. }]
        ));
    }

    /// Goes to the deadline and lets it pass.
    fn due(&mut self) -> Vec<Action> {
        self.now = self.machine.deadline().expect("something is awaited");
        self.on(Input::Tick)
    }

    fn crash(&mut self) -> (Duration, u32, bool) {
        match self.on(Input::Gone { orderly: false })[..] {
            [
                Action::TellPause {
                    delay,
                    attempt,
                    crash_loop,
                },
            ] => (delay, attempt, crash_loop),
            ref other => panic!("{other:?}"),
        }
    }
}

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn ready_tells_how_long_it_took() {
    let mut run = Run::new(true);
    run.on(Input::Spawned);
    assert_eq!(run.on(Input::Unhealthy), []);
    let after = Duration::from_millis(70);
    assert_eq!(
        run.pass(after).on(Input::Healthy),
        [Action::TellReady { after }]
    );
}

#[test]
fn pauses_double_up_to_thirty_seconds() {
    let mut run = Run::new(true);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        run.on(Input::Spawned);
        pauses.push(run.crash().0.as_millis());
        assert_eq!(run.due(), [Action::Spawn]);
    }
    let expected = [
        200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000,
    ];
    assert_eq!(pauses, expected);
}

#[test]
fn a_pause_is_moved_by_at_most_a_fifth() {
    assert_eq!(delay(1, 0.0), Duration::from_millis(160));
    assert_eq!(delay(1, 1.0), Duration::from_millis(240));
    assert_eq!(delay(u32::MAX, 1.0), secs(36));
}

#[test]
fn a_minute_of_health_forgives_everything() {
    let mut run = Run::new(true);
    for _ in 0..4 {
        run.on(Input::Spawned);
        run.crash();
        run.due();
    }
    run.ready();
    let (delay, attempt, crash_loop) = run.pass(secs(60)).crash();
    assert_eq!((delay.as_millis(), attempt, crash_loop), (200, 1, false));
}

#[test]
fn less_than_a_minute_does_not() {
    let mut run = Run::new(true);
    run.on(Input::Spawned);
    run.crash();
    run.due();
    run.ready();
    assert_eq!(run.pass(secs(59)).crash().1, 2);
}

#[test]
fn five_quick_ends_are_a_crash_loop_until_it_runs_for_a_while() {
    let mut run = Run::new(true);
    let mut seen = Vec::new();
    for attempt in 0..6 {
        run.ready();
        seen.push(run.pass(secs(if attempt == 1 { 9 } else { 1 })).crash().2);
        run.due();
    }
    assert_eq!(seen, [false, false, false, false, true, true]);
    run.ready();
    assert!(!run.pass(secs(11)).crash().2);
}

#[test]
fn slow_failures_are_no_crash_loop() {
    let mut run = Run::new(true);
    for _ in 0..8 {
        run.on(Input::Spawned);
        let told = run.due();
        assert_eq!(told, [Action::TellNeverReady, Action::Terminate]);
        assert!(!run.crash().2);
        run.due();
    }
}

#[test]
fn a_start_that_takes_too_long_is_ended_and_tried_again() {
    let mut run = Run::new(true);
    run.on(Input::Spawned);
    assert_eq!(run.pass(secs(59)).on(Input::Tick), []);
    assert_eq!(
        run.pass(secs(1)).on(Input::Tick),
        [Action::TellNeverReady, Action::Terminate]
    );
    assert!(!run.machine.wants_checks());
    assert_eq!(run.due(), [Action::Kill]);
    assert_eq!(run.pass(secs(9)).on(Input::Tick), [], "killed only once");
    assert_eq!(run.machine.asked_to_leave(), Some(true));
    run.crash();
    assert_eq!(run.due(), [Action::Spawn]);
}

#[test]
fn checks_must_fail_in_a_row() {
    let mut run = Run::new(true);
    run.ready();
    for _ in 0..5 {
        assert_eq!(run.on(Input::Unhealthy), []);
        assert_eq!(run.on(Input::Unhealthy), []);
        assert_eq!(run.on(Input::Healthy), []);
    }
    run.on(Input::Unhealthy);
    run.on(Input::Unhealthy);
    assert_eq!(
        run.on(Input::Unhealthy),
        [Action::TellUnhealthy, Action::Terminate]
    );
}

#[test]
fn stop_asks_then_kills_then_is_over() {
    let mut run = Run::new(true);
    run.ready();
    let told = run.on(Input::Stop);
    let was_ready = true;
    assert_eq!(
        told,
        [Action::TellStopping { was_ready }, Action::Terminate]
    );
    assert_eq!(run.pass(secs(9)).on(Input::Tick), []);
    assert_eq!(run.due(), [Action::Kill]);
    assert_eq!(
        run.on(Input::Gone { orderly: false }),
        [Action::Finish { failed: false }]
    );
    assert_eq!(run.on(Input::Stop), []);
}

#[test]
fn stop_is_possible_at_every_moment() {
    let finish = [Action::Finish { failed: false }];
    let mut pausing = Run::new(true);
    pausing.on(Input::Spawned);
    pausing.crash();
    assert_eq!(pausing.on(Input::Stop), finish);

    let mut spawning = Run::new(true);
    assert_eq!(spawning.on(Input::Stop), []);
    assert!(spawning.on(Input::Spawned).contains(&Action::Terminate));
    assert_eq!(spawning.on(Input::Gone { orderly: true }), finish);

    let mut failing = Run::new(true);
    failing.on(Input::Stop);
    assert_eq!(failing.on(Input::SpawnFailed), finish);

    let mut unhealthy = Run::new(true);
    unhealthy.on(Input::Spawned);
    unhealthy.due();
    assert!(!unhealthy.on(Input::Stop).contains(&Action::Terminate));
    assert_eq!(unhealthy.on(Input::Gone { orderly: true }), finish);
}

#[test]
fn without_restart_the_first_end_is_the_last() {
    for (orderly, failed) in [(true, false), (false, true)] {
        let mut run = Run::new(false);
        run.on(Input::Spawned);
        assert_eq!(run.on(Input::Gone { orderly }), [Action::Finish { failed }]);
    }
    assert_eq!(
        Run::new(false).on(Input::SpawnFailed),
        [Action::Finish { failed: true }]
    );
}

#[test]
fn a_process_that_survives_sigkill_is_told_once_and_waited_for() {
    let mut run = Run::new(true);
    run.ready();
    run.on(Input::Stop);
    assert_eq!(run.due(), [Action::Kill]);
    let killed = run.now;
    let after = secs(10);
    assert_eq!(run.due(), [Action::TellSurvived { after }]);
    assert_eq!(run.now, killed + after);
    assert_eq!(run.machine.deadline(), None, "there is nothing more to do");
    assert_eq!(run.pass(secs(3600)).on(Input::Tick), []);
    // The disk has come back, and the process goes.
    let gone = run.on(Input::Gone { orderly: false });
    assert_eq!(gone, [Action::Finish { failed: false }]);
}

#[test]
fn one_that_goes_soon_after_sigkill_is_not_told() {
    let mut run = Run::new(true);
    run.ready();
    run.on(Input::Stop);
    assert_eq!(run.due(), [Action::Kill]);
    let gone = run.pass(secs(1)).on(Input::Gone { orderly: false });
    assert_eq!(gone, [Action::Finish { failed: false }]);
}
