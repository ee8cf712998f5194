//! Telling somebody, until it is taken: one task for each way, one message after the other.
//!
//! What is to be told waits in the SQL state, so neither a crash nor a receiver that is down loses it, and
//! "resolved" never overtakes "firing". It is tried again after a second, twice as long each time, up to a
//! minute, for a day; then it is given up, and that is told in the log. A crash between the answer and the
//! note of it tells once more, with the same id.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atoll_base::{Tasks, Timestamp};
use atoll_telemetry::Level;
use tokio::sync::Notify;

use super::journal::{Journal, Waiting};
use super::message::Message;
use super::way::Way;
use crate::node::events::Events;

/// The first pause after a failure, which doubles; none is shorter.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// No pause is longer.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// After this time, nobody needs to be told any more.
const TOLD_WITHIN: Duration = Duration::from_secs(24 * 3600);

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was taken.
    Taken,
    /// It will never be taken; why.
    Refused(String),
    /// Not now; why, and the pause that is asked for.
    Failed(String, Option<Duration>),
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Done,
    GiveUp(String),
    Again(Duration, String),
}

/// One way, and what waits for it.
pub(super) struct Delivery {
    way: Way,
    timeout: Duration,
    journal: Journal,
    events: Arc<Events>,
    came: Notify,
    trouble: Mutex<Option<(Timestamp, String)>>,
}

impl Outcome {
    /// What the status of an answer means.
    pub(super) fn answered(status: u16, retry_after: Option<Duration>) -> Self {
        let why = format!("it answers {status}");
        match status {
            200..=299 => Self::Taken,
            // It is the message that is not liked, and it will not change.
            400 | 413 | 415 | 422 => Self::Refused(why),
            _ => Self::Failed(why, retry_after),
        }
    }
}

/// What follows from an outcome, after so many failures before it, of a message of this age.
fn step(outcome: Outcome, failures: u32, age: Duration) -> Step {
    match outcome {
        Outcome::Taken => Step::Done,
        Outcome::Refused(why) => Step::GiveUp(why),
        Outcome::Failed(why, _) if age >= TOLD_WITHIN => Step::GiveUp(why),
        Outcome::Failed(why, asked) => {
            let pause = PAUSE_MIN.saturating_mul(1 << failures.min(6));
            // Zero may be asked for, too: without a least pause that would be a loop that never rests.
            let pause = asked.unwrap_or(pause).clamp(PAUSE_MIN, PAUSE_MAX);
            Step::Again(pause, why)
        }
    }
}

impl Delivery {
    pub(super) fn new(way: Way, timeout: Duration, journal: Journal, events: Arc<Events>) -> Self {
        Self {
            way,
            timeout,
            journal,
            events,
            came: Notify::new(),
            trouble: Mutex::new(None),
        }
    }

    /// The name of the way.
    pub(super) fn name(&self) -> &'static str {
        self.way.name()
    }

    /// Something waits.
    pub(super) fn came(&self) {
        self.came.notify_one();
    }

    /// Why nothing gets through at present.
    pub(super) fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, why) = trouble.as_ref()?;
        let name = self.name();
        Some(format!(
            "alerts do not get to the {name} since {since}: {why}"
        ))
    }

    /// Tells, until the node stops.
    pub(super) async fn run(&self, tasks: &Tasks) {
        tokio::select! {
            () = tasks.stopping() => {}
            () = self.tell_all() => {}
        }
    }

    async fn tell_all(&self) {
        loop {
            match self.journal.oldest(self.name()).await {
                Ok(Some(waiting)) => self.tell(waiting).await,
                Ok(None) => self.came.notified().await,
                Err(error) => {
                    self.in_trouble(&error.to_string());
                    tokio::time::sleep(PAUSE_MAX).await;
                }
            }
        }
    }

    /// Tells one message, however long that takes, and takes it off the list.
    async fn tell(&self, waiting: Waiting) {
        let mut failures = 0;
        loop {
            let outcome = match serde_json::from_str::<Message>(&waiting.body) {
                Ok(message) => self.way.tell(&message, self.timeout).await,
                Err(error) => Outcome::Refused(format!("it cannot be read: {error}")),
            };
            match step(outcome, failures, Timestamp::now().since(waiting.made)) {
                Step::Done => {
                    self.is_well();
                    break;
                }
                Step::GiveUp(why) => {
                    let name = self.name();
                    let message = format!(
                        "the {name} was not told of an alert: {why}: {}",
                        waiting.body
                    );
                    self.events.node(Level::Error, message);
                    break;
                }
                Step::Again(pause, why) => {
                    self.in_trouble(&why);
                    failures += 1;
                    tokio::time::sleep(pause).await;
                }
            }
        }
        while let Err(error) = self.journal.told(waiting.number).await {
            // It would be told again and again, were it not waited for here.
            self.in_trouble(&error.to_string());
            tokio::time::sleep(PAUSE_MAX).await;
        }
    }

    fn is_well(&self) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.take().is_some() {
            let message = format!("alerts get to the {} again", self.name());
            self.events.node(Level::Info, message);
        }
    }

    fn in_trouble(&self, why: &str) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let since = trouble.as_ref().map(|(since, _)| *since);
        if since.is_none() {
            let message = format!(
                "alerts do not get to the {}: {why}; it is tried again",
                self.name()
            );
            self.events.node(Level::Error, message);
        }
        *trouble = Some((since.unwrap_or_else(Timestamp::now), why.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_tried_again_ever_more_slowly_for_a_day() {
        let failed = |asked| Outcome::Failed("no".to_owned(), asked);
        let pause = |failures| match step(failed(None), failures, Duration::ZERO) {
            Step::Again(pause, _) => pause.as_secs(),
            other => panic!("{other:?}"),
        };
        let pauses: Vec<_> = [0, 1, 2, 5, 6, 40].map(pause).into();
        assert_eq!(pauses, [1, 2, 4, 32, 60, 60]);
        let asked = step(failed(Some(Duration::from_secs(9))), 5, Duration::ZERO);
        assert!(matches!(asked, Step::Again(pause, _) if pause.as_secs() == 9));
        let at_once = step(failed(Some(Duration::ZERO)), 5, Duration::ZERO);
        assert!(matches!(at_once, Step::Again(pause, _) if pause == PAUSE_MIN));
        assert!(matches!(
            step(failed(None), 0, TOLD_WITHIN),
            Step::GiveUp(_)
        ));
        assert_eq!(step(Outcome::Taken, 3, TOLD_WITHIN), Step::Done);
    }

    #[test]
    fn only_what_is_wrong_with_the_message_itself_is_given_up_at_once() {
        for (status, refused) in [
            (400, true),
            (422, true),
            (401, false),
            (404, false),
            (429, false),
            (500, false),
            (301, false),
        ] {
            let outcome = Outcome::answered(status, None);
            assert_eq!(matches!(outcome, Outcome::Refused(_)), refused, "{status}");
        }
        assert_eq!(Outcome::answered(204, None), Outcome::Taken);
    }
}
