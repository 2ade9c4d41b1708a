//! `capsule`: one static binary; the first argument is the verb.

fn main() -> std::process::ExitCode {
    capsule::dispatch::main(std::env::args_os().skip(1).collect())
}
