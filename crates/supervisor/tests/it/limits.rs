//! Limits of memory, processes and processor time.

use atoll_base::ByteCount;
use atoll_supervisor::{ExitReason, State};

use crate::bed::{Bed, has_cgroups, until_state};

#[tokio::test(flavor = "multi_thread")]
async fn one_that_uses_too_much_memory_is_said_to() {
    let bed = Bed::new();
    let mut spec = bed.python("x = bytearray(200 << 20); print(len(x))");
    spec.resources.memory = Some(ByteCount::mib(64));
    spec.restart = false;
    let id = bed.start(spec);
    let (reason, _) = bed.seen.exited(&id);
    if has_cgroups(&bed) {
        assert_eq!(
            reason.to_string(),
            "killed by the kernel: used more than its memory limit of 64MiB"
        );
        assert_eq!(reason.code().unwrap().0, "ATL0212");
    } else {
        assert!(
            matches!(reason, ExitReason::Code { code: 1, .. }),
            "{reason}"
        );
    }
    let status = until_state(&bed, &id, State::Failed);
    assert_eq!(status.reason.unwrap(), reason.to_string());
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_kills_itself_is_not_said_to_have_used_too_much() {
    let bed = Bed::new();
    let id = bed.start(bed.sh("kill -9 $$"));
    let (reason, _) = bed.seen.exited(&id);
    assert!(
        matches!(reason, ExitReason::Signal { signal: 9, .. }),
        "{reason}"
    );
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_processes_is_limited() {
    let bed = Bed::new();
    if !has_cgroups(&bed) {
        eprintln!("skipped: no cgroups here");
        return bed.end().await;
    }
    let program = "
import os
n = 0
try:
    while n < 100:
        if os.fork() == 0:
            import time; time.sleep(1000)
        n += 1
except OSError: pass
print('forked', n)
";
    let mut spec = bed.python(program);
    spec.resources.pids = Some(10);
    spec.restart = false;
    bed.start(spec);
    let forked = bed
        .seen
        .line(|line| line.strip_prefix("forked ").map(str::to_owned));
    assert_eq!(forked, "9");
    bed.end().await;
}
