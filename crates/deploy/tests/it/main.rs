//! Deployments from outside, over a ground without processes: what is built, started, served,
//! recorded, and what survives a restart of the node.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod artifact;
mod ground;

use std::time::Duration;

use atoll_base::{RevisionNumber, ServiceName};
use atoll_deploy::{Error, InstanceNews, Kind, Outcome, Request};
use ground::World;

fn orders() -> ServiceName {
    ServiceName::new("orders").unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_first_start_makes_revision_one_and_serves() {
    let world = World::new().await;
    let entry = world.up().await.unwrap();
    assert_eq!(
        (entry.kind, entry.revision),
        (Kind::Up, Some(RevisionNumber(1)))
    );
    assert_eq!(entry.outcome, Some(Outcome::Succeeded));
    assert_eq!(world.serving(), ["orders-r1-1"]);
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_folder_keeps_its_revision_over_a_restart_of_the_node() {
    let world = World::new().await;
    world.up().await.unwrap();
    let world = world.restarted().await;
    let entry = world.up().await.unwrap();
    assert_eq!(entry.revision, Some(RevisionNumber(1)));
    world.write("main.py", "print(2)");
    let world = world.restarted().await;
    let entry = world.up().await.unwrap();
    assert_eq!(entry.revision, Some(RevisionNumber(2)));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_and_a_failed_deployment_hold_over_a_restart_of_the_node() {
    let world = World::new().await;
    world.up().await.unwrap();
    world.write("main.py", "print('bad')");
    world.run(Request::Deploy(world.source())).await.unwrap();
    world.run(Request::Rollback(None)).await.unwrap();
    let world = world.restarted().await;
    assert_eq!(world.up().await.unwrap().revision, Some(RevisionNumber(1)));
    world.write("main.py", "print('worse')");
    world.fail_starts();
    world
        .run(Request::Deploy(world.source()))
        .await
        .unwrap_err();
    let world = world.restarted().await;
    assert_eq!(world.up().await.unwrap().revision, Some(RevisionNumber(1)));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_artifact_is_made_again() {
    let world = World::new().await;
    world.up().await.unwrap();
    world.damage_artifacts();
    let world = world.restarted().await;
    let entry = world.up().await.unwrap();
    assert_eq!(entry.revision, Some(RevisionNumber(2)));
}

#[tokio::test(start_paused = true)]
async fn a_deployment_takes_over_and_the_old_instances_stop() {
    let world = World::new().await;
    world.up().await.unwrap();
    world.write("main.py", "print(2)");
    let entry = world.run(Request::Deploy(world.source())).await.unwrap();
    assert_eq!(
        (entry.revision, entry.previous),
        (Some(RevisionNumber(2)), Some(RevisionNumber(1)))
    );
    assert_eq!(world.serving(), ["orders-r2-2"]);
    world.until_stopped("orders-r1-1").await;
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_fails_is_recorded_and_the_old_one_serves() {
    let world = World::new().await;
    world.up().await.unwrap();
    world.fail_starts();
    let error = world
        .run(Request::Deploy(world.source()))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::RolledBack {
                revision: RevisionNumber(2),
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(world.serving(), ["orders-r1-1"]);
    let entry = world.newest().await;
    assert_eq!(entry.outcome, Some(Outcome::Failed));
    assert!(entry.detail.contains("on purpose"), "{}", entry.detail);
    let current = world.history().current(&orders()).await.unwrap().0.unwrap();
    assert_eq!(current.number, RevisionNumber(1));
}

#[tokio::test(start_paused = true)]
async fn a_failed_build_changes_nothing() {
    let world = World::new().await;
    world.up().await.unwrap();
    let mut source = world.source();
    source.build = vec!["fail".to_owned()];
    let error = world.run(Request::Deploy(source)).await.unwrap_err();
    assert!(
        matches!(&error, Error::Build { reason, .. } if reason == "no such luck"),
        "{error}"
    );
    assert_eq!(world.serving(), ["orders-r1-1"]);
    assert_eq!(world.newest().await.revision, None);
}

#[tokio::test(start_paused = true)]
async fn rollbacks_go_further_back_each_time_and_skip_what_never_served() {
    let world = World::new().await;
    world.up().await.unwrap();
    world.run(Request::Deploy(world.source())).await.unwrap();
    world.fail_starts();
    world
        .run(Request::Deploy(world.source()))
        .await
        .unwrap_err();
    world.let_starts();
    world.run(Request::Deploy(world.source())).await.unwrap();
    let back = world.run(Request::Rollback(None)).await.unwrap();
    assert_eq!(back.revision, Some(RevisionNumber(2)), "r3 never served");
    let back = world.run(Request::Rollback(None)).await.unwrap();
    assert_eq!(back.revision, Some(RevisionNumber(1)));
    let error = world.run(Request::Rollback(None)).await.unwrap_err();
    assert!(matches!(error, Error::NoRevision { .. }), "{error}");
    let forward = world
        .run(Request::Rollback(Some(RevisionNumber(4))))
        .await
        .unwrap();
    assert_eq!(forward.revision, Some(RevisionNumber(4)));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_goes_to_what_served_before_not_to_what_was_taken_back() {
    let world = World::new().await;
    world.up().await.unwrap();
    world.run(Request::Deploy(world.source())).await.unwrap();
    world.run(Request::Rollback(None)).await.unwrap();
    world.run(Request::Deploy(world.source())).await.unwrap();
    let back = world.run(Request::Rollback(None)).await.unwrap();
    assert_eq!(back.revision, Some(RevisionNumber(1)), "r2 was taken back");
}

#[tokio::test(start_paused = true)]
async fn only_one_deployment_of_a_service_runs_at_a_time() {
    let world = World::new().await;
    world.up().await.unwrap();
    world.hold_starts();
    let (running, _) = world.begin(Request::Restart).await.unwrap();
    let error = world.begin(Request::Restart).await.unwrap_err();
    assert!(
        matches!(error, Error::Busy { deployment, .. } if deployment == running),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn scale_is_kept_within_limits_and_over_a_restart() {
    let world = World::new().await;
    world.up().await.unwrap();
    let error = world.run(Request::Scale(9)).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Scale {
                wanted: 9,
                least: 1,
                most: 4,
                ..
            }
        ),
        "{error}"
    );
    world.run(Request::Scale(3)).await.unwrap();
    world.until_serving(3).await;
    let world = world.restarted().await;
    world.up().await.unwrap();
    world.until_serving(3).await;
}

#[test]
fn a_deployment_that_the_node_did_not_survive_is_marked_interrupted() {
    // Each node has a runtime of its own; dropping it ends the node in the middle of whatever it
    // does.
    let world = ground::paused_runtime().block_on(async {
        let world = World::new().await;
        world.up().await.unwrap();
        world.hold_starts();
        world.begin(Request::Restart).await.unwrap();
        world
    });
    let entry = ground::paused_runtime().block_on(async { world.restarted().await.newest().await });
    assert_eq!(
        (entry.kind, entry.outcome),
        (Kind::Restart, Some(Outcome::Interrupted))
    );
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_fails_in_the_watch_gives_the_traffic_back() {
    let world = World::new().await;
    world.up().await.unwrap();
    let (_, done) = world.begin(Request::Restart).await.unwrap();
    world
        .until(|world| world.serving() == ["orders-r1-2"])
        .await;
    world
        .news(
            "orders-r1-2",
            InstanceNews::Lost("killed by SIGSEGV".to_owned()),
        )
        .await;
    let error = done.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("SIGSEGV"), "{error}");
    assert_eq!(world.serving(), ["orders-r1-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_for_its_gate() {
    let world = World::new().await;
    let (open, gate) = tokio::sync::oneshot::channel::<()>();
    let gate = Box::pin(async move { gate.await.unwrap() });
    let request = Request::Up {
        source: world.source(),
        build: false,
        gate,
    };
    let (_, done) = world.begin(request).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.started().is_empty());
    open.send(()).unwrap();
    done.await.unwrap().unwrap();
    assert_eq!(world.serving(), ["orders-r1-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_waits_in_vain_gives_way_to_a_deployment() {
    let world = World::new().await;
    let gate = Box::pin(std::future::pending());
    let request = Request::Up {
        source: world.source(),
        build: false,
        gate,
    };
    let (_, waiting) = world.begin(request).await.unwrap();
    // The deployment is refused while the first one is being prepared, and taken at its gate.
    let entry = loop {
        match world.run(Request::Deploy(world.source())).await {
            Err(Error::Busy { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
            other => break other.unwrap(),
        }
    };
    assert_eq!(entry.outcome, Some(Outcome::Succeeded));
    assert!(waiting.await.unwrap().is_err());
    assert_eq!(world.serving(), ["orders-r2-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_first_revision_that_came_up_late_can_be_rolled_back_to() {
    let world = World::new().await;
    world.fail_starts();
    world.up().await.unwrap_err();
    world.news("orders-r1-1", InstanceNews::Ready).await;
    world.until_serving(1).await;
    world.let_starts();
    world.run(Request::Deploy(world.source())).await.unwrap();
    let back = world.run(Request::Rollback(None)).await.unwrap();
    assert_eq!(back.revision, Some(RevisionNumber(1)));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deployed_once_the_node_stops() {
    let world = World::new().await;
    world.up().await.unwrap();
    world.stop_all().await;
    let refused = world.begin(Request::Restart).await.unwrap_err();
    assert!(matches!(refused, Error::Stopping), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_deployment_is_announced_once_it_is_on_disk() {
    let world = World::new().await;
    let ended = world.ended();
    world.hold_starts();
    let gate = Box::pin(async {});
    let source = world.source();
    let build = false;
    let up = Request::Up {
        source,
        build,
        gate,
    };
    let (id, _) = world.begin(up).await.unwrap();
    world.until(|world| !world.started().is_empty()).await;
    assert!(!ended.has_changed().unwrap(), "it runs still");
    world.news("orders-r1-1", InstanceNews::Ready).await;
    world.until(|_| ended.has_changed().unwrap()).await;
    let entry = world.history().deployment(id).await.unwrap().unwrap();
    assert_eq!(entry.outcome, Some(Outcome::Succeeded));
}
