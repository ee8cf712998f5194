//! Heads for tests.

use crate::http::field::{Fields, storage};
use crate::http::response;

/// Does something with the fields of a head that has these lines.
pub(super) fn with_fields<T>(lines: &str, work: impl FnOnce(Fields<'_, '_>) -> T) -> T {
    let head = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
    let mut storage = storage();
    let parsed = response::parse(head.as_bytes(), &mut storage).unwrap();
    work(parsed.unwrap().fields)
}
