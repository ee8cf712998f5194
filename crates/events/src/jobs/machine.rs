//! One job, decided: what becomes of it when something happens, and whether a delivery may run it.
//!
//! That it runs at this moment is no state of its own: who runs it knows (`live`), and after a crash
//! nobody runs it. So nothing here can be left over from a life before.
//!
//! A job has one record at a time. Its run tells a record of an earlier try from that of this one, its
//! place tells apart two records of one try, where a crash has made two. All but one are passed over.

use atoll_base::{ServiceName, Timestamp};
use bytes::Bytes;
use uuid::Uuid;

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its name.
    pub id: Uuid,
    /// The queue: a topic with one pushed subscription.
    pub queue: String,
    /// Whose subscription that is.
    pub service: ServiceName,
    /// Who asked for it.
    pub caller: ServiceName,
    /// Where it stands.
    pub state: State,
    /// How often it was begun anew, from 1 on.
    pub run: u32,
    /// Attempts of this run that have failed.
    pub attempts: u32,
    /// Partition and offset of its record, once that is known.
    pub place: Option<(i32, i64)>,
    /// When it was asked for.
    pub created: Timestamp,
    /// It does not run before.
    pub due: Option<Timestamp>,
    /// When the last attempt began.
    pub started: Option<Timestamp>,
    /// When it was done, has failed or was cancelled.
    pub finished: Option<Timestamp>,
    /// What happened the last time that it failed.
    pub reason: Option<String>,
    /// The last answer.
    pub answer: Option<Answer>,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It waits for its first attempt or for the next, or runs.
    Queued,
    /// The service has taken it.
    Done,
    /// It was given up.
    Failed,
    /// Nobody wants it any more.
    Cancelled,
}

/// What a service has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// What the body is.
    pub content_type: Option<String>,
    /// The body, or its beginning.
    pub body: Bytes,
    /// There was more of it.
    pub cut: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The service has taken it.
    Taken(Answer),
    /// The service has refused it; there is another attempt.
    Refused(String, Option<Answer>),
    /// The service has refused it for the last time.
    GivenUp(String, Option<Answer>),
    /// Nobody has seen it.
    Unreached(String),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The record of a run is there.
    Published {
        /// Which run.
        run: u32,
        /// Partition and offset.
        place: (i32, i64),
    },
    /// Its record is about to be delivered.
    Deliver {
        /// The run that the record says.
        run: u32,
        /// Partition and offset of the record.
        place: (i32, i64),
    },
    /// Its dead letter is about to be delivered.
    Redrive,
    /// An attempt has ended.
    Ended {
        /// Of which run.
        run: u32,
        /// When it began.
        started: Timestamp,
        /// How it ended.
        how: Ended,
    },
    /// Its record is not to be had any more, for this reason.
    Lost(String),
    /// Nobody wants it any more.
    Cancel,
    /// It is to be tried anew.
    Retry,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is noted, or does not matter any more.
    Noted,
    /// The delivery goes.
    Go,
    /// The delivery is not needed any more.
    Skip,
    /// A record is to be published.
    Publish,
    /// What runs is to be dropped.
    Drop,
    /// It cannot be, as it is in this state.
    Refuse(State),
}

impl Job {
    /// Tells what happened.
    pub fn apply(&mut self, command: Command, now: Timestamp) -> Verdict {
        match command {
            Command::Published { run, place } => {
                if run == self.run && self.place.is_none() {
                    self.place = Some(place);
                }
                Verdict::Noted
            }
            Command::Deliver { run, place } => self.deliver(run, place),
            Command::Redrive => match self.state {
                State::Failed => Verdict::Go,
                State::Done => Verdict::Skip,
                other => Verdict::Refuse(other),
            },
            Command::Ended { run, started, how } => {
                if run == self.run && self.state != State::Cancelled && self.state != State::Done {
                    self.started = Some(started);
                    self.ended(how, now);
                }
                Verdict::Noted
            }
            Command::Lost(reason) => {
                if self.state == State::Queued {
                    self.reason = Some(reason);
                    self.finish(State::Failed, now);
                }
                Verdict::Noted
            }
            Command::Cancel => match self.state {
                State::Queued => {
                    self.finish(State::Cancelled, now);
                    Verdict::Drop
                }
                State::Cancelled => Verdict::Noted,
                other => Verdict::Refuse(other),
            },
            Command::Retry => self.retry(),
        }
    }

    /// A record of this run that is not at its place is a second one of the same. One that has
    /// failed is delivered all the same: its end was not kept in a crash, or somebody replays.
    fn deliver(&mut self, run: u32, place: (i32, i64)) -> Verdict {
        let own = run == self.run && self.place.is_none_or(|own| own == place);
        if !own || matches!(self.state, State::Done | State::Cancelled) {
            return Verdict::Skip;
        }
        self.place = Some(place);
        self.state = State::Queued;
        self.finished = None;
        Verdict::Go
    }

    fn ended(&mut self, how: Ended, now: Timestamp) {
        match how {
            Ended::Taken(answer) => {
                self.answer = Some(answer);
                self.reason = None;
                self.finish(State::Done, now);
            }
            Ended::Refused(reason, answer) => {
                self.attempts += 1;
                (self.reason, self.answer) = (Some(reason), answer);
            }
            Ended::GivenUp(reason, answer) => {
                self.attempts += 1;
                (self.reason, self.answer) = (Some(reason), answer);
                self.finish(State::Failed, now);
            }
            Ended::Unreached(reason) => self.reason = Some(reason),
        }
    }

    fn finish(&mut self, state: State, now: Timestamp) {
        self.state = state;
        self.finished = Some(now);
    }

    fn retry(&mut self) -> Verdict {
        if !matches!(self.state, State::Failed | State::Cancelled) {
            return Verdict::Refuse(self.state);
        }
        self.state = State::Queued;
        self.run += 1;
        self.attempts = 0;
        (self.place, self.started, self.finished) = (None, None, None);
        (self.reason, self.answer) = (None, None);
        Verdict::Publish
    }
}

impl State {
    /// As it is written down and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: (i32, i64) = (0, 7);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn job() -> Job {
        let name = |text| ServiceName::new(text).unwrap();
        Job {
            id: Uuid::from_u128(1),
            queue: "resize".to_owned(),
            service: name("images"),
            caller: name("shop"),
            state: State::Queued,
            run: 1,
            attempts: 0,
            place: None,
            created: at(0),
            due: None,
            started: None,
            finished: None,
            reason: None,
            answer: None,
        }
    }

    fn answer(status: u16) -> Answer {
        Answer {
            status,
            content_type: None,
            body: Bytes::from_static(b"x"),
            cut: false,
        }
    }

    fn deliver(run: u32) -> Command {
        Command::Deliver { run, place: PLACE }
    }

    fn ended(run: u32, how: Ended) -> Command {
        let started = at(1);
        Command::Ended { run, started, how }
    }

    fn given_up() -> Ended {
        Ended::GivenUp("answered 500".to_owned(), Some(answer(500)))
    }

    #[test]
    fn a_job_that_is_done_is_not_delivered_again() {
        let mut job = job();
        assert_eq!(job.apply(deliver(1), at(1)), Verdict::Go);
        job.apply(ended(1, Ended::Taken(answer(200))), at(2));
        assert_eq!((job.state, job.finished), (State::Done, Some(at(2))));
        assert_eq!(job.apply(deliver(1), at(3)), Verdict::Skip);
        assert_eq!(job.apply(Command::Redrive, at(3)), Verdict::Skip);
        for command in [Command::Cancel, Command::Retry] {
            assert_eq!(job.apply(command, at(3)), Verdict::Refuse(State::Done));
        }
        job.apply(ended(1, given_up()), at(4));
        assert_eq!(job.state, State::Done, "what comes late changes nothing");
    }

    #[test]
    fn failures_are_counted_until_it_is_given_up() {
        let mut job = job();
        job.apply(ended(1, Ended::Refused("no".to_owned(), None)), at(1));
        job.apply(ended(1, Ended::Unreached("nobody".to_owned())), at(2));
        assert_eq!((job.state, job.attempts), (State::Queued, 1));
        job.apply(ended(1, given_up()), at(3));
        assert_eq!((job.state, job.attempts), (State::Failed, 2));
        assert_eq!(job.answer.as_ref().unwrap().status, 500);
        assert_eq!(
            job.apply(Command::Cancel, at(4)),
            Verdict::Refuse(State::Failed)
        );
    }

    #[test]
    fn of_two_records_of_one_run_one_counts() {
        let mut job = job();
        assert_eq!(job.apply(deliver(1), at(1)), Verdict::Go);
        let place = (0, 8);
        job.apply(Command::Published { run: 1, place }, at(1));
        let second = Command::Deliver { run: 1, place };
        assert_eq!(job.apply(second, at(2)), Verdict::Skip);
        assert_eq!(job.apply(deliver(1), at(2)), Verdict::Go);
    }

    #[test]
    fn a_retry_is_a_new_run_and_the_old_record_counts_no_more() {
        let mut job = job();
        assert_eq!(
            job.apply(Command::Retry, at(1)),
            Verdict::Refuse(State::Queued)
        );
        job.apply(deliver(1), at(1));
        job.apply(ended(1, given_up()), at(2));
        assert_eq!(job.apply(Command::Retry, at(3)), Verdict::Publish);
        assert_eq!((job.run, job.attempts, job.place), (2, 0, None));
        assert_eq!(job.apply(deliver(1), at(4)), Verdict::Skip);
        job.apply(ended(1, given_up()), at(4));
        assert_eq!(job.state, State::Queued, "that was the run before");
        assert_eq!(
            job.apply(Command::Redrive, at(4)),
            Verdict::Refuse(State::Queued)
        );
    }

    #[test]
    fn what_is_cancelled_is_not_delivered_and_can_be_tried_anew() {
        let mut job = job();
        assert_eq!(job.apply(Command::Cancel, at(1)), Verdict::Drop);
        assert_eq!(job.apply(Command::Cancel, at(2)), Verdict::Noted);
        assert_eq!(job.apply(deliver(1), at(2)), Verdict::Skip);
        job.apply(ended(1, Ended::Taken(answer(200))), at(3));
        assert_eq!((job.state, job.finished), (State::Cancelled, Some(at(1))));
        assert_eq!(job.apply(Command::Retry, at(4)), Verdict::Publish);
    }

    #[test]
    fn what_has_failed_is_delivered_again_after_a_crash_and_by_a_redrive() {
        let mut job = job();
        job.apply(deliver(1), at(1));
        job.apply(ended(1, given_up()), at(2));
        assert_eq!(job.apply(Command::Redrive, at(3)), Verdict::Go);
        assert_eq!(job.state, State::Failed, "until it is known how that ends");
        assert_eq!(job.apply(deliver(1), at(4)), Verdict::Go);
        assert_eq!(job.state, State::Queued);
        job.apply(ended(1, Ended::Taken(answer(200))), at(5));
        assert_eq!((job.state, job.reason), (State::Done, None));
    }

    #[test]
    fn a_job_whose_record_is_lost_has_failed() {
        let mut job = job();
        job.apply(Command::Lost("deleted".to_owned()), at(1));
        assert_eq!(job.state, State::Failed);
        assert_eq!(job.apply(Command::Retry, at(2)), Verdict::Publish);
    }
}
