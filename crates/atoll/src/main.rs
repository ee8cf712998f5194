//! x
mod manifest;
fn main() {}
