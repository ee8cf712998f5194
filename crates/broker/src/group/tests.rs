//! What a group must do, step by step. The random walks are in [`super::simulation`].

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::Ticket;

/// A group in virtual time that remembers what it answered.
struct Bench {
    group: Group,
    now: Instant,
    tickets: u64,
    actions: Vec<Action>,
}

impl Bench {
    /// Without the initial delay: a rebalance is complete when all are here.
    fn new() -> Self {
        Self::with(Limits {
            initial_delay: Duration::ZERO,
            ..Limits::default()
        })
    }

    fn with(limits: Limits) -> Self {
        Self {
            group: Group::new(limits),
            now: atoll_base::clock::monotonic(),
            tickets: 0,
            actions: Vec::new(),
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn apply(&mut self, command: Command) {
        self.actions.extend(self.group.apply(command, self.now));
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(next) = self.group.next_deadline().filter(|next| *next <= end) {
            self.now = next.max(self.now);
            self.apply(Command::Tick);
        }
        self.now = end;
    }

    /// A join as `member_id`, speaking `range`.
    fn join(&mut self, member_id: &str, fresh_id: &str) -> Ticket {
        self.join_with(member_id, fresh_id, |_| {})
    }

    fn join_with(&mut self, member_id: &str, fresh_id: &str, change: impl Fn(&mut Join)) -> Ticket {
        let ticket = self.ticket();
        let mut join = Join {
            ticket,
            member_id: member_id.to_owned(),
            fresh_id: fresh_id.to_owned(),
            instance_id: None,
            must_know_id: false,
            may_skip_assignment: false,
            client: Client::default(),
            session_timeout: Duration::from_secs(10),
            rebalance_timeout: Duration::from_secs(60),
            protocol_type: "consumer".to_owned(),
            protocols: protocols(&["range"]),
        };
        change(&mut join);
        self.apply(Command::Join(join));
        ticket
    }

    fn sync(&mut self, member_id: &str, generation: i32, assigned: &[(&str, &str)]) -> Ticket {
        let ticket = self.ticket();
        let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let assigned = assigned.iter();
        self.apply(Command::Sync(Sync {
            ticket,
            member_id: member_id.to_owned(),
            instance_id: None,
            generation,
            protocol_type: Some("consumer".to_owned()),
            protocol: None,
            assignments: assigned
                .map(|(id, what)| ((*id).to_owned(), text(what)))
                .collect(),
        }));
        ticket
    }

    fn leave(&mut self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        let ticket = self.ticket();
        let members = vec![Leaver {
            member_id: member_id.to_owned(),
            instance_id: instance_id.map(str::to_owned),
        }];
        self.apply(Command::Leave(Leave { ticket, members }));
        let left = self.actions.iter().find_map(|action| match action {
            Action::Left(found, outcome) if *found == ticket => Some(outcome.clone()),
            _ => None,
        });
        left.unwrap().unwrap().remove(0)
    }

    fn heartbeat(&mut self, member_id: &str, generation: i32) -> Result<(), GroupError> {
        self.group.heartbeat(member_id, None, generation, self.now)
    }

    fn joined(&self, ticket: Ticket) -> Option<Result<Joined, JoinRefused>> {
        self.actions.iter().find_map(|action| match action {
            Action::Joined(found, outcome) if *found == ticket => Some(outcome.clone()),
            _ => None,
        })
    }

    fn refused(&self, ticket: Ticket) -> GroupError {
        self.joined(ticket).unwrap().unwrap_err().error
    }

    fn synced(&self, ticket: Ticket) -> Option<Result<Bytes, GroupError>> {
        self.actions.iter().find_map(|action| match action {
            Action::Synced(found, outcome) if *found == ticket => {
                Some(outcome.clone().map(|synced| synced.assignment))
            }
            _ => None,
        })
    }

    /// `a` and `b` in a stable group; the generation.
    fn stable_pair(&mut self) -> i32 {
        self.join("", "a");
        self.join("", "b");
        let joined = self.join("a", "-");
        let generation = self.joined(joined).unwrap().unwrap().generation;
        self.sync("b", generation, &[]);
        self.sync("a", generation, &[("a", "one"), ("b", "two")]);
        assert_eq!(self.group.state(), State::Stable);
        generation
    }
}

fn protocols(names: &[&str]) -> Vec<(String, Bytes)> {
    let said = |name: &str| Bytes::from(format!("says {name}"));
    names
        .iter()
        .map(|name| ((*name).to_owned(), said(name)))
        .collect()
}

fn fixed(instance: &'static str) -> impl Fn(&mut Join) {
    move |join| join.instance_id = Some(instance.to_owned())
}

#[test]
fn only_the_leader_learns_what_the_members_said() {
    let mut bench = Bench::new();
    bench.join("", "a");
    let b = bench.join("", "b");
    assert_eq!(bench.joined(b), None, "a has not rejoined yet");
    assert_eq!(
        bench.heartbeat("a", 1),
        Err(GroupError::RebalanceInProgress)
    );
    let a = bench.join("a", "-");
    let to_leader = bench.joined(a).unwrap().unwrap();
    let to_follower = bench.joined(b).unwrap().unwrap();
    assert_eq!((to_leader.generation, to_follower.generation), (2, 2));
    assert_eq!(to_leader.leader, "a");
    let told: Vec<&str> = to_leader
        .members
        .iter()
        .map(|member| member.member_id.as_str())
        .collect();
    assert_eq!(told, ["a", "b"]);
    assert_eq!(to_leader.members[1].metadata, "says range");
    assert_eq!(
        (to_follower.leader.as_str(), to_follower.members.len()),
        ("a", 0)
    );
}

#[test]
fn a_follower_waits_for_the_leaders_assignment() {
    let mut bench = Bench::new();
    bench.join("", "a");
    bench.join("", "b");
    bench.join("a", "-");
    let b = bench.sync("b", 2, &[]);
    assert_eq!(bench.synced(b), None);
    let a = bench.sync("a", 2, &[("b", "two"), ("gone", "three")]);
    assert_eq!(bench.synced(b), Some(Ok("two".into())));
    assert_eq!(
        bench.synced(a),
        Some(Ok(Bytes::new())),
        "not in it: nothing"
    );
    let again = bench.sync("b", 2, &[]);
    assert_eq!(bench.synced(again), Some(Ok("two".into())));
}

#[test]
fn a_member_without_an_id_is_given_one_first_and_the_rest_waits_for_it() {
    let mut bench = Bench::new();
    let asked = bench.join_with("", "a", |join| join.must_know_id = true);
    let refused = bench.joined(asked).unwrap().unwrap_err();
    assert_eq!(refused.error, GroupError::MemberIdRequired);
    assert_eq!(refused.member_id, "a");
    bench.join_with("", "b", |join| join.must_know_id = true);
    let a = bench.join("a", "-");
    assert_eq!(bench.joined(a), None, "b has an id and is on its way");
    let b = bench.join("b", "-");
    assert_eq!(bench.joined(a).unwrap().unwrap().generation, 1);
    assert_eq!(bench.joined(b).unwrap().unwrap().generation, 1);
}

#[test]
fn an_id_that_nobody_uses_is_forgotten_and_disturbs_nobody() {
    let mut bench = Bench::new();
    let generation = bench.stable_pair();
    bench.join_with("", "c", |join| join.must_know_id = true);
    for _ in 0..4 {
        bench.pass(Duration::from_secs(5));
        assert_eq!(bench.heartbeat("a", generation), Ok(()));
        assert_eq!(bench.heartbeat("b", generation), Ok(()));
    }
    let late = bench.join("c", "-");
    assert_eq!(
        bench.refused(late),
        GroupError::UnknownMemberId("c".to_owned())
    );
    assert_eq!(bench.group.state(), State::Stable);
}

#[test]
fn who_stays_silent_is_out_and_the_others_rebalance() {
    let mut bench = Bench::new();
    let generation = bench.stable_pair();
    bench.pass(Duration::from_secs(6));
    assert_eq!(bench.heartbeat("a", generation), Ok(()));
    bench.pass(Duration::from_secs(5));
    assert_eq!(
        bench.heartbeat("a", generation),
        Err(GroupError::RebalanceInProgress)
    );
    assert_eq!(
        bench.heartbeat("b", generation),
        Err(GroupError::UnknownMemberId("b".to_owned()))
    );
    let alone = bench.join("a", "-");
    assert_eq!(
        bench.joined(alone).unwrap().unwrap().generation,
        generation + 1
    );
}

#[test]
fn who_does_not_rejoin_in_time_is_out() {
    let mut bench = Bench::new();
    let generation = bench.stable_pair();
    let a = bench.join("a", "-");
    for _ in 0..13 {
        bench.pass(Duration::from_secs(5));
        // Alive, but busy: its heartbeats do not save it.
        let _ = bench.heartbeat("b", generation);
    }
    assert_eq!(bench.joined(a).unwrap().unwrap().members.len(), 1);
    let late = bench.join("b", "-");
    assert_eq!(
        bench.refused(late),
        GroupError::UnknownMemberId("b".to_owned())
    );
}

#[test]
fn a_leader_that_never_brings_the_assignment_is_out() {
    let mut bench = Bench::new();
    bench.join("", "a");
    bench.join("", "b");
    bench.join("a", "-");
    let b = bench.sync("b", 2, &[]);
    for _ in 0..12 {
        bench.pass(Duration::from_secs(5));
        let _ = bench.heartbeat("a", 2);
    }
    assert_eq!(bench.synced(b), Some(Err(GroupError::RebalanceInProgress)));
    let again = bench.join("b", "-");
    let joined = bench.joined(again).unwrap().unwrap();
    assert_eq!((joined.leader.as_str(), joined.generation), ("b", 3));
}

#[test]
fn a_leader_that_dies_while_it_computes_is_replaced() {
    let mut bench = Bench::new();
    bench.join("", "a");
    bench.join("", "b");
    bench.join("a", "-");
    let b = bench.sync("b", 2, &[]);
    bench.pass(Duration::from_secs(11));
    assert_eq!(bench.synced(b), Some(Err(GroupError::RebalanceInProgress)));
    assert_eq!(bench.group.state(), State::PreparingRebalance);
}

#[test]
fn the_protocol_is_one_that_all_know_and_most_prefer() {
    let mut bench = Bench::new();
    let speaks =
        |names: &'static [&'static str]| move |join: &mut Join| join.protocols = protocols(names);
    let odd = bench.join_with("", "a", speaks(&["sticky", "range", "only-a"]));
    assert_eq!(bench.joined(odd).unwrap().unwrap().protocol, "sticky");
    let stranger = bench.join_with("", "x", speaks(&["else"]));
    assert_eq!(
        bench.refused(stranger),
        GroupError::InconsistentGroupProtocol("consumer".to_owned())
    );
    let other = bench.join_with("", "x", |join| join.protocol_type = "connect".to_owned());
    assert_eq!(
        bench.refused(other),
        GroupError::InconsistentGroupProtocol("consumer".to_owned())
    );
    bench.join_with("", "b", speaks(&["range", "sticky"]));
    bench.join_with("", "c", speaks(&["range", "sticky"]));
    let a = bench.join_with("a", "-", speaks(&["sticky", "range", "only-a"]));
    assert_eq!(bench.joined(a).unwrap().unwrap().protocol, "range");
}

#[test]
fn a_stale_or_foreign_generation_is_refused() {
    let mut bench = Bench::new();
    let current = bench.stable_pair();
    let illegal = |given| GroupError::IllegalGeneration { given, current };
    assert_eq!(bench.heartbeat("a", current - 1), Err(illegal(current - 1)));
    let early = bench.sync("a", current + 1, &[]);
    assert_eq!(bench.synced(early), Some(Err(illegal(current + 1))));
    let commit = bench
        .group
        .check_commit("a", None, current - 1, false, bench.now);
    assert_eq!(commit, Err(illegal(current - 1)));
}

#[test]
fn a_follower_that_repeats_itself_changes_nothing_and_a_leader_does() {
    let mut bench = Bench::new();
    let generation = bench.stable_pair();
    let again = bench.join("b", "-");
    assert_eq!(bench.joined(again).unwrap().unwrap().generation, generation);
    assert_eq!(bench.group.state(), State::Stable);
    bench.join_with("b", "-", |join| {
        join.protocols[0].1 = "another topic".into();
    });
    assert_eq!(bench.group.state(), State::PreparingRebalance);
    let mut other = Bench::new();
    other.stable_pair();
    other.join("a", "-");
    assert_eq!(other.group.state(), State::PreparingRebalance);
}

#[test]
fn a_static_member_that_restarts_keeps_its_place_and_fences_its_former_self() {
    let mut bench = Bench::new();
    bench.join_with("", "a", fixed("one"));
    bench.join_with("", "b", fixed("two"));
    bench.join_with("a", "-", fixed("one"));
    bench.sync("a", 2, &[("a", "left"), ("b", "right")]);
    bench.sync("b", 2, &[]);
    let back = bench.join_with("", "b2", fixed("two"));
    let joined = bench.joined(back).unwrap().unwrap();
    assert_eq!((joined.member_id.as_str(), joined.generation), ("b2", 2));
    assert_eq!(bench.group.state(), State::Stable, "nobody was disturbed");
    let synced = bench.sync("b2", 2, &[]);
    assert_eq!(bench.synced(synced), Some(Ok("right".into())));
    let fenced = bench.group.heartbeat("b", Some("two"), 2, bench.now);
    assert_eq!(fenced, Err(GroupError::FencedInstanceId("two".to_owned())));
    let fenced = bench.join_with("b", "-", fixed("two"));
    assert_eq!(
        bench.refused(fenced),
        GroupError::FencedInstanceId("two".to_owned())
    );
}

#[test]
fn a_static_leader_that_restarts_does_not_assign_anew() {
    for (skips, leader, told) in [(true, "a2", 1), (false, "a", 0)] {
        let mut bench = Bench::new();
        bench.join_with("", "a", fixed("one"));
        bench.sync("a", 1, &[("a", "all")]);
        let back = bench.join_with("", "a2", |join| {
            fixed("one")(join);
            join.may_skip_assignment = skips;
        });
        let joined = bench.joined(back).unwrap().unwrap();
        assert_eq!(joined.skip_assignment, skips);
        assert_eq!(
            (joined.leader.as_str(), joined.members.len()),
            (leader, told)
        );
        let synced = bench.sync("a2", 1, &[]);
        assert_eq!(bench.synced(synced), Some(Ok("all".into())));
    }
}

#[test]
fn a_static_member_is_waited_for_until_its_session_ends() {
    let mut bench = Bench::new();
    bench.join_with("", "a", |join| {
        fixed("one")(join);
        join.session_timeout = Duration::from_secs(300);
    });
    bench.sync("a", 1, &[]);
    let b = bench.join("", "b");
    bench.pass(Duration::from_secs(61));
    let joined = bench.joined(b).unwrap().unwrap();
    assert_eq!((joined.leader.as_str(), joined.members.len()), ("b", 2));
    bench.sync("b", joined.generation, &[]);
    for _ in 0..50 {
        bench.pass(Duration::from_secs(5));
        let _ = bench.heartbeat("b", joined.generation);
    }
    assert_eq!(bench.group.state(), State::PreparingRebalance);
}

#[test]
fn leaving_is_by_member_or_by_instance() {
    let mut bench = Bench::new();
    bench.join_with("", "a", fixed("one"));
    let unknown = GroupError::UnknownMemberId("x".to_owned());
    assert_eq!(bench.leave("x", None), Err(unknown));
    assert_eq!(
        bench.leave("x", Some("one")),
        Err(GroupError::FencedInstanceId("one".to_owned()))
    );
    assert_eq!(bench.leave("", Some("one")), Ok(()));
    assert_eq!(bench.group.state(), State::Empty);
    assert!(bench.actions.contains(&Action::BecameEmpty));
}

#[test]
fn a_waiting_member_whose_connection_broke_holds_nobody_up() {
    let mut bench = Bench::new();
    bench.join("", "a");
    let nameless = bench.join("", "b");
    bench.apply(Command::Gone(nameless));
    let a = bench.join("a", "-");
    assert_eq!(
        bench.joined(a).unwrap().unwrap().members.len(),
        1,
        "b could not have come back"
    );
    assert_eq!(bench.joined(nameless), None);
}

#[test]
fn a_second_join_of_one_member_answers_the_first() {
    let mut bench = Bench::new();
    bench.stable_pair();
    let first = bench.join("a", "-");
    let second = bench.join("a", "-");
    assert_eq!(bench.refused(first), GroupError::RebalanceInProgress);
    bench.join("b", "-");
    assert!(bench.joined(second).unwrap().is_ok());
}

#[test]
fn an_empty_group_gathers_its_first_members() {
    let mut bench = Bench::with(Limits::default());
    let a = bench.join("", "a");
    bench.pass(Duration::from_millis(90));
    let b = bench.join("", "b");
    bench.pass(Duration::from_millis(50));
    assert_eq!(bench.joined(a), None, "b came meanwhile: once more");
    bench.pass(Duration::from_millis(60));
    assert_eq!(bench.joined(a).unwrap().unwrap().members.len(), 2);
    assert_eq!(bench.joined(b).unwrap().unwrap().generation, 1);
}

#[test]
fn a_full_group_takes_no_more() {
    let mut bench = Bench::with(Limits {
        members_max: 1,
        initial_delay: Duration::ZERO,
        ..Limits::default()
    });
    bench.join("", "a");
    let b = bench.join("", "b");
    assert_eq!(bench.refused(b), GroupError::GroupMaxSizeReached(1));
    let a = bench.join("a", "-");
    assert!(bench.joined(a).unwrap().is_ok(), "who is in stays in");
}

#[test]
fn a_session_has_bounds() {
    let mut bench = Bench::new();
    for seconds in [5, 1801] {
        let span = Duration::from_secs(seconds);
        let asked = bench.join_with("", "a", |join| join.session_timeout = span);
        assert_eq!(
            bench.refused(asked),
            GroupError::InvalidSessionTimeout(span)
        );
    }
}

#[test]
fn offsets_are_committed_by_members_or_while_there_are_none() {
    let mut bench = Bench::new();
    let now = bench.now;
    let simple = |bench: &mut Bench, transactional| {
        bench.group.check_commit("", None, -1, transactional, now)
    };
    assert_eq!(simple(&mut bench, false), Ok(()));
    bench.join("", "a");
    let busy = bench.group.check_commit("a", None, 1, false, now);
    assert_eq!(busy, Err(GroupError::RebalanceInProgress));
    let in_transaction = bench.group.check_commit("a", None, 1, true, now);
    assert_eq!(in_transaction, Ok(()));
    bench.sync("a", 1, &[]);
    assert_eq!(bench.group.check_commit("a", None, 1, false, now), Ok(()));
    assert_eq!(
        simple(&mut bench, false),
        Err(GroupError::UnknownMemberId(String::new()))
    );
    assert_eq!(simple(&mut bench, true), Ok(()));
}

#[test]
fn only_an_empty_group_is_deleted() {
    let mut bench = Bench::new();
    bench.join("", "a");
    assert_eq!(bench.group.delete(), Err(GroupError::NonEmptyGroup(1)));
    bench.leave("a", None).unwrap();
    assert_eq!(bench.group.delete(), Ok(()));
    assert_eq!(bench.group.delete(), Err(GroupError::GroupIdNotFound));
    let late = bench.join("", "b");
    assert_eq!(bench.refused(late), GroupError::CoordinatorNotAvailable);
}

#[test]
fn the_generation_goes_on_after_a_restart() {
    let mut bench = Bench::new();
    let generation = bench.stable_pair();
    let kept = bench.actions.iter().rev().find_map(|action| match action {
        Action::Keep(snapshot) => Some(snapshot.to_bytes()),
        _ => None,
    });
    let snapshot = Snapshot::from_bytes(&kept.unwrap()).unwrap();
    bench.group = Group::restore(bench.group.limits.clone(), snapshot);
    assert_eq!(
        bench.heartbeat("a", generation),
        Err(GroupError::UnknownMemberId("a".to_owned()))
    );
    let back = bench.join("", "a2");
    assert_eq!(
        bench.joined(back).unwrap().unwrap().generation,
        generation + 1
    );
}

#[test]
fn a_description_shows_assignments_only_when_they_hold() {
    let mut bench = Bench::new();
    bench.stable_pair();
    let view = bench.group.describe();
    assert_eq!(
        (view.state, view.protocol.as_str()),
        (State::Stable, "range")
    );
    assert_eq!(view.members[1].assignment, "two");
    assert_eq!(view.members[1].metadata, "says range");
    bench.leave("a", None).unwrap();
    let view = bench.group.describe();
    assert_eq!(view.state, State::PreparingRebalance);
    assert_eq!(view.leader, None);
    assert!(view.members[0].assignment.is_empty());
}

#[test]
fn a_draw_is_decided_by_the_leaders_order() {
    let mut bench = Bench::new();
    let speaks =
        |names: &'static [&'static str]| move |join: &mut Join| join.protocols = protocols(names);
    bench.join_with("", "a", speaks(&["range", "sticky"]));
    bench.join_with("", "b", speaks(&["sticky", "range"]));
    let a = bench.join_with("a", "-", speaks(&["range", "sticky"]));
    assert_eq!(bench.joined(a).unwrap().unwrap().protocol, "range");
}

#[test]
fn a_follower_that_lost_its_answer_and_never_asks_again_is_out() {
    let mut bench = Bench::new();
    bench.join("", "a");
    bench.join("", "b");
    bench.join("a", "-");
    let b = bench.sync("b", 2, &[]);
    bench.apply(Command::Gone(b));
    bench.sync("a", 2, &[]);
    for _ in 0..12 {
        bench.pass(Duration::from_secs(5));
        let _ = (bench.heartbeat("a", 2), bench.heartbeat("b", 2));
    }
    assert_eq!(bench.group.state(), State::PreparingRebalance);
    assert_eq!(bench.group.describe().members.len(), 1);
}

#[test]
fn what_a_member_says_anew_while_the_leader_computes_counts() {
    let mut bench = Bench::new();
    bench.join("", "a");
    bench.join("", "b");
    bench.join("a", "-");
    let same = bench.join("b", "-");
    assert_eq!(bench.joined(same).unwrap().unwrap().generation, 2);
    bench.join_with("b", "-", |join| join.protocols[0].1 = "other".into());
    assert_eq!(bench.group.state(), State::PreparingRebalance);
}

#[test]
fn a_static_member_that_comes_back_with_another_protocol_changes_the_vote() {
    let mut bench = Bench::new();
    bench.join_with("", "a", |join| {
        fixed("one")(join);
        join.protocols = protocols(&["range", "sticky"]);
    });
    bench.sync("a", 1, &[]);
    let back = bench.join_with("", "a2", |join| {
        fixed("one")(join);
        join.protocols = protocols(&["sticky"]);
    });
    let joined = bench.joined(back).unwrap().unwrap();
    assert_eq!((joined.generation, joined.protocol.as_str()), (2, "sticky"));
}
