//! When an instance is ready, and what is said when it is not.

use std::time::Duration;

use atoll_base::{HumanDuration, clock};
use atoll_supervisor::{Check, Event, Health, State};

use crate::bed::{Bed, SERVER, http, until, until_state};

fn soon(check: Check) -> Health {
    Health {
        check,
        start_timeout: HumanDuration::secs(3),
        timeout: HumanDuration::millis(200),
        interval: HumanDuration::millis(50),
        failures: 3,
    }
}

fn never_ready(bed: &Bed) -> (String, Vec<String>) {
    bed.seen.event(|event| match event {
        Event::NeverReady {
            explanation,
            last_lines,
            ..
        } => Some((explanation.clone(), last_lines.clone())),
        _ => None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_by_tcp_http_and_a_fixed_port() {
    let bed = Bed::new();
    let tcp = bed.start(bed.python(SERVER));
    let mut spec = bed.python(SERVER);
    spec.health = http("/healthz");
    let over_http = bed.start(spec);
    bed.seen.ready(&tcp);
    bed.seen.ready(&over_http);
    let status = bed.status(&tcp);
    assert_eq!(status.state, State::Ready);
    assert!(status.ready_after.is_some() && status.reason.is_none());
    let (one, other) = (status.addr.unwrap(), bed.status(&over_http).addr.unwrap());
    assert_ne!(one, other);
    assert!((20_000..32_000).contains(&one.port()));
    assert!(std::net::TcpStream::connect(one).is_ok());

    let mut spec = bed.python(SERVER);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    spec.port = Some(port);
    let fixed = bed.start(spec);
    bed.seen.ready(&fixed);
    assert_eq!(bed.status(&fixed).addr.unwrap().port(), port);
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_by_grpc() {
    for (status, expected) in [(1, true), (2, false)] {
        let bed = Bed::new();
        let mut spec = bed.sh("exec sleep 1000");
        let service = "shop.Orders".to_owned();
        spec.health = soon(Check::Grpc { service });
        let id = bed.start(spec);
        let addr = bed.seen.event(|event| match event {
            Event::Started { addr, .. } => Some(*addr),
            _ => None,
        });
        // In place of the process, which does not listen.
        let server = GrpcServer::start(addr, status).await;
        if expected {
            bed.seen.ready(&id);
            assert_eq!(
                server.asked().as_slice(),
                b"\0\0\0\0\x0D\x0A\x0Bshop.Orders"
            );
        } else {
            bed.seen
                .event(|event| matches!(event, Event::NeverReady { .. }).then_some(()));
            let cause = bed.status(&id).reason.unwrap_or_default();
            assert!(cause.contains("not ready after 3s"), "{cause}");
        }
        bed.end().await;
        server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn never_ready_tells_where_it_listens_instead() {
    let bed = Bed::new();
    let elsewhere = SERVER.replace("int(os.environ['PORT'])", "0").replace(
        "s.listen(64)",
        "s.listen(64)\nprint('at', s.getsockname()[1], flush=True)",
    );
    let mut spec = bed.python(&elsewhere);
    spec.health = soon(Check::Tcp);
    let id = bed.start(spec);
    let port = bed
        .seen
        .line(|line| line.strip_prefix("at ").map(str::to_owned));
    let (explanation, lines) = never_ready(&bed);
    let ours = bed.status(&id).addr.map(|addr| addr.port());
    let expected = format!("listens on 127.0.0.1:{port} instead of $PORT (");
    assert!(explanation.contains(&expected), "{explanation} {ours:?}");
    assert_eq!(lines, [format!("at {port}")]);
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn never_ready_tells_that_nothing_listens() {
    let bed = Bed::new();
    let mut spec = bed.sh("echo waiting for the database; exec sleep 1000");
    spec.health = soon(Check::Tcp);
    let id = bed.start(spec);
    let (explanation, lines) = never_ready(&bed);
    assert!(explanation.contains("listens on no port"), "{explanation}");
    assert_eq!(lines, ["waiting for the database"]);
    let status = until_state(&bed, &id, State::BackingOff);
    assert_eq!(status.reason.unwrap(), explanation);
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn never_ready_tells_the_last_answer() {
    for (answer, expected) in [
        (
            "HTTP/1.1 503 Nope\\r\\nContent-Length: 0\\r\\n\\r\\n",
            "GET /healthz answered 503",
        ),
        (
            "220 mail.example ESMTP\\r\\n",
            "answered no HTTP, but \"220 mail.example",
        ),
        ("", "closed without an answer"),
    ] {
        let bed = Bed::new();
        let program = SERVER.replace(
            "HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok",
            answer,
        );
        let mut spec = bed.python(&program);
        let path = "/healthz".to_owned();
        spec.health = soon(Check::Http { path });
        bed.start(spec);
        let (explanation, _) = never_ready(&bed);
        assert!(explanation.contains(expected), "{explanation}");
        assert!(explanation.contains("listens on $PORT"), "{explanation}");
        bed.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stops_answering_is_taken_out_and_started_again() {
    let bed = Bed::new();
    let once = bed.file("once");
    let program = SERVER.replace(
        "while True:",
        &format!(
            "first = not os.path.exists({once:?})\nopen({once:?}, 'w')\nasked = 0\nwhile True:\n    \
             asked += 1\n    if first and asked > 3: time.sleep(1000)"
        ),
    );
    let mut spec = bed.python(&program);
    let path = "/".to_owned();
    spec.health = Health {
        start_timeout: HumanDuration::secs(20),
        ..soon(Check::Http { path })
    };
    let id = bed.start(spec);
    let reason = bed.seen.event(|event| match event {
        Event::Unready { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(reason.starts_with("failed 3 checks in a row"), "{reason}");
    assert!(reason.contains("no answer within 200ms"), "{reason}");
    bed.seen.nth_event(1, |event| {
        matches!(event, Event::Ready { .. }).then_some(())
    });
    assert_eq!(bed.status(&id).restarts, 1);
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_port_is_tried_after_one_was_taken_meanwhile() {
    let bed = Bed::new();
    // The first attempt finds its port taken, as if somebody had been quicker.
    let once = bed.file("once");
    let program = format!(
        "import os\nif not os.path.exists({once:?}):\n    open({once:?}, 'w')\n    raise OSError(98, 'Address already in use')\n{SERVER}"
    );
    let id = bed.start(bed.python(&program));
    bed.seen.ready(&id);
    let ports: Vec<u16> = bed
        .seen
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::Started { addr, .. } => Some(addr.port()),
            _ => None,
        })
        .collect();
    assert_eq!(ports.len(), 2);
    assert_ne!(ports[0], ports[1]);
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_start_together_do_not_wait_for_each_other() {
    let bed = Bed::new();
    let began = clock::monotonic();
    let ids: Vec<_> = (0..20).map(|_| bed.start(bed.python(SERVER))).collect();
    for id in &ids {
        bed.seen.ready(id);
    }
    let moments = |wanted: fn(&Event) -> bool| {
        let events = bed.seen.timed().into_iter();
        let last = events
            .filter(|(_, event)| wanted(event))
            .map(|(at, _)| at)
            .max();
        last.unwrap() - began
    };
    let started = moments(|event| matches!(event, Event::Started { .. }));
    let ready = moments(|event| matches!(event, Event::Ready { .. }));
    eprintln!("20 together: all started after {started:?}, all ready after {ready:?}");
    assert!(started < Duration::from_secs(2), "{started:?}");
    let ports: std::collections::BTreeSet<_> =
        ids.iter().map(|id| bed.status(id).addr.unwrap()).collect();
    assert_eq!(ports.len(), 20);
    until("usage", || bed.handle.usage(&ids[0]));
    bed.end().await;
}

/// A server of `grpc.health.v1` inside of the test.
struct GrpcServer {
    asked: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
    tasks: atoll_base::Tasks,
}

impl GrpcServer {
    async fn start(addr: std::net::SocketAddr, status: u8) -> Self {
        let listener = tokio::net::TcpListener::bind(addr).await.unwrap();
        let asked = std::sync::Arc::default();
        let tasks = atoll_base::Tasks::new();
        let (seen, stop) = (std::sync::Arc::clone(&asked), tasks.clone());
        tasks.spawn("grpc", async move {
            loop {
                let accepted = tokio::select! {
                    () = stop.stopping() => return,
                    accepted = listener.accept() => accepted,
                };
                serve(accepted.unwrap().0, status, &seen).await;
            }
        });
        Self { asked, tasks }
    }

    fn asked(&self) -> Vec<u8> {
        self.asked.lock().unwrap().clone()
    }

    async fn end(self) {
        self.tasks.stop();
        assert!(self.tasks.join(crate::bed::PATIENCE).await);
    }
}

async fn serve(socket: tokio::net::TcpStream, status: u8, seen: &std::sync::Mutex<Vec<u8>>) {
    let Ok(mut connection) = h2::server::handshake(socket).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        let mut body = request.into_body();
        let reading = async {
            let mut question = Vec::new();
            while let Some(Ok(chunk)) = body.data().await {
                question.extend_from_slice(&chunk);
            }
            question
        };
        let question = tokio::select! {
            question = reading => question,
            _ = std::future::poll_fn(|cx| connection.poll_closed(cx)) => return,
        };
        *seen.lock().unwrap() = question;
        let head = http::Response::builder().header("content-type", "application/grpc");
        let mut stream = respond
            .send_response(head.body(()).unwrap(), false)
            .unwrap();
        let answer = vec![0, 0, 0, 0, 2, 0x08, status];
        stream.send_data(answer.into(), false).unwrap();
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    }
}
