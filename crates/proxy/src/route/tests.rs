//! The route tree against examples, and against a matcher that just tries all routes.

use proptest::prelude::*;

use super::*;

fn route(service: &str, path: &str) -> (ServiceName, RouteConfig) {
    (ServiceName::new(service).unwrap(), RouteConfig::new(path))
}

fn table(paths: &[&str]) -> RouteTable {
    RouteTable::build(paths.iter().map(|path| route("a", path))).unwrap()
}

fn find<'a>(table: &'a RouteTable, host: &[u8], method: &[u8], path: &[u8]) -> Match<'a> {
    table.find(&Lookup {
        host,
        method,
        path,
        query: "",
        fields: None,
    })
}

fn found<'a>(table: &'a RouteTable, host: &str, method: &str, path: &str) -> Option<&'a str> {
    match find(table, host.as_bytes(), method.as_bytes(), path.as_bytes()) {
        Match::Route(route) => Some(&route.path),
        _ => None,
    }
}

#[test]
fn a_service_has_routes_of_its_own_for_calls_that_do_not_come_by_the_edge() {
    let given = [
        (
            "a",
            RouteConfig {
                host: Some("shop".to_owned()),
                ..RouteConfig::new("/a/{id}")
            },
        ),
        (
            "a",
            RouteConfig {
                methods: vec!["POST".to_owned()],
                ..RouteConfig::new("/a/new")
            },
        ),
        (
            "a",
            RouteConfig {
                rewrite: Some("/a".to_owned()),
                ..RouteConfig::new("/outer")
            },
        ),
        (
            "b",
            RouteConfig {
                rewrite: Some("/b".to_owned()),
                ..RouteConfig::new("/outer/b")
            },
        ),
        ("c", RouteConfig::new("/**")),
    ];
    let name = |name| ServiceName::new(name).unwrap();
    let table = RouteTable::build(given.map(|(service, config)| (name(service), config))).unwrap();
    let own = table.own(&name("a")).unwrap();
    for (method, path, expected) in [
        ("GET", "/a/7", Some("/a/{id}")),
        ("POST", "/a/new", Some("/a/new")),
        ("GET", "/a/new", Some("/a/{id}")),
        ("GET", "/outer", None),
        ("GET", "/x", None),
    ] {
        let found = table.find_own(own, method.as_bytes(), path.as_bytes());
        assert_eq!(found.map(|route| route.path.as_str()), expected, "{path}");
    }
    assert_eq!(
        table.own(&name("b")),
        None,
        "its paths are other ones than it sees"
    );
}

#[test]
fn text_wins_over_parameters_and_these_over_prefixes() {
    let table = table(&[
        "/**",
        "/catalog/**",
        "/catalog/{id}",
        "/catalog/new",
        "/catalog/{id}/parts/**",
        "/",
        "/slash/",
    ]);
    for (path, expected) in [
        ("/", "/"),
        ("/x", "/**"),
        ("/catalog", "/catalog/**"),
        ("/catalog/", "/catalog/**"),
        ("/catalog/new", "/catalog/new"),
        ("/catalog/7", "/catalog/{id}"),
        ("/catalog/7/x", "/catalog/**"),
        ("/catalog/7/parts", "/catalog/{id}/parts/**"),
        ("/catalog/new/parts/1/2", "/catalog/{id}/parts/**"),
        ("/catalogue", "/**"),
        ("/slash/", "/slash/"),
        ("/slash", "/**"),
    ] {
        assert_eq!(found(&table, "", "GET", path), Some(expected), "{path}");
    }
}

#[test]
fn hosts_go_from_exact_to_any() {
    let host = |path: &str, host: &str| {
        let (service, mut config) = route("a", path);
        config.host = Some(host.to_owned());
        (service, config)
    };
    let table = RouteTable::build([
        host("/exact", "Shop.example.com"),
        host("/sub/**", "*.shop.example.com"),
        host("/**", "*.example.com"),
        route("a", "/any"),
    ])
    .unwrap();
    for (given, path, expected) in [
        ("shop.example.com", "/exact", Some("/exact")),
        ("SHOP.example.com.:8080", "/exact", Some("/exact")),
        ("shop.example.com", "/other", Some("/**")),
        ("a.shop.example.com", "/sub/1", Some("/sub/**")),
        ("a.b.shop.example.com", "/sub/1", Some("/sub/**")),
        ("a.shop.example.com", "/x", Some("/**")),
        ("example.com", "/x", None),
        (".example.com", "/x", None),
        ("other.org", "/any", Some("/any")),
        ("[::1]:80", "/any", Some("/any")),
        ("", "/any", Some("/any")),
    ] {
        assert_eq!(found(&table, given, "GET", path), expected, "{given}{path}");
    }
}

#[test]
fn a_wrong_method_is_told_apart_from_a_wrong_path() {
    let methods = |path: &str, methods: &[&str]| {
        let (service, mut config) = route("a", path);
        config.methods = methods.iter().map(ToString::to_string).collect();
        (service, config)
    };
    let table = RouteTable::build([
        methods("/orders/{id}", &["GET", "DELETE"]),
        methods("/orders/{id}/", &["PUT"]),
        methods("/orders/**", &["POST"]),
    ])
    .unwrap();
    assert_eq!(found(&table, "", "GET", "/orders/1"), Some("/orders/{id}"));
    assert_eq!(found(&table, "", "HEAD", "/orders/1"), Some("/orders/{id}"));
    assert_eq!(found(&table, "", "POST", "/orders/1"), Some("/orders/**"));
    assert_eq!(
        find(&table, b"", b"PATCH", b"/orders/1"),
        Match::WrongMethod("DELETE, GET, HEAD, POST".to_owned())
    );
    assert_eq!(find(&table, b"", b"GET", b"/"), Match::Nothing);
}

#[test]
fn patterns_are_checked_with_a_remedy() {
    for good in [
        "/",
        "/a",
        "/a/",
        "/{id}",
        "/a/{id}/b",
        "/**",
        "/a/**",
        "/%C3%B6",
        "/a.b;c=d",
    ] {
        assert_eq!(check_pattern(good), Ok(()), "{good}");
    }
    for (bad, remedy) in [
        ("a", "write '/a'"),
        ("", "must start with '/'"),
        ("/a?b", "leave out"),
        ("/{id", "a whole segment"),
        ("/x{id}", "a whole segment"),
        ("/{}", "a whole segment"),
        ("/{a}/{a}", "a name of its own"),
        ("/*", "end with '/**'"),
        ("/a**", "end with '/**'"),
        ("/**/a", "end with '/**'"),
        ("/a//b", "write '/a/b'"),
        ("/a/../b", "write '/b'"),
        ("/%41", "write '/A'"),
        ("/a/./**", "write '/a/**'"),
        ("/ö", "write '%C3%B6'"),
        ("/a b", "write '%20'"),
        ("/50%", "write '%25'"),
    ] {
        let message = check_pattern(bad).unwrap_err().to_string();
        assert!(message.contains(remedy), "{bad}: {message}");
    }
    for bad in ["", "http://a", "a:80", "a/b", "*", "*.", "a..b", "*a.b"] {
        assert!(check_host(bad).is_err(), "{bad}");
    }
    for bad in ["", "get", "GET POST", "CONNECT"] {
        assert!(check_method(bad).is_err(), "{bad}");
    }
}

#[test]
fn routes_that_nothing_tells_apart_are_conflicts() {
    let mut posts = route("c", "/orders/{number}");
    posts.1.methods = vec!["POST".to_owned()];
    let mut elsewhere = route("d", "/orders/{id}");
    elsewhere.1.host = Some("b.example".to_owned());
    let routes = [
        route("a", "/orders/{id}"),
        route("b", "/orders/new"),
        posts,
        elsewhere,
        route("e", "/orders/**"),
        route("f", "/orders/{x}"),
    ];
    let pair = |first, second| Conflict { first, second };
    assert_eq!(conflicts(&routes), [pair(0, 2), pair(0, 5), pair(2, 5)]);
    let errors = RouteTable::build(routes).unwrap_err();
    assert_eq!(errors.len(), 3);
    assert_eq!(
        errors[0].to_string(),
        "two routes claim /orders/{id}: 'a' and 'c'"
    );
}

/// The rank of a match, by trying: text 0, parameter 1, prefix 2, per segment from the left.
fn naive(pattern: &str, path: &str) -> Option<Vec<u8>> {
    let mut ranks = Vec::new();
    let mut segments = path[1..].split('/');
    for own in pattern[1..].split('/') {
        if own == "**" {
            ranks.push(2);
            return Some(ranks);
        }
        match segments.next() {
            Some(segment) if own == segment => ranks.push(0),
            Some(segment) if own.starts_with('{') && !segment.is_empty() => ranks.push(1),
            _ => return None,
        }
    }
    segments.next().is_none().then_some(ranks)
}

proptest! {
    #[test]
    fn the_tree_finds_what_trying_all_routes_finds(
        patterns in proptest::collection::btree_set("(/(a|b|\\{x\\})){0,3}(/|/\\*\\*)?", 1..12),
        path in "(/(a|b|c|)){1,4}",
    ) {
        let patterns: Vec<_> = patterns
            .into_iter()
            .filter(|pattern| pattern.matches("{x}").count() < 2 && !pattern.is_empty())
            .collect();
        let path = crate::path::normalize(&path).unwrap();
        let table = RouteTable::build(patterns.iter().map(|pattern| route("a", pattern))).unwrap();
        let best = patterns
            .iter()
            .filter_map(|pattern| Some((naive(pattern, &path)?, pattern.as_str())))
            .min();
        prop_assert_eq!(found(&table, "", "GET", &path), best.map(|(_, pattern)| pattern));
    }

    #[test]
    fn no_input_makes_it_panic(host: Vec<u8>, method: Vec<u8>, path: Vec<u8>, pattern in "\\PC{0,20}") {
        let table = table(&["/a/{b}/**", "/{c}"]);
        let _ = find(&table, &host, &method, &path);
        let _ = check_pattern(&pattern);
        let _ = check_host(&pattern);
    }
}
