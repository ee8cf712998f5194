//! Commands that cannot be run.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use atoll_base::Coded;
use atoll_supervisor::{Event, Sandbox, State};
use atoll_testkit::{Ability, lacking};

use crate::bed::{Bed, SERVER, until_state};

fn refused(bed: &Bed) -> (String, String) {
    bed.seen.event(|event| match event {
        Event::SpawnFailed { error, .. } => Some((error.code().to_string(), error.to_string())),
        _ => None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named() {
    let bed = Bed::new();
    let mut spec = bed.spec(&["no-such-program"]);
    spec.env = vec![("PATH".into(), "/bin:/opt/tools".into())];
    spec.restart = false;
    let id = bed.start(spec);
    let (code, text) = refused(&bed);
    assert_eq!(code, "ATL0201");
    assert_eq!(
        text,
        "program 'no-such-program' not found; looked in /bin, /opt/tools"
    );
    assert_eq!(until_state(&bed, &id, State::Failed).reason.unwrap(), text);
    bed.end().await;

    let bed = Bed::new();
    let script = bed.file("main");
    fs::write(&script, "#!/opt/nowhere/python\nprint(1)\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    bed.start(bed.spec(&["./main"]));
    let (code, text) = refused(&bed);
    assert_eq!(code, "ATL0203");
    assert!(text.contains("'/opt/nowhere/python'"), "{text}");
    bed.end().await;

    let bed = Bed::new();
    let mut spec = bed.sh("true");
    spec.dir = bed.file("gone");
    bed.start(spec);
    assert_eq!(refused(&bed).0, "ATL0204");
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_the_kernel_refuses_is_named() {
    let bed = Bed::new();
    // Its own folder is hidden from it.
    let mut spec = bed.sh("true");
    spec.sandbox = Some(Sandbox {
        hide: bed.dir().to_owned(),
        keep_writable: Vec::new(),
        keep_readonly: Vec::new(),
    });
    spec.dir = bed.file("own");
    fs::create_dir(&spec.dir).unwrap();
    bed.start(spec);
    let (code, text) = refused(&bed);
    assert_eq!(code, "ATL0206");
    assert!(text.ends_with("entering its folder failed"), "{text}");
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_appears_later_is_started_then() {
    let bed = Bed::new();
    let id = bed.start(bed.spec(&["./later"]));
    refused(&bed);
    let program = bed.file("later");
    let ready = bed.file("ready");
    fs::write(&ready, format!("#!/usr/bin/env python3\n{SERVER}")).unwrap();
    fs::set_permissions(&ready, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&ready, &program).unwrap();
    bed.seen.ready(&id);
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_can_be_had_by_root() {
    let bed = Bed::new();
    if !rustix::process::geteuid().is_root() {
        lacking(Ability::Root);
        return bed.end().await;
    }
    let mut spec = bed.sh("id -u; id -g; id -G");
    spec.dir = "/".into();
    spec.user = Some(atoll_supervisor::User {
        uid: 65_534,
        gid: 65_533,
    });
    spec.restart = false;
    bed.start(spec);
    bed.seen
        .event(|event| matches!(event, Event::Stopped { .. }).then_some(()));
    let lines: Vec<String> = bed.seen.lines().into_iter().map(|line| line.1).collect();
    assert_eq!(lines, ["65534", "65533", "65533"]);
    bed.end().await;
}
