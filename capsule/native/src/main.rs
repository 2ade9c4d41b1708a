//! `capsule`: one static binary; the first argument is the verb.

fn main() -> std::process::ExitCode {
    let verb = std::env::args_os().nth(1);
    eprintln!("capsule: unknown command {:?}", verb.unwrap_or_default());
    std::process::ExitCode::from(64)
}
