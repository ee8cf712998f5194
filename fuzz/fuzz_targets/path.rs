//! The target of a request: normal form, once and for all; and lookups with it.
#![no_main]

use std::sync::LazyLock;

use atoll_proxy::route::Lookup;
use atoll_proxy::{RouteConfig, RouteTable, check_pattern, path};
use libfuzzer_sys::fuzz_target;

static TABLE: LazyLock<RouteTable> = LazyLock::new(|| {
    let service: atoll_base::ServiceName = "a".parse().expect("a is a name");
    let paths = ["/", "/a/{b}/**", "/a/c", "/{d}/e", "/**"];
    let routes = paths.map(|path| (service.clone(), RouteConfig::new(path)));
    RouteTable::build(routes).expect("the routes are apart")
});

fuzz_target!(|input: &str| {
    let _ = check_pattern(input);
    let Ok(target) = path::parse(input) else {
        return;
    };
    if target.path == "*" {
        return;
    }
    let normal = &*target.path;
    assert!(normal.starts_with('/') && !normal.contains("//"));
    assert!(
        !normal
            .split('/')
            .any(|segment| segment == "." || segment == "..")
    );
    assert!(normal.bytes().all(|byte| (0x21..0x7f).contains(&byte)));
    let again = path::parse(normal).expect("a normal path is valid");
    assert_eq!(again.path, target.path);
    assert_eq!(again.query, "");
    let _ = TABLE.find(&Lookup {
        host: b"host",
        method: b"GET",
        path: normal.as_bytes(),
        query: target.query.trim_start_matches('?'),
        fields: None,
    });
});
