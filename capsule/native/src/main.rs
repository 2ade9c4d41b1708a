//! `capsule`: one static binary; the first argument is the verb.

#[global_allocator]
static MEMORY: capsule::arena::Arena = capsule::arena::Arena::new();

fn main() -> std::process::ExitCode {
    capsule::dispatch::main(std::env::args_os().skip(1).collect())
}
