//! A binary that can be a sandbox's helper, for tests: the node's own binary does the same first.

fn main() {
    runtime::sandbox_main_if_asked();
    eprintln!("this program only runs as a sandbox's helper, for tests");
    std::process::exit(2);
}
