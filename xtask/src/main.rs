//! Portcullis's build automation: `cargo xtask --help`.

mod counts;
mod ebpf;
mod failure;
mod fuzz;
mod lint;
mod plan;
mod product;
mod requirements;
mod run;
mod setup;
mod test;
mod tree;
mod vm;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{failure::Failure, tree::Tree};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, checks and drives Portcullis")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find or install all that building, testing and the demo need
    Setup {
        /// Install nothing; list what is missing and the commands that bring it
        #[arg(long)]
        check: bool,
    },
    /// Build the eBPF object and the binary that embeds it
    Build {
        /// Optimise the binary
        #[arg(long)]
        release: bool,
    },
    /// Check style, dependencies and licences
    Lint,
    /// Run the host suites (no root) and the kernel suites (root)
    Test(TestArgs),
    /// Run the kernel suites on Debian's kernels, in virtual machines without KVM
    Vm {
        /// Only this one; both without it
        #[arg(long)]
        kernel: Option<vm::Series>,
        /// Handed to the test programs: a filter on names, or libtest's own options
        #[arg(last = true)]
        filter: Vec<String>,
    },
    /// Look for inputs that a parser of ours and a second one read differently: frames, tokens
    Fuzz {
        /// Which parser
        #[arg(long, default_value = "packet", value_parser = fuzz::targets())]
        target: String,
        /// How long
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Show the main job in namespaces of its own (root)
    Demo {
        /// Leave it running and print commands to try
        #[arg(long)]
        keep: bool,
    },
    /// Run the proxy at half of what it can do while its configuration changes each second and services behind
    /// it are killed: nothing may be lost, and nothing left over
    Soak {
        /// How long
        #[arg(long, default_value_t = 20.0)]
        minutes: f64,
        /// When which service is killed: the same for the same number
        #[arg(long)]
        seed: Option<u64>,
        /// End with one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Measure (root)
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
}

#[derive(Args)]
struct TestArgs {
    /// Only the suites that need neither root nor the eBPF toolchain
    #[arg(long, conflicts_with = "kernel")]
    host: bool,
    /// Only the suites that load programs into the kernel
    #[arg(long)]
    kernel: bool,
    /// Handed to the test programs: a filter on names, or libtest's own options
    #[arg(last = true)]
    filter: Vec<String>,
}

#[derive(Subcommand)]
enum Bench {
    /// Time from `block add` to the first dropped packet
    Ban {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// How many bans to time
        #[arg(long)]
        rounds: Option<u32>,
    },
    /// What it costs to prove who is calling, and a storm of unknown keys
    Identity {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// A list of a million entries: imported, shown, asked, and requests meanwhile
    Lists {
        /// End with one JSON object
        #[arg(long)]
        json: bool,
        /// A smaller list and fewer rounds: to see that it works
        #[arg(long)]
        quick: bool,
    },
    /// What a request costs: this proxy, HAProxy, Envoy, and nginx that asks for no token
    Proxy {
        /// End with one JSON object
        #[arg(long)]
        json: bool,
        /// One short round: to see that it works
        #[arg(long)]
        quick: bool,
    },
    /// Packets a second: this program, others and the most that can be reached
    Xdp {
        /// End with one JSON object
        #[arg(long)]
        json: bool,
        /// Smaller lists, shorter rounds, fewer programs: to see that it works
        #[arg(long)]
        quick: bool,
        /// Draw the figures into this file
        #[arg(long)]
        svg: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    match act(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Printed) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn act(command: Command) -> Result<(), Failure> {
    let tree = Tree::find()?;
    match command {
        Command::Setup { check } => setup::setup(&tree, check),
        Command::Build { release } => product::build(&tree, release),
        Command::Lint => lint::lint(&tree),
        Command::Test(TestArgs {
            host,
            kernel,
            filter,
        }) => test::test(
            &tree,
            test::Suites {
                host: !kernel,
                kernel: !host,
            },
            &filter,
        ),
        Command::Vm { kernel, filter } => vm::vm(&tree, kernel, &filter),
        Command::Fuzz { target, seconds } => fuzz::fuzz(&tree, &target, seconds),
        Command::Demo { keep } => {
            let args = keep.then(|| "--keep".to_owned());
            product::become_rig(&tree, false, "demo", args.into_iter().collect())
        }
        Command::Soak {
            minutes,
            seed,
            json,
        } => {
            let mut args = vec!["--minutes".to_owned(), minutes.to_string()];
            args.extend(
                seed.into_iter()
                    .flat_map(|seed| ["--seed".to_owned(), seed.to_string()]),
            );
            args.extend(json.then(|| "--json".to_owned()));
            product::become_soak(&tree, args)
        }
        Command::Bench {
            what: Bench::Ban { json, rounds },
        } => {
            let mut args = Vec::from_iter(json.then(|| "--json".to_owned()));
            args.extend(
                rounds
                    .into_iter()
                    .flat_map(|n| ["--rounds".to_owned(), n.to_string()]),
            );
            product::become_rig(&tree, true, "bench-ban", args)
        }
        Command::Bench {
            what: Bench::Identity { json },
        } => {
            let args = Vec::from_iter(json.then(|| "--json".to_owned()));
            product::become_identity_bench(&tree, args)
        }
        Command::Bench {
            what: Bench::Lists { json, quick },
        } => {
            let mut args = Vec::from_iter(json.then(|| "--json".to_owned()));
            args.extend(quick.then(|| "--quick".to_owned()));
            product::become_rig(&tree, true, "bench-lists", args)
        }
        Command::Bench {
            what: Bench::Proxy { json, quick },
        } => {
            let mut args = Vec::from_iter(json.then(|| "--json".to_owned()));
            args.extend(quick.then(|| "--quick".to_owned()));
            product::become_proxy_bench(&tree, args)
        }
        Command::Bench {
            what: Bench::Xdp { json, quick, svg },
        } => {
            let mut args = Vec::from_iter(json.then(|| "--json".to_owned()));
            args.extend(quick.then(|| "--quick".to_owned()));
            if let Some(svg) = svg {
                args.extend(["--svg".to_owned(), svg.display().to_string()]);
            }
            product::become_packet_bench(&tree, args)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
