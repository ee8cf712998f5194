//! Atoll's own chores.

fn main() {
    println!("usage: cargo xtask test|bench|tour");
}
