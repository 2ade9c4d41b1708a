//! `capsem-agent`: process 1 of a machine; `serve --sockets DIR` outside of one; `doctor`, `share`, `watch` and `mcp` inside.
//!
//! Refuses to be process 1 outside of a machine's first moments (no `/proc/cmdline` that names a root).

use std::path::Path;
use std::process::ExitCode;

use capsem_agent::agent::{AGENT, Agent};
use capsem_agent::{boot, bridge, doctor, identity, line, mcp, processes, share, sys, watching};

const USAGE: &str = "usage: capsem-agent serve --sockets DIR [--network | --mcp SOCKET] | doctor [--json] | share DIR | watch [--below] -- DIR | mcp NAME | --version\nAs process 1 it takes no arguments.";

fn serve(directory: &str, network: bool, relay: Option<&str>) -> std::io::Result<()> {
    sys::adopt_orphans()?;
    let mut agent = Agent::new(
        line::sockets(Path::new(directory))?,
        identity::facts(),
        false,
    )?;
    if network {
        agent.offer_network()?;
    }
    if let Some(place) = relay {
        agent.offer_mcp(Path::new(place))?;
    }
    agent.run()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if std::process::id() == 1 {
        let error = boot::run();
        // The console is the only place left to say it; the kernel panics when process 1 ends, and the machine with it.
        boot::last_words(&error);
        return ExitCode::FAILURE;
    }
    let done = match arguments.as_slice() {
        ["serve", "--sockets", directory] => serve(directory, false, None),
        ["serve", "--sockets", directory, "--mcp", place] => serve(directory, false, Some(place)),
        // In a network namespace that is its own, with an interface named dummy0.
        ["serve", "--sockets", directory, "--network"] => serve(directory, true, None),
        [processes::WORD] => processes::report(),
        ["share", directory] => share::serve(directory),
        ["watch", "--", directory] => watching::report(directory, false),
        ["watch", "--below", "--", directory] => watching::report(directory, true),
        ["mcp", name] => bridge::carry(name, Path::new(mcp::SOCKET)),
        ["mcp", name, "--socket", place] => bridge::carry(name, Path::new(place)),
        ["doctor"] | ["doctor", "--json"] => match doctor::report(arguments.len() > 1) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
        ["--version"] => {
            println!("capsem-agent {AGENT}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("capsem-agent: {error}");
            ExitCode::FAILURE
        }
    }
}
