//! `kms`: the daemon and the operator's command line.

fn main() -> std::process::ExitCode {
    kms_daemon::cli::run(std::env::args_os())
}
