//! What is kept is found again, and what is told is bounded.

use atoll_telemetry::objective::{Notice, ObjectiveConfig, Restored};

use super::*;

fn sql(dir: &std::path::Path) -> Sql {
    Sql::open(&dir.join("state.db"), &[MIGRATION]).unwrap()
}

fn objectives() -> Vec<Objective> {
    let text = r#"{"availability":"99.9%","latency":"300ms"}"#;
    let config: ObjectiveConfig = serde_json::from_str(text).unwrap();
    config.objectives(&ServiceName::new("orders").unwrap())
}

fn declare(objectives: Vec<Objective>) -> Command {
    let coming = BTreeSet::new();
    Declared { objectives, coming }.command()
}

fn availability(total: u64, bad: u64) -> Command {
    let key = objectives()[0].key.clone();
    Command::Observe(vec![(key, Tally { total, bad })])
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(1_763_690_400_000_000).after(Duration::from_secs(seconds))
}

#[tokio::test]
async fn budgets_and_alerts_are_found_again_and_forgotten_with_their_objective() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::open(Restored::default());
    machine.apply(declare(objectives()), at(0));
    let journal = || Journal::new(sql(dir.path()), vec!["webhook"], "shop");
    let writer = journal();
    let silence = Command::Silence {
        id: "orders-availability-ticket".parse().unwrap(),
        until: Some(at(9000)),
    };
    for (seconds, command) in [
        (0, availability(100, 0)),
        (70, availability(50, 50)),
        (80, silence),
    ] {
        let entry = Entry {
            actions: machine.apply(command, at(seconds)),
            rows: machine.take_unsaved(),
            oldest: machine.oldest(at(seconds)),
        };
        writer.write(entry).await.unwrap();
    }
    assert_eq!(machine.alerts().len(), 2);
    let (restored, _) = journal().restore().await.unwrap();
    let mut again = Machine::open(restored.clone());
    let forgotten = again.apply(declare(objectives()), at(90));
    assert_eq!(again.alerts(), machine.alerts());
    assert_eq!(again.standings(at(90)), machine.standings(at(90)));
    assert_eq!(forgotten, []);
    let waiting = writer.oldest("webhook").await.unwrap().unwrap();
    assert!(
        waiting.body.contains("orders-availability-page"),
        "{}",
        waiting.body
    );
    writer.told(waiting.number).await.unwrap();
    assert!(writer.oldest("webhook").await.unwrap().is_none(), "once");

    let entry = Entry {
        actions: Machine::open(restored).apply(declare(Vec::new()), at(90)),
        ..Entry::default()
    };
    writer.write(entry).await.unwrap();
    let (restored, _) = writer.restore().await.unwrap();
    assert!(restored.rows.is_empty() && restored.alerts.is_empty());
}

#[test]
fn a_service_that_does_not_serve_yet_is_not_one_without_objectives() {
    let promise = "\n[objective]\navailability = \"99.9%\"\n";
    let file = |more: &str| {
        let text = format!("name = \"a\"\nrun = [\"./a\"]\n{more}");
        Arc::new(crate::manifest::parse_stored(&text).unwrap())
    };
    let names = ["a", "b"].map(|name| ServiceName::new(name).unwrap());
    let (with, without) = (file(promise), file(""));
    let seen = |a: Option<&Arc<_>>, b: Option<&Arc<_>>| {
        let all = [
            (&names[0], &*without, a.cloned()),
            (&names[1], &*with, b.cloned()),
        ];
        let declared = Declared::new(all.into_iter());
        let keys = declared.objectives.iter().map(|own| own.key.to_string());
        (keys.collect::<Vec<_>>(), declared.coming)
    };
    let (keys, coming) = seen(None, None);
    assert_eq!(keys, ["b-availability"], "of the folder");
    assert_eq!(coming, names.clone().into());
    let (keys, coming) = seen(Some(&with), None);
    assert_eq!(keys, ["a-availability", "b-availability"]);
    assert_eq!(coming, [names[1].clone()].into());
    let (keys, coming) = seen(Some(&with), Some(&without));
    assert_eq!((keys, coming.len()), (vec!["a-availability".to_owned()], 0));
}

#[tokio::test]
async fn what_waits_is_bounded_and_a_way_that_is_no_more_gets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let both = Journal::new(sql(dir.path()), vec!["command", "webhook"], "shop");
    let tell = |seconds| {
        Action::Tell(Notice {
            id: "orders-latency-page".parse().unwrap(),
            state: AlertState::Firing,
            since: at(seconds),
            message: String::new(),
            target: String::new(),
            window: String::new(),
            budget_left: 0.0,
            burn_1h: 0.0,
            burn_6h: 0.0,
        })
    };
    let entry = Entry {
        actions: (0..1003).map(tell).collect(),
        ..Entry::default()
    };
    assert_eq!(both.write(entry).await.unwrap(), 6, "three of each");
    let first = both.oldest("command").await.unwrap().unwrap();
    let since = format!("\"since\":\"{}\"", at(3));
    assert!(
        first.body.contains(&since),
        "the oldest went: {}",
        first.body
    );
    let age = Timestamp::now().since(first.made);
    assert!(
        age < Duration::from_secs(3600),
        "it waits since it is here: {age:?}"
    );
    let one = Journal::new(sql(dir.path()), vec!["webhook"], "shop");
    assert_eq!(one.restore().await.unwrap().1, 1000);
    assert!(one.oldest("command").await.unwrap().is_none());
    assert!(one.oldest("webhook").await.unwrap().is_some());
}

#[tokio::test]
async fn the_history_comes_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::new(sql(dir.path()), Vec::new(), "shop");
    let change = |seconds| {
        Action::Record(Change {
            id: "orders-latency-page".parse().unwrap(),
            state: AlertState::Resolved,
            at: at(seconds),
            message: "m".to_owned(),
            silenced: seconds == 4,
        })
    };
    let entry = Entry {
        actions: (0..5).map(change).collect(),
        ..Entry::default()
    };
    journal.write(entry).await.unwrap();
    let page = journal.history(None, 2).await.unwrap();
    let seen: Vec<_> = page.iter().map(|(_, own)| (own.at, own.silenced)).collect();
    assert_eq!(seen, [(at(4), true), (at(3), false)]);
    let rest = journal.history(Some(page[1].0), 10).await.unwrap();
    assert_eq!(rest.len(), 3);
    assert_eq!(rest[0].1.at, at(2));
}

#[tokio::test]
async fn who_asks_for_silence_may_go_away_and_nothing_is_told_twice() {
    let dir = tempfile::tempdir().unwrap();
    let telemetry = atoll_telemetry::Service::start(dir.path(), Default::default()).unwrap();
    let journal = Journal::new(sql(dir.path()), vec!["webhook"], "shop");
    let mut machine = Machine::open(Restored::default());
    let (now, id) = (Timestamp::now(), "orders-availability-page");
    let silence = Command::Silence {
        id: id.parse().unwrap(),
        until: Some(now.after(Duration::from_secs(3600))),
    };
    for command in [declare(objectives()), silence, availability(100, 100)] {
        machine.apply(command, now);
    }
    let alerts = Arc::new(Alerts {
        machine: Mutex::new(machine),
        journal: journal.clone(),
        deliveries: Vec::new(),
        events: Arc::new(Events::new(telemetry)),
        writing: tokio::sync::Mutex::default(),
        trouble: Mutex::new(None),
        tasks: OnceLock::from(Tasks::new()),
    });
    {
        let asked = alerts.silence(id, None);
        tokio::pin!(asked);
        let begun = std::future::poll_fn(|cx| std::task::Poll::Ready(asked.as_mut().poll(cx)));
        assert!(begun.await.is_pending());
        // The task has its way to the disk now, and waits for it.
        tokio::task::yield_now().await;
    }
    alerts.apply(Vec::new()).await.unwrap();
    let waiting = journal.oldest("webhook").await.unwrap().unwrap();
    assert!(waiting.body.contains(id), "{}", waiting.body);
    journal.told(waiting.number).await.unwrap();
    assert!(journal.oldest("webhook").await.unwrap().is_none(), "once");
}

#[test]
fn only_what_was_added_is_counted() {
    let tally = |requests, errors, slow| ServiceTally {
        service: ServiceName::new("orders").unwrap(),
        requests,
        errors,
        slow,
    };
    let mut before = Before::default();
    let counts = |added: Vec<(Key, Tally)>| {
        let counts = added
            .into_iter()
            .map(|(key, own)| (key.aim, own.total, own.bad));
        counts.collect::<Vec<_>>()
    };
    let first = counts(before.added(vec![tally(10, 2, 3)]));
    assert_eq!(first, [(Aim::Availability, 10, 2), (Aim::Latency, 8, 3)]);
    assert_eq!(counts(before.added(vec![tally(10, 2, 3)])), []);
    let more = counts(before.added(vec![tally(11, 3, 3)]));
    assert_eq!(more, [(Aim::Availability, 1, 1), (Aim::Latency, 0, 0)]);
}
