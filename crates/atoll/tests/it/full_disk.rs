//! A disk without room: what serves goes on serving, what is lost is told, and nothing is pretended.
//!
//! The disk is a small file system in memory, which only root may mount; without root there is no
//! disk to fill, and the test fails unless that is allowed.

use std::path::PathBuf;
use std::process::Command;

use crate::testkit::{Ability, App, holds, lacking, until};

/// A state folder with room for this much.
const ROOM: &str = "size=3m";

/// Taken down with the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&folder).unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", ROOM, "tmpfs"])
            .arg(&folder);
        let mounted = mount.status().is_ok_and(|status| status.success());
        mounted.then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a test that failed may have left somebody in it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn on_a_full_disk_services_serve_and_everything_else_says_why_not() {
    let app = App::new();
    app.service("a").route("/a/**").write();
    let Some(_disk) = SmallDisk::mount(app.path(".atoll")) else {
        return lacking(Ability::Root);
    };
    app.up();
    let filler = app.path(".atoll/filler");
    // `cp` fails when the disk is full, as it should.
    let _ = Command::new("cp").arg("/dev/zero").arg(&filler).output();
    until("a line that is lost", || {
        app.get("/a/x").has(200);
        app.cli(&["ps"]).err.contains("log lines are being lost")
    });
    app.write("services/a/more.txt", "another revision");
    let said = app.cli(&["deploy", "a"]).ended(1);
    holds(&said.err, "full");
    holds(&said.err, "`atoll explain ATL");
    app.get("/a/x").has(200);
    holds(&app.cli(&["history", "a"]).succeeded().out, "up");
    std::fs::remove_file(&filler).unwrap();
    until("lines again", || {
        app.get("/a/x").has(200);
        !app.cli(&["ps"]).err.contains("log lines are being lost")
    });
    holds(
        &app.cli(&["logs", "atoll"]).succeeded().out,
        "lines were lost while the disk refused them",
    );
    app.down();
}
