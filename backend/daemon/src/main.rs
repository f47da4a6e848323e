//! `kms`: the daemon and the operator's command line.

use std::alloc::System;

use zeroizing_alloc::ZeroAlloc;

/// What is freed is wiped first: keys, PINs and plaintexts pass through buffers of libraries that do not wipe them.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> std::process::ExitCode {
    kms_daemon::cli::run(std::env::args_os())
}
