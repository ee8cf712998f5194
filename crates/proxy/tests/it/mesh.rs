//! Calls between services.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use atoll_base::{InstanceId, RevisionNumber};
use atoll_proxy::rate::RateLimitConfig;
use atoll_proxy::{Denials, DenyConfig, Endpoint, ErrorKind, RouteConfig, Side};
use atoll_testkit::{Ability, lacking};
use tokio::sync::Semaphore;

use crate::toys::{Client, Proxy, Toy, name, ok, until};

#[tokio::test]
async fn the_local_address_tells_caller_and_callee() {
    let orders = Toy::named("orders").await;
    let catalog = Toy::echo().await;
    let proxy = Proxy::start();
    // Addresses: 0 orders→orders, 1 orders→catalog, 2 catalog→orders, 3 catalog→catalog.
    proxy.publish(
        &[],
        &[
            ("orders", &[orders.endpoint()]),
            ("catalog", &[catalog.endpoint()]),
        ],
    );
    let mut client = proxy.mesh_client(1).await;
    let answer = client
        .request(
            "GET /a//b?c HTTP/1.1\r\nHost: whatever\r\nX-Forwarded-For: 9.9.9.9\r\n\
             traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00\r\n\r\n",
        )
        .await;
    let seen = answer.text();
    assert!(seen.starts_with("GET /a/b?c HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("\r\nHost: catalog\r\n"), "{seen}");
    assert!(
        seen.contains("\r\nX-Forwarded-For: 9.9.9.9\r\n"),
        "passed on: {seen}"
    );
    assert!(
        !seen.to_lowercase().contains("forwarded-proto"),
        "nothing is added: {seen}"
    );
    assert!(
        seen.contains("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-"),
        "{seen}"
    );
    assert_eq!(answer.field("x-trace-id"), None);
    let span = proxy.spans.find(|span| span.side == Side::Mesh).await;
    assert_eq!(span.caller.as_deref(), Some("orders"));
    assert_eq!(span.service.as_deref(), Some("catalog"));
    assert_eq!(span.parent.as_deref(), Some("00f067aa0ba902b7"));

    assert_eq!(proxy.mesh_client(2).await.get("/").await.text(), "orders");
}

#[tokio::test]
async fn unknown_addresses_are_closed_at_once() {
    let toy = Toy::named("orders").await;
    let proxy = Proxy::start();
    proxy.publish(&[], &[("orders", &[toy.endpoint()])]);
    let mut known = proxy.mesh_client(0).await;
    assert_eq!(known.get("/").await.status, 200);
    let mut unknown = proxy.mesh_client(77).await;
    unknown.read_to_end().await;
    assert!(unknown.buffer.is_empty());
    // A dependency that goes away while a connection to it is open.
    proxy.publish(&[], &[]);
    assert_eq!(known.get("/").await.status, 404);
    known.read_to_end().await;
    assert!(known.buffer.is_empty());
}

#[tokio::test]
async fn problems_in_the_mesh_name_service_and_trace() {
    let proxy = Proxy::start();
    proxy.publish(&[], &[("orders", &[])]);
    let answer = proxy.mesh_client(0).await.get("/").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["detail"], "orders has no ready instance");
    assert_eq!(answer.json()["trace_id"].as_str().unwrap().len(), 32);
    assert_eq!(answer.field("x-trace-id"), None);
}

fn instance(of: &str) -> InstanceId {
    InstanceId::new(name(of), RevisionNumber(1), 1)
}

/// Answers a request when it is let go, the one that came first before the others.
struct Held {
    toy: Toy,
    came: Arc<AtomicUsize>,
    go: Arc<Semaphore>,
}

impl Held {
    async fn new() -> Self {
        let came = Arc::<AtomicUsize>::default();
        let go = Arc::new(Semaphore::new(0));
        let (counter, gate) = (Arc::clone(&came), Arc::clone(&go));
        let toy = Toy::raw(move |mut client: Client| {
            let (counter, gate) = (Arc::clone(&counter), Arc::clone(&gate));
            async move {
                while client.read_request().await.is_some() {
                    counter.fetch_add(1, SeqCst);
                    gate.acquire().await.unwrap().forget();
                    client.send(&ok("late")).await;
                }
            }
        });
        let toy = toy.await;
        Self { toy, came, go }
    }

    async fn has(&self, requests: usize) {
        until("the request to come", || self.came.load(SeqCst) == requests).await;
    }
}

/// `orders` that holds requests and may call `catalog`. This process is known as the one of `orders`.
struct Scene {
    proxy: Proxy,
    orders: Held,
    endpoint: Arc<Endpoint>,
    _catalog: Toy,
}

impl Scene {
    async fn new(cgroup: u64) -> Self {
        let (orders, catalog) = (Held::new().await, Toy::named("catalog").await);
        let endpoint = orders.toy.endpoint();
        let proxy = Proxy::start();
        proxy.publish(
            &[("orders", RouteConfig::new("/**"))],
            &[
                ("orders", &[Arc::clone(&endpoint)]),
                ("catalog", &[catalog.endpoint()]),
            ],
        );
        let callers = proxy.handle.callers();
        callers.add(cgroup, endpoint.instance().clone());
        Self {
            proxy,
            orders,
            endpoint,
            _catalog: catalog,
        }
    }
}

#[tokio::test]
async fn a_call_that_does_not_say_its_trace_is_joined_to_the_only_request_and_to_none_of_two() {
    let Some(cgroup) = own_cgroup() else {
        return lacking(Ability::Callers);
    };
    let scene = Scene::new(cgroup).await;
    let Scene {
        proxy,
        orders,
        endpoint,
        ..
    } = &scene;
    let (mut one, mut two) = (proxy.client().await, proxy.client().await);
    let mut call = proxy.mesh_client(1).await;
    one.send(b"GET /one HTTP/1.1\r\nHost: a\r\n\r\n").await;
    orders.has(1).await;
    call.get("/of-one").await;
    let told = "GET /told HTTP/1.1\r\nHost: a\r\n\
         traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00\r\n\r\n";
    call.request(told).await;
    two.send(b"GET /two HTTP/1.1\r\nHost: a\r\n\r\n").await;
    orders.has(2).await;
    call.get("/of-whom").await;
    orders.go.add_permits(1);
    one.answer().await;
    until("one to be over", || endpoint.in_flight() == 1).await;
    call.get("/of-two").await;
    orders.go.add_permits(1);
    two.answer().await;
    until("both to be over", || endpoint.in_flight() == 0).await;
    call.get("/of-nobody").await;

    let span = async |path: &'static str| proxy.spans.find(move |span| span.path == path).await;
    for (call, request) in [("/of-one", "/one"), ("/of-two", "/two")] {
        let (call, request) = (span(call).await, span(request).await);
        assert!(call.inferred, "{call:?}");
        assert_eq!(
            (call.trace, call.parent),
            (request.trace, Some(request.span))
        );
    }
    for path in ["/of-whom", "/of-nobody"] {
        let call = span(path).await;
        assert_eq!((call.inferred, call.parent), (false, None), "{path}");
    }
    let told = span("/told").await;
    assert!(!told.inferred);
    assert_eq!(told.parent.as_deref(), Some("00f067aa0ba902b7"));
    // Of another process of this service, nothing is known.
    let another = InstanceId::new(name("orders"), RevisionNumber(1), 99);
    proxy.handle.callers().add(cgroup, another);
    one.send(b"GET /three HTTP/1.1\r\nHost: a\r\n\r\n").await;
    orders.has(3).await;
    proxy.mesh_client(1).await.get("/of-another").await;
    assert!(!span("/of-another").await.inferred);
    orders.go.add_permits(1);
}

/// What a client has left may still be worked on, and make its calls.
#[tokio::test]
async fn after_a_request_that_was_given_up_a_call_is_joined_to_nobody() {
    let Some(cgroup) = own_cgroup() else {
        return lacking(Ability::Callers);
    };
    let scene = Scene::new(cgroup).await;
    let Scene {
        proxy,
        orders,
        endpoint,
        ..
    } = &scene;
    let mut left = proxy.client().await;
    left.send(b"GET /left HTTP/1.1\r\nHost: a\r\n\r\n").await;
    orders.has(1).await;
    drop(left);
    until("it to be given up", || endpoint.in_flight() == 0).await;
    let mut next = proxy.client().await;
    next.send(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
    orders.has(2).await;
    proxy.mesh_client(1).await.get("/of-whom").await;
    let call = proxy.spans.find(|span| span.path == "/of-whom").await;
    assert_eq!((call.inferred, call.parent), (false, None));
    orders.go.add_permits(2);
    next.answer().await;
}

/// The number of this process's cgroup, if the kernel tells.
fn own_cgroup() -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
    let found = roots.iter().find_map(|root| {
        let dir = std::path::PathBuf::from(format!("{root}{path}"));
        let unified = std::path::Path::new(root).join("cgroup.procs").exists();
        std::fs::metadata(dir).ok().filter(|_| unified)
    });
    found.map(|dir| dir.ino())
}

#[tokio::test]
async fn an_address_answers_only_to_the_service_that_it_is_for() {
    let orders = Toy::named("orders").await;
    let proxy = Proxy::start();
    proxy.publish(&[], &[("orders", &[orders.endpoint()]), ("catalog", &[])]);
    let Some(cgroup) = own_cgroup() else {
        return lacking(Ability::Callers);
    };
    // Nothing is known of anyone: callers are taken at their word.
    assert_eq!(proxy.mesh_client(2).await.get("/").await.status, 200);
    proxy.handle.callers().add(cgroup, instance("catalog"));
    assert_eq!(proxy.mesh_client(2).await.get("/").await.status, 200);
    // This process is `catalog`: the address of `orders` is not for it.
    let answer = proxy.mesh_client(0).await.get("/").await;
    assert_eq!(answer.status, 403);
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert_eq!(detail, "only instances of orders may call this address");
    let span = proxy.spans.find(|span| span.status == 403).await;
    assert_eq!(span.error, Some(ErrorKind::Forbidden));
    // Of this process, nothing is known any more, but of others.
    proxy.handle.callers().add(1 << 60, instance("catalog"));
    proxy.handle.callers().remove(cgroup);
    assert_eq!(proxy.mesh_client(2).await.get("/").await.status, 403);
}

#[tokio::test]
async fn a_process_that_calls_before_the_news_of_its_start_is_waited_for() {
    let Some(cgroup) = own_cgroup() else {
        return lacking(Ability::Callers);
    };
    let orders = Toy::named("orders").await;
    let proxy = Proxy::start();
    proxy.publish(&[], &[("orders", &[orders.endpoint()])]);
    proxy.handle.callers().add(1 << 60, instance("orders"));
    let mut client = proxy.mesh_client(0).await;
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    proxy.handle.callers().add(cgroup, instance("orders"));
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn a_service_says_what_it_does_not_answer() {
    let orders = Toy::named("orders").await;
    let proxy = Proxy::start();
    let rules: [DenyConfig; 1] =
        [toml::from_str("from = ['catalog']\npath = '/admin/**'").unwrap()];
    let denials = Denials::build(&name("orders"), &rules).unwrap();
    proxy.publish_denying(
        &[("orders", &[orders.endpoint()]), ("catalog", &[])],
        denials,
    );
    let mut catalog = proxy.mesh_client(2).await;
    assert_eq!(catalog.get("/orders").await.status, 200);
    let answer = catalog.get("/x/../admin/users").await;
    assert_eq!(answer.status, 403);
    assert_eq!(
        answer.json()["detail"],
        "orders does not answer catalog here"
    );
    assert_eq!(
        catalog.get("/orders").await.status,
        200,
        "the connection goes on"
    );
    assert_eq!(
        proxy.mesh_client(0).await.get("/admin/users").await.status,
        200
    );
}

#[tokio::test]
async fn each_caller_may_make_so_many_calls() {
    let orders = Toy::named("orders").await;
    let proxy = Proxy::start();
    let rate: RateLimitConfig = toml::from_str("requests = 2\nper = '1h'").unwrap();
    proxy.publish_all(
        &[],
        &[("orders", &[orders.endpoint()]), ("catalog", &[])],
        |cluster| cluster.rate = Some(RateLimitConfig::clone(&rate)),
    );
    let mut catalog = proxy.mesh_client(2).await;
    assert_eq!(catalog.get("/").await.status, 200);
    assert_eq!(catalog.get("/").await.status, 200);
    let answer = catalog.get("/").await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.json()["detail"], "catalog makes too many calls");
    assert!(answer.field("retry-after").is_some());
    assert_eq!(
        proxy.mesh_client(0).await.get("/").await.status,
        200,
        "others are not counted"
    );
}
