//! Writes the hand-made component that answers `hello` to a file: `cargo run -p runtime --example hello_guest -- FILE`.

#[allow(dead_code, clippy::unwrap_used, reason = "they are the tests'")]
#[path = "../tests/it/guests.rs"]
mod guests;

fn main() -> std::io::Result<()> {
    let file = std::env::args_os().nth(1).unwrap_or_else(|| "hello.wasm".into());
    std::fs::write(file, guests::says(200, "hello"))
}
